//! Processes: whether one is still the one that was started, and which ones live in a chroot. proc(5).
//!
//! Kernels of phones have no pidfd (before Linux 5.3). A process is known by its number and by when it started; between looking
//! and signalling, a number would have to be given anew to be mistaken, and the kernel gives numbers in turn.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::place::Place;

/// Longest `stat` that is read, in bytes: 52 numbers and a name of 64 at most.
const MAX_STAT: u64 = 4096;
/// As deep as directories can be nested in a path (`PATH_MAX`).
const MAX_DEPTH: usize = 2048;
/// How often it is looked whether they have ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What is killed is gone at once, but for a process that waits for a disk.
pub const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// A process that isn't taken for a later one with the same number, until the machine is booted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Running {
    pub pid: i32,
    /// Clock ticks between boot and its start.
    pub started: u64,
}

impl Running {
    /// This very process.
    pub fn this() -> anyhow::Result<Self> {
        let pid = std::process::id().cast_signed();
        Self::of(pid).ok_or_else(|| anyhow::anyhow!("/proc/{pid}/stat can't be read; mount proc on /proc"))
    }

    /// Whoever has this number now. Also one that has ended, and isn't waited for yet.
    pub fn of(pid: i32) -> Option<Self> {
        Seen::read(pid).map(|seen| seen.running)
    }

    /// Not gone, and no zombie.
    pub fn lives(self) -> bool {
        Seen::read(self.pid).is_some_and(|seen| seen.running == self && !seen.ended)
    }

    /// Whether it was there to get it.
    pub fn signal(self, signal: Signal) -> bool {
        if !self.lives() {
            return false;
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => true,
            Err(Errno::ESRCH) => false, // it has just ended
            Err(error) => {
                log::warn!("{} can't be sent to process {} ({error}); ignoring that", signal.as_str(), self.pid);
                false
            }
        }
    }

    /// Returns whether it has ended, at the deadline at the latest.
    pub fn ended_by(self, deadline: Instant) -> bool {
        while self.lives() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }
}

/// What `/proc/PID/stat` tells of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub running: Running,
    /// As in `ps`, 15 bytes at most.
    pub name: String,
    pub parent: i32,
    /// The number of the process that began it: setsid(2).
    pub session: i32,
    /// A zombie: nothing of it is left but its exit status. Not if only its first thread has ended (pthread_exit(3) in `main`).
    pub ended: bool,
}

impl Seen {
    pub fn read(pid: i32) -> Option<Self> {
        let mut text = Vec::new();
        // Of the first thread, which tells the same: qemu-user has its own idea of /proc/PID/stat, and of when that started.
        std::fs::File::open(format!("/proc/{pid}/task/{pid}/stat")).ok()?.take(MAX_STAT).read_to_end(&mut text).ok()?;
        Self::parse(&text)
    }

    /// `PID (NAME) STATE PPID PGRP SESSION … STARTTIME …`; the name may contain any byte.
    fn parse(text: &[u8]) -> Option<Self> {
        let from = text.iter().position(|&byte| byte == b'(')?;
        let to = text.iter().rposition(|&byte| byte == b')')?;
        let pid = std::str::from_utf8(&text[..from]).ok()?.trim().parse().ok()?;
        let name = text.get(from + 1..to)?.escape_ascii().to_string();
        let rest: Vec<&str> = std::str::from_utf8(&text[to + 1..]).ok()?.split_whitespace().collect();
        let threads: u32 = rest.get(17)?.parse().ok()?;
        Some(Self {
            running: Running { pid, started: rest.get(19)?.parse().ok()? },
            name,
            parent: rest.get(1)?.parse().ok()?,
            session: rest.get(3)?.parse().ok()?,
            ended: matches!(*rest.first()?, "Z" | "X" | "x") && threads <= 1,
        })
    }
}

/// All that live, this one too.
pub fn all() -> Vec<Seen> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(Seen::read).filter(|seen| !seen.ended).collect()
}

/// The living processes whose root is this directory, or lies below it.
pub fn within(place: &Place) -> Vec<Seen> {
    all().into_iter().filter(|seen| is_within(seen.running.pid, place)).collect()
}

/// Whether the root of a process is this directory or lies below it. Asked of the kernel upwards, directory by directory: what
/// `/proc/PID/root` links to is a path in that process's own view of the mounts.
pub fn is_within(pid: i32, place: &Place) -> bool {
    let Ok(wanted) = rustix::fs::fstat(place.root()) else { return false };
    let Some(mut directory) = root_of(pid) else { return false };
    for _ in 0..MAX_DEPTH {
        let Ok(found) = rustix::fs::fstat(&directory) else { return false };
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) {
            return true;
        }
        let Some(above) = above(&directory, (found.st_dev, found.st_ino)) else { return false };
        directory = above;
    }
    false
}

/// What has ended has none; so has a thread, and others of its process may live.
fn root_of(pid: i32) -> Option<OwnedFd> {
    let look = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |directory: &Path| rustix::fs::open(directory.join("root"), look, Mode::empty()).ok();
    let process = PathBuf::from(format!("/proc/{pid}"));
    let of_thread = || std::fs::read_dir(process.join("task")).ok()?.flatten().find_map(|thread| open(&thread.path()));
    open(&process).or_else(of_thread)
}

