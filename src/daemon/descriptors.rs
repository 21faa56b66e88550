//! Descriptors: watched until they can be read, and kept from our children.
#![allow(unsafe_code)] // two blocks, below: neither tokio nor std has a safe way

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;
use tokio::io::{Interest, unix::AsyncFd};

/// Watches `fd` for reading: a pidfd, an inotify instance, /dev/kmsg. Needs a tokio runtime; fails when the kernel is out
/// of memory or watches.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is an open descriptor, keeps its number, and is closed by nobody but its owner, which from here
    // on is the AsyncFd.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(Into::into)
}

/// Programs that we start inherit none but the standard descriptors, whatever we inherited (dracut's init leaves some
/// open). close_range(2); before Linux 5.11 it can't be done at once, and an error says so.
pub fn keep_from_children() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call takes three integers and changes only the close-on-exec flag of descriptors: none is closed now,
    // so no owner of one is affected.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_uint)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
