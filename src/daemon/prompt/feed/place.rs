//! A socket or FIFO that an asker opens as its key file, and the line to one asker that is held open.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::Mode;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::key::{KeyPlace, PlaceKind};
use crate::daemon::prompt::process::{self, Process};
use crate::root::Root;

/// How often a FIFO is tried for a reader, and a held line for whether its asker is still there: nothing announces
/// either. One system call each time.
const POLL: Duration = Duration::from_millis(300);
/// How many times a FIFO's new reader is looked for in `/proc`, [`POLL`] apart: it comes out of its open(2) when we come
/// out of ours.
const READER_LOOKS: u32 = 5;

/// A place where a key is read. Its file is removed on drop.
pub struct Place {
    root: Root,
    path: PathBuf,
    volume: String,
    door: Door,
}

enum Door {
    Socket(UnixListener),
    Fifo,
}

impl Place {
    /// Makes the file. What an earlier daemon left is replaced; anything else at its path stays and is an error. Needs
    /// a tokio runtime.
    pub fn make(root: &Root, key: &KeyPlace) -> io::Result<Self> {
        let path = root.join(key.path());
        remove(&path)?;
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let door = match key.kind {
            PlaceKind::Socket => Door::Socket(UnixListener::bind(&path)?),
            PlaceKind::Fifo => {
                nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
                Door::Fifo
            }
        };
        // From here on it is removed when something fails.
        let place = Self { root: root.clone(), path, volume: key.volume.clone(), door };
        std::fs::set_permissions(&place.path, Permissions::from_mode(0o600))?;
        Ok(place)
    }

    /// The next asker.
    pub async fn next(&self) -> io::Result<Line> {
        match &self.door {
            Door::Socket(listener) => loop {
                let (stream, _) = listener.accept().await?;
                match self.admit(&stream) {
                    Ok(process) => return Ok(Line { process, end: End::Socket(stream) }),
                    Err(reason) => log::warn!("{}: refused somebody who reads it: {reason}", self.path.display()),
                }
            },
            Door::Fifo => {
                let end = self.reader().await?;
                let process = self.find_reader().await;
                Ok(Line { process, end: End::Fifo(end) })
            }
        }
    }

    /// Returns when the askers so far have closed the file, so that the next one is a new one.
    pub async fn settled(&self) {
        if let Door::Fifo = self.door {
            let mut ticks = ticks();
            loop {
                ticks.tick().await;
                if self.readers().is_empty() {
                    return;
                }
            }
        }
    }

    /// Only root's systemd-cryptsetup, and only for this volume.
    fn admit(&self, stream: &UnixStream) -> Result<Option<Arc<Process>>, String> {
        let peer = stream.peer_cred().map_err(|error| format!("who it is can't be told: {error}"))?;
        if peer.uid() != 0 {
            return Err(format!("it is user {}", peer.uid()));
        }
        let address = stream.peer_addr().map_err(|error| format!("its address can't be told: {error}"))?;
        match address.as_abstract_name().and_then(asked_volume) {
            Some(volume) if volume == self.volume => {}
            Some(other) => return Err(format!("it asks for the volume {other:?}")),
            None => return Err("it does not say which volume it asks for".to_owned()),
        }
        let pid = peer.pid().ok_or("its process is not known")?;
        let process = Process::open(pid).map_err(|error| format!("its process can't be observed: {error}"))?;
        process.map(|process| Some(Arc::new(process))).ok_or_else(|| "it has ended".to_owned())
    }

    /// Our end of the FIFO, as soon as somebody has the other. fifo(7): ENXIO while nobody reads.
    async fn reader(&self) -> io::Result<pipe::Sender> {
        let mut ticks = ticks();
        loop {
            ticks.tick().await;
            match pipe::OpenOptions::new().open_sender(&self.path) {
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => {}
                result => return result,
            }
        }
    }

    async fn find_reader(&self) -> Option<Arc<Process>> {
        let mut ticks = ticks();
        for _ in 0..READER_LOOKS {
            if let Some(pid) = self.readers().first() {
                return Process::open(*pid).ok().flatten().map(Arc::new);
            }
            ticks.tick().await;
        }
        None
    }

    /// Other processes that have the FIFO open.
    fn readers(&self) -> Vec<i32> {
        let Ok(fifo) = std::fs::metadata(&self.path).map(|file| (file.dev(), file.ino())) else { return Vec::new() };
        let own = std::process::id() as i32;
        let all = process::all(&self.root).unwrap_or_default().into_iter();
        all.filter(|&pid| pid != own && process::has_open(&self.root, pid, fifo)).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            log::warn!("{} can't be removed: {error}", self.path.display());
        }
    }
}

/// Removes what is ours at a path: a socket or a FIFO, and its directory when that is empty then.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path).map(|file| file.file_type()) {
        Ok(kind) if kind.is_socket() || kind.is_fifo() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "something else stands there already")),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // Not empty: others use it.
    drop(path.parent().map(std::fs::remove_dir));
    Ok(())
}

/// The volume in the abstract address of a systemd-cryptsetup that reads a key: `HEX/cryptsetup/NAME` (systemd 252 to
/// 257, `make_bindname()`). With `cryptsetup-tpm2` and the like it wants something else than the volume's key.
fn asked_volume(name: &[u8]) -> Option<&str> {
    let (random, rest) = std::str::from_utf8(name).ok()?.split_once('/')?;
    let volume = rest.strip_prefix("cryptsetup/")?;
    (!random.is_empty() && random.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(volume)
}

/// One asker that waits for the end of its key file. It goes on when this is dropped, with what was written.
pub struct Line {
    /// Who reads, where that is known.
    pub process: Option<Arc<Process>>,
    end: End,
}

enum End {
    Socket(UnixStream),
    Fifo(pipe::Sender),
}

impl Line {
    /// Writes everything. The caller sets the deadline.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end: &mut (dyn AsyncWrite + Unpin + Send) = match &mut self.end {
            End::Socket(stream) => stream,
            End::Fifo(sender) => sender,
        };
        end.write_all(bytes).await
    }

    /// Returns when the asker has closed its end.
    pub async fn gone(&self) {
        let mut ticks = ticks();
        loop {
            ticks.tick().await;
            // Without any event of interest, poll(2) still tells of POLLHUP (socket) and POLLERR (FIFO).
            let mut fds = [PollFd::new(self.end.as_fd(), PollFlags::empty())];
            if nix::poll::poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
                return;
            }
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(stream) => stream.as_fd(),
            Self::Fifo(sender) => sender.as_fd(),
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_volume_by_its_address() {
        for (name, volume) in [
            ("8a5c0f/cryptsetup/data", Some("data")),
            ("0/cryptsetup/a/b", Some("a/b")),
            ("8a5c0f/cryptsetup-tpm2/data", None),
            ("8a5c0f/home/data", None),
            ("/cryptsetup/data", None),
            ("xyz/cryptsetup/data", None),
            ("", None),
        ] {
            assert_eq!(asked_volume(name.as_bytes()), volume, "{name}");
        }
    }
}
