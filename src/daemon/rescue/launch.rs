//! The last step before a program: a process of ours that makes itself what the program is to be, and becomes it.
//!
//! A process of its own instead of steps between fork and exec in the daemon: those would have to be `unsafe`.
#![allow(unsafe_code)] // two blocks, below: nothing safe asks about signals or resets them

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
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

/// Nothing is ignored any more but those of `kept` that are, or blocked. A daemon that a shell script starts in the background inherits that SIGINT and
/// SIGQUIT are ignored, and passes it on; the supervisor of a chroot reads its own signals from a descriptor, and has them
/// blocked.
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
