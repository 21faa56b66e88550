//! What is asked of the kernel, as messages. Pure.

use std::net::{IpAddr, Ipv4Addr};

use nix::libc;

use super::{
    super::step::{Address, NewLink, Route},
    ADDRESS, ATTRIBUTE, HEADER, LINK, ROUTE, RouteSeen,
};
use crate::config::network::{BondNumber, BondOptions, Mac};

/// From linux/rtnetlink.h and linux/if_link.h; libc has them not.
const RTNH_F_ONLINK: u32 = 4;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BOND_MODE: u16 = 1;
const IFLA_BOND_ARP_IP_TARGET: u16 = 8;
const IFLA_BOND_PRIMARY: u16 = 11;
const IFLA_BOND_AD_ACTOR_SYSTEM: u16 = 26;
const IFLA_BOND_NS_IP6_TARGET: u16 = 31;
/// The value of an attribute is attributes.
const NESTED: u16 = libc::NLA_F_NESTED as u16;

fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    family as u8
}

/// What is particular to a bond (linux/if_link.h). The preferred slave is told later, when it is one.
fn bond(options: &BondOptions) -> Request {
    let list = |attributes: Request| (!attributes.payload.is_empty()).then_some(attributes.payload);
    let mut data = Request::nothing().with(IFLA_BOND_MODE, [options.mode as u8]);
    for (attribute, number) in &options.numbers {
        data = match number {
            BondNumber::U8(number) => data.with(*attribute, number.to_ne_bytes()),
            BondNumber::U16(number) => data.with(*attribute, number.to_ne_bytes()),
            BondNumber::U32(number) => data.with(*attribute, number.to_ne_bytes()),
        };
    }
    let targets = options.arp_ip_target.iter().zip(0..);
    let targets = targets.fold(Request::nothing(), |list, (ip, at)| list.with(at, ip.octets()));
    if let Some(targets) = list(targets) {
        data = data.with(IFLA_BOND_ARP_IP_TARGET | NESTED, targets);
    }
    let targets = options.ns_ip6_target.iter().zip(0..);
    let targets = targets.fold(Request::nothing(), |list, (ip, at)| list.with(at, ip.octets()));
    if let Some(targets) = list(targets) {
        data = data.with(IFLA_BOND_NS_IP6_TARGET | NESTED, targets);
    }
    match options.ad_actor_system {
        Some(mac) => data.with(IFLA_BOND_AD_ACTOR_SYSTEM, mac),
        None => data,
    }
}

/// A message to the kernel. Asked twice, each leads to the same as if asked once.
pub struct Request {
    pub(super) kind: u16,
    pub(super) flags: i32,
    pub(super) payload: Vec<u8>,
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

    pub fn set_mac(index: u32, mac: Mac) -> Self {
        Self::set(index, 0, 0).with(libc::IFLA_ADDRESS, mac)
    }

    pub fn rename(index: u32, name: &str) -> Self {
        Self::set(index, 0, 0).with_text(libc::IFLA_IFNAME, name)
    }

    /// Makes it a part of another interface, or of none any more.
    pub fn set_master(index: u32, master: Option<u32>) -> Self {
        Self::set(index, 0, 0).with(libc::IFLA_MASTER, master.unwrap_or(0).to_ne_bytes())
    }

    /// Makes an interface; fails if there is one with this name.
    pub fn make(name: &str, link: &NewLink) -> Self {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let request = Self { kind: libc::RTM_NEWLINK, flags, payload: vec![0; LINK] };
        let request = request.with_text(libc::IFLA_IFNAME, name);
        match link {
            NewLink::Vlan { parent, id } => {
                let data = Self::nothing().with(IFLA_VLAN_ID, id.to_ne_bytes());
                request.with(libc::IFLA_LINK, parent.to_ne_bytes()).with_info("vlan", &data)
            }
            NewLink::Bridge => {
                let data = Self::nothing().with(IFLA_BR_FORWARD_DELAY, 0_u32.to_ne_bytes());
                request.with_info("bridge", &data)
            }
            NewLink::Bond { options, mtu } => {
                let request = mtu.iter().fold(request, |it, mtu| it.with(libc::IFLA_MTU, mtu.to_ne_bytes()));
                request.with_info("bond", &bond(options))
            }
        }
    }

    /// Gives one that is there already what [`Request::make`] would.
    pub fn make_over(name: &str, link: &NewLink) -> Self {
        Self { flags: libc::NLM_F_ACK, ..Self::make(name, link) }
    }

    /// Prefers one slave of a bond.
    pub fn prefer(bond: u32, slave: u32) -> Self {
        let request = Self { kind: libc::RTM_NEWLINK, ..Self::set(bond, 0, 0) };
        request.with_info("bond", &Self::nothing().with(IFLA_BOND_PRIMARY, slave.to_ne_bytes()))
    }

    /// Removes an interface that was made.
    pub fn unmake(name: &str) -> Self {
        let request = Self { kind: libc::RTM_DELLINK, ..Self::set(0, 0, 0) };
        request.with_text(libc::IFLA_IFNAME, name)
    }

    /// All routes of IPv6.
    pub fn routes() -> Self {
        let mut payload = vec![0; ROUTE];
        payload[0] = libc::AF_INET6 as u8;
        Self { kind: libc::RTM_GETROUTE, flags: libc::NLM_F_DUMP, payload }
    }

    /// Removes a route that was listed.
    pub fn remove_listed(route: &RouteSeen) -> Self {
        Self { kind: libc::RTM_DELROUTE, flags: libc::NLM_F_ACK, payload: route.payload.clone() }
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

    /// Adds it. Of IPv4, beside others with the same destination and metric: between several default routes the kernel
    /// then chooses by who answers (`fib_select_default` in net/ipv4/fib_semantics.c). Of IPv6 in their place, as
    /// there several would be used at once.
    pub fn add_route(it: &Route) -> Self {
        let beside = if it.destination.is_ipv4() { libc::NLM_F_APPEND } else { libc::NLM_F_REPLACE };
        Self::route(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | beside, it)
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

    fn nothing() -> Self {
        Self { kind: 0, flags: 0, payload: Vec::new() }
    }

    /// What kind of interface it is, with what is particular to the kind.
    fn with_info(self, kind: &str, data: &Self) -> Self {
        let info = Self::nothing().with_text(libc::IFLA_INFO_KIND, kind);
        let info = info.with(libc::IFLA_INFO_DATA | NESTED, &data.payload);
        self.with(libc::IFLA_LINKINFO | NESTED, info.payload)
    }

    fn with_text(self, attribute: u16, text: &str) -> Self {
        self.with(attribute, [text.as_bytes(), &[0]].concat())
    }

    fn with_ip(self, attribute: u16, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.with(attribute, ip.octets()),
            IpAddr::V6(ip) => self.with(attribute, ip.octets()),
        }
    }

    pub(super) fn with(mut self, attribute: u16, value: impl AsRef<[u8]>) -> Self {
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
