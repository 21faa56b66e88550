//! A file with a time at the start of each line, moved away to `FILE.1` before it gets too large.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{Error, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::Line;
use crate::calendar::Moment;

/// What services print may be a secret.
const MODE: u32 = 0o600;

pub struct File {
    path: PathBuf,
    /// In bytes.
    rotate_at: u64,
    /// The last line was written in part (the disk was full): the next begins a line of its own.
    broken: bool,
}

impl File {
    pub fn new(path: PathBuf, rotate_at: u64) -> Self {
        Self { path, rotate_at, broken: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opened for each line, which costs little and finds the file wherever it is by now. One old file is kept; two processes
    /// that write the same file and both move it away at the same moment may lose it.
    pub fn append(&mut self, line: &Line) -> Result<(), Error> {
        let mut bytes = format!("{} {}: {}\n", stamp(line.time.as_secs()), line.who, line.text).into_bytes();
        if self.broken {
            bytes.insert(0, b'\n');
        }
        let mut file = self.open()?;
        let length = file.metadata()?.len();
        if length > 0 && length + bytes.len() as u64 > self.rotate_at {
            std::fs::rename(&self.path, self.old())?;
            file = self.open()?;
        }
        let written = file.write(&bytes)?;
        self.broken = written < bytes.len();
        match self.broken {
            // The rest of it, or the reason why there is none.
            true => file.write_all(&bytes[written..]).map(|()| self.broken = false),
            false => Ok(()),
        }
    }

    /// A link is not followed, and a pipe not waited for: whoever may write that directory could have put them there.
    fn open(&self) -> Result<std::fs::File, Error> {
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let file = OpenOptions::new().create(true).append(true).mode(MODE).custom_flags(flags).open(&self.path)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(Error::other("it is not a file")),
        }
    }

    fn old(&self) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(".1");
        name.into()
    }
}

/// `2026-11-21T20:15:03Z`, from seconds since 1970: RFC 3339.
fn stamp(time: u64) -> String {
    let Moment { year, month, day, hour, minute, second } = Moment::of(time.try_into().unwrap_or(0));
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    /// Of 2026-11-21T20:15:03Z.
    const TIME: Duration = Duration::from_secs(1_795_292_103);
    const ONE: &str = "2026-11-21T20:15:03Z ssh: one\n";
    const TWO: &str = "2026-11-21T20:15:03Z ssh: two\n";

    fn line(text: &str) -> Line<'_> {
        Line { time: TIME, who: "ssh", text }
    }

    #[test]
    fn lines_and_rotation() {
        let root = Fixture::new(&[("/log/other", b"")]);
        let path = root.join("/log/debian");
        let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
        // Exactly one line fits.
        let mut file = File::new(path.clone(), ONE.len() as u64);
        file.append(&line("one")).unwrap();
        assert_eq!(read("/log/debian"), ONE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        file.append(&line("two")).unwrap();
        assert_eq!((read("/log/debian"), read("/log/debian.1")), (TWO.into(), ONE.into()));
        // A line that is too long for any file has one of its own.
        file.append(&line("a long one")).unwrap();
        file.append(&line("one")).unwrap();
        assert!(read("/log/debian.1").ends_with("ssh: a long one\n"));
        // Nothing is moved while there is room; a file of before is continued.
        let mut file = File::new(path.clone(), 1000);
        file.append(&line("two")).unwrap();
        assert_eq!(read("/log/debian"), format!("{ONE}{TWO}"));
        // Moved away by somebody else.
        std::fs::rename(&path, root.join("/log/moved")).unwrap();
        file.append(&line("two")).unwrap();
        assert_eq!(read("/log/debian"), TWO);
    }

    #[test]
    fn nothing_but_a_file_is_written() {
        let root = Fixture::new(&[("/secret", b"kept")]);
        symlink(root.join("/secret"), root.join("/link")).unwrap();
        nix::unistd::mkfifo(&root.join("/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in ["/link", "/pipe", "/", "/missing/log"] {
            assert!(File::new(root.join(path), 1000).append(&line("one")).is_err(), "{path}");
        }
        assert_eq!(std::fs::read(root.join("/secret")).unwrap(), b"kept");
        assert!(!root.join("/missing").exists());
    }
}
