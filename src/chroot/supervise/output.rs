//! What a service prints: one pipe for its whole life, over all its restarts, into the log.
//!
//! The service's end is open for reading as well. So a service whose supervisor was killed isn't killed by the next line that
//! it prints (SIGPIPE): it can print 64 KiB more, and then waits until the next supervisor reads on. pipe(7), proc(5).

use std::fs::{DirEntry, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{FileType, Mode, OFlags, Stat, Uid};
use rustix::pipe::{PipeFlags, pipe_with};

use super::lines::Lines;

/// Read in one go, in bytes: others want to be heard as well.
const AT_ONCE: usize = 64 * 1024;
/// Opens nothing: whatever a descriptor in /proc stands for is held as it is, and does not notice.
const HOLD: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

pub struct Output {
    /// Never waits.
    reader: File,
    writer: OwnedFd,
    lines: Lines,
}

impl Output {
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&reader, OFlags::RDONLY | OFlags::NONBLOCK)?;
        // Without /proc, or where a policy forbids it, the service has an ordinary pipe.
        let writer = open(&by_number(&writer), true).map_or(writer, OwnedFd::from);
        Ok(Self { reader: reader.into(), writer, lines: Lines::default() })
    }

    /// The one that these processes were given, as their supervisor has recorded it; nothing if all have closed it.
    ///
    /// A process may be nobody's friend, and put something else in the place of a descriptor at any time. So each is looked up
    /// once, and it is what was found then that is looked at and opened.
    pub fn of(pids: impl IntoIterator<Item = i32>, inode: u64) -> Option<Self> {
        let (any_pipe, _) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        // A pipe with a name has a number of its file system, which could be the same.
        let device = rustix::fs::fstat(any_pipe).ok()?.st_dev;
        let directories = pids.into_iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).ok());
        let is_it = |held: &OwnedFd| {
            let found = rustix::fs::fstat(held);
            let is_pipe = |found: &Stat| FileType::from_raw_mode(found.st_mode) == FileType::Fifo;
            found.is_ok_and(|found| is_pipe(&found) && (found.st_dev, found.st_ino) == (device, inode))
        };
        let hold = |entry: DirEntry| rustix::fs::open(entry.path(), HOLD, Mode::empty()).ok();
        let held = directories.flatten().flatten().filter_map(hold).find(is_it)?;
        let reader = open(&by_number(&held), false).ok()?;
        let writer = open(&by_number(&held), true).ok()?.into();
        Some(Self { reader, writer, lines: Lines::default() })
    }

    /// By which it is found again.
    pub fn inode(&self) -> Option<u64> {
        self.reader.metadata().ok().map(|found| found.ino())
    }

    /// For the standard output and error of a program that runs as this user, who can open it anew (/dev/stdout). All programs
    /// share what is open: whether one has set it not to wait doesn't matter to the next.
    pub fn ends(&self, uid: u32) -> io::Result<(Stdio, Stdio)> {
        rustix::fs::fcntl_setfl(&self.writer, OFlags::empty())?;
        // Ignoring where that is forbidden: only a program that opens it anew misses something.
        let _ = rustix::fs::fchown(&self.writer, Some(Uid::from_raw(uid)), None);
        Ok((self.writer.try_clone()?.into(), self.writer.try_clone()?.into()))
    }

    /// Hands out the lines that are there.
    pub fn read(&mut self, mut line: impl FnMut(&[u8])) {
        let mut buffer = [0; 4096];
        let mut so_far = 0;
        while so_far < AT_ONCE {
            match self.reader.read(&mut buffer) {
                Ok(length) if length > 0 => {
                    so_far += length;
                    self.lines.push(&buffer[..length], &mut line);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // No more for now. It has no end as long as the other end is ours.
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// The program has ended: its last words, also without the end of a line.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        self.read(&mut line);
        self.lines.flush(line);
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

fn by_number(descriptor: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}

/// Opens a pipe again: to read without waiting, or to write (and read) as a program expects it.
fn open(path: &Path, write: bool) -> io::Result<File> {
    let flags = if write { OFlags::empty() } else { OFlags::NONBLOCK };
    let flags = (flags | OFlags::NOCTTY).bits().cast_signed();
    std::fs::OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::io::Write;

    #[test]
    fn another_supervisor_reads_on_and_nobody_dies_of_a_lost_reader() {
        let mut output = Output::new().unwrap();
        let mut theirs = File::from(output.writer.try_clone().unwrap());
        let inode = output.inode().unwrap();
        theirs.write_all(b"one\ntwo").unwrap();
        let mut lines = Vec::new();
        output.read(|line| lines.push(line.to_vec()));
        assert_eq!(lines, [b"one"]);
        output.finish(|line| lines.push(line.to_vec()));
        assert_eq!(lines, [b"one", b"two"]);

        drop(output);
        theirs.write_all(b"three\n").unwrap(); // would be an error without a reader
        let pid = std::process::id().cast_signed();
        let mut next = Output::of([pid], inode).unwrap();
        lines.clear();
        next.read(|line| lines.push(line.to_vec()));
        assert_eq!(lines, [b"three"]);
        assert!(Output::of([pid], inode + 1_000_000).is_none());
        drop((next, theirs));
        assert!(Output::of([pid], inode).is_none());
    }

    #[test]
    fn every_program_waits_when_it_prints_whatever_the_one_before_has_set() {
        let output = Output::new().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        output.ends(uid).unwrap();
        rustix::fs::fcntl_setfl(&output.writer, OFlags::NONBLOCK).unwrap(); // as any program can that shares it
        output.ends(uid).unwrap();
        assert!(!rustix::fs::fcntl_getfl(&output.writer).unwrap().contains(OFlags::NONBLOCK));
        assert!(rustix::fs::fcntl_getfl(&output.reader).unwrap().contains(OFlags::NONBLOCK), "we never wait");
    }

    #[test]
    fn only_a_pipe_without_a_name_is_taken_over() {
        let fixture = Fixture::new(&[("/file", b"")]);
        nix::unistd::mkfifo(&fixture.join("/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in ["/file", "/fifo"] {
            let theirs = std::fs::OpenOptions::new().read(true).write(true).open(fixture.join(path)).unwrap();
            let inode = theirs.metadata().unwrap().ino();
            assert!(Output::of([std::process::id().cast_signed()], inode).is_none(), "{path}");
        }
    }
}
