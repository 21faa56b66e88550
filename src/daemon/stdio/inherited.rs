//! What this process was started with: by systemd (sd_listen_fds(3)), by inetd(8), by a program that speaks to it over
//! pipes, on a serial line. Found out by looking; what makes no sense is said.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, bail};
use nix::fcntl::OFlag;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::fs::{FileType, fstat};
use rustix::net::getpeername;

use crate::daemon::descriptors;

/// What is to be served.
#[derive(Debug)]
pub enum Given {
    /// A connected stream socket.
    Connection(OwnedFd),
    /// A socket that listens.
    Listening(OwnedFd),
    /// Anything else that carries bytes both ways. A terminal is both.
    Pipes { input: OwnedFd, output: OwnedFd, terminal: bool },
}

/// To be called once, before this process has opened anything itself.
pub fn find() -> anyhow::Result<Vec<Given>> {
    let variable = |name| std::env::var(name).ok();
    let passed = descriptors::passed_by_systemd(variable("LISTEN_PID").as_deref(), variable("LISTEN_FDS").as_deref())?;
    if passed.is_empty() {
        let copy = |it: BorrowedFd| it.try_clone_to_owned();
        let input = copy(std::io::stdin().as_fd()).context("standard input")?;
        let output = copy(std::io::stdout().as_fd()).context("standard output")?;
        return Ok(vec![standard(input, output)?]);
    }
    passed.into_iter().map(|socket| given_socket(socket).context("a descriptor of LISTEN_FDS")).collect()
}

/// Nothing that is logged or printed from here on, nor a child of this process, gets into the streams: inetd makes all
/// three descriptors the connection.
pub fn silence(given: &[Given]) -> anyhow::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null").context("opening /dev/null")?;
    let stderr = std::io::stderr();
    let streams = given.iter().flat_map(|it| match it {
        Given::Connection(socket) | Given::Listening(socket) => vec![socket],
        Given::Pipes { input, output, .. } => vec![input, output],
    });
    for stream in streams {
        if same(stream.as_fd(), stderr.as_fd())? {
            dup2_stderr(&null).context("leaving standard error")?;
        }
    }
    dup2_stdin(&null).context("leaving standard input")?;
    dup2_stdout(&null).context("leaving standard output")
}

/// What is logged from here on is lost while whoever keeps the log is behind, or gone and not yet replaced, and no connection
/// waits for it: here and in our sessions. A pipe is opened anew for that, as what we inherited is others' as well
/// (proc(5), `/proc/PID/fd`); for reading, too, so that its readers may come and go. Anything else stays as it is.
pub fn log_without_waiting() -> anyhow::Result<()> {
    let stderr = std::io::stderr();
    let found = fstat(stderr.as_fd()).context("looking at standard error")?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Fifo {
        return Ok(());
    }
    let mut anew = File::options();
    anew.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let anew = anew.open("/proc/self/fd/2").context("opening standard error anew")?;
    dup2_stderr(&anew).context("replacing standard error")
}

fn standard(input: OwnedFd, output: OwnedFd) -> anyhow::Result<Given> {
    let one = same(input.as_fd(), output.as_fd())?;
    let way_back = matches!(kind(&output)?, FileType::Fifo | FileType::Socket);
    match kind(&input)? {
        FileType::Socket if one || is_listening(&input)? => given_socket(input).context("standard input"),
        FileType::Socket | FileType::Fifo if way_back => Ok(Given::Pipes { input, output, terminal: false }),
        FileType::Socket | FileType::Fifo => {
            bail!("standard input is a stream, but standard output is {}: there is no way back", name(&output)?)
        }
        FileType::CharacterDevice if input.is_terminal() && one => Ok(Given::Pipes { input, output, terminal: true }),
        FileType::CharacterDevice if input.is_terminal() => {
            bail!("standard input is a terminal, but standard output is {}: SSH needs both ways", name(&output)?)
        }
        _ => bail!(
            "standard input is {}, and SSH needs a stream: a socket, a pipe or a terminal (inetd, ProxyCommand, socat, systemd)",
            name(&input)?
        ),
    }
}

fn given_socket(socket: OwnedFd) -> anyhow::Result<Given> {
    if kind(&socket)? != FileType::Socket {
        bail!("it is {}, and no socket", name(&socket)?);
    }
    if getsockopt(&socket, sockopt::SockType).context("asking for its type")? != SockType::Stream {
        bail!("it is a socket of datagrams, and SSH needs one of streams");
    }
    if is_listening(&socket)? {
        return Ok(Given::Listening(socket));
    }
    getpeername(&socket).context("the socket is neither connected nor does it listen")?;
    Ok(Given::Connection(socket))
}

fn is_listening(socket: &OwnedFd) -> anyhow::Result<bool> {
    getsockopt(socket, sockopt::AcceptConn).context("asking whether it listens")
}

fn kind(fd: &OwnedFd) -> anyhow::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(fd).context("looking at a descriptor")?.st_mode))
}

fn name(fd: &OwnedFd) -> anyhow::Result<&'static str> {
    Ok(match kind(fd)? {
        _ if fd.is_terminal() => "another terminal",
        FileType::Socket => "a socket",
        FileType::Fifo => "a pipe",
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::CharacterDevice => "a device such as /dev/null",
        _ => "something else",
    })
}

/// Whether both are one socket, pipe or device.
fn same(a: BorrowedFd, b: BorrowedFd) -> anyhow::Result<bool> {
    let (a, b) = (fstat(a).context("looking at a descriptor")?, fstat(b).context("looking at a descriptor")?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;

    fn null() -> OwnedFd {
        File::options().read(true).write(true).open("/dev/null").unwrap().into()
    }

    fn words(given: anyhow::Result<Given>) -> String {
        match given {
            Ok(Given::Connection(_)) => "connection".to_owned(),
            Ok(Given::Listening(_)) => "listening".to_owned(),
            Ok(Given::Pipes { terminal: false, .. }) => "pipes".to_owned(),
            Ok(Given::Pipes { terminal: true, .. }) => "terminal".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// The same descriptor for input and output.
    fn both(fd: impl Into<OwnedFd>) -> String {
        let fd = fd.into();
        words(standard(fd.try_clone().unwrap(), fd))
    }

    #[test]
    fn what_a_standard_input_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        let (reads, writes) = std::io::pipe().unwrap();
        let controller =
            rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        rustix::pty::unlockpt(&controller).unwrap();
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let terminal = rustix::pty::ioctl_tiocgptpeer(&controller, flags).unwrap();
        assert_eq!(both(connected), "connection");
        assert_eq!(both(listener), "listening");
        assert_eq!(both(one.try_clone().unwrap()), "connection");
        assert_eq!(both(terminal.try_clone().unwrap()), "terminal");
        assert_eq!(words(standard(one.try_clone().unwrap().into(), writes.try_clone().unwrap().into())), "pipes");
        assert_eq!(words(standard(reads.try_clone().unwrap().into(), other.into())), "pipes");
        assert!(words(standard(reads.into(), null())).contains("there is no way back"));
        assert!(words(standard(terminal, writes.into())).contains("standard output is a pipe: SSH needs both ways"));
        assert!(words(standard(one.into(), File::open("/dev/null").unwrap().into())).contains("no way back"));
        assert!(both(null()).contains("standard input is a device such as /dev/null, and SSH needs a stream"));
        assert!(both(File::open("/").unwrap()).contains("a directory"));
        assert!(both(UdpSocket::bind("127.0.0.1:0").unwrap()).contains("a socket of datagrams"));
        let alone = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None);
        assert!(both(alone.unwrap()).contains("neither connected nor"));
    }
}
