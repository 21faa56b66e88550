//! The messages of rtnetlink(7) that the network needs, to bytes and back (netlink(7)). Pure.
//!
//! Everything is in the byte order of the machine, and begins at a multiple of four. What is unknown is passed over,
//! as the kernel may add attributes and messages at any time.

mod request;

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
};

use nix::libc;

pub use self::request::Request;
use super::{
    advert::{self, Advert},
    dhcp6::Want,
    step::{AddressSeen, Check, LinkSeen, Sort},
};

/// Length, type, flags, sequence number, port: `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length and type: `struct rtattr`.
const ATTRIBUTE: usize = 4;
/// `struct ifinfomsg`: family, a byte of padding, hardware type, index, flags, mask of the flags to change.
const LINK: usize = 16;
/// `struct ifaddrmsg`: family, length of the prefix, flags, scope, index.
const ADDRESS: usize = 8;
/// `struct rtmsg`: family, lengths of the prefixes (destination, source), TOS, table, protocol, scope, type, flags.
const ROUTE: usize = 12;
/// From linux/if_link.h; libc has it not.
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_INET6_FLAGS: u16 = 1;
/// Likewise, linux/if_addr.h: who has made an address (Linux 5.18), and that router advertisements have.
const IFA_PROTO: u16 = 11;
const IFAPROT_KERNEL_RA: u8 = 2;
/// Likewise, linux/rtnetlink.h.
const RTPROT_RA: u8 = 9;

/// What has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    Link(LinkSeen),
    LinkGone(u32),
    Address(AddressSeen),
    AddressGone(AddressSeen),
    /// A router's options that the kernel has no use for.
    Advert {
        index: u32,
        advert: Advert,
    },
    /// What routers say about DHCPv6.
    Router {
        index: u32,
        wants: Option<Want>,
    },
    /// Only in a list that was asked for.
    Route(RouteSeen),
    /// Changes were lost, so everything has to be listed again.
    Overrun,
}

/// A route of IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSeen {
    pub index: u32,
    pub destination: Ipv6Addr,
    pub prefix: u8,
    pub by: Maker,
    /// All that the kernel has told, as it wants to hear it again.
    pub payload: Vec<u8>,
}

/// Who has made a route, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The kernel, as a router has advertised it.
    Router,
    /// The kernel, for an address.
    Address,
    Other,
}

/// A message from the kernel.
#[derive(Debug)]
pub struct Message {
    /// Of the request that this answers, or that caused the change; of `port`'s requests.
    pub sequence: u32,
    pub port: u32,
    /// Part of a list that was asked for.
    pub listed: bool,
    /// The list is not consistent: things have changed while it was made.
    pub interrupted: bool,
    /// `None` for what is of no interest.
    pub body: Option<Body>,
}

#[derive(Debug)]
pub enum Body {
    Change(Change),
    /// The answer is complete: how the request went.
    End(io::Result<()>),
}

/// The messages in what was received at once, up to the first that is damaged.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(field(bytes, 0)?) as usize;
        let message = bytes.get(..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let payload = message.get(HEADER..)?;
        let kind = u16::from_ne_bytes(field(message, 4)?);
        let flags = i32::from(u16::from_ne_bytes(field(message, 6)?));
        Some(Message {
            sequence: u32::from_ne_bytes(field(message, 8)?),
            port: u32::from_ne_bytes(field(message, 12)?),
            listed: flags & libc::NLM_F_MULTI != 0,
            interrupted: flags & libc::NLM_F_DUMP_INTR != 0,
            body: body(kind, payload),
        })
    })
}

fn body(kind: u16, payload: &[u8]) -> Option<Body> {
    let change = match kind {
        libc::RTM_NEWLINK if payload.first() == Some(&(libc::AF_INET6 as u8)) => ipv6_of_link(payload)?,
        libc::RTM_NEWLINK => Change::Link(link(payload)?),
        libc::RTM_NEWNDUSEROPT => {
            let (index, advert) = Advert::read(payload)?;
            Change::Advert { index, advert }
        }
        libc::RTM_DELLINK => Change::LinkGone(link_index(payload)?),
        libc::RTM_NEWADDR => Change::Address(address(payload)?),
        libc::RTM_DELADDR => Change::AddressGone(address(payload)?),
        libc::RTM_NEWROUTE => Change::Route(route(payload)?),
        _ => match i32::from(kind) {
            libc::NLMSG_OVERRUN => Change::Overrun,
            libc::NLMSG_ERROR | libc::NLMSG_DONE => return Some(Body::End(outcome(payload))),
            _ => return None,
        },
    };
    Some(Body::Change(change))
}

/// Both kinds of an end carry a negative error number, or zero.
fn outcome(payload: &[u8]) -> io::Result<()> {
    match field(payload, 0).map(i32::from_ne_bytes) {
        Some(error) if error < 0 => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
        _ => Ok(()),
    }
}

fn link_index(payload: &[u8]) -> Option<u32> {
    // The same messages tell about bridge ports, where “gone” means: no longer a port.
    let whole_link = i32::from(*payload.first()?) == libc::AF_UNSPEC;
    whole_link.then_some(u32::from_ne_bytes(field(payload, 4)?))
}

/// The news of an interface that are about IPv6 alone (`inet6_fill_ifinfo` in net/ipv6/addrconf.c).
fn ipv6_of_link(payload: &[u8]) -> Option<Change> {
    let info = find(payload.get(LINK..)?, libc::IFLA_PROTINFO)?;
    Some(Change::Router { index: u32::from_ne_bytes(field(payload, 4)?), wants: router_wants(info) })
}

