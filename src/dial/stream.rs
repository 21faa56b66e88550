//! A connection that passes through a hub.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use russh::client::Msg;
use russh::{Channel, ChannelWriteHalf};

use crate::flow::descriptor::Descriptor;
use crate::flow::relay;
use crate::flow::table::{Served, Table};

/// Somebody has connected where the hub listens for us.
pub struct Incoming {
    pub stream: Stream,
    /// Whose connection it is, if the hub is to be believed; there is none for a UNIX socket.
    pub originator: Option<(IpAddr, u16)>,
    /// Where the hub listens: the port, or none for a socket.
    pub port: Option<u16>,
}

/// The bytes of one channel. Dropping it without [`Stream::relay`] leaves the channel to the hub: call [`Stream::refuse`].
pub struct Stream {
    write: ChannelWriteHalf<Msg>,
    served: Served,
}

impl Stream {
    /// Of a channel that the table has; `None` if it is closed already.
    pub(super) fn new(channel: Channel<Msg>, table: &Table) -> Option<Self> {
        table.confirmed(channel.id()).map(|served| Self::of(channel, served))
    }

    pub(super) fn of(channel: Channel<Msg>, served: Served) -> Self {
        let (_, write) = channel.split(); // the read half is dropped: data comes through `Handler::data`
        Self { write, served }
    }

    /// Carries bytes between the channel and a stream socket, both ways, with half-closes, until both have ended.
    pub async fn relay(self, socket: OwnedFd) -> io::Result<()> {
        let socket = match Descriptor::new(socket) {
            Ok(socket) => socket,
            Err(error) => {
                self.refuse().await;
                return Err(error);
            }
        };
        relay::stream(&socket, &self.write, &self.served.inbox).await;
        Ok(())
    }

    /// Closes it.
    pub async fn refuse(self) {
        // Fails only when the connection is gone.
        let _ = self.write.close().await;
    }
}
