//! What addresses an interface gets, and what comes with them. Pure.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{
    super::{
        dhcp6,
        link::{self, By, Ours, Phase, Way},
        step::{Address, AddressSeen, Setting, Step},
    },
    Plan, solicit,
};
use crate::config::network::{Interface, Ipv4, Ipv6, Which};

/// Name servers and search domains that come with an address.
pub type Names = (Vec<IpAddr>, Vec<String>);

impl Plan {
    /// Everything that an argument wants of an interface that is ours and has not been done yet.
    pub(super) fn bring_up(&mut self, now: Duration, index: u32, interface: &Interface) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if link.theirs || link.is_held() && !link.seen.up {
            return; // somebody has set it down; what we add now would not last
        }
        if !link.is_held() {
            link.interface = Some(interface.clone());
            link.phase = Phase::Held;
            let seen = link.seen.clone();
            self.prepare_ipv6(index, interface.ipv6);
            self.set(index, |link| link.solicit = solicit::wanted(interface.ipv6, &seen));
            if let Some(mtu) = interface.mtu.filter(|mtu| *mtu != seen.mtu) {
                self.steps.push(Step::SetMtu { index, mtu, before: seen.mtu });
            }
            if let (Some(mac), Some(before)) = (interface.mac.filter(|mac| Some(*mac) != seen.mac), seen.mac) {
                self.steps.push(Step::SetMac { index, mac, before });
            }
            if !seen.up {
                self.steps.push(Step::SetUp(index));
            }
        }
        // A named static interface needs no carrier: its address is right with or without a cable.
        let carrier = self.links.get(&index).is_some_and(|link| link.seen.carrier);
        let ready = carrier || interface.which != Which::First;
        match &interface.ipv4 {
            Ipv4::Static(it) if ready => {
                let peer = it.peer.map(IpAddr::V4);
                let address = Address { index, address: it.address.into(), prefix: it.prefix, peer, valid: None };
                self.configure_static(By::Static, address, it.gateway.map(IpAddr::V4));
            }
            Ipv4::Static(_) | Ipv4::Off => {}
            Ipv4::Dhcp => self.ask(now, index),
        }
        match &interface.ipv6 {
            Ipv6::Static(it) if ready => {
                let peer = it.peer.map(IpAddr::V6);
                let address = Address { index, address: it.address.into(), prefix: it.prefix, peer, valid: None };
                self.configure_static(By::Static6, address, it.gateway.map(IpAddr::V6));
            }
            _ => {}
        }
        self.ask6(now, index);
        self.static_routes(index);
    }

    /// Before an interface is set up: what the kernel shall do with IPv6 by itself. Addresses that change by
    /// themselves (RFC 8981) are of no use to somebody who wants to find the machine.
    fn prepare_ipv6(&mut self, index: u32, ipv6: Ipv6) {
        use Setting::{AcceptRa, AddrGenMode, Autoconf, DisableIpv6, UseTempaddr};
        let settings: &[(Setting, bool)] = match ipv6 {
            Ipv6::Off => &[],
            Ipv6::Kernel => &[(UseTempaddr, false)],
            Ipv6::LinkLocal => &[(AcceptRa, false), (AddrGenMode, true), (DisableIpv6, false)],
            Ipv6::Static(_) => &[(UseTempaddr, false), (AddrGenMode, true), (DisableIpv6, false)],
            Ipv6::Dhcp => &[(UseTempaddr, false), (AddrGenMode, true), (AcceptRa, true), (DisableIpv6, false)],
            Ipv6::Auto | Ipv6::Either => {
                &[(UseTempaddr, false), (AddrGenMode, true), (Autoconf, true), (AcceptRa, true), (DisableIpv6, false)]
            }
        };
        self.steps.extend(settings.iter().map(|&(setting, on)| Step::Set { index, setting, on }));
    }

    fn configure_static(&mut self, by: By, address: Address, gateway: Option<IpAddr>) {
        let Address { index, address: own, prefix, .. } = address;
        if self.links.get(&index).is_none_or(|link| link.has(by)) {
            return;
        }
        let all = if own.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let default = gateway.map(|gateway| (all, 0, Some(gateway)));
        self.configure(by, address, default.as_slice(), Names::default());
        let gateway = gateway.map(|gateway| format!(", gateway {gateway}")).unwrap_or_default();
        self.say(index, format!("{own}/{prefix}, static{gateway}"));
    }

    /// Adds an address with its routes, or changes what is there to it.
    pub(super) fn configure(&mut self, by: By, address: Address, ways: &[Way], names: Names) {
        let routes = link::routes(&address, ways, self.metric(address.index));
        let Some(link) = self.links.get_mut(&address.index) else { return };
        let (nameservers, search) = names;
        let ours = Ours { by, address, routes: routes.clone(), nameservers, search };
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
        self.strike(&seen);
        self.addresses.push(seen);
    }

    /// Somebody else has removed our address, or the kernel has, as it does with those of IPv6 when an interface is
    /// set down. One that is down is going away, or is theirs until it is up; then the address is got again.
    pub(super) fn begin_anew(&mut self, gone: &AddressSeen) {
        let index = gone.index;
        let Some(link) = self.links.get_mut(&index) else { return };
        link.routes.clear(); // the kernel has removed those that depend on it, and takes the others again
        if gone.address.is_ipv4() && link.dhcp.take().is_some() {
            self.steps.push(Step::Silence(index));
        }
        let leased = |client: &mut dhcp6::Client| {
            client.lease().is_some_and(|lease| lease.addresses.iter().any(|it| gone.address == it.address))
        };
        if link.dhcp6.take_if(leased).is_some() {
            self.steps.push(Step::Silence6(index));
        }
        if link.seen.up {
            self.say(index, format!("{} was removed by somebody else", gone.address));
        }
    }
}
