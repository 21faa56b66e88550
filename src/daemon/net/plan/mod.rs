//! From the configuration and what is seen to the next steps. Pure: time is an argument, steps are done elsewhere.
//!
//! Here it is decided whose an interface is; in [`roles`], which argument is about it; in [`address`], what addresses it
//! gets; in [`dhcp`], what is done with leases; in [`made`], when VLANs, bonds and bridges are made; in [`routes`], what
//! `rd.route=` adds and what the resolver is told; in [`conflict`] and [`dad`], what follows if another station has our
//! address; in [`solicit`], when routers are asked. Nothing waits for one interface before it goes on with another.

mod address;
mod conflict;
mod dad;
mod dhcp;
mod dhcp6;
mod made;
mod roles;
mod routes;
mod solicit;

use std::{collections::BTreeMap, time::Duration};

use self::{address::Names, made::Making, roles::Role};
use super::{
    keep::Kept,
    link::{By, Link, Phase},
    owner::{Facts, Owner, owner},
    step::{AddressSeen, Check, Event, LinkSeen, Sort, Step},
};
use crate::{config::network::NetworkConfig, control::message};

/// How often an interface whose owner is not known is looked at again. The files that tell have no common event.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Everything that is known and going on.
pub struct Plan {
    config: NetworkConfig,
    /// For transaction numbers.
    seed: u64,
    hostname: Option<String>,
    links: BTreeMap<u32, Link>,
    addresses: Vec<AddressSeen>,
    making: Vec<Making>,
    /// What the resolver was told last.
    resolver: Names,
    steps: Vec<Step>,
}

impl Plan {
    /// `hostname` is told to DHCP servers where the configuration has no other.
    pub fn new(config: NetworkConfig, hostname: Option<String>, seed: u64) -> Self {
        let making = config.made.iter().cloned().map(Making::new).collect();
        let (links, addresses, steps) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { config, seed, hostname, links, addresses, making, resolver: Names::default(), steps }
    }

