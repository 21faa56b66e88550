//! What a client has open, and what it has made.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, Stat, fstat};

use super::message::reply::{Code, Status};
use super::path::Name;

/// Open at once. OpenSSH's client has one or two, mounts (sshfs) as many as their programs; each is a descriptor.
pub const MOST_HANDLES: usize = 256;
/// Of what was made last, so much can still be changed in a drop box. OpenSSH's client returns to nothing but the
/// directories that lead to the file that it has just sent.
pub const MOST_MADE: usize = 64;

pub enum Handle {
    File(OwnedFd),
    Directory(Dir),
    /// Of a bare directory above the root: the names still to be told.
    Bare(Vec<Name>),
}

/// Handles are numbers that are used once: a client that keeps a closed one meets nobody else's file.
#[derive(Default)]
pub struct Handles {
    next: u32,
    open: BTreeMap<u32, Handle>,
}

impl Handles {
    /// Fails when there are too many.
    pub fn insert(&mut self, handle: Handle) -> Result<u32, Status> {
        self.check_room()?;
        let number = self.next;
        self.next =
            number.checked_add(1).ok_or_else(|| Status::new(Code::Failure, "this session has used all handles"))?;
        self.open.insert(number, handle);
        Ok(number)
    }

    pub fn check_room(&self) -> Result<(), Status> {
        match self.open.len() < MOST_HANDLES {
            true => Ok(()),
            false => Err(Status::new(Code::Failure, "too many open files and directories: close some")),
        }
    }

    pub fn get(&mut self, handle: &[u8]) -> Result<&mut Handle, Status> {
        number(handle).and_then(|number| self.open.get_mut(&number)).ok_or_else(unknown)
    }

    pub fn file(&mut self, handle: &[u8]) -> Result<&OwnedFd, Status> {
        match self.get(handle)? {
            Handle::File(file) => Ok(file),
            Handle::Directory(_) | Handle::Bare(_) => Err(Status::new(Code::Failure, "a directory, not a file")),
        }
    }

    pub fn close(&mut self, handle: &[u8]) -> Result<(), Status> {
        number(handle).and_then(|number| self.open.remove(&number)).map(drop).ok_or_else(unknown)
    }
}

fn number(handle: &[u8]) -> Option<u32> {
    handle.try_into().ok().map(u32::from_be_bytes)
}

fn unknown() -> Status {
    Status::new(Code::Failure, "no such handle")
}

/// Files and directories that this session has made, each held open: so no other file can get its number.
#[derive(Default)]
pub struct Made(VecDeque<OwnedFd>);

impl Made {
    pub fn add(&mut self, node: OwnedFd) {
        if self.0.len() == MOST_MADE {
            self.0.pop_front();
        }
        self.0.push_back(node);
    }

    pub fn has(&self, stat: &Stat) -> bool {
        self.0.iter().any(|node| same(node, stat))
    }

    /// It has been removed: its space is free when nobody holds it any more.
    pub fn forget(&mut self, stat: &Stat) {
        self.0.retain(|node| !same(node, stat));
    }
}

fn same(node: &OwnedFd, stat: &Stat) -> bool {
    fstat(node).is_ok_and(|it| (it.st_dev, it.st_ino) == (stat.st_dev, stat.st_ino))
}
