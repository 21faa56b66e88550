//! Bytes between pipes, or a terminal, and a socket: a session needs one (it is confined before it reads), and pipes are
//! so small that two ends which write before they read would wait for each other. Each direction has a thread of its own,
//! which blocks: to make what we inherited non-blocking would make it so for others, too (fcntl(2), O_NONBLOCK).

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::Context;
use nix::sys::termios::{FlushArg, SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use rustix::io::ioctl_fionbio;
use tokio::sync::oneshot;

/// A thread does nothing but copy, and all memory is locked.
const STACK: usize = 128 << 10;

/// At once, in bytes: some packets of SSH.
const PIECE: usize = 64 << 10;

/// Until it is dropped, a terminal is raw.
pub struct Relay {
    /// Sends nothing; closed when everything is written.
    ended: oneshot::Receiver<()>,
    _raw: Option<Raw>,
}

impl Relay {
    /// The socket to which everything of `input` goes, and from which `output` comes.
    pub fn start(input: OwnedFd, output: OwnedFd, terminal: bool) -> anyhow::Result<(OwnedFd, Self)> {
        for stream in [&input, &output] {
            ioctl_fionbio(stream, false).context("having standard input and output wait")?;
        }
        let raw = terminal.then(|| Raw::enter(input.try_clone()?)).transpose()?;
        let (near, far) = UnixStream::pair().context("making a pair of sockets")?;
        let (mut inwards, mut outwards) = (near.try_clone().context("sharing a socket")?, near);
        let (sender, ended) = oneshot::channel();
        thread("input", move || {
            // An end of file and an error mean the same here: no more comes. The session is told by the end of its stream.
            let _ = pass_on(&mut File::from(input), &mut inwards);
            let _ = inwards.shutdown(Shutdown::Write); // it may have ended first
        })?;
        thread("output", move || {
            let _ = pass_on(&mut outwards, &mut File::from(output));
            // Whoever read has gone: then nobody needs the session any more.
            let _ = outwards.shutdown(Shutdown::Both);
            drop(sender);
        })?;
        Ok((far.into(), Self { ended, _raw: raw }))
    }

    /// Until everything that the session has sent is written, or can't be. To be called again at will.
    pub async fn ended(&mut self) {
        if !self.ended.is_terminated() {
            let _ = (&mut self.ended).await; // nothing is sent
        }
    }
}

/// Until there is no more. Not `io::copy`: that uses splice(2), which keeps a pipe locked while it waits for a socket, and
/// whoever reads from the pipe waits for the lock.
fn pass_on(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn thread(direction: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let thread = std::thread::Builder::new().name(direction.to_owned()).stack_size(STACK).spawn(work);
    thread.map(drop).context("starting a thread")
}

/// A terminal that passes every byte on, until this is dropped.
struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    fn enter(terminal: OwnedFd) -> anyhow::Result<Self> {
        let before = tcgetattr(&terminal).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw).context("making the terminal raw")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // What is left of the stream is no input for whoever reads next. Output is not waited for: it may be stuck.
        let restored = tcflush(&self.terminal, FlushArg::TCIFLUSH)
            .and_then(|()| tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before));
        if let Err(error) = restored {
            log::warn!("the terminal could not be restored ({error}); stty sane does it");
        }
    }
}
