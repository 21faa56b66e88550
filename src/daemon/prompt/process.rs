//! Processes: what `/proc` tells about them, and whether they live. proc(5), pidfd_open(2).

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal};
use tokio::io::unix::AsyncFd;

use crate::daemon::descriptors;
use crate::root::Root;

/// Longest `cmdline` or `environ` that is read, in bytes.
const MAX_ARGUMENTS: u64 = 64 * 1024;
/// Longest `maps` that is read, in bytes; systemd-cryptsetup's has about 20 000.
const MAX_MAPS: u64 = 256 * 1024;

/// How often it is looked whether a process has ended whose end the kernel doesn't tell.
const LOOK: Duration = Duration::from_millis(50);

/// A process that can't be mistaken for a later one with the same number.
pub struct Process {
    pub pid: i32,
    hold: Hold,
}

enum Hold {
    Pidfd(AsyncFd<OwnedFd>),
    /// When it was started (proc_pid_stat(5), `starttime`). Kernels before Linux 5.3, as phones have them, know no pidfd.
    Started(String),
}

impl Process {
    /// `None` when there is no such process. Needs a tokio runtime.
    pub fn open(pid: i32) -> io::Result<Option<Self>> {
        let Some(number) = Pid::from_raw(pid).filter(|_| pid > 0) else { return Ok(None) };
        match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(Self { pid, hold: Hold::Pidfd(descriptors::watch(fd)?) })),
            Err(Errno::NOSYS) => Ok(stat(&here(), pid, STARTED).map(|when| Self { pid, hold: Hold::Started(when) })),
            // EINVAL: the number of a thread that leads no process
            Err(Errno::SRCH | Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn has_ended(&self) -> bool {
        match &self.hold {
            Hold::Pidfd(fd) => {
                let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
                nix::poll::poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
            }
            // As a pidfd has it, one that nobody has waited for yet (Z) has ended.
            Hold::Started(when) => {
                stat(&here(), self.pid, STARTED).as_ref() != Some(when)
                    || stat(&here(), self.pid, STATE).is_none_or(|state| matches!(&*state, "Z" | "X"))
            }
        }
    }

    /// Returns when the process has ended.
    pub async fn ended(&self) {
        match &self.hold {
            // An error would mean that the runtime is shutting down; nothing waits for the answer then.
            Hold::Pidfd(fd) => drop(fd.readable().await),
            Hold::Started(_) => {
                while !self.has_ended() {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match (&self.hold, Pid::from_raw(self.pid)) {
            (Hold::Pidfd(fd), _) => Ok(rustix::process::pidfd_send_signal(fd.as_fd(), signal)?),
            (Hold::Started(_), Some(pid)) if !self.has_ended() => Ok(rustix::process::kill_process(pid, signal)?),
            (Hold::Started(_), _) => Err(Errno::SRCH.into()),
        }
    }

    /// Asks the process to end. Never more than that: a cryptsetup that is killed leaves its terminal without echo.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Tells a shell that its terminal has gone: an interactive one ignores SIGTERM, and ends at this.
    pub fn hang_up(&self) -> io::Result<()> {
        self.signal(Signal::HUP)
    }

    /// A duplicate of one of its descriptors.
    pub fn descriptor(&self, number: i32) -> io::Result<OwnedFd> {
        match &self.hold {
            Hold::Pidfd(fd) => Ok(rustix::process::pidfd_getfd(fd.as_fd(), number, PidfdGetfdFlags::empty())?),
            Hold::Started(_) => Err(Errno::NOSYS.into()),
        }
    }
}

/// Programs run where the daemon runs, whatever it takes for its root.
fn here() -> Root {
    Root::default()
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

/// Whether a process has the file with this device and inode number open. Unlike its name, they are the same in every
/// mount namespace.
pub fn has_open(root: &Root, pid: i32, file: (u64, u64)) -> bool {
    let Ok(entries) = std::fs::read_dir(root.join(format!("/proc/{pid}/fd"))) else { return false };
    let mut files = entries.flatten().filter_map(|entry| std::fs::metadata(entry.path()).ok());
    files.any(|open| (open.dev(), open.ino()) == file)
}

/// The kernel function that a process sleeps in; `None` where the kernel doesn't tell.
pub fn sleeps_in(root: &Root, pid: i32) -> Option<String> {
    let name = read(root, &format!("/proc/{pid}/wchan"), MAX_ARGUMENTS).ok()?;
    Some(String::from_utf8_lossy(&name).into_owned()).filter(|name| !name.is_empty() && name != "0")
}

/// Whether a process sleeps and can be woken by a signal (state `S`), as one that waits for input does.
pub fn sleeps(root: &Root, pid: i32) -> bool {
    stat(root, pid, STATE).is_some_and(|state| state == "S")
}

/// The process that started it, or that it was left to.
pub fn parent(root: &Root, pid: i32) -> Option<i32> {
    stat(root, pid, PARENT)?.parse().ok()
}

/// The session that it belongs to, by the number of its leader: setsid(2).
pub fn session(root: &Root, pid: i32) -> Option<i32> {
    stat(root, pid, SESSION)?.parse().ok()
}

/// The processes of a control group, by its directory in the hierarchy: cgroups(7), `cgroup.procs`.
pub fn members(root: &Root, group: &str) -> Vec<i32> {
    let text = read(root, &format!("{group}/cgroup.procs"), MAX_ARGUMENTS).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(|line| line.parse().ok()).collect()
}

/// Fields of `/proc/PID/stat`, counted from the first after the name.
const STATE: usize = 0;
const PARENT: usize = 1;
const SESSION: usize = 3;
const STARTED: usize = 19;

fn stat(root: &Root, pid: i32, field: usize) -> Option<String> {
    let stat = read(root, &format!("/proc/{pid}/stat"), MAX_ARGUMENTS).ok()?;
    // The name is in parentheses and may contain any byte.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    String::from_utf8_lossy(&stat[end + 1..]).split_whitespace().nth(field).map(str::to_owned)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says() {
        let directory = std::env::temp_dir().join(format!("vestibule-process-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("proc/7/fd")).unwrap();
        let put = |name: &str, text: &str| std::fs::write(directory.join("proc/7").join(name), text).unwrap();
        put("cmdline", "cryptsetup\0open\0\0/dev/sda\0");
        put("environ", "HOME=/\0PATH=/sbin:/bin\0");
        put("stat", "7 (a) R (b) S 1 7 5");
        put("wchan", "wait_woken");
        put("maps", "7f0 r--p /usr/lib/libsystemd-shared.so\n7f1 r--p /usr/lib/systemd/libsystemd-shared-257.7-2.so\n");
        std::os::unix::fs::symlink("/dev/tty", directory.join("proc/7/fd/6")).unwrap();
        std::os::unix::fs::symlink("/dev/tty1", directory.join("proc/7/fd/5")).unwrap();
        let root = Root::new(&directory);
        assert_eq!(all(&root).unwrap(), [7]);
        assert_eq!(arguments(&root, 7), ["cryptsetup", "open", "", "/dev/sda"]);
        assert_eq!(arguments(&root, 8), [""; 0]);
        assert_eq!(variable(&root, 7, "PATH").unwrap(), "/sbin:/bin");
        assert!(sleeps(&root, 7) && !sleeps(&root, 8));
        assert_eq!((parent(&root, 7), parent(&root, 8)), (Some(1), None));
        assert_eq!((session(&root, 7), session(&root, 8)), (Some(5), None));
        assert_eq!(sleeps_in(&root, 7).as_deref(), Some("wait_woken"));
        put("wchan", "0");
        put("stat", "7 (S) R 1 7 7");
        assert_eq!((sleeps_in(&root, 7), sleeps(&root, 7)), (None, false));
        assert_eq!(descriptors_on(&root, 7, "/dev/tty"), [6]);
        assert_eq!(systemd_version(&root, 7), Some(257));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn knows_when_a_process_ends() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::open(child.id() as i32).unwrap().unwrap();
        assert!(!process.has_ended());
        process.terminate().unwrap();
        process.ended().await;
        assert!(process.has_ended());
        child.wait().unwrap();
        assert!(Process::open(process.pid).unwrap().is_none());
        assert!(Process::open(0).unwrap().is_none());
    }

    #[tokio::test]
    async fn the_same_on_a_kernel_that_does_not_tell() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id() as i32;
        let hold = || Hold::Started(stat(&here(), pid, STARTED).unwrap());
        let process = Process { pid, hold: hold() };
        assert!(!process.has_ended());
        assert!(Process { pid, hold: Hold::Started("1".to_owned()) }.has_ended(), "another of the same number");
        process.terminate().unwrap();
        process.ended().await;
        assert!(process.has_ended(), "nobody has waited for it");
        assert!(process.signal(Signal::TERM).is_err());
        child.wait().unwrap();
        assert!(process.has_ended() && stat(&here(), pid, STARTED).is_none());
    }
}
