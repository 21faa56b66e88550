//! One interface as the plan sees it. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    advert::Advertised,
    conflict::Watch,
    dhcp::Client,
    dhcp6,
    owner::Facts,
    step::{Address, AddressSeen, Check, LinkSeen, Route, Sort},
};
use crate::{
    config::network::{Interface, Ipv4, Ipv6, Mac, NetworkConfig, Which},
    control::message,
};

/// Metric of our routes: above those that somebody else may have (0, and 1024 of systemd-networkd is the usual); the
/// index is added so that two interfaces can have a default route each.
pub const METRIC: u32 = 2048;

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
    /// As long as there is carrier, and the argument or a router wants it.
    pub dhcp6: Option<dhcp6::Client>,
    /// Since when DHCPv6 can be asked: there is a link-local address.
    pub asks6_since: Option<Duration>,
    /// When it is asked without a router that says so.
    pub router_due: Option<Duration>,
    /// Name servers and domains of routers.
    pub advertised: Advertised,
    /// The MTU that it had before a lease asked for a smaller one.
    pub own_mtu: Option<u32>,
    /// Routers are to be asked, as the kernel does not.
    pub solicit: Option<Solicit>,
    /// Addresses of IPv6 that other stations have, and when those that stay are tried again.
    pub refused: BTreeMap<IpAddr, Option<Duration>>,
    /// What we have added.
    pub ours: Vec<Ours>,
    /// Routes of `rd.route=` that we have added.
    pub routes: Vec<Route>,
    /// We have asked for the name of `ifname=`.
    pub renamed: bool,
    /// We have made it part of another interface.
    pub joined: bool,
    /// Addresses that we have removed and the kernel has not confirmed: their going is no news.
    pub leaving: Vec<IpAddr>,
    /// Somebody else has added an address too.
    pub shared: bool,
    /// Somebody else has taken the interface over, and our addresses with it: they stay when we go.
    pub theirs: bool,
    /// Whether another station has our IPv4 address; as long as there is carrier.
    pub watch: Option<Watch>,
    /// The station for which an address was declined last, and which.
    pub claimed: Option<(Mac, Ipv4Addr)>,
    /// One that answers for addresses of others.
    pub proxy: Option<Mac>,
    /// Who else has our IPv4 address, for a person.
    pub conflict: Option<String>,
    /// What went wrong last, for a person.
    pub trouble: Option<String>,
}

/// Questions to routers that are still to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Solicit {
    pub left: u32,
    /// When the next one is due; `None` as long as there is no link-local address to ask from.
    pub next: Option<Duration>,
}

