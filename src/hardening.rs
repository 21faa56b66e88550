//! What a process that sees secrets gives up before it sees one.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use rustix::mm::{MlockAllFlags, mlockall};

/// Address space of a session, in bytes. A session needs about 20 MiB; one that is made to need more ends.
const SESSION_ADDRESS_SPACE: u64 = 256 << 20;
/// Descriptors of a session: the stream, the control socket, standard error, the runtime's own, and some to spare.
const SESSION_DESCRIPTORS: u64 = 32;

/// For every process of ours: no core dumps, nobody may attach to it or read its memory through /proc, and no page of
/// it is written to swap. Returns what the kernel would not do; that is worth a line in the log, not an end.
#[must_use]
pub fn keep_memory_private() -> Vec<String> {
    let mut refused = Vec::new();
    let mut note = |what: &str, result: Result<(), String>| {
        if let Err(error) = result {
            refused.push(format!("{what}: {error}"));
        }
    };
    note("disabling core dumps", limit(Resource::RLIMIT_CORE, 0));
    note("becoming non-dumpable", prctl::set_dumpable(false).map_err(|error| error.to_string()));
    // ONFAULT: pages are locked as they are touched, so that locking costs no memory of its own.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    note("locking memory", mlockall(flags).map_err(|error| error.to_string()));
    refused
}

/// For a session process, in addition: no new privileges, no files, little memory, few descriptors. It has its own
/// process group from its start (`daemon::listener`).
#[must_use]
pub fn confine_session() -> Vec<String> {
    let mut refused = keep_memory_private();
    let steps = [
        ("giving up new privileges", prctl::set_no_new_privs().map_err(|error| error.to_string())),
        ("limiting memory", limit(Resource::RLIMIT_AS, SESSION_ADDRESS_SPACE)),
        ("limiting descriptors", limit(Resource::RLIMIT_NOFILE, SESSION_DESCRIPTORS)),
        ("forbidding file growth", limit(Resource::RLIMIT_FSIZE, 0)),
    ];
    for (what, result) in steps {
        if let Err(error) = result {
            refused.push(format!("{what}: {error}"));
        }
    }
    refused
}

fn limit(resource: Resource, value: u64) -> Result<(), String> {
    setrlimit(resource, value as _, value as _).map_err(|error| error.to_string())
}
