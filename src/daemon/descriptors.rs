//! Descriptors: watched until they can be read, kept from our children, made the console, taken over from systemd.
#![allow(unsafe_code)] // eight blocks, below: neither tokio nor std nor nix has a safe way

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use tokio::io::{Interest, unix::AsyncFd};

/// More sockets than this nobody has systemd open for one SSH server.
const MOST_PASSED: RawFd = 16;

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

/// The same on any kernel: where close_range(2) can't do it, one descriptor after the other, as `/proc/self/fd` lists them.
pub fn keep_from_program() -> io::Result<()> {
    if keep_from_children().is_ok() {
        return Ok(());
    }
    let listed = std::fs::read_dir("/proc/self/fd")?;
    // Looked through before anything is changed: the listing has a descriptor itself.
    let numbers: Vec<RawFd> = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > libc::STDERR_FILENO) {
        // SAFETY: the call takes integers and changes only the close-on-exec flag: nothing is closed now, so no owner is
        // affected. Where the number is no descriptor any more (that of the listing), it fails, and nothing is left to do.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// These descriptors, by their numbers, are 3 and the following of the program that this process turns into: that is where
/// sd_listen_fds(3) looks for them. For a process that has only what it was started with, and is about to exec.
pub fn hand_on(numbers: &[RawFd]) -> io::Result<()> {
    const FIRST: RawFd = 3; // SD_LISTEN_FDS_START
    let after = FIRST + RawFd::try_from(numbers.len()).map_err(io::Error::other)?;
    let mut copies = Vec::new();
    for number in numbers {
        // Out of the way first: one's new number may be another's old one.
        // SAFETY: the call makes a new descriptor and fails where the number is none; nobody's is closed.
        match unsafe { libc::fcntl(*number, libc::F_DUPFD_CLOEXEC, after) } {
            -1 => return Err(io::Error::last_os_error()),
            copy => copies.push(copy),
        }
    }
    for (place, copy) in (FIRST..).zip(copies) {
        // SAFETY: what had the new number is replaced. That is something that was inherited, and owned by no value of this
        // program, as the caller has opened nothing.
        if unsafe { libc::dup2(copy, place) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// What is written through /dev/console goes to this terminal from now on; with /dev/console itself, to its own device
/// again, whoever redirected it. TIOCCONS of ioctl_console(2) and ioctl_tty(2); `ResourceBusy` when it is redirected already.
pub fn redirect_console(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed, and this request takes no argument that the kernel would read
    // or write.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCCONS) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The sockets that systemd has opened for this process (sd_listen_fds(3)): none, unless the variables `LISTEN_PID` and
/// `LISTEN_FDS` are meant for it. To be called once, and before this process has opened anything itself.
pub fn passed_by_systemd(pid: Option<&str>, count: Option<&str>) -> io::Result<Vec<OwnedFd>> {
    const FIRST: RawFd = 3; // SD_LISTEN_FDS_START
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if pid.and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = count.and_then(|count| count.parse().ok()).filter(|count| (0..=MOST_PASSED).contains(count));
    let count = count.ok_or_else(|| io::Error::other(format!("LISTEN_FDS is no number up to {MOST_PASSED}")))?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("the sockets of systemd were taken already"));
    }
    (FIRST..FIRST + count)
        .map(|number| {
            // SAFETY: the call only asks for flags, and fails where the number is no open descriptor.
            let open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
            if !open {
                return Err(io::Error::other(format!("LISTEN_FDS promises descriptor {number}, which is not open")));
            }
            // SAFETY: it is open, and ours: whoever started this process says so with its number, `TAKEN` lets it become
            // owned once, and nothing else here owns it, as nothing was opened before.
            let socket = unsafe { OwnedFd::from_raw_fd(number) };
            // As sd_listen_fds(3) does: what we start has no business with it.
            rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
            Ok(socket)
        })
        .collect()
}
