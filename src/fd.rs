//! Descriptors of ours given to the runtime. One of the audited files with `unsafe`: tokio can't know that a type's
//! `as_raw_fd` stays the same and open; for [`OwnedFd`] it does.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `fd`, ready to be waited for until it can be read. It should be non-blocking.
pub fn readable(fd: impl Into<OwnedFd>) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the contract is that the number returned by `as_raw_fd` does not change and stays open for as long as
    // the value lives. `OwnedFd` is exactly that: it owns its descriptor, has no interior mutability, and closes it on
    // drop only; `AsyncFd` gives out no `&mut OwnedFd` here that could be replaced before it is deregistered.
    unsafe { AsyncFd::register_with_interest(fd.into(), Interest::READABLE) }.map_err(io::Error::from)
}