/// From the attributes that an interface has for IPv6.
fn router_wants(attributes: &[u8]) -> Option<Want> {
    advert::wants(u32::from_ne_bytes(field(find(attributes, IFLA_INET6_FLAGS)?, 0)?))
}

fn link(payload: &[u8]) -> Option<LinkSeen> {
    let index = link_index(payload)?;
    let flags = u32::from_ne_bytes(field(payload, 8)?);
    let has = |flag: i32| flags & flag as u32 != 0;
    let (mut name, mut mac, mut own_mac, mut mtu, mut kind, mut master) = (None, None, None, None, None, None);
    let mut router = None;
    for (attribute, value) in attributes(payload.get(LINK..)?) {
        match attribute {
            libc::IFLA_IFNAME => name = text(value),
            libc::IFLA_ADDRESS => mac = value.try_into().ok(),
            libc::IFLA_MTU => mtu = field(value, 0).map(u32::from_ne_bytes),
            IFLA_PERM_ADDRESS => own_mac = value.try_into().ok(),
            libc::IFLA_MASTER => master = field(value, 0).map(u32::from_ne_bytes),
            libc::IFLA_AF_SPEC => router = find(value, libc::AF_INET6 as u16).and_then(router_wants),
            libc::IFLA_LINKINFO => kind = find(value, libc::IFLA_INFO_KIND).and_then(text),
            _ => {}
        }
    }
    let ethernet = u16::from_ne_bytes(field(payload, 2)?) == libc::ARPHRD_ETHER && !has(libc::IFF_LOOPBACK);
    let sort = match kind.as_deref() {
        _ if !ethernet || master.is_some() => Sort::Unfit,
        None => Sort::Ethernet,
        Some("veth") => Sort::Veth,
        Some(_) => Sort::Made,
    };
    let up = has(libc::IFF_UP);
    let carrier = up && has(libc::IFF_LOWER_UP);
    // Only news of a radio (IFLA_WIRELESS) come without an MTU, and without what else makes a whole interface.
    Some(LinkSeen { index, name: name?, mac, own_mac: own_mac.or(mac), sort, master, up, carrier, mtu: mtu?, router })
}

fn address(payload: &[u8]) -> Option<AddressSeen> {
    let [family, prefix, flags, scope] = field(payload, 0)?;
    let attributes = payload.get(ADDRESS..)?;
    // With a peer, IFA_ADDRESS is the peer and IFA_LOCAL our own; IPv6 usually has no IFA_LOCAL.
    let address = find(attributes, libc::IFA_LOCAL).or_else(|| find(attributes, libc::IFA_ADDRESS))?;
    Some(AddressSeen {
        index: u32::from_ne_bytes(field(payload, 4)?),
        address: match i32::from(family) {
            libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
            libc::AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
            _ => return None,
        },
        prefix,
        global: matches!(scope, libc::RT_SCOPE_UNIVERSE | libc::RT_SCOPE_SITE),
        permanent: u32::from(flags) & libc::IFA_F_PERMANENT != 0,
        advertised: i32::from(family) == libc::AF_INET6
            && u32::from(flags) & libc::IFA_F_PERMANENT == 0
            && find(attributes, IFA_PROTO).is_none_or(|by| *by == [IFAPROT_KERNEL_RA]),
        // An optimistic address is usable while it is checked (RFC 4429).
        check: match u32::from(flags) {
            flags if flags & libc::IFA_F_DADFAILED != 0 => Check::Failed,
            flags if flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_OPTIMISTIC) == libc::IFA_F_TENTATIVE => {
                Check::Running
            }
            _ => Check::Passed,
        },
    })
}

/// One of IPv6 in the main table that leads over a single interface; others are of no interest.
fn route(payload: &[u8]) -> Option<RouteSeen> {
    let [family, prefix, _, _, table, protocol, _, kind] = field(payload, 0)?;
    let attributes = payload.get(ROUTE..)?;
    let ordinary = table == libc::RT_TABLE_MAIN && kind == libc::RTN_UNICAST;
    if i32::from(family) != libc::AF_INET6 || !ordinary {
        return None;
    }
    // `struct rta_cacheinfo`: the third number is the time that is left, zero for ever.
    let times = find(attributes, libc::RTA_CACHEINFO).and_then(|it| field(it, 8)).map(u32::from_ne_bytes);
    Some(RouteSeen {
        index: u32::from_ne_bytes(field(find(attributes, libc::RTA_OIF)?, 0)?),
        destination: find(attributes, libc::RTA_DST)
            .map_or(Some(Ipv6Addr::UNSPECIFIED), |it| Some(<[u8; 16]>::try_from(it).ok()?.into()))?,
        prefix,
        by: match protocol {
            RTPROT_RA => Maker::Router,
            libc::RTPROT_KERNEL if times.is_some_and(|left| left != 0) => Maker::Router,
            libc::RTPROT_KERNEL => Maker::Address,
            _ => Maker::Other,
        },
        payload: payload.to_owned(),
    })
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(attribute, value)| (attribute == wanted).then_some(value))
}

/// The attributes with their types, up to the first that is damaged.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(field(bytes, 0)?));
        let value = bytes.get(ATTRIBUTE..length)?;
        // Two bits tell about the value: nested, and big-endian.
        let attribute = u16::from_ne_bytes(field(bytes, 2)?) & libc::NLA_TYPE_MASK as u16;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((attribute, value))
    })
}

/// A string with a zero at its end.
fn text(value: &[u8]) -> Option<String> {
    Some(str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()?.to_owned())
}

fn field<const LENGTH: usize>(bytes: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests;