/// `None` at the top.
fn above(directory: &OwnedFd, identity: (u64, u64)) -> Option<OwnedFd> {
    let look = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::openat(directory.as_fd(), "..", look, Mode::empty()).ok()?;
    let found = rustix::fs::fstat(&above).ok()?;
    ((found.st_dev, found.st_ino) != identity).then_some(above)
}

/// Ends whatever runs in the chroot, so that nothing keeps its mounts busy: as when a terminal is closed and the machine is shut
/// down, and after `grace` by force. What was found is told by name and number.
pub fn end_all(place: &Place, grace: Duration) -> Vec<String> {
    let this = std::process::id().cast_signed();
    let members = || within(place).into_iter().filter(|seen| seen.running.pid != this).collect();
    // An interactive shell ignores SIGTERM, and ends at SIGHUP.
    let told = end(&members, &[Signal::SIGHUP, Signal::SIGTERM, Signal::SIGCONT], grace);
    told.into_iter()
        .map(|(seen, how)| format!("{} ({}) was still in it: {}", seen.name, seen.running.pid, how.text()))
        .collect()
}

/// What became of a process that was to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Itself,
    Killed,
    Stays,
}

impl End {
    pub fn text(self) -> &'static str {
        match self {
            Self::Itself => "it was told to end, and did",
            Self::Killed => "it did not end when it was told to, and was killed",
            Self::Stays => "it stays although it was killed; it may wait for a disk",
        }
    }
}

/// Signals each process once, those as well that come while others end; kills after `grace` what is left, but nothing at the
/// first look. Looks no longer than for `KILL_DEADLINE` after that.
pub fn end(members: &dyn Fn() -> Vec<Seen>, signals: &[Signal], grace: Duration) -> Vec<(Seen, End)> {
    let begin = Instant::now();
    let mut told: Vec<(Seen, End)> = Vec::new();
    let mut first_look = true;
    loop {
        let living = members();
        let force = !first_look && begin.elapsed() >= grace;
        first_look = false;
        if living.is_empty() || begin.elapsed() >= grace + KILL_DEADLINE {
            let stays = |seen: &Seen| living.iter().any(|living| living.running == seen.running);
            told.iter_mut().filter(|(seen, _)| stays(seen)).for_each(|(_, how)| *how = End::Stays);
            return told;
        }
        for seen in living {
            let known = told.iter().position(|(known, _)| known.running == seen.running);
            if known.is_none() {
                for signal in signals {
                    seen.running.signal(*signal);
                }
            }
            let at = known.unwrap_or_else(|| {
                told.push((seen, End::Itself));
                told.len() - 1
            });
            if force && told[at].0.running.signal(Signal::SIGKILL) {
                told[at].1 = End::Killed;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says_whatever_the_name() {
        let line = |name: &str, state: &str, threads: u32| {
            format!(
                "7 ({name}) {state} 1 6 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 98765 1000 50 18446744073709551615"
            )
        };
        let seen = Seen::parse(line("a) R 9 (b\n", "S", 1).as_bytes()).unwrap();
        assert_eq!(seen.running, Running { pid: 7, started: 98765 });
        assert_eq!((seen.name.as_str(), seen.parent, seen.session, seen.ended), ("a) R 9 (b\\n", 1, 5, false));
        assert!(Seen::parse(line("x", "Z", 1).as_bytes()).unwrap().ended);
        assert!(!Seen::parse(line("x", "Z", 2).as_bytes()).unwrap().ended, "its first thread only");
        for broken in ["", "7", "7 (x", "7 (x) S 1 6 5", "x) (7"] {
            assert_eq!(Seen::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start_and_a_zombie_does_not_live() {
        let this = Running::this().unwrap();
        assert!(this.lives());
        assert!(!Running { started: this.started + 1, ..this }.lives(), "another one with the same number");
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let running = Running::of(child.id().cast_signed()).unwrap();
        assert!(running.lives() && !running.ended_by(Instant::now()));
        assert!(running.signal(Signal::SIGKILL));
        // Not waited for yet: a zombie.
        assert!(running.ended_by(Instant::now() + Duration::from_secs(60)));
        assert!(!running.signal(Signal::SIGKILL));
        child.wait().unwrap();
    }

    #[test]
    fn even_without_grace_a_process_is_told_before_it_is_killed() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let running = Running::of(child.id().cast_signed()).unwrap();
        let looks = std::cell::Cell::new(0);
        let members = || {
            looks.set(looks.get() + 1);
            // Who is told gets as long as it needs on a busy machine.
            let ended = looks.get() > 1 && running.ended_by(Instant::now() + Duration::from_secs(60));
            Seen::read(running.pid).filter(|_| !ended).into_iter().collect()
        };
        let told = end(&members, &[Signal::SIGTERM], Duration::ZERO);
        assert!(matches!(&told[..], [(seen, End::Itself)] if seen.running == running), "{told:?}");
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGTERM as i32));
    }
}
