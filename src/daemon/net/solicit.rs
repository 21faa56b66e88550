//! A router solicitation (RFC 4861 section 4.1), for where the kernel sends none: it asks when an interface comes up, and
//! not when it is only then told to listen to routers (`addrconf_dad_completed` in net/ipv6/addrconf.c).
//!
//! The answer is for the kernel; this socket is gone when it comes.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd,
};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt, socket, sockopt,
    },
};

use crate::config::network::Mac;

/// All routers on a link (RFC 4291 section 2.7.1).
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// ICMPv6 type.
const SOLICITATION: u8 = 133;
/// Source Link-Layer Address (RFC 4861 section 4.6.1): type, and length in units of eight bytes.
const SOURCE: [u8; 2] = [1, 1];
/// With any other, routers drop it, as it may come from beyond the link (RFC 4861 section 6.1.1).
const HOPS: libc::c_int = 255;

/// # Errors
/// The kernel's, when the interface is down or has no usable link-local address.
pub fn send(index: u32, mac: Mac) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
    setsockopt(&socket, sockopt::Ipv6MulticastHops, &HOPS)?;
    let to = SockaddrIn6::from(SocketAddrV6::new(ROUTERS, 0, 0, index));
    sendto(socket.as_raw_fd(), &solicitation(mac), &to, MsgFlags::empty())?;
    Ok(())
}

/// With its checksum left to the kernel (RFC 3542 section 3.1).
fn solicitation(mac: Mac) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac;
    let [option, length] = SOURCE;
    [SOLICITATION, 0, 0, 0, 0, 0, 0, 0, option, length, a, b, c, d, e, f]
}
