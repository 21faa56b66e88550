//! Both halves of a control connection, which can carry descriptors (unix(7), `SCM_RIGHTS`): they travel with the first
//! byte of their frame, so they are there as soon as the frame is.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, send, sendmsg,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// Most descriptors that come with one frame: standard input, output and error.
pub const MAX_DESCRIPTORS: usize = 3;
/// Descriptors that have arrived and were not taken: a peer that sends more than it announces is broken or hostile.
const MAX_WAITING: usize = 16;

pub struct Reader {
    stream: Arc<UnixStream>,
    received: VecDeque<OwnedFd>,
}

pub struct Writer {
    stream: Arc<UnixStream>,
    /// They go with the next bytes.
    next: Vec<OwnedFd>,
}

pub fn split(stream: UnixStream) -> (Reader, Writer) {
    let stream = Arc::new(stream);
    (Reader { stream: stream.clone(), received: VecDeque::new() }, Writer { stream, next: Vec::new() })
}

impl Reader {
    /// The next descriptors, in the order in which they were sent.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        if count > self.received.len() {
            let text = format!("a control frame announces {count} descriptors, {} came", self.received.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(self.received.drain(..count).collect())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(self.stream.as_fd(), &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.received.extend(descriptors);
            }
        }
        if self.received.len() > MAX_WAITING {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors came that no frame announces"));
        }
        Ok(received.bytes)
    }
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let stream = self.stream.clone();
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_io(Interest::READABLE, || self.receive(buffer.initialize_unfilled())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(|count| buffer.advance(count))),
            }
        }
    }
}

impl Writer {
    /// Sends these with the bytes that are written next, and closes them here.
    pub fn attach(&mut self, descriptors: Vec<OwnedFd>) {
        self.next.extend(descriptors);
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.next.is_empty() {
            // All that a session ever does: it may not call sendmsg (`hardening::confine_session`).
            return Ok(send(self.stream.as_fd(), bytes, SendFlags::NOSIGNAL)?);
        }
        let descriptors: Vec<_> = self.next.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one control frame"));
        }
        Ok(sendmsg(self.stream.as_fd(), &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.stream.clone();
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_io(Interest::WRITABLE, || self.send(bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.next.clear();
                    return Poll::Ready(result);
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(self.stream.as_fd(), rustix::net::Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::frame;
    use crate::control::message::Event;
    use std::io::{Read, Write};

    #[tokio::test]
    async fn descriptors_come_with_their_frame() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_, mut writer) = split(ours);
        let (mut reader, _) = split(theirs);
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        frame::write(&mut writer, &(1u32, Event::Done)).await.unwrap();
        writer.attach(vec![far.into()]);
        frame::write(&mut writer, &(2u32, Event::Connected)).await.unwrap();
        frame::write(&mut writer, &(3u32, Event::Done)).await.unwrap();
        let mut taken = Vec::new();
        for number in 1..=3 {
            let (got, event) = frame::read::<(u32, Event)>(&mut reader).await.unwrap().unwrap();
            assert_eq!(got, number);
            taken.extend(reader.take(event.descriptors()).unwrap());
        }
        let mut far = std::fs::File::from(taken.pop().unwrap());
        far.write_all(b"through").unwrap();
        drop(far);
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert!(reader.take(1).is_err(), "none is left");
    }
}
