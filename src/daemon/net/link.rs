//! One interface as the plan sees it. Pure.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    dhcp::Client,
    owner::Facts,
    step::{Address, AddressSeen, LinkSeen, Route, Sort},
};
use crate::{
    config::network::{Interface, Ipv4, NetworkConfig, Which},
    control::message,
};

/// Metric of our routes: above those that somebody else may have (0, and 1024 of systemd-networkd is the usual); the
/// index is added so that two interfaces can have a default route each.
const METRIC: u32 = 2048;

pub struct Link {
    pub seen: LinkSeen,
    pub facts: Facts,
    /// When it was first seen.
    pub since: Duration,
    pub phase: Phase,
    /// The argument that it is brought up by.
    pub interface: Option<Interface>,
    /// What we have added.
    pub ours: Option<Ours>,
    /// Addresses that we have removed and the kernel has not confirmed: their going is no news.
    pub leaving: Vec<Ipv4Addr>,
    /// Somebody else has added an address too.
    pub shared: bool,
    /// What went wrong last, for a person.
    pub trouble: Option<String>,
}

pub struct Ours {
    pub address: Address,
    pub routes: Vec<Route>,
    pub nameservers: Vec<IpAddr>,
    /// Somebody else has taken the interface over, and the address with it: both stay when we go.
    pub theirs: bool,
}

#[derive(Debug)]
pub enum Phase {
    /// No argument is about it.
    Idle,
    /// Whether it is ours is not known yet.
    Undecided {
        waiting: &'static str,
        next: Duration,
    },
    /// Somebody else configures it.
    System(&'static str),
    /// Ours and set up; no cable yet.
    NoCarrier,
    Dhcp(Client),
    Static,
}

impl Link {
    pub fn new(now: Duration, seen: LinkSeen) -> Self {
        Self {
            seen,
            facts: Facts::default(),
            since: now,
            phase: Phase::Idle,
            interface: None,
            ours: None,
            leaving: Vec::new(),
            shared: false,
            trouble: None,
        }
    }

    pub fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Undecided { next, .. } => Some(*next),
            Phase::Dhcp(client) => client.deadline(),
            Phase::Idle | Phase::System(_) | Phase::NoCarrier | Phase::Static => None,
        }
    }

    /// We have begun to configure it.
    pub fn is_started(&self) -> bool {
        matches!(self.phase, Phase::NoCarrier | Phase::Dhcp(_) | Phase::Static)
    }

    /// An Ethernet interface that needs no more than a cable, and so is taken without being named.
    pub fn is_ordinary(&self) -> bool {
        match self.seen.sort {
            Sort::Ethernet => self.facts.device && !self.facts.radio,
            Sort::Veth => true,
            Sort::Made | Sort::Unfit => false,
        }
    }

    /// Took the one place that an argument for the first interface has.
    pub fn holds(&self, interface: &Interface) -> bool {
        self.ours.is_some() && self.interface.as_ref() == Some(interface)
    }

    /// Somebody else's, and meant for more than this link. IPv6 addresses that the kernel makes from router
    /// advertisements are nobody's.
    pub fn is_foreign(&self, address: &AddressSeen) -> bool {
        let ours = self.ours.as_ref().is_some_and(|ours| address.address == ours.address.address);
        address.global && !ours && (address.address.is_ipv4() || address.permanent)
    }

    /// Takes note that an address went. Whether it was one that we still count on.
    pub fn lost(&mut self, address: &AddressSeen) -> bool {
        if let Some(at) = self.leaving.iter().position(|it| *it == address.address) {
            self.leaving.swap_remove(at);
            return false;
        }
        self.ours.take_if(|ours| address.address == ours.address.address).is_some()
    }

    /// For `status`.
    pub fn show(&self, addresses: &[AddressSeen], config: &NetworkConfig) -> message::Link {
        let addresses = addresses.iter().filter(|it| it.index == self.seen.index && it.global);
        let default = self.ours.iter().flat_map(|ours| &ours.routes).find(|route| route.prefix == 0);
        let mut nameservers = self.interface.iter().flat_map(|it| &it.nameservers).collect::<Vec<_>>();
        nameservers.extend(self.ours.iter().flat_map(|ours| &ours.nameservers));
        if self.ours.is_some() {
            nameservers.extend(&config.nameservers);
        }
        message::Link {
            name: self.seen.name.clone(),
            mac: self.seen.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
            carrier: self.seen.carrier,
            addresses: addresses.map(|it| format!("{}/{}", it.address, it.prefix)).collect(),
            gateway: default.and_then(|route| route.gateway).map(|gateway| gateway.to_string()),
            nameservers: nameservers.iter().map(ToString::to_string).collect(),
            configured_by: self.configured_by().map(str::to_owned),
            note: self.trouble.clone().or_else(|| self.note()),
        }
    }

    fn configured_by(&self) -> Option<&'static str> {
        match (&self.phase, &self.ours) {
            (Phase::System(_), _) => Some("system"),
            (Phase::Dhcp(_), Some(_)) => Some("dhcp"),
            (Phase::Static, Some(_)) => Some("static"),
            _ => None,
        }
    }

    fn note(&self) -> Option<String> {
        let note = match &self.phase {
            Phase::Idle => "not configured: no ip= argument is about it",
            Phase::Undecided { waiting, .. } => waiting,
            Phase::System(whose) => whose,
            Phase::NoCarrier if !self.seen.up => "being set up",
            Phase::NoCarrier => match &self.interface {
                Some(Interface { which: Which::First, ipv4: Ipv4::Static(_), .. }) if self.seen.carrier => {
                    "not used: another interface was first"
                }
                _ => "no carrier: waiting for a cable",
            },
            Phase::Dhcp(client) if client.lease().is_none() => "waiting for a DHCP server",
            Phase::Dhcp(_) | Phase::Static if !self.seen.carrier => "no carrier: waiting for a cable",
            Phase::Dhcp(_) | Phase::Static => return None,
        };
        Some(note.to_owned())
    }
}

/// The routes that an address comes with: destination, prefix length, gateway (0.0.0.0: directly on the link).
pub fn routes(address: &Address, routes: &[(Ipv4Addr, u8, Ipv4Addr)]) -> Vec<Route> {
    let on_link = |gateway: Ipv4Addr| {
        let mask = u32::MAX.checked_shl(32 - u32::from(address.prefix)).unwrap_or(0);
        address.peer == Some(gateway) || (gateway.to_bits() ^ address.address.to_bits()) & mask == 0
    };
    let route = |&(destination, prefix, gateway): &(Ipv4Addr, u8, Ipv4Addr)| Route {
        index: address.index,
        destination,
        prefix,
        gateway: (!gateway.is_unspecified()).then_some(gateway),
        onlink: !gateway.is_unspecified() && !on_link(gateway),
        source: address.address,
        metric: METRIC.saturating_add(address.index),
    };
    let mut routes: Vec<Route> = routes.iter().map(route).collect();
    // Those without a gateway first: RFC 3442 lets the others depend on them.
    routes.sort_by_key(|route| route.gateway.is_some());
    routes
}
