//! The conversation: packets in, answers out.

use std::os::fd::AsFd;

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::{Errno, read, write};

use super::message::reply::{DATA_HEADER, data_header};
use super::message::{LENGTH, LONGEST_DATA, LONGEST_PACKET};
use super::server::Server;

/// Bytes of each buffer: one packet of the longest kind while another one is on its way.
const BUFFER: usize = 2 * (LENGTH + LONGEST_PACKET);
/// Bytes that a pipe should hold: several packets (what an unprivileged process may have at most, pipe(7)).
const PIPE: i32 = 1 << 20;

/// Serves until the input ends. There is no deadline: whoever holds the other end knows whether the client still lives.
/// Fails when the client breaks the protocol, or when it can't be read or written.
pub fn serve(server: &mut Server, from: impl AsFd, to: impl AsFd) -> anyhow::Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    for end in [from, to] {
        let _ = fcntl(end, FcntlArg::F_SETPIPE_SZ(PIPE)); // ignoring: a socket has no such thing, and it is only faster
    }
    let mut input = Input::new();
    let mut output = Output::default();
    loop {
        while let Some(packet) = input.next()? {
            if output.room() < LENGTH + LONGEST_PACKET {
                output.flush(to)?;
            }
            let result = server.answer(packet, &mut output);
            if let Err(error) = result {
                output.flush(to)?;
                bail!("the client broke the SFTP protocol: {}", error.0);
            }
        }
        output.flush(to)?;
        if !input.fill(from)? {
            return Ok(());
        }
    }
}

struct Input {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    fn new() -> Self {
        Self { buffer: vec![0; BUFFER].into(), start: 0, end: 0 }
    }

    /// The next packet that is all there, without its length field.
    fn next(&mut self) -> anyhow::Result<Option<&[u8]>> {
        let Some((length, rest)) = self.buffer[self.start..self.end].split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > LONGEST_PACKET {
            bail!(
                "the client broke the SFTP protocol: a packet of {length} bytes, where at most {LONGEST_PACKET} are allowed"
            );
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.start + LENGTH;
        self.start = start + length;
        Ok(Some(&self.buffer[start..self.start]))
    }

    /// Waits for more; false when there is no more.
    fn fill(&mut self, from: impl AsFd) -> anyhow::Result<bool> {
        // Room for what the packet still lacks, without moving what is there more often than needed.
        if self.start == self.end || self.buffer.len() - self.start < LENGTH + LONGEST_PACKET {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let read = loop {
            match read(&from, &mut self.buffer[self.end..]) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait(&from, PollFlags::POLLIN)?,
                // Whoever has gone without reading our last answers.
                Err(Errno::CONNRESET) => break 0,
                result => break result.context("reading from the client")?,
            }
        };
        if read == 0 && self.start < self.end {
            bail!("the client went away in the middle of a packet");
        }
        self.end += read;
        Ok(read > 0)
    }
}

/// Answers on their way.
pub struct Output {
    buffer: Box<[u8]>,
    used: usize,
}

impl Default for Output {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER].into(), used: 0 }
    }
}

impl Output {
    fn room(&self) -> usize {
        self.buffer.len() - self.used
    }

    /// A packet with its length field. Panics without room for it.
    pub fn push(&mut self, packet: &[u8]) {
        self.buffer[self.used..][..packet.len()].copy_from_slice(packet);
        self.used += packet.len();
    }

    /// Where up to `length` bytes of data may be put for [`Self::push_data`].
    pub fn data_space(&mut self, length: usize) -> &mut [u8] {
        &mut self.buffer[self.used + DATA_HEADER..][..length.min(LONGEST_DATA)]
    }

    /// The answer to request `number`: so many bytes, which are in the data space.
    pub fn push_data(&mut self, number: u32, length: usize) {
        self.buffer[self.used..][..DATA_HEADER].copy_from_slice(&data_header(number, length));
        self.used += DATA_HEADER + length;
    }

    fn flush(&mut self, to: impl AsFd) -> anyhow::Result<()> {
        let mut written = 0;
        while written < self.used {
            match write(&to, &self.buffer[written..self.used]) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait(&to, PollFlags::POLLOUT)?,
                result => written += result.context("writing to the client")?,
            }
        }
        self.used = 0;
        Ok(())
    }

    /// What was answered since the last time.
    #[cfg(test)]
    pub fn take(&mut self) -> &[u8] {
        &self.buffer[..std::mem::take(&mut self.used)]
    }
}

/// Somebody else may have made the descriptor non-blocking: all who hold it share that.
fn wait(descriptor: impl AsFd, flags: PollFlags) -> anyhow::Result<()> {
    match poll(&mut [PollFd::new(descriptor.as_fd(), flags)], PollTimeout::NONE) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error).context("waiting for the client"),
    }
}
