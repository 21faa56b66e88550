//! What is remembered of a chroot that is up, outside of it: small files in a directory of its own, which only root can read.
//! They are about processes and mounts, so they mean nothing after the machine has been started anew, and are then not there.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::place::Place;
use crate::root::Root;

/// Not below `/run/vestibule`, which a daemon removes when it ends: it may run beside chroots.
const RUN: &str = "/run/vestibule-chroots";
/// Where there is no /run, as on Android.
const DATA: &str = "/data/vestibule/run";
/// New with each start of the machine (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Nobody removes it: a lock on a file that is gone holds nobody up.
const LOCK: &str = "lock";
/// The longest name that file systems take (`NAME_MAX`).
const MAX_NAME: usize = 255;
/// The longest content, in bytes: some hundred mounts.
const MAX_CONTENT: u64 = 1 << 20;
/// How often the lock is tried for.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

pub struct State {
    directory: PathBuf,
    boot: String,
}

/// Held until dropped, or until the process has ended, however it does.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl State {
    /// Of the chroot at this place.
    pub fn open(place: &Place, root: &Root) -> anyhow::Result<Self> {
        let base = root.join(if root.join("/run").is_dir() { RUN } else { DATA });
        let directory = base.join(name(place.path())?);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).with_context(|| {
            format!("making {}, for what is remembered of the chroot; are you root?", directory.display())
        })?;
        for directory in [&base, &directory] {
            let found = directory.symlink_metadata().with_context(|| format!("looking at {}", directory.display()))?;
            let own = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o022 == 0;
            ensure!(own, "{} is somebody else's, or others may write to it: remove it", directory.display());
        }
        let boot = std::fs::read_to_string(BOOT_ID)
            .with_context(|| format!("reading {BOOT_ID}: /proc must be mounted (mount -t proc proc /proc)"))?;
        Ok(Self { directory, boot: boot.trim().to_owned() })
    }

    /// One at a time may change the chroot. Waits for another.
    pub fn lock(&self, deadline: Duration) -> anyhow::Result<Lock> {
        let path = self.directory.join(LOCK);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let mut file = options.open(&path).with_context(|| format!("opening the lock {}", path.display()))?;
        let since = Instant::now();
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => return Ok(Lock { _file: held }),
                Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
                Err((_, error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
            };
            if since.elapsed() >= deadline {
                bail!(
                    "another vestibule has been starting or stopping this chroot for {} s (it has {}): wait for it, or end it",
                    deadline.as_secs(),
                    path.display()
                );
            }
            std::thread::sleep(LOCK_PAUSE);
        }
    }

    /// What was written by that name since the machine was started.
    pub fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.directory.join(name);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MAX_CONTENT + 1).read_to_string(&mut text)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("reading {}", path.display()))?,
        };
        ensure!(text.len() as u64 <= MAX_CONTENT, "{} is too long to be ours: remove it", path.display());
        Ok(text.split_once('\n').filter(|(boot, _)| *boot == self.boot).map(|(_, content)| content.to_owned()))
    }

    /// Whole or not at all, also if this process is killed meanwhile.
    pub fn write(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let path = self.directory.join(name);
        let temporary = self.directory.join(format!("{name}.{}", std::process::id()));
        std::fs::write(&temporary, format!("{}\n{content}", self.boot))
            .and_then(|()| std::fs::rename(&temporary, &path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Nothing happens if it is not there.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.directory.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("removing {}", path.display())),
        }
    }

    /// For what must have a path, such as a socket.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// A path as one name: `/srv/a b` is `srv-a%20b`. No two have the same.
fn name(path: &Path) -> anyhow::Result<String> {
    let bytes = path.strip_prefix("/").map_or(path.as_os_str(), AsRef::<OsStr>::as_ref).as_bytes();
    let name: String = bytes
        .iter()
        .map(|byte| match byte {
            b'/' => "-".to_owned(),
            b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(*byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    ensure!(name.len() <= MAX_NAME, "the path {} is too long for a chroot: use a shorter one", path.display());
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;

    #[test]
    fn every_path_has_a_name_of_its_own() {
        let named = |path: &str| name(Path::new(path)).unwrap();
        assert_eq!(named("/data/local/debian"), "data-local-debian");
        assert_eq!(named("/srv/a b-c/é"), "srv-a%20b%2Dc-%C3%A9");
        assert_eq!(named("/100%"), "100%25");
        assert!(name(Path::new(&format!("/{}", "x".repeat(256)))).is_err());
    }

    #[test]
    fn what_is_remembered_is_of_this_boot_only() {
        let fixture = Fixture::new(&[("/debian/file", b""), ("/run/file", b"")]);
        let place = Place::open(&fixture.join("/debian")).unwrap();
        let state = State::open(&place, &fixture).unwrap();
        assert!(state.directory().starts_with(fixture.join(RUN)));
        assert_eq!(state.read("mounts").unwrap(), None);
        state.write("mounts", "first\nsecond\n").unwrap();
        assert_eq!(State::open(&place, &fixture).unwrap().read("mounts").unwrap().unwrap(), "first\nsecond\n");
        let later = State { boot: "another".to_owned(), directory: state.directory.clone() };
        assert_eq!(later.read("mounts").unwrap(), None);
        for _twice in 0..2 {
            state.remove("mounts").unwrap();
        }
        assert_eq!(state.read("mounts").unwrap(), None);
    }

    #[test]
    fn one_at_a_time() {
        let fixture = Fixture::new(&[("/data/debian/file", b"")]);
        let place = Place::open(&fixture.join("/data/debian")).unwrap();
        let state = State::open(&place, &fixture).unwrap();
        assert!(state.directory().starts_with(fixture.join(DATA)), "there is no /run");
        let held = state.lock(Duration::ZERO).unwrap();
        let refused = state.lock(Duration::ZERO).unwrap_err().to_string();
        assert!(refused.contains("another vestibule"), "{refused}");
        drop(held);
        state.lock(Duration::from_secs(60)).unwrap();
    }
}
