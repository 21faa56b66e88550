//! The messages of rtnetlink(7) that the network needs, to bytes and back (netlink(7)). Pure.
//!
//! Everything is in the byte order of the machine, and begins at a multiple of four. What is unknown is passed over,
//! as the kernel may add attributes and messages at any time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use nix::libc;

use super::step::{Address, AddressSeen, Check, LinkSeen, Route, Sort};

/// Length, type, flags, sequence number, port: `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length and type: `struct rtattr`.
const ATTRIBUTE: usize = 4;
/// `struct ifinfomsg`: family, a byte of padding, hardware type, index, flags, mask of the flags to change.
const LINK: usize = 16;
/// `struct ifaddrmsg`: family, length of the prefix, flags, scope, index.
const ADDRESS: usize = 8;
/// From linux/rtnetlink.h; libc has it not.
const RTNH_F_ONLINK: u32 = 4;

/// What has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    Link(LinkSeen),
    LinkGone(u32),
    Address(AddressSeen),
    AddressGone(AddressSeen),
    /// Changes were lost, so everything has to be listed again.
    Overrun,
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
        libc::RTM_NEWLINK => Change::Link(link(payload)?),
        libc::RTM_DELLINK => Change::LinkGone(link_index(payload)?),
        libc::RTM_NEWADDR => Change::Address(address(payload)?),
        libc::RTM_DELADDR => Change::AddressGone(address(payload)?),
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

fn link(payload: &[u8]) -> Option<LinkSeen> {
    let index = link_index(payload)?;
    let flags = u32::from_ne_bytes(field(payload, 8)?);
    let has = |flag: i32| flags & flag as u32 != 0;
    let (mut name, mut mac, mut mtu, mut kind, mut part) = (None, None, None, None, false);
    for (attribute, value) in attributes(payload.get(LINK..)?) {
        match attribute {
            libc::IFLA_IFNAME => name = text(value),
            libc::IFLA_ADDRESS => mac = value.try_into().ok(),
            libc::IFLA_MTU => mtu = field(value, 0).map(u32::from_ne_bytes),
            libc::IFLA_MASTER => part = true,
            libc::IFLA_LINKINFO => kind = find(value, libc::IFLA_INFO_KIND).and_then(text),
            _ => {}
        }
    }
    let ethernet = u16::from_ne_bytes(field(payload, 2)?) == libc::ARPHRD_ETHER && !has(libc::IFF_LOOPBACK);
    let sort = match kind.as_deref() {
        _ if !ethernet || part => Sort::Unfit,
        None => Sort::Ethernet,
        Some("veth") => Sort::Veth,
        Some(_) => Sort::Made,
    };
    let up = has(libc::IFF_UP);
    let carrier = up && has(libc::IFF_LOWER_UP);
    // Only news of a radio (IFLA_WIRELESS) come without an MTU, and without what else makes a whole interface.
    Some(LinkSeen { index, name: name?, mac, sort, up, carrier, mtu: mtu? })
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

fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    family as u8
}

/// A message to the kernel. Asked twice, each leads to the same as if asked once.
pub struct Request {
    kind: u16,
    flags: i32,
    payload: Vec<u8>,
}

impl Request {
    pub fn links() -> Self {
        Self { kind: libc::RTM_GETLINK, flags: libc::NLM_F_DUMP, payload: vec![0; LINK] }
    }

    pub fn addresses() -> Self {
        Self { kind: libc::RTM_GETADDR, flags: libc::NLM_F_DUMP, payload: vec![0; ADDRESS] }
    }

    pub fn set_up(index: u32, up: bool) -> Self {
        let change = libc::IFF_UP as u32;
        Self::set(index, if up { change } else { 0 }, change)
    }

    pub fn set_mtu(index: u32, mtu: u32) -> Self {
        Self::set(index, 0, 0).with(libc::IFLA_MTU, mtu.to_ne_bytes())
    }

    fn set(index: u32, flags: u32, change: u32) -> Self {
        let payload = [0, index, flags, change].map(u32::to_ne_bytes).concat();
        Self { kind: libc::RTM_SETLINK, flags: libc::NLM_F_ACK, payload }
    }

    /// Adds it, or gives it the new time.
    pub fn add_address(it: &Address) -> Self {
        Self::address(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, it)
    }

    pub fn remove_address(it: &Address) -> Self {
        Self::address(libc::RTM_DELADDR, 0, it)
    }

    fn address(kind: u16, flags: i32, it: &Address) -> Self {
        let mut payload = vec![family(it.address), it.prefix, 0, libc::RT_SCOPE_UNIVERSE];
        payload.extend(it.index.to_ne_bytes());
        let request = Self { kind, flags: flags | libc::NLM_F_ACK, payload };
        let mut request = request.with_ip(libc::IFA_LOCAL, it.address);
        request = request.with_ip(libc::IFA_ADDRESS, it.peer.unwrap_or(it.address));
        if let (IpAddr::V4(address), None, ..31) = (it.address, it.peer, it.prefix) {
            let broadcast = address | Ipv4Addr::from_bits(u32::MAX >> it.prefix);
            request = request.with(libc::IFA_BROADCAST, broadcast.octets());
        }
        match it.valid {
            // Preferred, valid, and two times that the kernel keeps: `struct ifa_cacheinfo`.
            Some(valid) => request.with(libc::IFA_CACHEINFO, [valid, valid, 0, 0].map(u32::to_ne_bytes).concat()),
            None => request,
        }
    }

    /// Adds it, or changes the one with the same destination and metric.
    pub fn add_route(it: &Route) -> Self {
        Self::route(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, it)
    }

    pub fn remove_route(it: &Route) -> Self {
        Self::route(libc::RTM_DELROUTE, 0, it)
    }

    fn route(kind: u16, flags: i32, it: &Route) -> Self {
        let scope = if it.gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        // `struct rtmsg`: family, lengths of the prefixes (destination, source), TOS; and then what is named here.
        let mut payload = vec![family(it.destination), it.prefix, 0, 0];
        payload.extend([libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, scope, libc::RTN_UNICAST]);
        payload.extend(if it.onlink { RTNH_F_ONLINK } else { 0 }.to_ne_bytes());
        let mut request = Self { kind, flags: flags | libc::NLM_F_ACK, payload }
            .with_ip(libc::RTA_DST, it.destination)
            .with(libc::RTA_OIF, it.index.to_ne_bytes())
            .with(libc::RTA_PRIORITY, it.metric.to_ne_bytes());
        if let Some(source) = it.source {
            request = request.with(libc::RTA_PREFSRC, source.octets());
        }
        match it.gateway {
            Some(gateway) => request.with_ip(libc::RTA_GATEWAY, gateway),
            None => request,
        }
    }

    fn with_ip(self, attribute: u16, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.with(attribute, ip.octets()),
            IpAddr::V6(ip) => self.with(attribute, ip.octets()),
        }
    }

    fn with(mut self, attribute: u16, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.payload.extend(((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
        self.payload.extend(attribute.to_ne_bytes());
        self.payload.extend(value);
        self.payload.resize(self.payload.len().next_multiple_of(4), 0);
        self
    }

    /// Whether the answer is a list, and not just how it went.
    pub fn asks_for_list(&self) -> bool {
        self.flags & libc::NLM_F_DUMP == libc::NLM_F_DUMP
    }

    /// The sequence number comes back in the answer.
    pub fn encode(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = ((HEADER + self.payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(((self.flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes()); // to the kernel
        bytes.extend(&self.payload);
        bytes
    }
}

#[cfg(test)]
mod tests;