    /// When a [`Event::Tick`] is wanted, at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        self.links.values().filter_map(Link::deadline).min()
    }

    /// Interfaces whose [`Facts`] have to be looked at again before a tick, and before everything is undone.
    pub fn watched(&self) -> impl Iterator<Item = &LinkSeen> {
        let open = |link: &&Link| matches!(link.phase, Phase::Undecided { .. }) || !link.ours.is_empty();
        self.links.values().filter(open).map(|link| &link.seen)
    }

    pub fn name(&self, index: u32) -> &str {
        self.links.get(&index).map_or("?", |link| &link.seen.name)
    }

    /// The state for `status`, by index, with what is still to be made at the end.
    pub fn links(&self) -> Vec<message::Link> {
        let shown = |link: &&Link| link.seen.sort != Sort::Unfit || matches!(link.phase, Phase::Part(_));
        let there = self.links.values().filter(shown).map(|link| link.show(&self.addresses, &self.config));
        there.chain(self.making.iter().filter_map(Making::show)).collect()
    }

    /// What stays, if all does.
    pub fn kept(&self) -> impl Iterator<Item = Kept<'_>> {
        let ours = self.links.values().filter(|link| !link.ours.is_empty() && !link.theirs);
        ours.map(|link| Kept {
            index: link.seen.index,
            name: &link.seen.name,
            mac: link.seen.mac,
            ordinary: link.seen.sort != Sort::Made,
            ours: &link.ours,
            routes: &link.routes,
            nameservers: self.configured_nameservers(link),
            search: &self.config.search,
            peer_dns: self.config.peer_dns,
        })
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
                self.address_came(seen);
                self.look(now, seen.index);
            }
            Event::AddressGone(seen) => self.address_gone(now, seen),
            Event::Message { index, message } => {
                self.dhcp(index, |client| client.message(now, &message));
                self.each(|plan, other| plan.look(now, other)); // one that is not needed any more is let go
            }
            Event::Message6 { index, message } => self.dhcp6(index, |client| client.message(now, &message)),
            Event::Arp { index, message } => self.arp(now, index, &message),
            Event::Advert { index, advert } => self.advert(now, index, advert),
            Event::Router { index, wants } => {
                self.set(index, |link| link.seen.router = wants);
                self.look(now, index);
            }
            Event::Failed { index, why } => {
                // Said once; a message that can't be sent fails again with each try.
                if self.links.get(&index).is_some_and(|link| link.trouble.as_ref() != Some(&why)) {
                    self.set(index, |link| link.trouble = Some(why.clone()));
                    self.say(index, why);
                }
                self.look(now, index);
            }
            Event::NotMade { name, why } => self.not_made(&name, why),
            Event::Tick => self.each(|plan, index| {
                plan.look(now, index);
                plan.dhcp(index, |client| client.timer(now));
                plan.dhcp6(index, |client| client.timer(now));
                plan.conflict(now, index, |watch| watch.timer(now));
                plan.set(index, |link| link.advertised.expire(now));
            }),
        }
        self.make(now);
        self.each(|plan, index| {
            plan.watch(now, index);
            plan.check6(now, index);
            plan.solicit(now, index);
        });
        self.resolver();
        std::mem::take(&mut self.steps)
    }

    fn strike(&mut self, gone: &AddressSeen) {
        self.addresses.retain(|it| !it.same(gone));
    }

    fn address_gone(&mut self, now: Duration, seen: AddressSeen) {
        self.strike(&seen);
        let removed = self.links.get(&seen.index).is_some_and(|link| link.leaving.contains(&seen.address));
        let lost = self.links.get_mut(&seen.index).is_some_and(|link| link.lost(&seen));
        if seen.check == Check::Failed && !removed {
            self.failed_and_gone(now, &seen);
        } else if lost {
            self.begin_anew(&seen);
        }
        self.look(now, seen.index);
    }

    fn each(&mut self, mut act: impl FnMut(&mut Self, u32)) {
        for index in self.links.keys().copied().collect::<Vec<_>>() {
            act(self, index);
        }
    }

    fn forget(&mut self, index: u32) {
        self.addresses.retain(|address| address.index != index);
        if let Some(link) = self.links.remove(&index) {
            self.steps.push(Step::Silence(index));
            self.steps.extend(link.dhcp6.as_ref().map(|_| Step::Silence6(index)));
            self.steps.extend(link.watch.as_ref().map(|_| Step::SilenceArp(index)));
            self.steps.push(Step::Forget(index));
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
        if came_up {
            // Setting an interface down, as for renaming it, drops its routes.
            let routes = link.ours.iter().flat_map(|ours| &ours.routes).chain(&link.routes);
            self.steps.extend(routes.copied().map(Step::AddRoute));
        }
        if before.mac != link.seen.mac && !link.has(By::Dhcp) {
            (link.dhcp, link.dhcp6) = (None, None); // answers to the old address would not reach us: begin anew
        }
        if !link.seen.carrier {
            link.refused.retain(|_, again| again.is_some()); // the others are not there any more
        }
        if carrier_back {
            self.dhcp(index, |client| client.verify(now));
            self.dhcp6(index, |client| client.verify(now));
        }
        self.look(now, index);
    }

    /// Decides what to do with an interface, after anything about it has changed.
    fn look(&mut self, now: Duration, index: u32) {
        let Some(link) = self.links.get(&index) else { return };
        let Some(role) = self.role(link) else { return self.release(index) };
        let foreign = self.addresses.iter().any(|it| it.index == index && link.is_foreign(it));
        if !link.ours.is_empty() {
            // Sessions may depend on our addresses. They stay as long as we do; the interface stays up after us.
            if let (Owner::System(whose), false) = (owner(&link.facts, false, Duration::MAX), link.theirs) {
                return self.hand_over(index, whose);
            }
            if foreign && !link.shared {
                self.set(index, |link| link.shared = true);
                self.steps.push(Step::LeaveUp(index));
            }
            return self.play(now, index, role);
        }
        match owner(&link.facts, foreign, now.saturating_sub(link.since)) {
            Owner::System(whose) => self.leave(index, whose),
            Owner::Undecided(waiting) => {
                if matches!(link.phase, Phase::Idle | Phase::Undecided { .. } | Phase::System(_)) {
                    let phase = Phase::Undecided { waiting, next: now + LOOK_AGAIN };
                    self.set(index, |link| link.phase = phase);
                }
            }
            Owner::Ours => self.play(now, index, role),
        }
    }

    /// Does what there is to do with an interface that is ours.
    fn play(&mut self, now: Duration, index: u32, role: Role) {
        match role {
            _ if self.rename(index) => {}
            Role::Use(interface) => self.bring_up(now, index, &interface),
            Role::Part(of) => self.take_part(index, of),
        }
    }

    /// It was renamed, is part of a bond now, or another took its place: nobody waits for a decision or for a lease.
    fn release(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if matches!(link.phase, Phase::Undecided { .. }) {
            link.phase = Phase::Idle;
        }
        if link.dhcp.take_if(|client| client.lease().is_none()).is_some() {
            self.steps.push(Step::Silence(index));
        }
        if link.dhcp6.take_if(|client| client.lease().is_none()).is_some() {
            self.steps.push(Step::Silence6(index));
        }
    }

    fn leave(&mut self, index: u32, whose: &'static str) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if matches!(link.phase, Phase::System(_)) {
            return;
        }
        let name = &link.seen.name;
        self.steps.push(Step::Log(format!("{name}: {whose}; vestibule leaves it alone")));
        self.steps.extend([Step::Silence(index), Step::LeaveUp(index)]);
        self.steps.extend(link.dhcp6.take().map(|_| Step::Silence6(index)));
        link.phase = Phase::System(whose);
        link.dhcp = None;
    }

    /// Somebody has begun to configure what we hold, perhaps with the same address: not ours to take away any more.
    fn hand_over(&mut self, index: u32, whose: &'static str) {
        self.set(index, |link| (link.shared, link.theirs) = (true, true));
        self.steps.push(Step::LeaveAll(index));
        self.say(index, format!("{whose} now; it stays up with its address when vestibule ends"));
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
