//! What a server grants, as one believable whole. Pure.

use std::{net::Ipv4Addr, time::Duration};

use super::message::{self, Message};

/// Used when a server forgets the time, which RFC 2131 does not allow.
pub const FORGOTTEN_LEASE: u32 = 3600;
/// Shorter leases are taken as this long: one renewal each second is all that a network should have to bear.
pub const SHORTEST_LEASE: u32 = 2;
/// What a lease time of all ones means: for ever (RFC 2131 section 3.3).
const FOREVER: u32 = u32::MAX;
/// The kernel goes over to the next router when it can't reach one; nobody has more than a few.
const MOST_ROUTERS: usize = 4;
/// Below this, the kernel takes IPv6 from the interface (RFC 8200 section 5). Servers that say less, such as the 576 of
/// old home routers, mean nothing by it.
const LEAST_MTU: u16 = 1280;

/// What a server granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// Destination, prefix length, gateway (0.0.0.0: directly on the link). Several for one destination are in the
    /// order in which they are to be tried.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    pub nameservers: Vec<Ipv4Addr>,
    /// Domains to look for names in.
    pub search: Vec<String>,
    /// The most that a packet here may have, in bytes.
    pub mtu: Option<u32>,
    pub server: Ipv4Addr,
    /// `None`: for ever.
    pub valid: Option<Duration>,
    pub(super) renew: Duration,
    pub(super) rebind: Duration,
}

impl Lease {
    /// What an answer grants; `server` is who was asked. `None` if there is no address in it that a host can have.
    pub fn read(message: &Message, server: Ipv4Addr) -> Option<Self> {
        let address = usable(message.yours)?;
        let seconds = message.number(message::LEASE_TIME).unwrap_or(FORGOTTEN_LEASE).max(SHORTEST_LEASE);
        let valid = Duration::from_secs(seconds.into());
        // RFC 2131 section 4.4.5: T1 is half of the lease time and T2 seven eighths, unless the server says otherwise.
        let times = [message::RENEWAL_TIME, message::REBINDING_TIME].map(|code| message.number(code));
        let (renew, rebind) = match times.map(|time| time.map(|seconds| Duration::from_secs(seconds.into()))) {
            [Some(renew), Some(rebind)] if !renew.is_zero() && renew <= rebind && rebind <= valid => (renew, rebind),
            _ => (valid / 2, valid * 7 / 8),
        };
        Some(Self {
            address,
            prefix: message.prefix().unwrap_or_else(|| by_class(address)),
            // RFC 3442: with classless routes, the routers are not used.
            routes: message.routes().unwrap_or_else(|| routers(message)),
            nameservers: message.addresses(message::NAMESERVERS).filter(|it| usable(*it).is_some()).collect(),
            search: message.search(),
            mtu: message.short(message::MTU).filter(|mtu| *mtu >= LEAST_MTU).map(u32::from),
            server: message.address(message::SERVER).unwrap_or(server),
            valid: (seconds != FOREVER).then_some(valid),
            renew,
            rebind,
        })
    }
}

/// A default route by each router, the preferred one first (RFC 2132 section 3.5).
fn routers(message: &Message) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    let mut routes = Vec::new();
    for router in message.addresses(message::ROUTERS).filter_map(usable) {
        let route = (Ipv4Addr::UNSPECIFIED, 0, router);
        if routes.len() < MOST_ROUTERS && !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes
}

/// An address that one host can have.
pub fn usable(address: Ipv4Addr) -> Option<Ipv4Addr> {
    let no = address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback();
    (!no).then_some(address)
}

/// Only for a server that sends no mask (RFC 791 section 3.2).
fn by_class(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}
