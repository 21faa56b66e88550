//! Starts programs.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::account::Owner;
use super::environment::{self, Facts};
use super::pty::{self, Pty};
use crate::config::grants::{Access, Files, Grants};
use crate::control::message::{Start, What};
use crate::root::Root;

/// What a pipe holds: the most that the kernel gives without being asked to give more (proc_sys_fs(5), pipe-max-size).
/// With the 64 KiB that it has by itself, both ends would wake each other all the time.
const PIPE_SIZE: usize = 1 << 20;

/// What runs.
pub struct Started {
    pub child: Child,
    /// For the client; see `Event::Started`.
    pub descriptors: Vec<OwnedFd>,
    /// The terminal's master, if there is a terminal.
    pub master: Option<OwnedFd>,
}

/// The error is for a person.
pub fn start(root: &Root, start: &Start, grants: &Grants) -> Result<Started, String> {
    let owner = Owner::find(root, grants.system);
    let line = line(root, &owner, &start.what, grants)?;
    let home = owner.home();
    let facts = Facts {
        path: std::env::var_os("PATH"),
        home: home.clone().into(),
        shell: owner.interactive().map(|shell| shell.path.into()).unwrap_or_default(),
        terminal: start.terminal.as_ref().map(pty::name),
    };
    let mut command = Command::new("/proc/self/exe");
    command.arg("launch").env_clear().envs(owner.environment()).envs(environment::make(
        facts,
        &start.environment,
        &grants.environment,
    ));
    command.current_dir(home);
    if start.terminal.is_some() {
        command.arg("--terminal");
    }
    // `=`: the name of a login shell begins with a dash.
    let mut name = OsString::from("--name=");
    name.push(&line.name);
    command.arg(name).arg("--").arg(&line.program).args(&line.arguments);

    let (descriptors, master) = match (&start.what, &start.terminal) {
        (What::Sftp, _) => (stream(&mut command), None),
        (_, None) => (pipes(&mut command), None),
        (_, Some(terminal)) => {
            let Pty { master, slave } = Pty::open(terminal)?;
            let kept = copy(&master).map_err(|error| format!("a terminal can't be kept: {error}"))?;
            (use_terminal(&mut command, &slave).map(|()| vec![master]), Some(kept))
        }
    };
    let descriptors = descriptors.map_err(|error| format!("there is nothing to connect it by: {error}"))?;
    let child = command.spawn().map_err(|error| format!("{} can't be started: {error}", line.program.display()))?;
    Ok(Started { child, descriptors, master })
}

/// A program and its arguments.
struct Line {
    program: PathBuf,
    /// `argv[0]`
    name: OsString,
    arguments: Vec<OsString>,
}

fn line(root: &Root, owner: &Owner, what: &What, grants: &Grants) -> Result<Line, String> {
    Ok(match what {
        What::Shell => {
            let shell = owner.interactive()?;
            // With a dash in front it is a login shell.
            Line { program: shell.path, name: format!("-{}", shell.name).into(), arguments: vec![] }
        }
        What::Exec(line) => {
            let shell = owner.plain()?;
            let arguments = vec!["-c".into(), OsStr::from_bytes(line).to_owned()];
            Line { program: shell.path, name: shell.name.into(), arguments }
        }
        What::Sftp => {
            let files = grants.sftp.as_ref().ok_or("there is no directory for sftp")?;
            Line { program: "/proc/self/exe".into(), name: "vestibule".into(), arguments: sftp_server(root, files) }
        }
    })
}

fn sftp_server(root: &Root, files: &Files) -> Vec<OsString> {
    let access = match files.access {
        Access::ReadWrite => "read-write",
        Access::ReadOnly => "read-only",
        Access::WriteOnly => "write-only",
    };
    let mut arguments: Vec<OsString> = vec!["sftp-server".into(), "--root".into(), root.join(&files.root).into()];
    arguments.extend(["--access".into(), access.into()]);
    arguments.extend(files.shown_as.iter().flat_map(|path| ["--shown-as".into(), path.into()]));
    arguments
}

/// Its standard input, output and error, each apart.
fn pipes(command: &mut Command) -> io::Result<Vec<OwnedFd>> {
    let [stdin, stdout, stderr] = [pipe()?, pipe()?, pipe()?];
    command.stdin(Stdio::from(stdin.0)).stdout(Stdio::from(stdout.1)).stderr(Stdio::from(stderr.1));
    Ok(vec![stdin.1, stdout.0, stderr.0])
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
    // A smaller one does as well; there may be a limit.
    let _ = fcntl_setpipe_size(&writing, PIPE_SIZE);
    Ok((reading, writing))
}

/// One stream, both ways; what is wrong goes to the daemon's own standard error.
fn stream(command: &mut Command) -> io::Result<Vec<OwnedFd>> {
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    command.stdin(Stdio::from(copy(&theirs)?)).stdout(Stdio::from(theirs));
    Ok(vec![ours.into()])
}

fn use_terminal(command: &mut Command, slave: &OwnedFd) -> io::Result<()> {
    command.stdin(Stdio::from(copy(slave)?)).stdout(Stdio::from(copy(slave)?)).stderr(Stdio::from(copy(slave)?));
    Ok(())
}

/// Not for children, as everything of the daemon's.
fn copy(fd: &OwnedFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}
