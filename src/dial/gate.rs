//! The stream from the hub, which is not read while a channel's queue is full.
//!
//! It holds up all channels of the connection, so it can't last: a channel whose bytes nobody takes for [`PATIENCE`] is
//! closed. One that takes slowly only slows the others down.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::flow::table::Table;

/// How long nobody may take anything of a full queue. Shorter than the keep-alive's questions take together.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a full queue is looked at: 64 KiB, what a reader takes at once, in this time are 12 MB/s.
const LOOK: Duration = Duration::from_millis(5);

pub struct Gate<S> {
    stream: S,
    table: Table,
    pause: Pin<Box<Sleep>>,
    /// The full queue, as it was when something was last taken of it.
    full: Option<Full>,
}

struct Full {
    id: u32,
    queued: usize,
    since: Instant,
}

impl<S> Gate<S> {
    pub fn new(stream: S, table: Table) -> Self {
        Self { stream, table, pause: Box::pin(sleep(Duration::ZERO)), full: None }
    }

    /// Ready when no queue is full.
    fn poll_open(&mut self, context: &mut Context) -> Poll<()> {
        loop {
            let Some((id, queued)) = self.table.fullest() else {
                self.full = None;
                return Poll::Ready(());
            };
            match &self.full {
                Some(full) if full.id == id && full.queued == queued => {
                    if full.since.elapsed() >= PATIENCE {
                        log::warn!("a connection through the hub is closed: nobody takes what comes");
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
