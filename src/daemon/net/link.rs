//! One interface as the plan sees it. Pure.

use std::{net::IpAddr, time::Duration};

use super::{
    dhcp::Client,
    owner::Facts,
    step::{Address, AddressSeen, Check, LinkSeen, Route, Sort},
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
    /// As long as there is carrier and the argument wants a lease.
    pub dhcp: Option<Client>,
    /// What we have added.
    pub ours: Vec<Ours>,
    /// Addresses that we have removed and the kernel has not confirmed: their going is no news.
    pub leaving: Vec<IpAddr>,
    /// Somebody else has added an address too.
    pub shared: bool,
    /// Somebody else has taken the interface over, and our addresses with it: they stay when we go.
    pub theirs: bool,
    /// What went wrong last, for a person.
    pub trouble: Option<String>,
}

/// An address of ours, and what came with it.
#[derive(Clone, Debug)]
pub struct Ours {
    pub by: By,
    pub address: Address,
    pub routes: Vec<Route>,
    pub nameservers: Vec<IpAddr>,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Static,
    Dhcp,
}

#[derive(Debug)]
pub enum Phase {
    /// No argument is about it.
    Idle,
    /// Whether it is ours is not known yet.
    Undecided { waiting: &'static str, next: Duration },
    /// Somebody else configures it.
    System(&'static str),
    /// Ours and set up, or being set up.
    Held,
}

impl Link {
    pub fn new(now: Duration, seen: LinkSeen) -> Self {
        Self {
            seen,
            facts: Facts::default(),
            since: now,
            phase: Phase::Idle,
            interface: None,
            dhcp: None,
            ours: Vec::new(),
            leaving: Vec::new(),
            shared: false,
            theirs: false,
            trouble: None,
        }
    }

    pub fn deadline(&self) -> Option<Duration> {
        let decision = match &self.phase {
            Phase::Undecided { next, .. } => Some(*next),
            _ => None,
        };
        [decision, self.dhcp.as_ref().and_then(Client::deadline)].into_iter().flatten().min()
    }

    /// We have begun to configure it.
    pub fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Held)
    }

    /// Whether it has an address of ours that came this way.
    pub fn has(&self, by: By) -> bool {
        self.ours.iter().any(|ours| ours.by == by)
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
        !self.ours.is_empty() && self.interface.as_ref() == Some(interface)
    }

    /// Somebody else's, and meant for more than this link. IPv6 addresses that the kernel makes from router
    /// advertisements are nobody's.
    pub fn is_foreign(&self, address: &AddressSeen) -> bool {
        let ours = self.ours.iter().any(|ours| address.address == ours.address.address);
        address.global && !ours && (address.address.is_ipv4() || address.permanent)
    }

    /// Takes note that an address went. Whether it was one that we still count on.
    pub fn lost(&mut self, address: &AddressSeen) -> bool {
        if let Some(at) = self.leaving.iter().position(|it| *it == address.address) {
            self.leaving.swap_remove(at);
            return false;
        }
        let before = self.ours.len();
        self.ours.retain(|ours| ours.address.address != address.address);
        self.ours.len() != before
    }

    /// For `status`.
    pub fn show(&self, addresses: &[AddressSeen], config: &NetworkConfig) -> message::Link {
        let here = || addresses.iter().filter(|it| it.index == self.seen.index && it.global);
        let usable = here().filter(|it| it.check == Check::Passed);
        let default = self.ours.iter().flat_map(|ours| &ours.routes).find(|route| route.prefix == 0);
        let mut nameservers = self.interface.iter().flat_map(|it| &it.nameservers).collect::<Vec<_>>();
        nameservers.extend(self.ours.iter().flat_map(|ours| &ours.nameservers));
        if !self.ours.is_empty() {
            nameservers.extend(&config.nameservers);
        }
        let checked = || here().find(|it| it.check != Check::Passed).map(check_note);
        message::Link {
            name: self.seen.name.clone(),
            mac: self.seen.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
            carrier: self.seen.carrier,
            addresses: usable.map(|it| format!("{}/{}", it.address, it.prefix)).collect(),
            gateway: default.and_then(|route| route.gateway).map(|gateway| gateway.to_string()),
            nameservers: nameservers.iter().map(ToString::to_string).collect(),
            configured_by: self.configured_by().map(str::to_owned),
            note: self.trouble.clone().or_else(checked).or_else(|| self.note().map(str::to_owned)),
        }
    }

    fn configured_by(&self) -> Option<&'static str> {
        match &self.phase {
            Phase::System(_) => Some("system"),
            _ if self.has(By::Dhcp) => Some("dhcp"),
            _ if self.has(By::Static) => Some("static"),
            _ => None,
        }
    }

    fn note(&self) -> Option<&str> {
        match &self.phase {
            Phase::Idle => Some("not configured: no ip= argument is about it"),
            Phase::Undecided { waiting, .. } => Some(waiting),
            Phase::System(whose) => Some(whose),
            Phase::Held if !self.seen.up && self.ours.is_empty() => Some("being set up"),
            Phase::Held if !self.seen.carrier => Some("no carrier: waiting for a cable"),
            Phase::Held if self.dhcp.as_ref().is_some_and(|client| client.lease().is_none()) => {
                Some("waiting for a DHCP server")
            }
            Phase::Held if self.ours.is_empty() => match &self.interface {
                Some(Interface { which: Which::First, ipv4: Ipv4::Static(_), .. }) => {
                    Some("not used: another interface was first")
                }
                _ => None,
            },
            Phase::Held => None,
        }
    }
}

/// Why an address is not shown among those that are usable.
fn check_note(it: &AddressSeen) -> String {
    match it.check {
        Check::Failed => format!("{} is not usable: another station on this link has it", it.address),
        _ => format!("{} is tentative: the kernel asks whether another station has it", it.address),
    }
}

/// Where a route goes: destination, prefix length, gateway (`None`: directly on the link).
pub type Way = (IpAddr, u8, Option<IpAddr>);

/// The routes that an address comes with.
pub fn routes(address: &Address, ways: &[Way]) -> Vec<Route> {
    let route = |&(destination, prefix, gateway): &Way| Route {
        index: address.index,
        destination,
        prefix,
        gateway,
        onlink: gateway.is_some_and(|gateway| !is_on_link(address, gateway)),
        source: match address.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        },
        metric: METRIC.saturating_add(address.index),
    };
    let mut routes: Vec<Route> = ways.iter().map(route).collect();
    // Those without a gateway first: RFC 3442 lets the others depend on them.
    routes.sort_by_key(|route| route.gateway.is_some());
    routes
}

/// Whether an address makes a gateway known to the kernel as one on the link.
pub fn is_on_link(address: &Address, gateway: IpAddr) -> bool {
    let prefix = u32::from(address.prefix);
    match (address.address, gateway) {
        _ if address.peer == Some(gateway) => true,
        (IpAddr::V4(ours), IpAddr::V4(gateway)) => {
            (ours.to_bits() ^ gateway.to_bits()) & u32::MAX.checked_shl(32 - prefix).unwrap_or(0) == 0
        }
        (IpAddr::V6(ours), IpAddr::V6(gateway)) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            gateway.is_unicast_link_local() || (ours.to_bits() ^ gateway.to_bits()) & mask == 0
        }
        _ => false,
    }
}
