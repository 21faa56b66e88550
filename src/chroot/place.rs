//! The directory that becomes a chroot's `/`. What lies in it belongs to people who may be root there: no path in it is ever
//! handed to the kernel whole. It is walked name by name, and a symbolic link on the way is refused, since followed from
//! outside it would lead out.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fchmod, fstat, fsync, mkdirat, openat, readlinkat, renameat, unlinkat,
};
use rustix::io::Errno;

use super::processes::is_within;

/// The first process, by its number; of a container, the container's.
const INIT: i32 = 1;

/// Hold of the directory, for as long as this lives.
pub struct Place {
    root: OwnedFd,
    path: PathBuf,
}

impl Place {
    /// `path` itself may lead over symbolic links: it is the administrator's.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let canonical = match std::fs::canonicalize(path) {
            Ok(canonical) => canonical,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "the chroot's directory {} does not exist: make it and put a system into it (debootstrap, or an unpacked \
                 root file system), or correct its path",
                path.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("looking for the chroot's directory {}", path.display()));
            }
        };
        let shown = canonical.display();
        let root = rustix::fs::open(&canonical, NODE, Mode::empty()).with_context(|| format!("opening {shown}"))?;
        let found = fstat(&root).with_context(|| format!("looking at {shown}"))?;
        ensure!(
            FileType::from_raw_mode(found.st_mode).is_dir(),
            "{shown} is no directory: an image must be mounted first, and the chroot's root be where it is mounted"
        );
        let slash = rustix::fs::stat("/").context("looking at /")?;
        ensure!(
            (found.st_dev, found.st_ino) != (slash.st_dev, slash.st_ino),
            "{shown} is the running system's own /, and no chroot: name the directory that has the other system"
        );
        let place = Self { root, path: canonical };
        ensure!(
            !is_within(INIT, &place),
            "{} has this machine's first process in it: it is a running system, and no chroot",
            place.path.display()
        );
        Ok(place)
    }

    /// Canonical, as seen from outside.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What `path` of the chroot is called outside: for messages, and for the mount table.
    pub fn outside(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Hold (`O_PATH`) of a directory in it.
    pub fn directory(&self, path: &Path) -> anyhow::Result<OwnedFd> {
        let shown = self.outside(path);
        let found = self.node(path)?.with_context(|| format!("{} does not exist", shown.display()))?;
        match found {
            (node, FileType::Directory) => Ok(node),
            _ => bail!("{} is no directory", shown.display()),
        }
    }

    /// Hold (`O_PATH`) of whatever is there, and what that is; nothing if nothing is.
    pub fn node(&self, path: &Path) -> anyhow::Result<Option<(OwnedFd, FileType)>> {
        let mut at = self.root.try_clone().context("taking hold of the chroot's directory again")?;
        let mut kind = FileType::Directory;
        let mut walked = self.path.clone();
        for name in names(path)? {
            ensure!(kind.is_dir(), "{} is no directory", walked.display());
            walked.push(name);
            at = match openat(&at, name, NODE, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(None),
                opened => opened.with_context(|| format!("opening {}", walked.display()))?,
            };
            let found = fstat(&at).with_context(|| format!("looking at {}", walked.display()))?;
            kind = FileType::from_raw_mode(found.st_mode);
            if kind.is_symlink() {
                let to = readlinkat(&at, c"", Vec::new()).with_context(|| format!("reading {}", walked.display()))?;
                bail!(
                    "{} is a symbolic link to {}, which is not followed, since it could lead out of the chroot: name the \
                     place that it means, or replace it",
                    walked.display(),
                    OsString::from_vec(to.into_bytes()).display()
                );
            }
        }
        Ok(Some((at, kind)))
    }

    /// Makes the directory, and those on the way, unless they are there. Only a new one gets `mode`; those on the way 0755.
    pub fn make_directory(&self, path: &Path, mode: u32) -> anyhow::Result<()> {
        let mut so_far = PathBuf::from("/");
        let names = names(path)?;
        for (index, name) in names.iter().enumerate() {
            let parent = self.directory(&so_far)?;
            so_far.push(name);
            let mode = Mode::from_raw_mode(if index + 1 == names.len() { mode } else { 0o755 });
            let shown = self.outside(&so_far);
            match mkdirat(&parent, *name, mode) {
                Err(Errno::EXIST) => {}
                // The umask has taken its share; a directory that is there has the mode that it was given.
                Ok(()) => {
                    set_mode(&parent, name, mode).with_context(|| format!("setting the mode of {}", shown.display()))?
                }
                Err(error) => return Err(error).with_context(|| format!("making the directory {}", shown.display())),
            }
        }
        self.directory(path).map(drop)
    }

    /// The bytes of a regular file; nothing if it does not exist. `limit` in bytes.
    pub fn read(&self, path: &Path, limit: usize) -> anyhow::Result<Option<Vec<u8>>> {
        let shown = self.outside(path);
        let Some((_, kind)) = self.node(path)? else { return Ok(None) };
        ensure!(kind.is_file(), "{} is no regular file", shown.display());
        let (parent, name) = self.parent(path)?;
        // Who put something else there meanwhile is refused below, and a FIFO makes nobody wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file =
            openat(&parent, name, flags, Mode::empty()).with_context(|| format!("opening {}", shown.display()))?;
        let found = fstat(&file).with_context(|| format!("looking at {}", shown.display()))?;
        ensure!(FileType::from_raw_mode(found.st_mode).is_file(), "{} is no regular file", shown.display());
        let mut bytes = Vec::new();
        let most = limit as u64 + 1;
        File::from(file).take(most).read_to_end(&mut bytes).with_context(|| format!("reading {}", shown.display()))?;
        ensure!(bytes.len() <= limit, "{} is longer than {limit} bytes", shown.display());
        Ok(Some(bytes))
    }

    /// Puts a regular file there, whole or not at all. What was there is replaced, also a symbolic link; its directory must
    /// exist.
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
        let shown = self.outside(path);
        let (parent, name) = self.parent(path)?;
        let temporary = format!(".vestibule-{}", std::process::id());
        let written = write_new(&parent, &temporary, bytes, mode)
            .and_then(|()| Ok(renameat(&parent, &*temporary, &parent, name)?))
            .with_context(|| format!("writing {}", shown.display()));
        if written.is_err()
            && let Err(error) = unlinkat(&parent, &*temporary, AtFlags::empty())
            && error != Errno::NOENT
        {
            return written.with_context(|| format!("and {temporary} beside it stays ({error})"));
        }
        written
    }

    /// The directory that has it, and its name there.
    pub fn parent<'p>(&self, path: &'p Path) -> anyhow::Result<(OwnedFd, &'p OsStr)> {
        let name = names(path)?.pop().with_context(|| format!("{} is the chroot itself", path.display()))?;
        Ok((self.directory(path.parent().unwrap_or(path))?, name))
    }
}

