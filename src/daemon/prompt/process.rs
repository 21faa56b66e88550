//! Processes: what `/proc` tells about them, and whether they live. proc(5), pidfd_open(2).

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal};
use tokio::io::unix::AsyncFd;

use crate::daemon::readable;
use crate::root::Root;

/// Longest `cmdline` or `environ` that is read, in bytes.
const MAX_ARGUMENTS: u64 = 64 * 1024;
/// Longest `maps` that is read, in bytes; systemd-cryptsetup's has about 20 000.
const MAX_MAPS: u64 = 256 * 1024;

/// A process that can't be mistaken for a later one with the same number.
pub struct Process {
    pub pid: i32,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// `None` when there is no such process. Needs a tokio runtime.
    pub fn open(pid: i32) -> io::Result<Option<Self>> {
        let Some(number) = Pid::from_raw(pid).filter(|_| pid > 0) else { return Ok(None) };
        match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(Self { pid, fd: readable::watch(fd)? })),
            // EINVAL: the number of a thread that leads no process
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Returns when the process has ended.
    pub async fn ended(&self) {
        // An error would mean that the runtime is shutting down; nothing waits for the answer then.
        drop(self.fd.readable().await);
    }

    /// Asks the process to end. Never more than that: a cryptsetup that is killed leaves its terminal without echo.
    pub fn terminate(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(self.as_fd(), Signal::TERM)?)
    }

    /// A duplicate of one of its descriptors.
    pub fn descriptor(&self, number: i32) -> io::Result<OwnedFd> {
        Ok(rustix::process::pidfd_getfd(self.as_fd(), number, PidfdGetfdFlags::empty())?)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

/// The numbers of all processes.
pub fn all(root: &Root) -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir(root.join("/proc"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// The program that a process runs; `None` for kernel threads and for what has ended.
pub fn program(root: &Root, pid: i32) -> Option<PathBuf> {
    std::fs::read_link(root.join(format!("/proc/{pid}/exe"))).ok()
}

/// Its arguments, the program's name first; empty for what has ended.
pub fn arguments(root: &Root, pid: i32) -> Vec<OsString> {
    strings(root, &format!("/proc/{pid}/cmdline"))
}

/// One variable of the environment that it was started with.
pub fn variable(root: &Root, pid: i32, name: &str) -> Option<OsString> {
    let prefix = format!("{name}=").into_bytes();
    let all = strings(root, &format!("/proc/{pid}/environ")).into_iter();
    all.map(OsString::into_vec).find_map(|text| Some(OsString::from_vec(text.strip_prefix(&prefix[..])?.to_vec())))
}

/// Descriptors of a process that are open on `target`, by what `/proc/PID/fd` links to.
pub fn descriptors_on(root: &Root, pid: i32, target: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(root.join(format!("/proc/{pid}/fd"))) else { return Vec::new() };
    let entries =
        entries.flatten().filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == target));
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The kernel function that a process sleeps in; `None` where the kernel doesn't tell.
pub fn sleeps_in(root: &Root, pid: i32) -> Option<String> {
    let name = read(root, &format!("/proc/{pid}/wchan"), MAX_ARGUMENTS).ok()?;
    Some(String::from_utf8_lossy(&name).into_owned()).filter(|name| !name.is_empty() && name != "0")
}

/// Whether a process sleeps and can be woken by a signal (state `S`), as one that waits for input does.
pub fn sleeps(root: &Root, pid: i32) -> bool {
    let stat = read(root, &format!("/proc/{pid}/stat"), MAX_ARGUMENTS).unwrap_or_default();
    // The name before the state is in parentheses and may contain any byte.
    stat.iter().rposition(|&byte| byte == b')').is_some_and(|end| stat[end..].starts_with(b") S"))
}

/// systemd's version, from the library that one of its programs has loaded (`libsystemd-shared-252.so`,
/// `libsystemd-shared-257.7-2.so`).
pub fn systemd_version(root: &Root, pid: i32) -> Option<u32> {
    let maps = read(root, &format!("/proc/{pid}/maps"), MAX_MAPS).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let (_, version) = maps.split_once("/libsystemd-shared-")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn strings(root: &Root, path: &str) -> Vec<OsString> {
    let content = read(root, path, MAX_ARGUMENTS).unwrap_or_default();
    let content = content.strip_suffix(b"\0").unwrap_or(&content);
    if content.is_empty() {
        return Vec::new();
    }
    content.split(|&byte| byte == 0).map(|text| OsString::from_vec(text.to_vec())).collect()
}

fn read(root: &Root, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    std::fs::File::open(root.join(path))?.take(limit).read_to_end(&mut content)?;
    Ok(content)
}
