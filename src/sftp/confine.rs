//! What the server gives up before it reads the first byte from a client.

use std::io::Write;
use std::os::fd::BorrowedFd;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::access::Access;
use super::handles::{MOST_HANDLES, MOST_MADE};
use crate::hardening;
use crate::hardening::landlock::FileAccess;

/// Descriptors beside those of handles: the standard ones, the root, and those of one request.
const OTHER_DESCRIPTORS: usize = 16;
/// Address space, in bytes. The server needs about 2 MiB; one that is made to need more ends.
const ADDRESS_SPACE: u64 = 64 << 20;

/// Files other than those below `root`, programs, sockets, other processes; and all but so much memory and so many
/// descriptors, whatever a client sends. Limits come first: the filter lets nobody change them.
///
/// What this kernel has no means for is told on standard error; the server's own care for paths holds without.
pub fn confine(root: BorrowedFd, access: Access) -> anyhow::Result<()> {
    lower(Resource::RLIMIT_AS, ADDRESS_SPACE).context("limiting memory")?;
    let descriptors = MOST_HANDLES + MOST_MADE + OTHER_DESCRIPTORS;
    lower(Resource::RLIMIT_NOFILE, descriptors as u64).context("limiting descriptors")?;
    let access = match access {
        Access::ReadOnly => FileAccess::Read,
        Access::WriteOnly => FileAccess::Write,
        Access::ReadWrite => FileAccess::ReadWrite,
    };
    for refused in hardening::confine_sftp(root, access) {
        // Where the log takes no more, files can be had all the same; `eprintln!` would end this process.
        let _ = writeln!(std::io::stderr(), "vestibule sftp-server: ignoring: {refused}");
    }
    Ok(())
}

fn lower(resource: Resource, most: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let limit = hard.min(most as _);
    setrlimit(resource, limit, limit)
}
