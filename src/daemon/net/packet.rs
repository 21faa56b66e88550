//! A socket for whole packets of IPv4 or ARP on one interface (packet(7)).
//!
//! A client without an address can't use an ordinary UDP socket: with `rp_filter` set, as systemd sets it
//! (`/usr/lib/sysctl.d/50-default.conf`), the kernel drops the answer because it knows no way back to the server. And ARP has no other socket.
#![allow(unsafe_code)]

use std::{
    io, mem,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use nix::{
    libc,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, sendto, socket},
};

#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    Ipv4,
    Arp,
}

/// A socket that receives the packets of this interface and protocol and no other. Non-blocking.
pub fn open(index: u32, protocol: Protocol) -> io::Result<OwnedFd> {
    // Protocol 0 receives nothing, so nothing of another interface gets in before the socket is bound.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, None)?;
    bind(socket.as_raw_fd(), &link_address(index, protocol)?)?;
    Ok(socket)
}

/// Sends a packet to every station on the interface.
pub fn broadcast(socket: RawFd, index: u32, protocol: Protocol, packet: &[u8]) -> io::Result<()> {
    sendto(socket, packet, &link_address(index, protocol)?, MsgFlags::empty())?;
    Ok(())
}

/// This protocol on this interface, to the Ethernet broadcast address.
fn link_address(index: u32, protocol: Protocol) -> io::Result<LinkAddr> {
    let protocol = match protocol {
        Protocol::Ipv4 => libc::ETH_P_IP,
        Protocol::Arp => libc::ETH_P_ARP,
    };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [255, 255, 255, 255, 255, 255, 0, 0],
    };
    let length = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a fully initialised sockaddr_ll that lives until the end of this function, the length
    // is its size, and `from_raw` copies it after it has checked family and length. nix 0.31 has no safe constructor.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    address.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
