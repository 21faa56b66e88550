//! Bytes between pipes, or a terminal, and a socket: a session needs one (it is confined before it reads), and pipes are
//! so small that two ends which write before they read would wait for each other. Each direction has a thread of its own,
//! which blocks: to make what we inherited non-blocking would make it so for others, too (fcntl(2), O_NONBLOCK).

use std::fs::File;
use std::io::{Write, copy};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::Context;
use nix::sys::termios::{FlushArg, SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use rustix::io::ioctl_fionbio;
use tokio::sync::oneshot;

/// A thread does nothing but copy, and all memory is locked.
const STACK: usize = 128 << 10;

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
            let _ = copy(&mut File::from(input), &mut inwards);
            let _ = inwards.shutdown(Shutdown::Write); // it may have ended first
        })?;
        thread("output", move || {
            let mut output = File::from(output);
            let _ = copy(&mut outwards, &mut output).and_then(|_| output.flush());
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
