//! The last step before a program inside: a process of ours that goes into the chroot, gives up what the program must not
//! have, and becomes it. As `daemon/rescue/launch.rs` does it outside.
//!
//! It is started with the chroot's root as its working directory, so nothing needs to be looked up by a name again.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use nix::libc::{ENOEXEC, EPERM};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, Gid, Uid, access, chroot, setgroups, setresgid, setresuid};
use rustix::fs::stat;
use rustix::process::setsid;

use crate::daemon::descriptors;
use crate::daemon::rescue::launch::{default_signals, leave_terminal};

/// As shells have it: the program was found and can't be run.
const CANNOT_RUN: u8 = 126;
/// As shells have it: there is no such program.
const NOT_FOUND: u8 = 127;
/// For somebody whose login shell is missing, the best first.
const SHELLS: [&str; 7] =
    ["/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh", "/bin/ash", "/bin/busybox", "/system/bin/sh"];

#[derive(Args)]
pub struct Launch {
    /// The root that is expected to be the working directory, as DEVICE:INODE
    #[arg(long)]
    pub root_is: String,
    #[arg(long)]
    pub uid: u32,
    #[arg(long)]
    pub gid: u32,
    /// Supplementary groups, with commas between them
    #[arg(long, value_delimiter = ',')]
    pub groups: Vec<u32>,
    /// The working directory inside; / where it can't be used
    #[arg(long)]
    pub directory: PathBuf,
    #[arg(long)]
    pub new_session: bool,
    /// No controlling terminal: it can't type for the others there
    #[arg(long)]
    pub without_terminal: bool,
    /// The program is a login shell; if it isn't there, another one is taken
    #[arg(long)]
    pub login: bool,
    /// A socket that the program finds by LISTEN_FDS (a number of a descriptor)
    #[arg(long)]
    pub listening: Vec<RawFd>,
    pub program: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// Returns only when it fails; then it has said why.
pub fn main(launch: &Launch) -> ExitCode {
    if let Err(error) = go_in(launch) {
        eprintln!("vestibule: {} can't be started in the chroot: {error:#}", launch.program.display());
        return ExitCode::from(CANNOT_RUN);
    }
    let mut command = match login_shell(launch) {
        Ok(Some(shell)) => as_login_shell(&shell),
        Ok(None) => Command::new(&launch.program),
        Err(reason) => {
            eprintln!("vestibule: {reason}");
            return ExitCode::from(NOT_FOUND);
        }
    };
    if !launch.listening.is_empty() {
        let count = launch.listening.len().to_string();
        command.env("LISTEN_FDS", count).env("LISTEN_PID", std::process::id().to_string());
    }
    let error = command.args(&launch.arguments).exec();
    eprintln!("vestibule: {}", explain(&launch.program, &error));
    ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN })
}

fn go_in(launch: &Launch) -> anyhow::Result<()> {
    if launch.new_session {
        setsid().context("beginning a session")?;
    }
    if launch.without_terminal {
        leave_terminal().context("giving up the terminal of whoever starts it, /dev/tty outside")?;
    }
    descriptors::keep_from_program().context("keeping descriptors back (is /proc mounted outside?)")?;
    descriptors::hand_on(&launch.listening).context("handing sockets on")?;
    // What starts us may be the last that the kernel ends when memory is short; what runs inside is not.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let here = stat(".").context("looking at the working directory")?;
    if format!("{}:{}", here.st_dev, here.st_ino) != launch.root_is {
        bail!("the working directory is not the chroot's root; this command is for vestibule itself");
    }
    chroot(".").map_err(|error| match error as i32 {
        EPERM => anyhow::anyhow!("chroot(2) is not permitted; be root"),
        _ => anyhow::Error::from(error).context("chroot(2)"),
    })?;
    std::env::set_current_dir("/").context("going to the chroot's root")?;
    umask(Mode::from_bits_truncate(0o022));
    // As nohup(1) asks for: what it is to survive is the end of the terminal at which it was started.
    default_signals(if launch.new_session { &[] } else { &[Signal::SIGHUP] });
    let groups: Vec<Gid> = launch.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(launch.uid), Gid::from_raw(launch.gid));
    setgroups(&groups).context("setting the groups")?;
    setresgid(gid, gid, gid).with_context(|| format!("becoming group {gid}"))?;
    setresuid(uid, uid, uid).with_context(|| format!("becoming user {uid}"))?;
    // As login(1) does where a home is missing or closed to its own user.
    if std::env::set_current_dir(&launch.directory).is_err() && launch.login {
        eprintln!("vestibule: {} can't be entered; the directory is /", launch.directory.display());
    }
    Ok(())
}

/// Which shell it is, where one is to log in with: the one that is asked for, else what there is.
fn login_shell(launch: &Launch) -> Result<Option<PathBuf>, String> {
    if !launch.login {
        return Ok(None);
    }
    let wanted = Path::new(&launch.program);
    if wanted.as_os_str().is_empty() || !is_program(wanted) {
        let there = SHELLS.iter().map(Path::new).find(|shell| is_program(shell));
        let there = there.ok_or_else(|| format!("the chroot has no shell: none of {} is there", SHELLS.join(", ")))?;
        if !wanted.as_os_str().is_empty() {
            eprintln!(
                "vestibule: {}, the login shell by the chroot's /etc/passwd, can't be run; this is {}",
                wanted.display(),
                there.display()
            );
        }
        return Ok(Some(there.to_owned()));
    }
    Ok(Some(wanted.to_owned()))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

/// With a dash in front of its name it is one. busybox goes by its name, and is called as the shell that it has.
fn as_login_shell(shell: &Path) -> Command {
    let name = shell.file_name().filter(|name| *name != "busybox").unwrap_or("sh".as_ref());
    let mut dashed = OsString::from("-");
    dashed.push(name);
    let mut command = Command::new(shell);
    command.arg0(dashed).env("SHELL", shell);
    command
}

fn explain(program: &OsString, error: &io::Error) -> String {
    let shown = program.display();
    let path = Path::new(program);
    if error.raw_os_error() == Some(ENOEXEC) {
        return format!("{shown} is no program for this machine: {error}; was the chroot made for another processor?");
    }
    match error.kind() {
        // The kernel says the same of a script whose interpreter is missing, and of a program without its loader.
        ErrorKind::NotFound if path.is_file() => format!(
            "{shown} is there, but not what runs it: the program in its first line (#!), or its loader (ld.so); was the \
             chroot made for this machine, and wholly?"
        ),
        ErrorKind::NotFound if path.starts_with("/proc") => {
            format!("{shown} is not in the chroot: vestibule starts itself from there; have /proc mounted inside")
        }
        ErrorKind::NotFound if path.components().count() == 1 => {
            format!("{shown} is not in the chroot, in none of the directories of its PATH")
        }
        ErrorKind::NotFound => format!("{shown} is not in the chroot"),
        _ => format!("{shown} can't be run in the chroot: {error}"),
    }
}
