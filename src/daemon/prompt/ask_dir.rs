//! The directory of systemd's questions: its files, and when they change. inotify(7).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::fs::inotify::{ReadFlags, Reader};
use tokio::io::unix::AsyncFd;

use super::ask_file;
use crate::daemon::descriptors;

/// A directory that is watched.
pub struct AskDirectory {
    path: PathBuf,
    inotify: AsyncFd<OwnedFd>,
}

impl AskDirectory {
    /// `None` while it does not exist. Needs a tokio runtime.
    pub fn watch(path: &Path) -> io::Result<Option<Self>> {
        if !path.is_dir() {
            return Ok(None);
        }
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(path, events)?;
        Ok(Some(Self { path: path.to_owned(), inotify: descriptors::watch(inotify.into())? }))
    }

    /// Returns after something happened in it: whether it is still what its path names. What else happened doesn't
    /// matter, as it is read as a whole.
    pub async fn changed(&self) -> bool {
        const GONE: ReadFlags = ReadFlags::DELETE_SELF.union(ReadFlags::MOVE_SELF).union(ReadFlags::IGNORED);
        // An error would mean that the runtime is shutting down.
        let Ok(mut ready) = self.inotify.readable().await else { return true };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(self.inotify.get_ref(), &mut buffer);
        let mut here = true;
        while let Ok(event) = events.next() {
            here &= !event.events().intersects(GONE);
        }
        ready.clear_ready();
        here
    }

    /// The content of every `ask.*` that is a regular file. An error is that of the directory.
    pub fn files(&self) -> io::Result<BTreeMap<OsString, Vec<u8>>> {
        Self::read(&self.path)
    }

    /// The same for a directory that is not watched.
    pub fn read(path: &Path) -> io::Result<BTreeMap<OsString, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(path)?.flatten() {
            let name = entry.file_name();
            if !name.as_encoded_bytes().starts_with(b"ask.") {
                continue;
            }
            // A file that is gone by now is no news.
            if let Ok(content) = read_file(&entry.path()) {
                files.insert(name, content);
            }
        }
        Ok(files)
    }
}

/// Neither link, FIFO nor device: opening or reading those may lead elsewhere, block, or never end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = std::fs::File::options().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut content = Vec::new();
    file.take(ask_file::MAX_LEN as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}
