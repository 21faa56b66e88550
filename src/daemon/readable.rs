//! Waiting until a descriptor that tokio has no type for can be read: a pidfd, an inotify instance.
#![allow(unsafe_code)] // one block, below: tokio has no safe way to watch a descriptor

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::{Interest, unix::AsyncFd};

/// Watches `fd` for reading. Needs a tokio runtime; fails when the kernel is out of memory or watches.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is an open descriptor, keeps its number, and is closed by nobody but its owner, which from here
    // on is the AsyncFd.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(Into::into)
}
