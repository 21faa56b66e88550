//! Descriptors: watched until they can be read, kept from our children, made the console.
#![allow(unsafe_code)] // three blocks, below: neither tokio nor std nor nix has a safe way

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

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

/// What is written through /dev/console goes to this terminal from now on; with /dev/console itself, to its own device
/// again, whoever redirected it. TIOCCONS of ioctl_console(2) and ioctl_tty(2); `ResourceBusy` when it is redirected already.
pub fn redirect_console(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed, and this request takes no argument that the kernel would read
    // or write.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCCONS) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
