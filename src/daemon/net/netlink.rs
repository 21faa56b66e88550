//! The one place that speaks netlink: what there is, what changes, and how it is changed (rtnetlink(7), netlink(7)).
//!
//! Answers and changes come on the one socket. An answer carries our port and the sequence number of the request; so
//! does a change that the request has caused, but it is neither an end nor part of a list.
//!
//! The codec, [`super::rtmessage`], is our own: the crate that there is for it parses every kind of interface, tunnel
//! and packet filter, whatever it is asked for, and those parsers were an eighth of the whole program.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, connect, getsockname, recv, send,
        socket,
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::timeout,
};

pub use super::rtmessage::Change;
use super::{
    rtmessage::{Body, Request, messages},
    step::{AddressSeen, LinkSeen},
};
use crate::daemon::descriptors;

/// The kernel answers at once, but for a driver that takes its time to set a device up. Longer is a broken driver.
const ANSWER: Duration = Duration::from_secs(5);
/// The kernel puts no more of a list into one datagram (`netlink_recvmsg` in net/netlink/af_netlink.c).
const LARGEST: usize = 32768;
/// Changes that wait to be looked at. A socket holds a few hundred; with more, listing all anew is less work.
const WAITING: usize = 1024;

pub struct Netlink {
    socket: AsyncFd<OwnedFd>,
    /// What the kernel calls our socket.
    port: u32,
    /// Of the last request.
    sequence: u32,
    buffer: Vec<u8>,
    /// They came while something else was waited for.
    changes: VecDeque<Change>,
}

/// What has come of an answer so far.
#[derive(Default)]
struct Answer {
    listed: Vec<Change>,
    /// It can't be relied on: things changed while they were listed, or messages were lost.
    spoiled: bool,
    end: Option<io::Result<()>>,
}

