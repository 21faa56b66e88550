//! The relay: a process of its own that stands between those who write to `/dev/console` and the device behind it,
//! passes everything on, and gives the daemon a copy.
//!
//! TIOCCONS on the slave of a pty makes the kernel send there what is written through /dev/console
//! (`redirected_tty_write` in `drivers/tty/tty_io.c`, Linux 6.6). Input, settings, and the kernel's own messages stay
//! with the device. The redirection ends with this process, however that ends: closing the master hangs the slave up,
//! and `__tty_hangup` drops a redirection to a tty that hangs up and wakes who waits to write to it.
//!
//! It must not hold up the boot. So it never waits for the daemon; a device that takes nothing loses text, oldest first,
//! instead of blocking the writers; and the kernel kills this process when it has not come round for a while. That helps
//! as well when it is stopped (SIGSTOP), as no code of ours could.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::prctl;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

use super::backlog::Backlog;
use crate::daemon::descriptors;
use crate::root::Root;
use crate::{hardening, kmsg};

/// Exit status when somebody else has redirected the console: `EX_TEMPFAIL` of sysexits.h.
pub const BUSY: u8 = 75;
/// The first byte of the copy, when the redirection stands. Terminals ignore it.
const READY: &[u8] = b"\0";

/// The kernel kills the relay when it has not come round for so long. Above what a busy machine delays a process.
const LIFELINE: Duration = Duration::from_secs(5);
/// Longest sleep, well below the lifeline.
const TICK: Duration = Duration::from_secs(1);
/// How long what is on its way at the end may take, before and after the console is given back. The rest is lost.
const DRAIN: Duration = Duration::from_secs(1);
/// As much as a pty hands over at a time.
const CHUNK: usize = 4096;

/// Relays until standard input ends; the copy goes to standard output. `device` is what stands behind /dev/console.
pub fn main(root: &Root, device: &Path) -> anyhow::Result<ExitCode> {
    kmsg::start(root);
    for refused in hardening::keep_memory_private() {
        log::warn!("ignoring: {refused}");
    }
    if let Err(error) = prctl::set_no_new_privs() {
        log::warn!("ignoring: giving up new privileges: {error}");
    }
    // The pty first: descriptors are closed in this order at the end, and a serial device may take its time.
    let pty = openpty(None, None).context("making a pseudo terminal")?;
    // What passes has yet to go through the settings of the real device.
    let mut settings = tcgetattr(&pty.slave)?;
    cfmakeraw(&mut settings);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).context("setting up the pseudo terminal")?;
    let console = open(&root.join("/dev/console"))?;
    let target = open(device)?;
    let stop = std::io::stdin().as_fd().try_clone_to_owned()?;
    let copy = std::io::stdout().as_fd().try_clone_to_owned()?;
    let lifeline = Lifeline::new().context("setting up the timer that ends a relay that hangs")?;
    let relay = Relay::new(pty.master, (target, device.to_owned()), copy, lifeline)?;

    match descriptors::redirect_console(pty.slave.as_fd()) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => return Ok(ExitCode::from(BUSY)),
        result => result.context("redirecting the console")?,
    }
    drop(pty.slave); // only the redirection holds it now, so the master hangs up when that is taken away
    relay.run(&stop, || {
        descriptors::redirect_console(console.as_fd()).context("giving the console back")?;
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Never as a controlling terminal, and without waiting for a carrier.
fn open(device: &Path) -> anyhow::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = OpenOptions::new().write(true).custom_flags(flags.bits()).open(device);
    file.with_context(|| format!("opening {}", device.display()))
}

/// A timer of the kernel's that kills this process unless it is extended.
struct Lifeline(Timer);

impl Lifeline {
    /// It runs from now on, so that there is no moment with a redirection and without it.
    fn new() -> nix::Result<Self> {
        let kill = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
        let mut lifeline = Self(Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(kill))?);
        lifeline.extend()?;
        Ok(lifeline)
    }

    fn extend(&mut self) -> nix::Result<()> {
        self.0.set(Expiration::OneShot(LIFELINE.into()), TimerSetTimeFlags::empty())
    }
}

