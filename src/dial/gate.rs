//! The stream from the hub, which is not read while a channel's queue is full.
//!
//! It holds up all channels of the connection, so it can't last: a channel whose bytes nobody takes is closed, see
//! [`Patience`]. One that takes slowly only slows the others down.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::flow::table::Table;

/// How long nobody may take anything of what waits, and what of it.
#[derive(Clone, Copy)]
pub struct Patience {
    time: Duration,
    /// So much of one channel, in bytes, also while nothing is held up by it.
    heavy: Option<usize>,
}

impl Patience {
    /// For streams whose readers may rest: only a full queue counts. Shorter than the keep-alive's questions take together.
    pub const READERS: Self = Self { time: Duration::from_secs(10), heavy: None };
    /// For streams that are SSH sessions of ours, which always read as soon as there is one. Who sends much before it has one
    /// is a stranger, who should not hold up the owner. A second's flood of a fast line is more than a queue holds.
    pub const SESSIONS: Self = Self { time: Duration::from_secs(2), heavy: Some(256 << 10) };
}

/// How often a full queue is looked at: 64 KiB, what a reader takes at once, in this time are 12 MB/s.
const LOOK: Duration = Duration::from_millis(5);

pub struct Gate<S> {
    stream: S,
    table: Table,
    patience: Patience,
    pause: Pin<Box<Sleep>>,
    /// Channels with much in their queues: how much was ever taken, and since when it is not more.
    heavy: HashMap<u32, (u64, Instant)>,
    looked: Instant,
    /// The full queue, as it was when something was last taken of it.
    full: Option<Full>,
}

struct Full {
    id: u32,
    queued: usize,
    since: Instant,
}

impl<S> Gate<S> {
    pub fn new(stream: S, table: Table, patience: Patience) -> Self {
        let pause = Box::pin(sleep(Duration::ZERO));
        Self { stream, table, patience, pause, heavy: HashMap::new(), looked: Instant::now(), full: None }
    }

    /// Closes channels that are too heavy for too long.
    fn lighten(&mut self) {
        let Some(least) = self.patience.heavy else { return };
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let heavy = self.table.heavy(least);
        self.heavy.retain(|id, (taken, _)| heavy.get(id) == Some(taken));
        for (id, taken) in heavy {
            let (_, since) = self.heavy.entry(id).or_insert((taken, self.looked));
            if since.elapsed() >= self.patience.time {
                self.table.cut(id);
            }
        }
    }

    /// Ready when no queue is full.
    fn poll_open(&mut self, context: &mut Context) -> Poll<()> {
        loop {
            self.lighten();
            let Some((id, queued)) = self.table.fullest() else {
                self.full = None;
                return Poll::Ready(());
            };
            match &self.full {
                Some(full) if full.id == id && full.queued == queued => {
                    if full.since.elapsed() >= self.patience.time {
                        self.table.cut(id);
                        continue;
                    }
                }
                _ => self.full = Some(Full { id, queued, since: Instant::now() }),
            }
            self.pause.as_mut().reset(Instant::now() + LOOK);
            ready!(self.pause.as_mut().poll(context));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, into: &mut ReadBuf) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context));
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
