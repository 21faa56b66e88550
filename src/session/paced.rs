//! The stream below SSH, read at the pace of whoever takes what comes.
//!
//! russh reads each packet in two pieces, so what has come is taken from the kernel at once and given out from a buffer,
//! which is small as long as little comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::stream::Greeted;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::flow::inbox::Shared;

/// Sizes of the buffer, in bytes: for keystrokes and key exchanges, and for files.
const LEAST: usize = 4 << 10;
const MOST: usize = 256 << 10;
/// While clients wait for a program and send by twos (`backlog`), what they send is taken this seldom: it would be a
/// packet for each round trip, at full speed where that is short.
const SELDOM: Duration = Duration::from_millis(2);

pub struct Paced {
    stream: Greeted,
    backlog: Shared,
    buffer: Vec<u8>,
    /// What of the buffer is there and was not given out yet.
    held: std::ops::Range<usize>,
    pause: Pin<Box<Sleep>>,
}

impl Paced {
    pub fn new(stream: Greeted, backlog: Shared) -> Self {
        Self { stream, backlog, buffer: vec![0; LEAST], held: 0..0, pause: Box::pin(sleep(Duration::ZERO)) }
    }

    fn fill(&mut self, context: &mut Context) -> Poll<io::Result<()>> {
        if self.backlog.lock().expect("no panic while held").trickles() {
            ready!(self.pause.as_mut().poll(context));
            self.pause.as_mut().reset(Instant::now() + SELDOM);
        }
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        self.held = 0..buffer.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, into: &mut ReadBuf) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            if self.held.end == self.buffer.len() && self.held.end < MOST {
                self.buffer = vec![0; self.buffer.len() * 4]; // there may have been more
            }
            ready!(self.fill(context))?;
        }
        let given = self.held.len().min(into.remaining());
        let from = self.held.start;
        into.put_slice(&self.buffer[from..from + given]);
        self.held.start += given;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paced {
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
