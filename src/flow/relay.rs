//! Bytes between a channel and descriptors, both ways, each at the pace of whoever takes them.
//!
//! Out: the client's window is awaited before bytes are given to russh, which holds a bounded number of packets.
//! In: `backlog` tells the client how much it may send. So a relay needs a bounded amount of memory, however much passes.

use std::time::Duration;

use russh::{ChannelId, ChannelMsg, ChannelWriteHalf};
use tokio::time::{sleep, timeout};

use super::descriptor::Descriptor;
use super::inbox::Inbox;

/// SSH_EXTENDED_DATA_STDERR, RFC 4254 section 5.2.
pub const STDERR: u32 = 1;
/// Read at once: as much as a pipe holds (pipe(7)), at first as much as a terminal gives.
const MOST: usize = 64 << 10;
const LEAST: usize = 4 << 10;

/// How long what a client has sent before it closed its channel may take on its way out; and, the other way, each piece of
/// what a socket's peer has sent before it went.
const REST: Duration = Duration::from_secs(60);

/// What russh's two sides send their connection's loop.
pub trait Message: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static {}

impl<M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static> Message for M {}

/// Where a descriptor's bytes go.
#[derive(Clone, Copy)]
pub enum To {
    Output,
    Error,
}

/// How much to read next. Small reads are many when somebody types, large ones when much is moved.
struct Pace(usize);

impl Pace {
    fn after(&mut self, read: usize) {
        self.0 = if read == self.0 { (self.0 * 2).min(MOST) } else { read.next_power_of_two().clamp(LEAST, self.0) };
    }
}

/// One direction, descriptor to channel.
pub struct Outward<'a, M: Message> {
    from: &'a Descriptor,
    write: &'a ChannelWriteHalf<M>,
    to: To,
    pace: Pace,
}

impl<'a, M: Message> Outward<'a, M> {
    pub fn new(from: &'a Descriptor, write: &'a ChannelWriteHalf<M>, to: To) -> Self {
        Self { from, write, to, pace: Pace(LEAST) }
    }

    /// Waits for bytes; none is the end.
    pub async fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let bytes = self.from.read(self.pace.0).await?;
        self.pace.after(bytes.len());
        Ok(bytes)
    }

    /// An error means that the connection is gone.
    pub async fn pass_on(&self, bytes: Vec<u8>) -> Result<(), russh::Error> {
        match self.to {
            To::Output => self.write.data_bytes(bytes).await,
            To::Error => self.write.extended_data_bytes(STDERR, bytes).await,
        }
    }
}

/// Channel to descriptor, until the client's end of file (true), or until nobody reads at the descriptor any more.
pub async fn inward(inbox: &Inbox, to: &Descriptor) -> bool {
    while let Some(bytes) = inbox.next().await {
        if to.write_all(&bytes).await.is_err() {
            inbox.discard();
            return false;
        }
    }
    true
}

/// A stream and a channel, both ways, with half-closes, until both directions have ended, or either side is gone: a client
/// that says nothing would otherwise keep its channel after whoever served it has left.
pub async fn stream<M: Message>(stream: &Descriptor, write: &ChannelWriteHalf<M>, inbox: &Inbox) {
    let mut outward = Outward::new(stream, write, To::Output);
    // Nobody is at the stream any more, and the client doesn't take the rest.
    let abandoned = async || {
        stream.gone().await;
        sleep(REST).await;
    };
    let out = async {
        loop {
            match outward.read().await {
                Ok(bytes) if bytes.is_empty() => return write.eof().await.is_ok(),
                Ok(bytes) => {
                    let passed = tokio::select! {
                        biased;
                        passed = outward.pass_on(bytes) => passed.is_ok(),
                        () = abandoned() => false,
                    };
                    if !passed {
                        return false;
                    }
                }
                // Broken: there is no other direction either.
                Err(_) => return false,
            }
        }
    };
    let inward = async {
        if inward(inbox, stream).await {
            stream.end_writing();
        }
    };
    tokio::pin!(out, inward);
    let gone = {
        let both = async {
            tokio::select! {
                whole = &mut out => if whole {
                    tokio::select! {
                        () = &mut inward => {}
                        () = stream.gone() => {}
                    }
                },
                () = &mut inward => drop((&mut out).await),
            }
        };
        tokio::select! {
            () = both => false,
            () = inbox.closed() => true,
        }
    };
    if gone && inbox.has_ended() {
        // Clients may close a channel as soon as they have sent everything (RFC 4254 section 5.3).
        drop(timeout(REST, inward).await);
    }
    // Fails only when the connection is gone. A channel that the peer has closed already is known to be.
    drop(write.close().await);
}
