//! Each request to its answer.

use std::os::fd::AsFd;
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, Stat, StatVfs, fstat, fstatvfs, fsync, ftruncate, linkat, mkdirat, renameat,
    renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use super::access::{Access, Leave};
use super::handles::{Handle, Handles, MOST_HANDLES, Made};
use super::long_name::Line;
use super::message::reply::{Code, Entry, Reply, Status};
use super::message::request::{self, Packet, Request};
use super::message::{Attributes, LONGEST_DATA, LONGEST_PACKET, Malformed};
use super::path::{Last, Name, Place, expand};
use super::stream::Output;
use super::tree::{self, MODE_BITS, Tree};

/// Names in one answer, as OpenSSH has it: well below the longest packet with the longest names.
const MOST_ENTRIES: usize = 100;
/// Without set-user-id and set-group-id, which a jailed client must not give away: the server may be root.
const HARMLESS_BITS: u32 = 0o1777;

pub struct Server {
    tree: Tree,
    access: Access,
    handles: Handles,
    made: Made,
    begun: bool,
}

impl Server {
    pub fn new(tree: Tree, access: Access) -> Self {
        Self { tree, access, handles: Handles::default(), made: Made::default(), begun: false }
    }

    /// Answers one packet, without its length field. `output` must have room for the longest packet. After an error the
    /// conversation is over.
    pub fn answer(&mut self, packet: &[u8], output: &mut Output) -> Result<(), Malformed> {
        match (Packet::decode(packet)?, self.begun) {
            (Packet::Init(_), false) => {
                self.begun = true;
                output.push(&Reply::Version.encode(0));
            }
            (Packet::Init(_), true) => return Err(Malformed("a second INIT".into())),
            (Packet::Request(..), false) => return Err(Malformed("a request before INIT".into())),
            (Packet::Request(number, request), true) => self.request(number, request, output),
        }
        Ok(())
    }

    fn request(&mut self, number: u32, request: Request, output: &mut Output) {
        let reply = match (self.access.leave(&request), request) {
            (Leave::Refused, _) => Err(Status::denied("this account may not do that")),
            (_, Request::Read { handle, offset, length }) => {
                match self.read(handle, offset, output.data_space(length as usize)) {
                    Ok(length) => return output.push_data(number, length),
                    Err(status) => Err(status),
                }
            }
            (leave, request) => self.serve(request, leave == Leave::OwnWork),
        };
        output.push(&reply.unwrap_or_else(Reply::Status).encode(number));
    }

    /// With `own`, only for what this session has made.
    fn serve(&mut self, request: Request, own: bool) -> Result<Reply, Status> {
        match request {
            Request::Open { path, how, attributes } => return self.open(path, how, &attributes, own),
            Request::Close { handle } => self.handles.close(handle)?,
            Request::Write { handle, offset, data } => self.write(handle, offset, data)?,
            Request::Stat { path } => return self.stat(path, Last::Follow, own),
            Request::LinkStat { path } => return self.stat(path, Last::Keep, own),
            Request::HandleStat { handle } => return self.handle_stat(handle),
            Request::SetStat { path, attributes } => self.set(path, Last::Follow, &attributes, own)?,
            Request::LinkSetStat { path, attributes } => self.set(path, Last::Keep, &attributes, own)?,
            Request::HandleSetStat { handle, attributes } => self.handle_set(handle, &attributes)?,
            Request::OpenDirectory { path } => return self.open_directory(path),
            Request::ReadDirectory { handle } => return self.read_directory(handle),
            Request::Remove { path } => self.remove(path, AtFlags::empty(), own)?,
            Request::RemoveDirectory { path } => self.remove(path, AtFlags::REMOVEDIR, own)?,
            Request::MakeDirectory { path, attributes } => self.make_directory(path, &attributes)?,
            Request::RealPath { path } => return self.real_path(path),
            Request::ExpandPath { path } => return self.real_path(expand(path)?),
            Request::Rename { from, to } => self.rename(from, to, false, own)?,
            Request::PosixRename { from, to } => self.rename(from, to, !own, own)?,
            Request::ReadLink { path } => {
                let names = self.reach(path, Last::Keep, own)?;
                return Ok(Reply::Names(vec![Entry::bare(self.tree.link_target(&names)?)]));
            }
            Request::Symlink { target, path } => {
                let (directory, name) = self.tree.entry(&self.reach(path, Last::Keep, own)?)?;
                symlinkat(target, directory, &name[..])?;
            }
            Request::HardLink { existing, path } => {
                let (from, old) = self.tree.entry(&self.reach(existing, Last::Keep, own)?)?;
                let (to, new) = self.tree.entry(&self.reach(path, Last::Keep, own)?)?;
                linkat(from, &old[..], to, &new[..], AtFlags::empty())?;
            }
            Request::FileSystem { path } => {
                return Ok(file_system(&self.tree.file_system(&self.reach(path, Last::Follow, own)?)?));
            }
            Request::HandleFileSystem { handle } => return Ok(file_system(&fstatvfs(self.handles.file(handle)?)?)),
            Request::Sync { handle } => fsync(self.handles.file(handle)?)?,
            Request::Limits => {
                let lengths = [LONGEST_PACKET, LONGEST_DATA, LONGEST_DATA, MOST_HANDLES];
                return Ok(Reply::Numbers(lengths.map(|length| length as u64).to_vec()));
            }
            Request::Read { .. } | Request::Unknown => {
                return Err(Status::new(Code::Unsupported, "this server does not know that request"));
            }
        }
        Ok(Reply::Status(Status::new(Code::Ok, "")))
    }