struct Relay {
    /// The master.
    source: File,
    target: File,
    device: PathBuf,
    copy: File,
    lifeline: Lifeline,
    backlog: Backlog,
    /// Nobody can write to the source any more.
    ended: bool,
}

impl Relay {
    fn new(
        source: OwnedFd,
        (target, device): (File, PathBuf),
        copy: OwnedFd,
        lifeline: Lifeline,
    ) -> anyhow::Result<Self> {
        for fd in [&source, &copy] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let (source, copy) = (source.into(), copy.into());
        Ok(Self { source, target, device, copy, lifeline, backlog: Backlog::new(Instant::now()), ended: false })
    }

    /// Until `stop` ends, or the redirection is taken away. `give_back` undoes it.
    fn run(mut self, stop: &OwnedFd, give_back: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.give_copy(READY);
        while !self.ended {
            if self.round(Some(stop), TICK)? == Round::Stop {
                break;
            }
        }
        // What was written so far comes before what then goes to the device directly.
        self.drain(|relay, round| relay.ended || round == Round::Idle)?;
        // Given back while we are here, so that no writer sees an error; not if it is no longer ours.
        if !self.ended {
            give_back()?;
        }
        self.drain(|relay, _| relay.ended)
    }

    fn drain(&mut self, over: impl Fn(&Self, Round) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN;
        let mut round = Round::Some;
        while !(over(self, round) && self.backlog.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // What writers have handed over is there at once.
            round = self.round(None, if self.backlog.is_empty() { left.min(TICK / 20) } else { left.min(TICK) })?;
        }
        Ok(())
    }

    /// Sleeps until there is something to do, and does it.
    fn round(&mut self, stop: Option<&OwnedFd>, sleep: Duration) -> anyhow::Result<Round> {
        self.lifeline.extend()?;
        let takes = !self.ended && self.backlog.room(Instant::now()) > 0;
        // A hang-up can't be masked, so what is not waited for is not in the set.
        let stop = stop.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        let source = takes.then(|| PollFd::new(self.source.as_fd(), PollFlags::POLLIN));
        let target = (!self.backlog.is_empty()).then(|| PollFd::new(self.target.as_fd(), PollFlags::POLLOUT));
        let (stop_at, source_at) = (stop.as_ref().map(|_| 0), source.as_ref().map(|_| usize::from(stop.is_some())));
        let mut set: Vec<_> = [stop, source, target].into_iter().flatten().collect();
        match poll(&mut set, PollTimeout::try_from(sleep).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting"),
        }
        let happened = |at: Option<usize>| at.is_some_and(|at| set[at].any().unwrap_or(true));
        let (stop, source) = (happened(stop_at), happened(source_at));
        if source {
            self.take()?;
        }
        self.pass_on()?;
        Ok(match (stop, source) {
            (true, _) => Round::Stop,
            (_, true) => Round::Some,
            _ => Round::Idle,
        })
    }

    fn take(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; CHUNK];
        let now = Instant::now();
        let room = self.backlog.room(now).min(CHUNK);
        match self.source.read(&mut buffer[..room]) {
            Ok(0) if room > 0 => self.ended = true,
            Ok(count) => {
                self.backlog.push(&buffer[..count], now);
                self.give_copy(&buffer[..count]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // A master says so when no slave is open any more.
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => self.ended = true,
            Err(error) => return Err(error).context("reading the pseudo terminal"),
        }
        Ok(())
    }

    fn pass_on(&mut self) -> anyhow::Result<()> {
        while !self.backlog.is_empty() {
            match self.target.write(self.backlog.next()) {
                Ok(count) => self.backlog.taken(count, Instant::now()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                // Somebody hung the device up (vhangup(2)), as systemd does for a shell on it: it has to be opened anew.
                Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => {
                    self.target = open(&self.device)?;
                    break;
                }
                Err(error) => return Err(error).with_context(|| format!("writing to {}", self.device.display())),
            }
        }
        Ok(())
    }

    /// The daemon may be slow or gone: then its copy has a gap.
    fn give_copy(&mut self, bytes: &[u8]) {
        let _ = self.copy.write(bytes);
    }
}

/// What a round brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Idle,
    Some,
    Stop,
}

#[cfg(test)]
mod tests;