/// Of a directory or anything else: a hold that can be looked at and mounted on, but not read.
const NODE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A path that stands for a descriptor, for system calls that know only paths. Needs /proc outside.
pub fn by_descriptor(descriptor: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd()).into()
}

/// Whether two are one directory or file, and in one mount.
pub fn is_same(one: &OwnedFd, other: &OwnedFd) -> anyhow::Result<bool> {
    let identity = |node: &OwnedFd| -> anyhow::Result<_> {
        let found = fstat(node).context("looking at a mount point")?;
        Ok((mount_id(node)?, found.st_dev, found.st_ino))
    };
    Ok(identity(one)? == identity(other)?)
}

/// The mount that it is in, by the number that mountinfo has; nothing where the kernel doesn't say (before Linux 3.15).
pub fn mount_id(node: &OwnedFd) -> anyhow::Result<Option<u64>> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", node.as_raw_fd()))
        .context("asking for the mount that a descriptor is in (is /proc mounted?)")?;
    Ok(about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok()))
}

fn names(path: &Path) -> anyhow::Result<Vec<&OsStr>> {
    let name = |component| match component {
        Component::Normal(name) => Some(Ok(name)),
        Component::RootDir | Component::CurDir => None,
        Component::ParentDir | Component::Prefix(_) => {
            Some(Err(anyhow::anyhow!("{} has “..” in it: write the path without", path.display())))
        }
    };
    path.components().filter_map(name).collect()
}

