//! The DHCP client's ends on the wire: a packet socket as long as there is no address, then a UDP socket.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, sendto, setsockopt, socket, sockopt,
};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle};

use super::{dhcp::message::Message, packet, udp};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// The most that an Ethernet frame carries, jumbo frames included.
const LARGEST: usize = 9216;
/// An interface that goes down is one failure. A socket that fails so often in a row is of no more use.
const FAILURES: u32 = 16;

/// A message and the interface that it came from.
pub type Received = (u32, Message);

/// An open end. Dropping it closes it.
pub struct Port {
    index: u32,
    socket: Arc<UdpSocket>,
    has_address: bool,
    reader: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Port {
    /// For an interface without an address.
    pub fn on_link(index: u32, to: mpsc::Sender<Received>) -> io::Result<Self> {
        Self::start(index, packet::open(index)?, false, to)
    }

    /// For an interface that has its address; `name` is what it is called now.
    pub fn on_address(index: u32, name: &str, to: mpsc::Sender<Received>) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        setsockopt(&socket, sockopt::Broadcast, &true)?;
        setsockopt(&socket, sockopt::BindToDevice, &name.into())?;
        // Not to the address alone: a server refuses a renewal by broadcast (RFC 2131 section 4.1).
        bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT))?;
        Self::start(index, socket, true, to)
    }

    fn start(index: u32, socket: OwnedFd, has_address: bool, to: mpsc::Sender<Received>) -> io::Result<Self> {
        // A packet socket goes by this type too: all that is asked of it is recv(2), which is the same.
        let socket = Arc::new(UdpSocket::from_std(std::net::UdpSocket::from(socket))?);
        let reader = crate::task::spawn(read(index, socket.clone(), !has_address, to));
        Ok(Self { index, socket, has_address, reader })
    }

    /// Sends to one server, or to all; from a link there is only all.
    ///
    /// # Errors
    /// The kernel's, when the interface is down or has no way to the server. The message is lost then, as any may be.
    pub fn send(&self, to: Ipv4Addr, message: &Message) -> io::Result<()> {
        let bytes = message.encode();
        if !self.has_address {
            return packet::broadcast(self.socket.as_raw_fd(), self.index, &udp::broadcast(&bytes));
        }
        let [a, b, c, d] = to.octets();
        let to = SockaddrIn::new(a, b, c, d, SERVER_PORT);
        sendto(self.socket.as_raw_fd(), &bytes, &to, MsgFlags::empty())?;
        Ok(())
    }
}

async fn read(index: u32, socket: Arc<UdpSocket>, whole_packets: bool, to: mpsc::Sender<Received>) {
    let mut buffer = vec![0; LARGEST];
    let mut failures = 0;
    while failures < FAILURES {
        match socket.recv(&mut buffer).await {
            Err(_) => failures += 1,
            Ok(length) => {
                failures = 0;
                let bytes = &buffer[..length];
                let payload = if whole_packets { udp::payload(bytes) } else { Some(bytes) };
                if let Some(message) = payload.and_then(Message::decode)
                    && to.send((index, message)).await.is_err()
                {
                    return;
                }
            }
        }
    }
    log::warn!("network: interface {index}: receiving DHCP answers fails; its lease will not be renewed");
}
