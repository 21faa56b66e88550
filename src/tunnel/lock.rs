//! One tunnel of a name at a time: two would fight for the same ports, each taking them when the other is away.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::root::Root;

/// Held until dropped, or until the process has ended, however it does (flock(2)). The file stays: who removes it could
/// remove another's.
pub struct Lock {
    _file: Flock<File>,
}

/// Takes the lock of that name; an error if another process has it. `name` has no slashes.
pub fn take(root: &Root, name: &str) -> anyhow::Result<Lock> {
    let directory = directory(root)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .with_context(|| format!("making {}, for the lock", directory.display()))?;
    let path = directory.join(format!("dial-{name}.lock"));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("opening the lock {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            let id = std::process::id().to_string();
            // Only for the message below.
            file.set_len(0)
                .and_then(|()| file.write_all(id.as_bytes()))
                .with_context(|| format!("writing the lock {}", path.display()))?;
            Ok(Lock { _file: file })
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut id = String::new();
            file.read_to_string(&mut id).with_context(|| format!("reading the lock {}", path.display()))?;
            bail!("this tunnel runs already (process {id}, by {}); give another one its own --name", path.display())
        }
        Err((_, error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// What systemd has made for the unit, else the user's own, else root's.
fn directory(root: &Root) -> anyhow::Result<PathBuf> {
    let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
    if let Some(directories) = named("RUNTIME_DIRECTORY") {
        // A unit may have several, with colons in between (systemd.exec(5)).
        let first = std::env::split_paths(&directories).next();
        return first.context("RUNTIME_DIRECTORY names no directory");
    }
    if let Some(directory) = named("XDG_RUNTIME_DIR") {
        return Ok(PathBuf::from(directory).join("vestibule"));
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(root.join("/run/vestibule"));
    }
    bail!("there is no directory for the lock: set XDG_RUNTIME_DIR, or RuntimeDirectory= in the unit")
}