/// Of a directory that was just made; who may write beside it could have put something else in its place.
fn set_mode(parent: &OwnedFd, name: &OsStr, mode: Mode) -> anyhow::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(parent, name, flags, Mode::empty())?;
    ensure!(fstat(&made)?.st_uid == nix::unistd::geteuid().as_raw(), "somebody else has put another one there");
    Ok(fchmod(&made, mode)?)
}

fn write_new(parent: &OwnedFd, name: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        // The second is left by a process of this number that was killed.
        Err(Errno::NOENT) | Ok(()) => {}
        Err(error) => return Err(error).with_context(|| format!("removing an old {name}")),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(parent, name, flags, Mode::from_raw_mode(mode & 0o700))?);
    file.write_all(bytes)?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(fsync(&file)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn links_lead_nowhere() {
        let fixture = Fixture::new(&[("/root/etc/passwd", b"root"), ("/outside/file", b"kept")]);
        symlink(fixture.join("/outside"), fixture.join("/root/out")).unwrap();
        symlink(fixture.join("/outside/file"), fixture.join("/root/etc/link")).unwrap();
        let place = Place::open(&fixture.join("/root")).unwrap();

        let read = |path: &str| place.read(Path::new(path), 100);
        assert_eq!(read("/etc/passwd").unwrap().unwrap(), b"root");
        assert_eq!((read("/etc/none").unwrap(), read("/none/file").unwrap()), (None, None));
        for path in ["/out/file", "/etc/link"] {
            let error = read(path).unwrap_err().to_string();
            assert!(error.contains("is a symbolic link to") && error.contains("/outside"), "{error}");
        }
        assert!(read("/etc/../../outside/file").unwrap_err().to_string().contains(".."));
        assert!(read("/etc").unwrap_err().to_string().ends_with("/root/etc is no regular file"));
        assert!(read("/etc/passwd/x").unwrap_err().to_string().ends_with("/root/etc/passwd is no directory"));
        assert!(place.read(Path::new("/etc/passwd"), 3).unwrap_err().to_string().contains("longer than 3 bytes"));
        assert!(place.write(Path::new("/out/new"), b"", 0o644).is_err() && !fixture.join("/outside/new").exists());
        assert!(place.make_directory(Path::new("/out/new"), 0o755).is_err());

        place.write(Path::new("/etc/link"), b"replaced", 0o600).unwrap();
        assert_eq!(std::fs::read(fixture.join("/outside/file")).unwrap(), b"kept");
        assert_eq!(read("/etc/link").unwrap().unwrap(), b"replaced");
        let names = std::fs::read_dir(fixture.join("/root/etc")).unwrap().count();
        assert_eq!(names, 2, "the temporary file is gone");
    }

    #[test]
    fn directories_are_made_and_found() {
        let fixture = Fixture::new(&[("/root/file", b"")]);
        let place = Place::open(&fixture.join("/root/../root")).unwrap();
        assert_eq!(place.path(), fixture.join("/root").canonicalize().unwrap());
        for _twice in 0..2 {
            place.make_directory(Path::new("/a/b/c"), 0o1777).unwrap();
        }
        let mode = |path| std::fs::metadata(fixture.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("/root/a/b"), mode("/root/a/b/c")), (0o755, 0o1777));
        assert!(place.make_directory(Path::new("/file"), 0o755).unwrap_err().to_string().ends_with("is no directory"));
        assert!(place.directory(Path::new("/")).is_ok() && place.directory(Path::new("/none")).is_err());
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let fixture = Fixture::new(&[("/file", b"")]);
        let why = |path: &Path| Place::open(path).err().unwrap().to_string();
        assert!(why(Path::new("/")).contains("running system's own /"));
        assert!(why(&fixture.join("/file")).contains("is no directory"));
        assert!(why(&fixture.join("/none")).contains("does not exist"));
    }
}