/// An address of ours, and what came with it.
#[derive(Clone, Debug)]
pub struct Ours {
    pub by: By,
    pub address: Address,
    pub routes: Vec<Route>,
    pub nameservers: Vec<IpAddr>,
    pub search: Vec<String>,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Static,
    /// Of IPv6.
    Static6,
    Dhcp,
    Dhcp6,
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
    /// Ours, for this bond or bridge.
    Part(String),
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
            dhcp6: None,
            asks6_since: None,
            router_due: None,
            advertised: Advertised::default(),
            own_mtu: None,
            solicit: None,
            refused: BTreeMap::new(),
            ours: Vec::new(),
            routes: Vec::new(),
            renamed: false,
            joined: false,
            leaving: Vec::new(),
            shared: false,
            theirs: false,
            watch: None,
            claimed: None,
            proxy: None,
            conflict: None,
            trouble: None,
        }
    }

    pub fn deadline(&self) -> Option<Duration> {
        let decision = match &self.phase {
            Phase::Undecided { next, .. } => Some(*next),
            _ => None,
        };
        let dhcp = self.dhcp.as_ref().and_then(Client::deadline);
        let dhcp6 = self.dhcp6.as_ref().and_then(dhcp6::Client::deadline);
        let watch = self.watch.as_ref().and_then(Watch::deadline);
        let again = self.refused.values().copied().flatten().min();
        let solicit = self.solicit.as_ref().and_then(|it| it.next);
        [decision, dhcp, dhcp6, watch, again, solicit, self.router_due, self.advertised.deadline()]
            .into_iter()
            .flatten()
            .min()
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

    /// It is ours and has an address that can be used beyond the link, whether we or the kernel added it.
    pub fn has_address(&self, addresses: &[AddressSeen]) -> bool {
        let advertised = |it: &AddressSeen| it.index == self.seen.index && it.advertised && it.check == Check::Passed;
        !self.ours.is_empty() || self.is_held() && addresses.iter().any(advertised)
    }

    /// Took the one place that an argument for the first interface has.
    pub fn holds(&self, interface: &Interface) -> bool {
        !self.ours.is_empty() && self.interface.as_ref() == Some(interface)
    }

    /// Somebody else's, and meant for more than this link. IPv6 addresses that the kernel makes from router
    /// advertisements are nobody's.
    pub fn is_foreign(&self, address: &AddressSeen) -> bool {
        let ours = self.ours.iter().any(|ours| address.address == ours.address.address);
        let ours = ours || self.leaving.contains(&address.address);
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
        let usable = || here().filter(|it| it.check == Check::Passed);
        let advertised = usable().any(|it| it.advertised);
        let default = self.ours.iter().flat_map(|ours| &ours.routes).find(|route| route.prefix == 0);
        let mut nameservers = self.interface.iter().flat_map(|it| &it.nameservers).collect::<Vec<_>>();
        nameservers.extend(self.ours.iter().flat_map(|ours| &ours.nameservers));
        if !self.ours.is_empty() {
            nameservers.extend(&config.nameservers);
        }
        let checked = || here().find(|it| it.check != Check::Passed).map(check_note);
        // Also the link-local one, without which there is no IPv6, and one that the kernel has removed again.
        let refused = || self.refused.keys().next().map(|address| refusal(*address));
        message::Link {
            name: self.seen.name.clone(),
            mac: self.seen.mac.map(written),
            carrier: self.seen.carrier,
            addresses: usable().map(|it| format!("{}/{}", it.address, it.prefix)).collect(),
            gateway: default.and_then(|route| route.gateway).map(|gateway| gateway.to_string()),
            nameservers: nameservers.iter().map(ToString::to_string).collect(),
            configured_by: self.configured_by(advertised).map(str::to_owned),
            note: self
                .conflict
                .clone()
                .or_else(|| self.trouble.clone())
                .or_else(refused)
                .or_else(checked)
                .or_else(|| self.note(advertised)),
        }
    }

    fn configured_by(&self, advertised: bool) -> Option<&'static str> {
        match &self.phase {
            Phase::System(_) => Some("system"),
            _ if self.has(By::Dhcp) => Some("dhcp"),
            _ if self.has(By::Dhcp6) => Some("dhcp6"),
            _ if self.has(By::Static) || self.has(By::Static6) => Some("static"),
            _ if self.is_held() && advertised => Some("ra"),
            _ => None,
        }
    }

    fn note(&self, advertised: bool) -> Option<String> {
        let (which, ipv4, ipv6) = match &self.interface {
            Some(it) => (Some(&it.which), it.ipv4, it.ipv6),
            None => (None, Ipv4::Off, Ipv6::Off),
        };
        let asks = self.dhcp.as_ref().is_some_and(|client| client.lease().is_none());
        let note = match &self.phase {
            Phase::Idle => "not configured: neither ip= nor config.toml is about it",
            Phase::Undecided { waiting, .. } => waiting,
            Phase::System(whose) => whose,
            Phase::Part(of) => return Some(format!("part of {of}")),
            Phase::Held if !self.seen.up && self.ours.is_empty() => "being set up",
            Phase::Held if !self.seen.carrier => "no carrier: waiting for a cable",
            Phase::Held if asks => "waiting for a DHCP server",
            Phase::Held if which == Some(&Which::First) && self.ours.is_empty() => {
                "not used: another interface was first"
            }
            Phase::Held if !advertised && ipv4 == Ipv4::Off && matches!(ipv6, Ipv6::Auto | Ipv6::Either) => {
                "waiting for a router advertisement"
            }
            Phase::Held => return None,
        };
        Some(note.to_owned())
    }
}

/// An Ethernet address as it is usually written.
pub fn written(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Why an address is not shown among those that are usable.
fn check_note(it: &AddressSeen) -> String {
    match it.check {
        Check::Failed => refusal(it.address),
        _ => format!("{} is tentative: the kernel asks whether another station has it", it.address),
    }
}

/// What is to be said of an address that failed the check.
pub fn refusal(address: IpAddr) -> String {
    format!("{address} is not usable: another station on this link has it")
}

/// Where a route goes: destination, prefix length, gateway (`None`: directly on the link).
pub type Way = (IpAddr, u8, Option<IpAddr>);

/// The routes that an address comes with.
pub fn routes(address: &Address, ways: &[Way], metric: u32) -> Vec<Route> {
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
        metric,
    };
    let mut routes: Vec<Route> = ways.iter().map(route).collect();
    // Those without a gateway first: RFC 3442 lets the others depend on them.
    routes.sort_by_key(|route| route.gateway.is_some());
    routes
}

/// Whether an address makes a gateway known to the kernel as one on the link.
pub fn is_on_link(address: &Address, gateway: IpAddr) -> bool {
    address.peer == Some(gateway) || is_within(gateway, address.address, address.prefix)
}

/// Whether an address is in a network. Every link-local one of IPv6 is in that of the link.
pub fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let prefix = u32::from(prefix);
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (address.to_bits() ^ network.to_bits()) & u32::MAX.checked_shl(32 - prefix).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            address.is_unicast_link_local() || (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        _ => false,
    }
}
