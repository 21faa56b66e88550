//! The files below the root, by lists of plain names. Every descriptor comes from one place, [`Tree::open`], which follows
//! no link and no `..`; what changes a directory gets that directory's descriptor and one name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::Context;
use nix::sys::stat::{FchmodatFlags, fchmodat};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, StatVfs, Timespec, Timestamps, Uid, chownat, fstat,
    fstatvfs, ftruncate, openat, openat2, readlinkat, utimensat,
};
use rustix::io::Errno;

use super::message::Attributes;
use super::path::{Found, Last, Name, Place, View};

pub struct Tree {
    root: OwnedFd,
    pub view: View,
    /// Whether the kernel has openat2(2), as Linux 5.6 and later do.
    pub(super) has_openat2: bool,
    /// Whether the root is /: then the client may do whatever the process may.
    pub is_everything: bool,
}

/// Links, mount points' magic and `..` are refused by the kernel itself.
const PLAIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Tree {
    /// Takes hold of the directory `root`, for as long as the process lives: another one put in its place later means
    /// nothing.
    pub fn new(root: &Path, view: View) -> anyhow::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())
            .with_context(|| format!("opening {}, below which files are served", root.display()))?;
        let has_openat2 = match openat2(&root, ".", flags, Mode::empty(), PLAIN) {
            Ok(_) => true,
            // The second is what some sandboxes say of calls that they don't know.
            Err(Errno::NOSYS | Errno::PERM) => false,
            Err(error) => return Err(error).context("trying openat2"),
        };
        let number = |stat: Stat| (stat.st_dev, stat.st_ino);
        let slash = rustix::fs::stat("/").context("looking at /")?;
        let is_everything = number(fstat(&root).context("looking at the root")?) == number(slash);
        Ok(Self { root, view, has_openat2, is_everything })
    }

    /// The directory that is served.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub fn resolve(&self, path: &[u8], last: Last) -> Result<Place, Errno> {
        self.view.resolve(path, last, &mut |names| self.look(names))
    }

    fn look(&self, names: &[Name]) -> Result<Found, Errno> {
        let node = match self.open(names, OFlags::PATH, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(Found::Missing),
            node => node?,
        };
        Ok(match kind(&fstat(&node)?) {
            FileType::Directory => Found::Directory,
            FileType::Symlink => Found::Link(readlinkat(&node, c"", Vec::new())?.into_bytes()),
            _ => Found::Other,
        })
    }

    /// A link is opened itself (`PATH`), or refused. Without openat2 each name is a step of its own, which can't leave the
    /// directory that it is made from either.
    pub fn open(&self, names: &[Name], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.has_openat2 {
            let path = if names.is_empty() { b".".to_vec() } else { names.join(&b'/') };
            return openat2(&self.root, path, flags, mode, PLAIN);
        }
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Some((last, before)) = names.split_last() else { return openat(&self.root, c".", flags, mode) };
        let mut directory = None::<OwnedFd>;
        for name in before {
            let from = directory.as_ref().unwrap_or(&self.root);
            directory = Some(openat(from, &name[..], step, Mode::empty())?);
        }
        openat(directory.as_ref().unwrap_or(&self.root), &last[..], flags, mode)
    }

    /// The directory that has the entry, and the entry's name: `.` for the root itself, which the kernel lets nobody
    /// remove, replace or rename.
    pub fn entry(&self, names: &[Name]) -> Result<(OwnedFd, Name), Errno> {
        let (last, before) = match names.split_last() {
            Some((last, before)) => (last.clone(), before),
            None => (b".".to_vec(), names),
        };
        Ok((self.open(before, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, last))
    }

    pub fn stat(&self, names: &[Name]) -> Result<Stat, Errno> {
        fstat(self.open(names, OFlags::PATH, Mode::empty())?)
    }

    pub fn file_system(&self, names: &[Name]) -> Result<StatVfs, Errno> {
        fstatvfs(self.open(names, OFlags::PATH, Mode::empty())?)
    }

    pub fn link_target(&self, names: &[Name]) -> Result<Vec<u8>, Errno> {
        let (directory, name) = self.entry(names)?;
        readlinkat(directory, &name[..], Vec::new()).map(std::ffi::CString::into_bytes)
    }

    pub fn list(&self, names: &[Name]) -> Result<Dir, Errno> {
        Dir::new(self.open(names, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)
    }

    /// Changes what `attributes` names, of a link itself, and stops at what can't be changed.
    pub fn set(&self, names: &[Name], attributes: &Attributes) -> Result<(), Errno> {
        if let Some(size) = attributes.size {
            if !kind(&self.stat(names)?).is_file() {
                return Err(Errno::INVAL); // opening a device may already do something
            }
            let file = self.open(names, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
            ftruncate(file, size)?;
        }
        let (directory, name) = self.entry(names)?;
        let name = &name[..];
        if let Some(mode) = attributes.mode {
            // The only way to change the mode of an entry and not of what it may have become a link to. It needs Linux
            // 6.6, or /proc.
            let mode = nix::sys::stat::Mode::from_bits_truncate((mode & MODE_BITS) as _);
            let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
            fchmodat(directory.as_fd(), path, mode, FchmodatFlags::NoFollowSymlink)
                .map_err(|error| Errno::from_raw_os_error(error as i32))?;
        }
        if let Some(times) = attributes.times {
            utimensat(&directory, name, &timestamps(times), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if let Some((user, group)) = attributes.owner {
            let (user, group) = owner(user, group);
            chownat(&directory, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

/// What chmod(2) changes.
pub const MODE_BITS: u32 = 0o7777;

pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// As [`Tree::set`], for a file that is open.
pub fn set_open(file: impl AsFd, attributes: &Attributes) -> Result<(), Errno> {
    let file = file.as_fd();
    if let Some(size) = attributes.size {
        ftruncate(file, size)?;
    }
    if let Some(mode) = attributes.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode & MODE_BITS))?;
    }
    if let Some(times) = attributes.times {
        rustix::fs::futimens(file, &timestamps(times))?;
    }
    if let Some((user, group)) = attributes.owner {
        let (user, group) = owner(user, group);
        rustix::fs::fchown(file, user, group)?;
    }
    Ok(())
}

fn timestamps((access, change): (u32, u32)) -> Timestamps {
    let time = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    Timestamps { last_access: time(access), last_modification: time(change) }
}

/// As chown(2) has it, the highest number leaves the owner as it is.
fn owner(user: u32, group: u32) -> (Option<Uid>, Option<Gid>) {
    ((user != u32::MAX).then(|| Uid::from_raw(user)), (group != u32::MAX).then(|| Gid::from_raw(group)))
}

/// What a client is told of a file.
pub fn attributes(stat: &Stat) -> Attributes {
    let seconds = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
    Attributes {
        size: Some(stat.st_size as u64),
        owner: Some((stat.st_uid, stat.st_gid)),
        mode: Some(stat.st_mode),
        times: Some((seconds(stat.st_atime), seconds(stat.st_mtime))),
    }
}

#[allow(clippy::unnecessary_cast)] // not on every architecture
pub fn links(stat: &Stat) -> u64 {
    stat.st_nlink as u64
}
