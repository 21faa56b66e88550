//! From the configuration and what is seen to the next steps. Pure: time is an argument, steps are done elsewhere.
//!
//! Each interface has one [`Phase`]. What a later version adds (IPv6, VLAN, bonds) are further methods of an interface
//! and further steps; nothing here waits for one interface before it goes on with another.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    dhcp::{Action, Client, Lease},
    link::{self, Link, Ours, Phase},
    owner::{Facts, Owner, owner},
    step::{Address, AddressSeen, Event, LinkSeen, Sort, Step},
};
use crate::{
    config::network::{Interface, Ipv4, NetworkConfig, StaticAddress, Which},
    control::message,
};

/// How often an interface whose owner is not known is looked at again. The files that tell have no common event.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The kernel drops a leased address by itself, should we not be there any more, this much after us.
const LEASE_MARGIN: u32 = 30;

/// Everything that is known and going on.
pub struct Plan {
    config: NetworkConfig,
    /// For transaction numbers.
    seed: u64,
    hostname: Option<String>,
    links: BTreeMap<u32, Link>,
    addresses: Vec<AddressSeen>,
    nameservers: Vec<IpAddr>,
    steps: Vec<Step>,
}

impl Plan {
    /// `hostname` is told to DHCP servers where the configuration has no other.
    pub fn new(config: NetworkConfig, hostname: Option<String>, seed: u64) -> Self {
        let nameservers = Vec::new();
        Self { config, seed, hostname, links: BTreeMap::new(), addresses: Vec::new(), nameservers, steps: Vec::new() }
    }

