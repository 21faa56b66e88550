//! One end of a pipe, of a socket, or the master of a terminal, as the daemon has handed it over.
#![allow(unsafe_code)] // one block, below: tokio has no safe way for the master of a terminal

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

/// How often it is looked at whether a socket's peer has gone: tokio can't be told to wait for that alone.
const LOOK: Duration = Duration::from_secs(1);

pub struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&descriptor, fcntl_getfl(&descriptor)? | OFlags::NONBLOCK)?;
        // SAFETY: an OwnedFd is an open descriptor, keeps its number, and is closed by nobody but its owner, which from
        // here on is the AsyncFd.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE | Interest::WRITABLE) };
        watched.map(Self).map_err(Into::into)
    }

    /// Up to `most` bytes; none at the end. A terminal whose other side is closed gives EIO: that is its end.
    pub async fn read(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.0.async_io(Interest::READABLE, |descriptor| {
            bytes.reserve_exact(most); // not while nothing is there to be read
            Ok(read(descriptor, rustix::buffer::spare_capacity(&mut bytes))?)
        });
        match read.await {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => Ok(Vec::new()),
            result => result.map(|_| bytes),
        }
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.0.async_io(Interest::WRITABLE, |descriptor| Ok(write(descriptor, bytes)?)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// For sockets: until the peer has closed it altogether (EPOLLHUP, see epoll_ctl(2)), and not one direction only. A TCP
    /// peer that has closed says so when something is sent to it.
    pub async fn gone(&self) {
        loop {
            match self.0.ready(Interest::WRITABLE).await {
                Ok(guard) if !guard.ready().is_write_closed() => {} // it stays ready for those who write
                _ => return,
            }
            sleep(LOOK).await;
        }
    }

    /// For sockets: nothing more will be written.
    pub fn end_writing(&self) {
        // A peer that has gone already reads no end.
        let _ = shutdown(self.0.get_ref(), Shutdown::Write);
    }
}
