//! What a process gives up before it sees a secret, or a byte from a stranger.
//!
//! Everything here goes as far as the kernel does. What it lacks altogether is said once, by the daemon
//! ([`confinement`]); what fails for another reason is returned, and is worth a line in the log, not an end.

mod calls;
mod kernel;
pub mod landlock;
mod seccomp;

use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::control::client;
use crate::flow::table::{MAX_CHANNELS, MAX_SESSIONS};
use landlock::FileAccess;
use seccomp::Call;

/// Address space of a session, in bytes. A session needs about 20 MiB; one that is made to need more ends.
const SESSION_ADDRESS_SPACE: u64 = 256 << 20;
/// Descriptors of a session: the stream, the control socket, standard error, the runtime's own, and some to spare; what
/// its programs and forwarded connections have; and what has come from listeners and is about to be taken or closed.
const SESSION_DESCRIPTORS: u64 = 32 + 3 * MAX_SESSIONS as u64 + MAX_CHANNELS as u64 + client::QUEUE as u64;
/// A session's user and group: this and its process number, so that no two sessions, nor anybody else, are the same user. No
/// system hands these numbers out, and there is room for every process number (<https://systemd.io/UIDS-GIDS/>, `PID_MAX_LIMIT`).
const SESSION_USERS: u32 = 1_900_000_000;

/// For every process of ours: no core dumps, nobody may attach to it or read its memory through /proc, and no page of
/// it is written to swap. Returns what the kernel would not do.
#[must_use]
pub fn keep_memory_private() -> Vec<String> {
    let mut steps = Steps::default();
    steps.keep_memory_private();
    steps.refused
}

/// For a session process, before it reads from the network, and with one thread: for the rest of its life it only uses the
/// descriptors that it has, or is handed. It has its own process group from its start (`daemon::listener`). Returns what
/// the kernel would not do.
#[must_use]
pub fn confine_session() -> Vec<String> {
    let mut steps = Steps::default();
    steps.keep_memory_private();
    for (what, resource, value) in [
        ("limiting memory", Resource::RLIMIT_AS, SESSION_ADDRESS_SPACE),
        ("limiting descriptors", Resource::RLIMIT_NOFILE, SESSION_DESCRIPTORS),
        ("forbidding processes", Resource::RLIMIT_NPROC, 0),
    ] {
        steps.take(what, limit(resource, value));
    }
    steps.take("giving up new privileges", prctl::set_no_new_privs());
    // Tests run daemons that are not root, and have nothing to give up.
    if geteuid().is_root() {
        steps.take("giving up the rights of root", become_nobody());
        // The kernel may have made it dumpable with the change of user (`fs.suid_dumpable`).
        steps.take("staying non-dumpable", prctl::set_dumpable(false));
    }
    if landlock::version().is_ok() {
        steps.take("giving up files (Landlock)", landlock::forbid_everything());
    }
    steps.filter(calls::SESSION);
    steps.refused
}

/// For a file server, a process of its own with one thread, before it reads its first request: it reaches files below `root`
/// and no others, and has no sockets, no programs and no other processes. Returns what the kernel would not do.
///
/// It stays root, as files are root's. What it may call: read, write and poll its open descriptors; openat, openat2,
/// statx, getdents64, readlinkat and the like, and with write access the changes by descriptor or by a name below one
/// (`calls`). So std::fs, which changes files by path, is not what it uses, but nix or rustix.
///
/// Landlock does not judge everything: names, sizes and times of files elsewhere can be looked at, and with write access
/// their modes, owners and times changed, by whoever can name them. The server's own paths must not (`RESOLVE_BENEATH`).
#[must_use]
pub fn confine_sftp(root: BorrowedFd<'_>, access: FileAccess) -> Vec<String> {
    let mut steps = Steps::default();
    steps.keep_memory_private();
    steps.take("giving up new privileges", prctl::set_no_new_privs());
    if landlock::version().is_ok() {
        steps.take("giving up other files (Landlock)", landlock::forbid_all_but(root, access));
    }
    steps.filter(if access == FileAccess::Read { calls::READER } else { calls::WRITER });
    steps.refused
}

/// What this kernel confines sessions and file servers by, as a line for the log; an error when it lacks some of it.
pub fn confinement() -> Result<String, String> {
    let lacks = |what: &str, error: io::Error| {
        format!("this kernel has no {what} ({error}): sessions are confined by what else there is")
    };
    let filters =
        if seccomp::ARCHITECTURE.is_some() { kernel::has_filters() } else { Err(io::ErrorKind::Unsupported.into()) };
    match (filters, landlock::version()) {
        (Ok(()), Ok(version)) => Ok(format!("sessions are confined by seccomp and Landlock (version {version})")),
        (Ok(()), Err(error)) => Err(lacks("Landlock", error)),
        (Err(error), Ok(_)) => Err(lacks("seccomp filters", error)),
        (Err(error), Err(_)) => Err(lacks("seccomp filters and no Landlock", error)),
    }
}

/// Steps that are all taken, whatever becomes of those before.
#[derive(Default)]
struct Steps {
    refused: Vec<String>,
}

impl Steps {
    fn take<E: Into<io::Error>>(&mut self, what: &str, result: Result<(), E>) {
        if let Err(error) = result {
            self.refused.push(format!("{what}: {}", error.into()));
        }
    }

    fn keep_memory_private(&mut self) {
        self.take("disabling core dumps", limit(Resource::RLIMIT_CORE, 0));
        self.take("becoming non-dumpable", prctl::set_dumpable(false));
        // ONFAULT: pages are locked as they are touched, so that locking costs no memory of its own.
        let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        self.take("locking memory", mlockall(flags));
    }

    /// The last step: afterwards none of the others could be taken.
    fn filter(&mut self, calls: &[&[Call]]) {
        if let Some(architecture) = seccomp::ARCHITECTURE
            && kernel::has_filters().is_ok()
        {
            let mut program = seccomp::program(architecture, &calls.concat(), std::process::id());
            self.take("filtering system calls (seccomp)", kernel::filter_calls(&mut program));
        }
    }
}

fn limit(resource: Resource, value: u64) -> nix::Result<()> {
    setrlimit(resource, value as _, value as _)
}

/// Its own user and group, in no other group, with no capability but that to lock memory: an ordinary user may lock little,
/// and what can't be locked can't be allocated (mlockall(2)).
fn become_nobody() -> io::Result<()> {
    let number = SESSION_USERS + std::process::id();
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    prctl::set_keepcaps(true)?;
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    let lock = CapabilitySet::IPC_LOCK & capabilities(None)?.permitted;
    let sets = CapabilitySets { effective: lock, permitted: lock, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}
