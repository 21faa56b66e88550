//! The last step before a program: a process of ours that makes itself what the program is to be, and becomes it.
//!
//! A process of its own instead of steps between fork and exec in the daemon: those would have to be `unsafe`.
#![allow(unsafe_code)] // three blocks, below: nothing safe asks about signals, resets them, or gives up the terminal

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getpid, getsid};
use rustix::process::{ioctl_tiocsctty, setsid};

use crate::daemon::descriptors;

/// As shells have it: the program was found and can't be run.
const CANNOT_RUN: u8 = 126;

#[derive(Args)]
pub struct Launch {
    /// Standard input becomes the controlling terminal
    #[arg(long)]
    terminal: bool,
    /// What the program is called (argv[0])
    #[arg(long, allow_hyphen_values = true)]
    name: OsString,
    program: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Returns only when it fails; then it has said why.
pub fn main(launch: Launch) -> ExitCode {
    let error = match prepare(launch.terminal) {
        Ok(()) => Command::new(&launch.program).arg0(&launch.name).args(&launch.arguments).exec(),
        Err(error) => error,
    };
    eprintln!("vestibule: {} can't be started: {error}", launch.program.display());
    ExitCode::from(CANNOT_RUN)
}

fn prepare(terminal: bool) -> io::Result<()> {
    setsid()?;
    if terminal {
        ioctl_tiocsctty(io::stdin())?;
    }
    // When the daemon is killed, nobody is left to do this.
    set_pdeathsig(Signal::SIGHUP)?;
    umask(Mode::from_bits_truncate(0o022));
    default_signals(&[]);
    // Should the daemon be the last that the kernel ends when memory is short, a program of a user's is not.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    // The daemon has none that could be inherited; a kernel before 5.11 can't make sure.
    let _ = descriptors::keep_from_children();
    Ok(())
}

/// This process has no controlling terminal any more (`TIOCNOTTY` of ioctl_tty(2)): what it becomes can't open it as /dev/tty,
/// nor type for the others there (`TIOCSTI`; kernels before Linux 6.2 let everybody whose terminal it is). It stays in its
/// session and its process group, so keys such as Ctrl-C still reach it; setsid(2) is refused to what a shell has started.
/// Who began the session keeps the terminal, as the others in it would lose theirs.
pub fn leave_terminal() -> io::Result<()> {
    const NO_TERMINAL: Option<i32> = Some(libc::ENXIO);
    // By nix: rustix panics at the session 0, which is that of somebody outside of our process namespace.
    if getsid(None)? == getpid() {
        return Ok(());
    }
    let flags = libc::O_NOCTTY | libc::O_CLOEXEC;
    let terminal = match File::options().read(true).write(true).custom_flags(flags).open("/dev/tty") {
        Err(error) if error.raw_os_error() == NO_TERMINAL => return Ok(()),
        opened => opened?,
    };
    // SAFETY: the descriptor is open, and this request takes no argument that the kernel would read or write.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCNOTTY) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Nothing is ignored any more but those of `kept` that are, or blocked. A daemon that a shell script starts in the
/// background inherits that SIGINT and SIGQUIT are ignored, and passes it on; the supervisor of a chroot reads its own
/// signals from a descriptor, and has them blocked.
pub fn default_signals(kept: &[Signal]) {
    /// signal(7)
    const LAST: libc::c_int = 64;
    let stays = |number| kept.iter().any(|signal| *signal as libc::c_int == number && is_ignored(*signal));
    for signal in (1..=LAST).filter(|number| !stays(*number)) {
        // SAFETY: with the default action no code of ours runs in a handler. What can't be changed is refused: SIGKILL,
        // SIGSTOP, and those that the C library keeps for itself.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // It fails only for what is no mask.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

fn is_ignored(signal: Signal) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: it only asks, and writes to what is as large as it expects; all zeros are an action as well.
    let action = unsafe {
        libc::sigaction(signal as libc::c_int, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
