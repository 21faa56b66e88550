//! A terminal for a program: pty(7).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use super::modes;
use crate::control::message::{Size, Terminal};

/// What a client may call its terminal. The name becomes a part of file names (terminfo(5)).
const MAX_NAME: usize = 64;
/// For clients that don't say, or nothing that could be a name.
const NAMELESS: &str = "dumb";

pub struct Pty {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

impl Pty {
    /// A new one with these settings and this size. The error is for a person.
    pub fn open(terminal: &Terminal) -> Result<Self, String> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).map_err(|error| match error {
            // The device is there, or not, but nothing that could make a terminal.
            Errno::NODEV | Errno::NOENT => "there is no terminal to be had: /dev/pts is not mounted here. Without one \
                (ssh without -t), this mounts it: mkdir -p /dev/pts && mount -t devpts devpts /dev/pts"
                .to_owned(),
            error => format!("there is no terminal to be had: /dev/ptmx: {error}"),
        })?;
        let set_up = || -> io::Result<OwnedFd> {
            grantpt(&master)?;
            unlockpt(&master)?;
            let slave = slave_of(&master)?;
            let mut settings = tcgetattr(&slave)?;
            modes::apply(&terminal.modes, &mut settings);
            tcsetattr(&slave, OptionalActions::Now, &settings)?;
            Ok(slave)
        };
        let slave = set_up().map_err(|error| format!("a terminal can't be set up: {error}"))?;
        resize(&master, terminal.size).map_err(|error| format!("a terminal can't be given its size: {error}"))?;
        Ok(Self { master, slave })
    }
}

/// Sets the size; the kernel tells the program (SIGWINCH).
pub fn resize(master: impl AsFd, size: Size) -> io::Result<()> {
    let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let size = Winsize {
        ws_row: short(size.rows),
        ws_col: short(size.columns),
        ws_xpixel: short(size.width),
        ws_ypixel: short(size.height),
    };
    Ok(tcsetwinsize(master, size)?)
}

/// Writes a line between the output of programs. A terminal that takes nothing (`^S`) is not waited for.
pub fn tell(master: impl AsFd, text: &str) -> io::Result<()> {
    let slave = slave_of(&master)?;
    rustix::fs::fcntl_setfl(&slave, OFlags::NONBLOCK)?;
    rustix::io::write(&slave, format!("\r\nvestibule: {text}\r\n").as_bytes())?;
    Ok(())
}

/// The other end, wherever its file system is mounted; before Linux 4.13, as on phones, only by its name.
fn slave_of(master: &impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    match ioctl_tiocgptpeer(master, flags) {
        Err(Errno::INVAL | Errno::NOTTY) => {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            Ok(open(ptsname(master, Vec::new())?, flags, Mode::empty())?)
        }
        slave => Ok(slave?),
    }
}

/// The client's `TERM`, if it can be one.
pub fn name(terminal: &Terminal) -> &str {
    let name = terminal.name.as_str();
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
    match !name.is_empty() && !name.starts_with('.') && name.len() <= MAX_NAME && name.chars().all(fine) {
        true => name,
        false => NAMELESS,
    }
}
