//! The ends on the wire. For DHCPv4 a packet socket as long as there is no address, then a UDP socket; for DHCPv6 a UDP
//! socket, as there is a link-local address before anything else; for ARP a packet socket.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, sendto, setsockopt, socket, sockopt,
};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle};

use super::{
    arp::Arp,
    dhcp::message::Message,
    dhcp6::message::Message as Message6,
    packet::{self, Protocol},
    step::Event,
    udp,
};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
const CLIENT_PORT_6: u16 = 546;
const SERVER_PORT_6: u16 = 547;
/// All DHCPv6 servers and relays on a link (RFC 8415 section 7.1).
const SERVERS_6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// The most that an Ethernet frame carries, jumbo frames included.
const LARGEST: usize = 9216;
/// An interface that goes down is one failure. A socket that fails so often in a row is of no more use.
const FAILURES: u32 = 16;

/// A message that came, as an event.
pub type Received = Event;

/// An open end. Dropping it closes it.
pub struct Port {
    index: u32,
    socket: Arc<UdpSocket>,
    kind: Kind,
    reader: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    WholePackets,
    Udp,
    Udp6,
    /// What is said about this address, of all that goes on between the stations of a link.
    Arp(Ipv4Addr),
}

impl Drop for Port {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Port {
    /// For an interface without an address.
    pub fn on_link(index: u32, to: mpsc::Sender<Received>) -> io::Result<Self> {
        Self::start(index, packet::open(index, Protocol::Ipv4)?, Kind::WholePackets, to)
    }

    /// For an interface that has its address; `name` is what it is called now.
    pub fn on_address(index: u32, name: &str, to: mpsc::Sender<Received>) -> io::Result<Self> {
        let socket = udp_socket(AddressFamily::Inet, name)?;
        setsockopt(&socket, sockopt::Broadcast, &true)?;
        // Not to the address alone: a server refuses a renewal by broadcast (RFC 2131 section 4.1).
        bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT))?;
        Self::start(index, socket, Kind::Udp, to)
    }

    /// For DHCPv6, on an interface that has a link-local address.
    pub fn on_link_local(index: u32, name: &str, to: mpsc::Sender<Received>) -> io::Result<Self> {
        let socket = udp_socket(AddressFamily::Inet6, name)?;
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        bind(socket.as_raw_fd(), &address_6(Ipv6Addr::UNSPECIFIED, CLIENT_PORT_6, 0))?;
        Self::start(index, socket, Kind::Udp6, to)
    }

    /// For what other stations say about an address by ARP.
    pub fn on_arp(index: u32, address: Ipv4Addr, to: mpsc::Sender<Received>) -> io::Result<Self> {
        Self::start(index, packet::open(index, Protocol::Arp)?, Kind::Arp(address), to)
    }

    fn start(index: u32, socket: OwnedFd, kind: Kind, to: mpsc::Sender<Received>) -> io::Result<Self> {
        // A packet socket goes by this type too: all that is asked of it is recv(2), which is the same.
        let socket = Arc::new(UdpSocket::from_std(std::net::UdpSocket::from(socket))?);
        let reader = crate::task::spawn(read(index, socket.clone(), kind, to));
        Ok(Self { index, socket, kind, reader })
    }

    /// Sends to one server, or to all; from a link there is only all.
    ///
    /// # Errors
    /// The kernel's, when the interface is down or has no way to the server. The message is lost then, as any may be.
    pub fn send(&self, to: Ipv4Addr, message: &Message) -> io::Result<()> {
        let bytes = message.encode();
        if self.kind == Kind::WholePackets {
            let packet = udp::broadcast(&bytes);
            return packet::broadcast(self.socket.as_raw_fd(), self.index, Protocol::Ipv4, &packet);
        }
        let [a, b, c, d] = to.octets();
        let to = SockaddrIn::new(a, b, c, d, SERVER_PORT);
        sendto(self.socket.as_raw_fd(), &bytes, &to, MsgFlags::empty())?;
        Ok(())
    }

    /// Sends to all DHCPv6 servers on the link.
    ///
    /// # Errors
    /// As [`Port::send`].
    pub fn send_6(&self, message: &Message6) -> io::Result<()> {
        let to = address_6(SERVERS_6, SERVER_PORT_6, self.index);
        sendto(self.socket.as_raw_fd(), &message.encode(), &to, MsgFlags::empty())?;
        Ok(())
    }

    /// Says something to every station on the link.
    ///
    /// # Errors
    /// As [`Port::send`].
    pub fn send_arp(&self, message: &Arp) -> io::Result<()> {
        packet::broadcast(self.socket.as_raw_fd(), self.index, Protocol::Arp, &message.encode())
    }
}

/// A UDP socket for one interface, whoever else has the same port on others.
fn udp_socket(family: AddressFamily, name: &str) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &name.into())?;
    Ok(socket)
}

fn address_6(address: Ipv6Addr, port: u16, index: u32) -> SockaddrIn6 {
    SockaddrIn6::from(SocketAddrV6::new(address, port, 0, index))
}

impl Kind {
    fn event(self, index: u32, bytes: &[u8]) -> Option<Event> {
        match self {
            Self::WholePackets => Self::Udp.event(index, udp::payload(bytes)?),
            Self::Udp => Message::decode(bytes).map(|message| Event::Message { index, message }),
            Self::Arp(address) => {
                let message = Arp::decode(bytes).filter(|it| it.is_about(address));
                message.map(|message| Event::Arp { index, message })
            }
            Self::Udp6 => Message6::decode(bytes).map(|message| Event::Message6 { index, message }),
        }
    }
}

async fn read(index: u32, socket: Arc<UdpSocket>, kind: Kind, to: mpsc::Sender<Received>) {
    let mut buffer = vec![0; LARGEST];
    let mut failures = 0;
    while failures < FAILURES {
        match socket.recv(&mut buffer).await {
            Err(_) => failures += 1,
            Ok(length) => {
                failures = 0;
                if let Some(event) = kind.event(index, &buffer[..length])
                    && to.send(event).await.is_err()
                {
                    return;
                }
            }
        }
    }
    match kind {
        Kind::Arp(address) => {
            log::warn!("network: interface {index}: receiving ARP fails; who else has {address} is not noticed")
        }
        _ => log::warn!("network: interface {index}: receiving DHCP answers fails; its lease will not be renewed"),
    }
}
