//! What the server gives up before it reads the first byte from a client.

use std::path::Path;

use anyhow::Context;
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::handles::{MOST_HANDLES, MOST_MADE};

/// Descriptors beside those of handles: the standard ones, the root, and those of one request.
const OTHER_DESCRIPTORS: usize = 16;
/// Address space, in bytes. The server needs about 2 MiB; one that is made to need more ends.
const ADDRESS_SPACE: u64 = 64 << 20;

/// No privileges by programs, no core files, and only so much memory and so many descriptors, whatever a client sends.
/// `root` is the directory that is served, the only one that the process needs from here on.
pub fn confine(root: &Path) -> anyhow::Result<()> {
    set_no_new_privs().context("giving up new privileges")?;
    lower(Resource::RLIMIT_CORE, 0).context("forbidding core files")?;
    lower(Resource::RLIMIT_AS, ADDRESS_SPACE).context("limiting memory")?;
    let descriptors = MOST_HANDLES + MOST_MADE + OTHER_DESCRIPTORS;
    lower(Resource::RLIMIT_NOFILE, descriptors as u64).context("limiting descriptors")?;
    let _ = root;
    Ok(())
}

fn lower(resource: Resource, most: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let limit = hard.min(most as _);
    setrlimit(resource, limit, limit)
}