    /// When a [`Event::Tick`] is wanted, at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        self.links.values().filter_map(Link::deadline).min()
    }

    /// Interfaces whose [`Facts`] have to be looked at again before a tick, and before everything is undone.
    pub fn watched(&self) -> impl Iterator<Item = &LinkSeen> {
        let open = |link: &&Link| matches!(link.phase, Phase::Undecided { .. }) || link.ours.is_some();
        self.links.values().filter(open).map(|link| &link.seen)
    }

    pub fn name(&self, index: u32) -> &str {
        self.links.get(&index).map_or("?", |link| &link.seen.name)
    }

    /// The state for `status`, by index.
    pub fn links(&self) -> Vec<message::Link> {
        let fit = self.links.values().filter(|link| link.seen.sort != Sort::Unfit);
        fit.map(|link| link.show(&self.addresses, &self.config)).collect()
    }

    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Step> {
        match event {
            Event::Listed { links, addresses } => {
                let gone = self.links.keys().filter(|index| !links.iter().any(|(link, _)| link.index == **index));
                for index in gone.copied().collect::<Vec<_>>() {
                    self.forget(index);
                }
                let mut lost = std::mem::replace(&mut self.addresses, addresses);
                lost.retain(|was| !self.addresses.iter().any(|it| it.same(was)));
                for (seen, facts) in links {
                    self.link(now, seen, facts);
                }
                for seen in lost {
                    self.address_gone(now, seen);
                }
                self.each(|plan, index| plan.look(now, index));
            }
            Event::Link(seen, facts) => self.link(now, seen, facts),
            Event::LinkGone(index) => {
                self.forget(index);
                self.each(|plan, index| plan.look(now, index)); // its place may be free now
            }
            Event::Address(seen) => {
                self.strike(&seen);
                self.addresses.push(seen);
                self.look(now, seen.index);
            }
            Event::AddressGone(seen) => self.address_gone(now, seen),
            Event::Message { index, message } => {
                self.dhcp(index, |client| client.message(now, &message));
            }
            Event::Failed { index, why } => {
                // Said once; a message that can't be sent fails again with each try.
                if self.links.get(&index).is_some_and(|link| link.trouble.as_ref() != Some(&why)) {
                    self.set(index, |link| link.trouble = Some(why.clone()));
                    self.say(index, why);
                }
            }
            Event::Tick => self.each(|plan, index| {
                plan.look(now, index);
                plan.dhcp(index, |client| client.timer(now));
            }),
        }
        self.nameservers();
        std::mem::take(&mut self.steps)
    }

    fn strike(&mut self, gone: &AddressSeen) {
        self.addresses.retain(|it| !it.same(gone));
    }

    fn address_gone(&mut self, now: Duration, seen: AddressSeen) {
        self.strike(&seen);
        if self.links.get_mut(&seen.index).is_some_and(|link| link.lost(&seen)) {
            self.begin_anew(now, seen);
        } else {
            self.look(now, seen.index);
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut Self, u32)) {
        for index in self.links.keys().copied().collect::<Vec<_>>() {
            act(self, index);
        }
    }

    fn forget(&mut self, index: u32) {
        self.addresses.retain(|address| address.index != index);
        if let Some(link) = self.links.remove(&index) {
            self.steps.extend([Step::Silence(index), Step::Forget(index)]);
            if !matches!(link.phase, Phase::Idle) {
                self.steps.push(Step::Log(format!("{}: gone", link.seen.name)));
            }
        }
    }

    fn link(&mut self, now: Duration, seen: LinkSeen, facts: Facts) {
        let index = seen.index;
        let link = self.links.entry(index).or_insert_with(|| Link::new(now, seen.clone()));
        let before = std::mem::replace(&mut link.seen, seen);
        link.facts = facts;
        if before.name != link.seen.name {
            self.steps.push(Step::Log(format!("{}: renamed from {}", link.seen.name, before.name)));
        }
        let came_up = link.seen.up && !before.up;
        let carrier_back = link.seen.carrier && !before.carrier;
        if let (Some(ours), true) = (&link.ours, came_up) {
            // Setting an interface down, as for renaming it, drops its routes.
            self.steps.extend(ours.routes.iter().copied().map(Step::AddRoute));
        }
        if before.mac != link.seen.mac && matches!(link.phase, Phase::Dhcp(_)) && link.ours.is_none() {
            link.phase = Phase::NoCarrier; // answers to the old address would not reach us: begin anew
        }
        if carrier_back {
            self.dhcp(index, |client| client.verify(now));
        }
        self.look(now, index);
    }

    /// Somebody else has removed our address. An interface that is down is going away, or is theirs until it is up.
    fn begin_anew(&mut self, now: Duration, gone: AddressSeen) {
        let index = gone.index;
        self.set(index, |link| link.phase = Phase::NoCarrier);
        self.steps.push(Step::Silence(index));
        if self.links.get(&index).is_some_and(|link| link.seen.up) {
            self.say(index, format!("{} was removed by somebody else", gone.address));
            self.look(now, index);
        }
    }

    /// Decides what to do with an interface, after anything about it has changed.
    fn look(&mut self, now: Duration, index: u32) {
        let Some(link) = self.links.get(&index) else { return };
        let Some(interface) = self.wanted(link) else {
            // It was renamed, is part of a bond now, or another took its place: nobody waits for a decision.
            if matches!(link.phase, Phase::Undecided { .. }) {
                self.set(index, |link| link.phase = Phase::Idle);
            }
            return;
        };
        let foreign = self.addresses.iter().any(|it| it.index == index && link.is_foreign(it));
        if let Some(ours) = &link.ours {
            // Sessions may depend on our address. It stays as long as we do; the interface stays up after us.
            if let (Owner::System(whose), false) = (owner(&link.facts, false, Duration::MAX), ours.theirs) {
                return self.hand_over(index, whose);
            }
            if foreign && !link.shared {
                self.set(index, |link| link.shared = true);
                self.steps.push(Step::LeaveUp(index));
            }
            return;
        }
        match owner(&link.facts, foreign, now.saturating_sub(link.since)) {
            Owner::System(whose) => self.leave(index, whose),
            Owner::Undecided(waiting) => {
                if !link.is_started() {
                    let phase = Phase::Undecided { waiting, next: now + LOOK_AGAIN };
                    self.set(index, |link| link.phase = phase);
                }
            }
            Owner::Ours => self.bring_up(now, index, &interface),
        }
    }

    /// The argument that is about this interface: one that names it, or else one that is about any.
    fn wanted(&self, link: &Link) -> Option<Interface> {
        if link.seen.sort == Sort::Unfit {
            return None;
        }
        let named = |it: &&Interface| it.which == Which::Named(link.seen.name.clone());
        // What we hold we keep, whatever it is called now.
        let held = link.interface.as_ref().filter(|_| link.is_started());
        let any = |it: &&Interface| !matches!(it.which, Which::Named(_)) && link.is_ordinary();
        let free = |it: &&Interface| {
            let taken = |other: &Link| other.seen.index != link.seen.index && other.holds(it);
            it.which != Which::First || !self.links.values().any(taken)
        };
        let interfaces = &self.config.interfaces;
        let wanted = held.or_else(|| interfaces.iter().find(named)).or_else(|| interfaces.iter().find(any));
        wanted.filter(free).cloned()
    }

    fn leave(&mut self, index: u32, whose: &'static str) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if matches!(link.phase, Phase::System(_)) {
            return;
        }
        let name = &link.seen.name;
        self.steps.push(Step::Log(format!("{name}: {whose}; vestibule leaves it alone")));
        self.steps.extend([Step::Silence(index), Step::LeaveUp(index)]);
        link.phase = Phase::System(whose);
    }

    /// Somebody has begun to configure what we hold, perhaps with the same address: not ours to take away any more.
    fn hand_over(&mut self, index: u32, whose: &'static str) {
        self.set(index, |link| {
            link.shared = true;
            link.ours.iter_mut().for_each(|ours| ours.theirs = true);
        });
        self.steps.push(Step::LeaveAll(index));
        self.say(index, format!("{whose} now; it stays up with its address when vestibule ends"));
    }

    fn bring_up(&mut self, now: Duration, index: u32, interface: &Interface) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if !link.is_started() {
            link.interface = Some(interface.clone());
            link.phase = Phase::NoCarrier;
            if let Some(mtu) = interface.mtu.filter(|mtu| *mtu != link.seen.mtu) {
                self.steps.push(Step::SetMtu { index, mtu, before: link.seen.mtu });
            }
            if !link.seen.up {
                self.steps.push(Step::SetUp(index));
            }
        }
        match (&interface.ipv4, &link.phase) {
            // A named static interface needs no carrier: its address is right with or without a cable.
            (Ipv4::Static(address), Phase::NoCarrier) if link.seen.carrier || interface.which != Which::First => {
                self.configure_static(index, *address);
            }
            (Ipv4::Dhcp, Phase::NoCarrier) if link.seen.carrier => {
                let Some(mac) = link.seen.mac else { return };
                let hostname = interface.hostname.clone().or_else(|| self.hostname.clone());
                // Another number for each interface; the odd constant spreads consecutive ones.
                let seed = self.seed ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let (client, actions) = Client::start(now, mac, hostname, seed);
                link.phase = Phase::Dhcp(client);
                self.steps.push(Step::Listen(index));
                self.act(index, actions);
            }
            (Ipv4::Dhcp, Phase::Dhcp(_)) if !link.seen.carrier => {
                link.phase = Phase::NoCarrier;
                self.steps.push(Step::Silence(index));
            }
            _ => {}
        }
    }

    fn configure_static(&mut self, index: u32, it: StaticAddress) {
        let address = Address { index, address: it.address, prefix: it.prefix, peer: it.peer, valid: None };
        let default = it.gateway.map(|gateway| (Ipv4Addr::UNSPECIFIED, 0, gateway));
        let gateway = it.gateway.map(|gateway| format!(", gateway {gateway}")).unwrap_or_default();
        self.set(index, |link| link.phase = Phase::Static);
        self.configure(index, address, default.as_slice(), Vec::new());
        self.say(index, format!("{}/{} by ip={gateway}", it.address, it.prefix));
    }

    /// Feeds the client of an interface, if it has one, and does what comes of it.
    fn dhcp(&mut self, index: u32, feed: impl FnOnce(&mut Client) -> Vec<Action>) {
        let link = self.links.get_mut(&index);
        if let Some(Phase::Dhcp(client)) = link.map(|link| &mut link.phase) {
            let actions = feed(client);
            self.act(index, actions);
        }
    }

    fn act(&mut self, index: u32, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Broadcast(message) => self.steps.push(Step::Broadcast(index, message)),
                Action::Send { to, message } => self.steps.push(Step::Send { index, to, message }),
                Action::Bound(lease) => self.bound(index, lease),
                Action::Lost(why) => {
                    let Some(link) = self.links.get_mut(&index) else { continue };
                    let Some(ours) = link.ours.take() else { continue };
                    self.steps.extend(ours.routes.iter().rev().copied().map(Step::RemoveRoute));
                    if !ours.theirs {
                        link.leaving.push(ours.address.address);
                        self.steps.push(Step::RemoveAddress(ours.address));
                    }
                    self.steps.push(Step::Listen(index));
                    self.say(index, format!("{} is lost: {why}", ours.address.address));
                }
            }
        }
    }

    fn bound(&mut self, index: u32, lease: Lease) {
        let known = self.links.get(&index).and_then(|link| link.ours.as_ref()).map(|ours| ours.address.address);
        let valid = lease.valid.map(|valid| (valid.as_secs() as u32).saturating_add(LEASE_MARGIN));
        let address = Address { index, address: lease.address, prefix: lease.prefix, peer: None, valid };
        self.configure(index, address, &lease.routes, lease.nameservers.iter().copied().map(IpAddr::V4).collect());
        if known == Some(lease.address) {
            return; // renewed: nothing that a person has to read
        }
        self.steps.push(Step::ListenAddressed(index));
        let gateway = lease.routes.iter().find(|route| route.1 == 0).map(|route| format!(", gateway {}", route.2));
        let time = lease.valid.map_or("for ever".to_owned(), |valid| format!("{} s", valid.as_secs()));
        let (Lease { address, prefix, server, .. }, gateway) = (&lease, gateway.unwrap_or_default());
        self.say(index, format!("{address}/{prefix} by DHCP from {server}{gateway}, lease {time}"));
    }

    /// Adds an address with its routes, or changes what is there to it.
    fn configure(&mut self, index: u32, address: Address, routes: &[(Ipv4Addr, u8, Ipv4Addr)], servers: Vec<IpAddr>) {
        let routes = link::routes(&address, routes);
        let Some(link) = self.links.get_mut(&index) else { return };
        let theirs = link.ours.as_ref().is_some_and(|ours| ours.theirs);
        let before = link.ours.replace(Ours { address, routes: routes.clone(), nameservers: servers, theirs });
        link.trouble = None;
        let before = before.map(|ours| ours.routes).unwrap_or_default();
        self.steps.extend(before.iter().filter(|old| !routes.contains(old)).copied().map(Step::RemoveRoute));
        self.steps.push(Step::AddAddress(address));
        self.steps.extend(theirs.then_some(Step::LeaveAll(index)));
        self.steps.extend(routes.iter().filter(|new| !before.contains(new)).copied().map(Step::AddRoute));
    }

    /// Tells the name servers when they have changed: those of `nameserver=`, of `ip=`, of DHCP, each once.
    fn nameservers(&mut self) {
        let mut all = self.config.nameservers.clone();
        let held = self.links.values().filter(|link| link.ours.is_some());
        all.extend(held.clone().filter_map(|link| link.interface.as_ref()).flat_map(|it| it.nameservers.clone()));
        all.extend(held.clone().filter_map(|link| link.ours.as_ref()).flat_map(|it| it.nameservers.clone()));
        let mut once = Vec::new();
        all.retain(|server| {
            !once.contains(server) && {
                once.push(*server);
                true
            }
        });
        // Without an address of ours, names are none of our business.
        if held.count() > 0 && self.nameservers != all {
            self.nameservers = all.clone();
            self.steps.push(Step::Nameservers(all));
        }
    }

    fn set(&mut self, index: u32, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.get_mut(&index) {
            change(link);
        }
    }

    fn say(&mut self, index: u32, text: String) {
        self.steps.push(Step::Log(format!("{}: {text}", self.name(index))));
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
