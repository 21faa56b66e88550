//! What addresses an interface gets, and what comes with them. Pure.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    super::{
        link::{self, By, Ours, Phase, Way},
        step::{Address, AddressSeen, Check, Step},
    },
    Plan,
};
use crate::config::network::{Interface, Ipv4, StaticAddress, Which};

impl Plan {
    /// Everything that an argument wants of an interface that is ours and has not been done yet.
    pub(super) fn bring_up(&mut self, now: Duration, index: u32, interface: &Interface) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if link.is_held() && !link.seen.up {
            return; // somebody has set it down; what we add now would not last
        }
        if !link.is_held() {
            link.interface = Some(interface.clone());
            link.phase = Phase::Held;
            if let Some(mtu) = interface.mtu.filter(|mtu| *mtu != link.seen.mtu) {
                self.steps.push(Step::SetMtu { index, mtu, before: link.seen.mtu });
            }
            if !link.seen.up {
                self.steps.push(Step::SetUp(index));
            }
        }
        match &interface.ipv4 {
            // A named static interface needs no carrier: its address is right with or without a cable.
            Ipv4::Static(address) if link.seen.carrier || interface.which != Which::First => {
                self.configure_static(index, *address);
            }
            Ipv4::Static(_) => {}
            Ipv4::Off => {}
            Ipv4::Dhcp => self.ask(now, index),
        }
    }

    fn configure_static(&mut self, index: u32, it: StaticAddress) {
        if self.links.get(&index).is_none_or(|link| link.has(By::Static) || link.theirs) {
            return;
        }
        let (own, peer) = (it.address.into(), it.peer.map(IpAddr::V4));
        let address = Address { index, address: own, prefix: it.prefix, peer, valid: None };
        let default = it.gateway.map(|gateway| (Ipv4Addr::UNSPECIFIED.into(), 0, Some(gateway.into())));
        let gateway = it.gateway.map(|gateway| format!(", gateway {gateway}")).unwrap_or_default();
        self.configure(By::Static, address, default.as_slice(), Vec::new());
        self.say(index, format!("{}/{} by ip={gateway}", it.address, it.prefix));
    }

    /// Adds an address with its routes, or changes what is there to it.
    pub(super) fn configure(&mut self, by: By, address: Address, ways: &[Way], nameservers: Vec<IpAddr>) {
        let routes = link::routes(&address, ways);
        let Some(link) = self.links.get_mut(&address.index) else { return };
        let ours = Ours { by, address, routes: routes.clone(), nameservers };
        let before = match link.ours.iter_mut().find(|it| (it.by, it.address.address) == (by, address.address)) {
            Some(it) => std::mem::replace(it, ours).routes,
            None => {
                link.ours.push(ours);
                Vec::new()
            }
        };
        link.trouble = None;
        let theirs = link.theirs;
        self.steps.extend(before.iter().filter(|old| !routes.contains(old)).copied().map(Step::RemoveRoute));
        self.steps.push(Step::AddAddress(address));
        self.steps.extend(theirs.then_some(Step::LeaveAll(address.index)));
        self.steps.extend(routes.iter().filter(|new| !before.contains(new)).copied().map(Step::AddRoute));
    }

    /// Takes the addresses that came this way from an interface; which they were.
    pub(super) fn unconfigure(&mut self, index: u32, by: By) -> Vec<IpAddr> {
        let Some(link) = self.links.get_mut(&index) else { return Vec::new() };
        let gone: Vec<Ours> = link.ours.extract_if(.., |ours| ours.by == by).collect();
        for ours in &gone {
            self.steps.extend(ours.routes.iter().rev().copied().map(Step::RemoveRoute));
            if !link.theirs {
                link.leaving.push(ours.address.address);
                self.steps.push(Step::RemoveAddress(ours.address));
            }
        }
        gone.iter().map(|ours| ours.address.address).collect()
    }

    /// Takes note of an address, or of what has changed about it.
    pub(super) fn address_came(&mut self, seen: AddressSeen) {
        let before = self.addresses.iter().find(|it| it.same(&seen)).map(|it| it.check);
        self.strike(&seen);
        self.addresses.push(seen);
        if seen.check == Check::Failed && before != Some(Check::Failed) {
            self.say(seen.index, format!("{} is not usable: another station on this link has it", seen.address));
        }
    }

    /// Somebody else has removed our address, or the kernel has, as it does with those of IPv6 when an interface is
    /// set down. One that is down is going away, or is theirs until it is up; then the address is got again.
    pub(super) fn begin_anew(&mut self, gone: &AddressSeen) {
        let index = gone.index;
        let Some(link) = self.links.get_mut(&index) else { return };
        if gone.address.is_ipv4() && link.dhcp.take().is_some() {
            self.steps.push(Step::Silence(index));
        }
        if link.seen.up {
            self.say(index, format!("{} was removed by somebody else", gone.address));
        }
    }

    /// Tells the name servers when they have changed: those of `nameserver=`, of `ip=`, of DHCP, each once.
    pub(super) fn nameservers(&mut self) {
        let mut all = self.config.nameservers.clone();
        let held = self.links.values().filter(|link| !link.ours.is_empty());
        all.extend(held.clone().filter_map(|link| link.interface.as_ref()).flat_map(|it| it.nameservers.clone()));
        all.extend(held.clone().flat_map(|link| &link.ours).flat_map(|it| it.nameservers.clone()));
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
}