    /// Where a path leads below the root, and with `own` only what this session has made: of all else it isn't told
    /// whether it exists.
    fn reach(&self, path: &[u8], last: Last, own: bool) -> Result<Vec<Name>, Status> {
        let Place::Below(names) = self.tree.resolve(path, last)? else {
            return Err(Status::denied("above the directory that is served"));
        };
        if own && !self.made.has(&self.tree.stat(&names)?) {
            return Err(Errno::NOENT.into());
        }
        Ok(names)
    }

    /// Only regular files: a FIFO would wait for its other end, and opening a device may already do something.
    fn open(&mut self, path: &[u8], how: u32, attributes: &Attributes, own: bool) -> Result<Reply, Status> {
        self.handles.check_room()?;
        let has = |flag| how & flag != 0;
        let exclusive = has(request::CREATE) && has(request::EXCLUSIVE);
        let names = self.reach(path, if exclusive { Last::Keep } else { Last::Follow }, false)?;
        let before = match self.tree.stat(&names) {
            Err(Errno::NOENT) => None,
            stat => Some(stat?),
        };
        let missing = before.is_none();
        self.check_file(before, own)?;
        let mut flags = match (has(request::READ), has(request::WRITE)) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        };
        flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
        flags.set(OFlags::APPEND, has(request::APPEND));
        flags.set(OFlags::CREATE, has(request::CREATE));
        flags.set(OFlags::EXCL, exclusive || own && missing && has(request::CREATE));
        let mode = if has(request::CREATE) { self.mode(attributes, 0o666) } else { Mode::empty() };
        let file = self.tree.open(&names, flags, mode)?;
        let stat = fstat(&file)?;
        if own && missing && has(request::CREATE) {
            self.remember(&names, &stat)?;
        }
        self.check_file(Some(stat), own)?; // it may be another one by now
        if has(request::TRUNCATE) {
            ftruncate(&file, 0)?;
        }
        self.handles.insert(Handle::File(file)).map(Reply::Handle)
    }

    fn check_file(&self, stat: Option<Stat>, own: bool) -> Result<(), Status> {
        match stat {
            Some(stat) if own && !self.made.has(&stat) => Err(Status::new(Code::Failure, "exists")),
            Some(stat) if !tree::kind(&stat).is_file() => {
                Err(Status::new(Code::Failure, "not a regular file: it can't be opened here"))
            }
            _ => Ok(()),
        }
    }

    fn mode(&self, attributes: &Attributes, default: u32) -> Mode {
        let allowed = if self.tree.is_everything { MODE_BITS } else { HARMLESS_BITS };
        Mode::from_raw_mode((attributes.mode.unwrap_or(default) & allowed) as _)
    }

    fn check_mode(&self, attributes: &Attributes) -> Result<(), Status> {
        let wanted = attributes.mode.unwrap_or(0) & MODE_BITS;
        match self.tree.is_everything || wanted & !HARMLESS_BITS == 0 {
            true => Ok(()),
            false => Err(Status::denied("set-user-id and set-group-id can't be set from here")),
        }
    }

    /// What has just been made, if it is still what stands at `names`.
    fn remember(&mut self, names: &[Name], stat: &Stat) -> Result<(), Errno> {
        let node = self.tree.open(names, OFlags::PATH, Mode::empty())?;
        let there = fstat(&node)?;
        if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) {
            self.made.add(node);
        }
        Ok(())
    }

    fn read(&mut self, handle: &[u8], offset: u64, space: &mut [u8]) -> Result<usize, Status> {
        let file = self.handles.file(handle)?;
        match retry_on_intr(|| pread(file, &mut *space, offset))? {
            0 if !space.is_empty() => Err(Status::new(Code::EndOfFile, "End of file")),
            length => Ok(length),
        }
    }

    fn write(&mut self, handle: &[u8], mut offset: u64, mut data: &[u8]) -> Result<(), Status> {
        let file = self.handles.file(handle)?;
        while !data.is_empty() {
            let written = retry_on_intr(|| pwrite(file, data, offset))?;
            if written == 0 {
                return Err(Status::new(Code::Failure, "nothing could be written"));
            }
            data = &data[written..];
            offset = offset.saturating_add(written as u64);
        }
        Ok(())
    }

    /// In a drop box, directories too: clients ask whether they are sending into one.
    fn stat(&self, path: &[u8], last: Last, own: bool) -> Result<Reply, Status> {
        let names = match self.tree.resolve(path, last)? {
            Place::Above(_) => return Ok(Reply::Attributes(BARE)),
            Place::Below(names) => names,
        };
        let stat = self.tree.stat(&names)?;
        match own && !tree::kind(&stat).is_dir() && !self.made.has(&stat) {
            true => Err(Errno::NOENT.into()),
            false => Ok(Reply::Attributes(tree::attributes(&stat))),
        }
    }

    fn handle_stat(&mut self, handle: &[u8]) -> Result<Reply, Status> {
        Ok(Reply::Attributes(match self.handles.get(handle)? {
            Handle::File(file) => tree::attributes(&fstat(file)?),
            Handle::Directory(directory) => tree::attributes(&directory.stat()?),
            Handle::Bare(_) => BARE,
        }))
    }

    fn set(&self, path: &[u8], last: Last, attributes: &Attributes, own: bool) -> Result<(), Status> {
        self.check_mode(attributes)?;
        if last == Last::Keep && attributes.size.is_some() {
            return Err(Status::new(Code::BadMessage, "a link has no size that could be set"));
        }
        Ok(self.tree.set(&self.reach(path, last, own)?, attributes)?)
    }

    fn handle_set(&mut self, handle: &[u8], attributes: &Attributes) -> Result<(), Status> {
        self.check_mode(attributes)?;
        match self.handles.get(handle)? {
            Handle::File(file) => tree::set_open(file.as_fd(), attributes)?,
            Handle::Directory(directory) => tree::set_open(directory.fd()?, attributes)?,
            Handle::Bare(_) => return Err(Status::denied("above the directory that is served")),
        }
        Ok(())
    }

    fn open_directory(&mut self, path: &[u8]) -> Result<Reply, Status> {
        self.handles.check_room()?;
        let handle = match self.tree.resolve(path, Last::Follow)? {
            Place::Above(depth) => {
                let only = self.tree.view.only_entry(depth).cloned();
                Handle::Bare([Some(b".".to_vec()), Some(b"..".to_vec()), only].into_iter().flatten().collect())
            }
            Place::Below(names) => Handle::Directory(self.tree.list(&names)?),
        };
        self.handles.insert(handle).map(Reply::Handle)
    }

    fn read_directory(&mut self, handle: &[u8]) -> Result<Reply, Status> {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs() as i64);
        let mut entries = Vec::new();
        match self.handles.get(handle)? {
            Handle::File(_) => return Err(Status::new(Code::Failure, "a file, not a directory")),
            Handle::Bare(names) => entries.extend(names.drain(..).map(|name| entry(&name, &BARE, 1, now))),
            Handle::Directory(directory) => {
                while entries.len() < MOST_ENTRIES
                    && let Some(next) = directory.read()
                {
                    let next = next?;
                    let name = next.file_name().to_bytes();
                    // What is above is nobody's business: `..` shows what `.` does.
                    let looked_at = if name == b".." { b"." } else { name };
                    // Gone since: not there.
                    let Ok(stat) = statat(directory.fd()?, looked_at, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                    entries.push(entry(name, &tree::attributes(&stat), tree::links(&stat), now));
                }
            }
        }
        match entries.is_empty() {
            true => Err(Status::new(Code::EndOfFile, "End of file")),
            false => Ok(Reply::Names(entries)),
        }
    }

    fn remove(&mut self, path: &[u8], flags: AtFlags, own: bool) -> Result<(), Status> {
        let names = self.reach(path, Last::Keep, own)?;
        let stat = own.then(|| self.tree.stat(&names)).transpose()?;
        let (directory, name) = self.tree.entry(&names)?;
        unlinkat(directory, &name[..], flags)?;
        stat.iter().for_each(|stat| self.made.forget(stat));
        Ok(())
    }

    fn make_directory(&mut self, path: &[u8], attributes: &Attributes) -> Result<(), Status> {
        let names = self.reach(path, Last::Keep, false)?;
        let (directory, name) = self.tree.entry(&names)?;
        mkdirat(&directory, &name[..], self.mode(attributes, 0o777))?;
        if self.access == Access::WriteOnly {
            let stat = statat(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
            self.remember(&names, &stat)?;
        }
        Ok(())
    }

    /// In a drop box nothing is looked at.
    fn real_path(&self, path: &[u8]) -> Result<Reply, Status> {
        let view = &self.tree.view;
        let path = match self.access {
            Access::WriteOnly => view.normalise(path)?,
            Access::ReadWrite | Access::ReadOnly => view.show(&self.tree.resolve(path, Last::Follow)?),
        };
        Ok(Reply::Names(vec![Entry::bare(path)]))
    }

    fn rename(&mut self, from: &[u8], to: &[u8], replace: bool, own: bool) -> Result<(), Status> {
        let (old_directory, old) = self.tree.entry(&self.reach(from, Last::Keep, own)?)?;
        let (new_directory, new) = self.tree.entry(&self.reach(to, Last::Keep, false)?)?;
        let (old, new) = (&old[..], &new[..]);
        if !replace {
            match renameat_with(&old_directory, old, &new_directory, new, RenameFlags::NOREPLACE) {
                // Not in every file system. What follows is not quite as safe, as with OpenSSH.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                result => return Ok(result?),
            }
            if statat(&new_directory, new, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Err(Errno::EXIST.into());
            }
        }
        Ok(renameat(old_directory, old, new_directory, new)?)
    }
}

/// Of a directory above the root.
const BARE: Attributes = Attributes { size: Some(0), owner: Some((0, 0)), mode: Some(0o40555), times: Some((0, 0)) };

fn entry(name: &[u8], attributes: &Attributes, links: u64, now: i64) -> Entry {
    let (user, group) = attributes.owner.unwrap_or_default();
    let line = Line {
        mode: attributes.mode.unwrap_or_default(),
        links,
        user,
        group,
        size: attributes.size.unwrap_or_default(),
        changed: attributes.times.map_or(0, |(_, changed)| changed.into()),
        name,
    };
    Entry { name: name.to_vec(), long: line.render(now), attributes: *attributes }
}

/// PROTOCOL section 4.4 of OpenSSH; of the flags, those that it names.
fn file_system(stat: &StatVfs) -> Reply {
    Reply::Numbers(vec![
        stat.f_bsize,
        stat.f_frsize,
        stat.f_blocks,
        stat.f_bfree,
        stat.f_bavail,
        stat.f_files,
        stat.f_ffree,
        stat.f_favail,
        stat.f_fsid,
        stat.f_flag.bits() & 3,
        stat.f_namemax,
    ])
}