impl Netlink {
    /// # Errors
    /// When the kernel has no netlink, or doesn't let us use it.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let addresses = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        let routers = libc::RTMGRP_IPV6_IFINFO | 1 << (libc::RTNLGRP_ND_USEROPT - 1);
        let groups = libc::RTMGRP_LINK | addresses | routers;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
        // Nobody but the kernel, which is port 0, can answer us then.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let port = getsockname::<NetlinkAddr>(socket.as_raw_fd())?.pid();
        Ok(Self {
            socket: descriptors::watch(socket)?,
            port,
            sequence: 0,
            buffer: vec![0; LARGEST],
            changes: VecDeque::new(),
        })
    }

    pub async fn list(&mut self) -> Result<(Vec<LinkSeen>, Vec<AddressSeen>)> {
        let links = self.request(&Request::links()).await.context("listing interfaces")?;
        let addresses = self.request(&Request::addresses()).await.context("listing addresses")?;
        let link = |change| if let Change::Link(link) = change { Some(link) } else { None };
        let address = |change| if let Change::Address(address) = change { Some(address) } else { None };
        Ok((links.into_iter().filter_map(link).collect(), addresses.into_iter().filter_map(address).collect()))
    }

    /// The next change; `None` when the socket is of no more use.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Some(change);
            }
            let received = self.receive().await;
            self.sort(received, None).ok()?;
        }
    }

    /// What a request lists, if that is what it does.
    pub async fn request(&mut self, request: &Request) -> Result<Vec<Change>> {
        match timeout(ANSWER, self.answer(request)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => bail!("the kernel did not answer in {} s", ANSWER.as_secs()),
        }
    }

    async fn answer(&mut self, request: &Request) -> io::Result<Vec<Change>> {
        loop {
            self.drain()?;
            self.sequence = self.sequence.wrapping_add(1);
            send(self.socket.as_raw_fd(), &request.encode(self.sequence), MsgFlags::empty())?;
            let mut answer = Answer::default();
            let end = loop {
                let received = self.receive().await;
                self.sort(received, Some(&mut answer))?;
                if let Some(end) = answer.end.take() {
                    break end;
                }
                // The answer may be what was lost. But the rest of a list comes for sure, as the kernel makes it while
                // it is read; and it makes no second one before.
                if answer.spoiled && !request.asks_for_list() {
                    break Ok(());
                }
            };
            end?;
            if !answer.spoiled {
                return Ok(answer.listed);
            }
        }
    }

    /// Takes from the socket what has come so far, so that there is room for an answer.
    fn drain(&mut self) -> io::Result<()> {
        for _ in 0..WAITING {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EAGAIN) => break,
                received => self.sort(received.map_err(io::Error::from), None)?,
            }
        }
        Ok(())
    }

    /// How much came into the buffer, or would have come if it were large enough.
    async fn receive(&mut self) -> io::Result<usize> {
        let Self { socket, buffer, .. } = self;
        let receive = |socket: &OwnedFd| Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC)?);
        socket.async_io(Interest::READABLE, receive).await
    }

    /// Puts what was received where it belongs; `answer` to the last request, as long as one is waited for. Only a
    /// socket that is of no more use is an error.
    fn sort(&mut self, received: io::Result<usize>, mut answer: Option<&mut Answer>) -> io::Result<()> {
        let received = match received {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => None,
            received => self.buffer.get(..received?),
        };
        for message in received.into_iter().flat_map(messages) {
            let expected = message.port == self.port && message.sequence == self.sequence;
            let answer = answer.as_deref_mut().filter(|_| expected);
            match (message.body, answer) {
                (Some(Body::Change(change)), _) if !message.listed => self.changes.push_back(change),
                (body, Some(answer)) => {
                    answer.spoiled |= message.interrupted;
                    match body {
                        Some(Body::Change(change)) => answer.listed.push(change),
                        Some(Body::End(end)) => answer.end = Some(end),
                        None => {}
                    }
                }
                // The answer to a request that was given up.
                (_, None) => {}
            }
        }
        if received.is_none() || self.changes.len() > WAITING {
            self.changes.clear(); // the list will show what they were about
            self.changes.push_back(Change::Overrun);
        }
        if let (None, Some(answer)) = (received, answer) {
            answer.spoiled = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// About interface 7, or an end without an error.
    fn message(kind: u16, flags: i32, sequence: u32, port: u32) -> Vec<u8> {
        let mut bytes = 32_u32.to_ne_bytes().to_vec();
        bytes.extend([kind, flags as u16].map(u16::to_ne_bytes).concat());
        bytes.extend([sequence, port, 0, 7, 0, 0].map(u32::to_ne_bytes).concat());
        bytes
    }

    /// Receives it when the answer to request 5 is waited for.
    fn receive(netlink: &mut Netlink, bytes: &[u8]) -> Answer {
        let mut answer = Answer::default();
        netlink.sequence = 5;
        netlink.buffer[..bytes.len()].copy_from_slice(bytes);
        netlink.sort(Ok(bytes.len()), Some(&mut answer)).unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_and_changes_are_told_apart() {
        let mut netlink = Netlink::open().unwrap();
        let (ours, listed) = (netlink.port, libc::NLM_F_MULTI);
        let end = libc::NLMSG_ERROR as u16;
        for (what, bytes, expected) in [
            ("a change by somebody", message(libc::RTM_DELLINK, 0, 5, ours + 1), (1, 0, false)),
            ("a change by the kernel", message(libc::RTM_DELLINK, 0, 0, 0), (1, 0, false)),
            ("a change by this request", message(libc::RTM_DELLINK, 0, 5, ours), (1, 0, false)),
            ("part of a list", message(libc::RTM_DELLINK, listed, 5, ours), (0, 1, false)),
            ("part of a list that was given up", message(libc::RTM_DELLINK, listed, 4, ours), (0, 0, false)),
            ("an end", message(end, 0, 5, ours), (0, 0, true)),
            ("the end of what was given up", message(end, 0, 4, ours), (0, 0, false)),
            ("the end of another's", message(end, 0, 5, ours + 1), (0, 0, false)),
        ] {
            let answer = receive(&mut netlink, &bytes);
            let came = (netlink.changes.drain(..).count(), answer.listed.len(), answer.end.is_some());
            assert_eq!(came, expected, "{what}");
            assert!(!answer.spoiled, "{what}");
        }
    }

    #[tokio::test]
    async fn what_can_not_be_relied_on_is_asked_for_again() {
        let mut netlink = Netlink::open().unwrap();
        let inconsistent = libc::NLM_F_MULTI | libc::NLM_F_DUMP_INTR;
        let bytes = message(libc::NLMSG_DONE as u16, inconsistent, 5, netlink.port);
        assert!(receive(&mut netlink, &bytes).spoiled);
        for lost in [Err(io::Error::from_raw_os_error(libc::ENOBUFS)), Ok(LARGEST + 1)] {
            let mut answer = Answer::default();
            netlink.sort(lost, Some(&mut answer)).unwrap();
            assert!(answer.spoiled && netlink.changes.pop_front() == Some(Change::Overrun));
        }
        assert!(netlink.sort(Err(io::Error::from_raw_os_error(libc::EBADF)), None).is_err());
    }

    #[tokio::test]
    async fn changes_that_nobody_looks_at_do_not_pile_up() {
        let mut netlink = Netlink::open().unwrap();
        for _ in 0..=WAITING {
            receive(&mut netlink, &message(libc::RTM_DELLINK, 0, 0, 0));
        }
        assert_eq!(netlink.changes, [Change::Overrun]);
    }

    #[tokio::test]
    async fn a_request_has_an_answer() {
        let mut netlink = Netlink::open().unwrap();
        let (links, _) = netlink.list().await.unwrap();
        assert!(links.iter().any(|link| link.name == "lo"));
        let refused = netlink.request(&Request::set_mtu(i32::MAX as u32, 1500)).await.unwrap_err();
        let code = refused.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        assert!(matches!(code, Some(libc::ENODEV | libc::EPERM)), "{refused:#}");
    }
}
