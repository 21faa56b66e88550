//! How many connections there may be on this machine.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::sysinfo::sysinfo;

/// What a session process costs, with the kernel's share, in bytes. Measured: 0.3 MiB of its own, and page tables, stack and
/// socket buffers; the rest of its 2 MiB is the program itself, which all share.
const SESSION_COST: u64 = 1 << 20;
/// Part of the memory that sessions may have. An initramfs is in memory too, and opening a volume may take 1 GiB
/// (cryptsetup(8), --pbkdf-memory).
const SESSIONS_PART: u64 = 4;
/// Part of the memory that connections may have that have not logged in.
const STRANGERS_PART: u64 = 32;
/// At the least: on a machine of 128 MiB, people still come in beside a flood.
const LEAST: u64 = 16;
/// More than this no machine needs; each is a process and three descriptors.
const MOST_SESSIONS: u64 = 2048;
/// More would help nobody to come in: all of them compete for the processor.
const MOST_STRANGERS: u64 = 128;
/// Connections that have not said that they speak SSH: a socket (some KiB in the kernel), no process. So many that a
/// flood of 1000 new ones each second leaves a client 1 s for its first packet.
const GREETED: usize = 1024;
/// Descriptors of the daemon for anything but connections.
const OTHER_DESCRIPTORS: u64 = 256;
/// Descriptors of the daemon for each session process: control socket, pidfd, and one while it is started.
const SESSION_DESCRIPTORS: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections without a process.
    pub greeted: usize,
    /// Processes of connections that have not logged in.
    pub processes: usize,
    /// From so many of these on, some go early, by chance.
    pub early: usize,
    /// So many of these for one source: most of them, since who shares the address of a flood waits for one of these, and
    /// some are left for others to start in at once.
    pub per_source: usize,
    /// Connections that have logged in.
    pub sessions: usize,
}

impl Capacity {
    /// By the memory of this machine. Raises the limit of descriptors for it; the error says what was refused, and then the
    /// numbers are smaller.
    pub fn here() -> (Self, Result<(), String>) {
        let memory = sysinfo().map_or(0, |info| info.ram_total());
        let wanted = Self::with_memory(memory);
        match raise_descriptors(wanted.descriptors()) {
            Ok(()) => (wanted, Ok(())),
            Err((has, error)) => {
                let said = format!("the limit of open files stays at {has}, for fewer SSH connections: {error}");
                (wanted.with_descriptors(has), Err(said))
            }
        }
    }

    fn with_memory(bytes: u64) -> Self {
        let part = |part: u64, most: u64| (bytes / part / SESSION_COST).clamp(LEAST, most);
        Self::of(GREETED, part(STRANGERS_PART, MOST_STRANGERS), part(SESSIONS_PART, MOST_SESSIONS))
    }

    fn of(greeted: usize, processes: u64, sessions: u64) -> Self {
        let processes = processes as usize;
        Self { greeted, processes, early: processes / 2, per_source: processes * 3 / 4, sessions: sessions as usize }
    }

    fn descriptors(self) -> u64 {
        OTHER_DESCRIPTORS + self.greeted as u64 + SESSION_DESCRIPTORS * (self.processes + self.sessions) as u64
    }

    /// A third for each kind.
    fn with_descriptors(self, descriptors: u64) -> Self {
        let third = descriptors.saturating_sub(OTHER_DESCRIPTORS) / 3;
        let each = (third / SESSION_DESCRIPTORS).max(LEAST);
        let fewer = |number: usize| (number as u64).min(each);
        Self::of(self.greeted.min(third.max(LEAST) as usize), fewer(self.processes), fewer(self.sessions))
    }
}

/// What the limit stays at, if it can't be raised.
fn raise_descriptors(wanted: u64) -> Result<(), (u64, String)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| (1024, error.to_string()))?;
    if soft >= wanted {
        return Ok(());
    }
    let raise = |to, hard| setrlimit(Resource::RLIMIT_NOFILE, to, hard).map_err(|error| error.to_string());
    raise(wanted, hard.max(wanted)).or_else(|error| {
        raise(hard, hard).map_err(|_| (soft, error.clone()))?;
        if hard >= wanted { Ok(()) } else { Err((hard, error)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_machines_have_room_for_fewer() {
        let sizes = [0, 64, 256, 1024, 4096, 1 << 20];
        let capacities = sizes.map(|mib: u64| Capacity::with_memory(mib << 20));
        assert_eq!(capacities.map(|it| it.processes), [16, 16, 16, 32, 128, 128]);
        assert_eq!(capacities.map(|it| it.sessions), [16, 16, 64, 256, 1024, 2048]);
        assert!(capacities.iter().all(|it| it.early < it.processes && it.per_source < it.processes));
    }

    #[test]
    fn few_descriptors_are_enough_for_some() {
        let most = Capacity::with_memory(1 << 40);
        for limit in [512, 1024, 4096] {
            let fewer = most.with_descriptors(limit);
            assert!(fewer.descriptors() <= limit && fewer.processes >= LEAST as usize, "{limit}: {fewer:?}");
        }
    }
}
