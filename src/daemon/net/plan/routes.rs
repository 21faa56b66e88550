//! Routes of `rd.route=`, the metric of all, and what the resolver is told. Pure.

use std::net::IpAddr;

use super::{
    super::{
        link::{METRIC, is_within},
        step::{Route, Step},
    },
    Plan,
};
use crate::config::network::{Boot, StaticRoute};

impl Plan {
    /// One interface is preferred to all others of ours.
    pub(super) fn metric(&self, index: u32) -> u32 {
        let boot = self.links.get(&index).is_some_and(|link| self.is_boot(link));
        if boot { METRIC } else { METRIC.saturating_add(index) }
    }

    pub(super) fn is_boot(&self, link: &super::Link) -> bool {
        match &self.config.boot {
            Some(Boot::Name(name)) => self.name_of(link) == *name,
            Some(Boot::Mac(mac)) => link.seen.own_mac == Some(*mac),
            None => false,
        }
    }

    /// Adds the routes of `rd.route=` that lead over an interface as soon as it has addresses for them, and removes
    /// those that it no longer has any for.
    pub(super) fn static_routes(&mut self, index: u32) {
        let Some(link) = self.links.get(&index) else { return };
        let ours = link.ours.iter().map(|it| (it.address.address, it.address.prefix, it.address.peer));
        let seen = self.addresses.iter().filter(|it| it.index == index).map(|it| (it.address, it.prefix, None));
        let here: Vec<_> = ours.chain(seen).collect();
        let route = |it: &StaticRoute| {
            let reached = |gateway: IpAddr| {
                here.iter().any(|(own, prefix, peer)| *peer == Some(gateway) || is_within(gateway, *own, *prefix))
            };
            let here = match (&it.device, it.gateway) {
                (Some(device), _) => {
                    let family = |own: IpAddr| own.is_ipv4() == it.destination.is_ipv4();
                    *device == self.name_of(link) && here.iter().any(|(own, ..)| family(*own))
                }
                // A link-local gateway is on every link.
                (None, Some(IpAddr::V6(gateway))) if gateway.is_unicast_link_local() => false,
                (None, Some(gateway)) => reached(gateway),
                (None, None) => false,
            };
            here.then(|| Route {
                index,
                destination: it.destination,
                prefix: it.prefix,
                gateway: it.gateway,
                onlink: it.gateway.is_some_and(|gateway| !reached(gateway)),
                source: None,
                metric: self.metric(index),
            })
        };
        let mut wanted: Vec<Route> = self.config.routes.iter().filter_map(route).collect();
        // As with those of DHCP, a gateway may be reached by one of the others.
        wanted.sort_by_key(|route| route.gateway.is_some());
        let link = self.links.get_mut(&index).expect("it is there");
        let before = std::mem::replace(&mut link.routes, wanted.clone());
        self.steps.extend(before.iter().filter(|old| !wanted.contains(old)).copied().map(Step::RemoveRoute));
        self.steps.extend(wanted.into_iter().filter(|new| !before.contains(new)).map(Step::AddRoute));
    }

    /// Those that neither a lease nor a router has named.
    pub(super) fn configured_nameservers(&self, link: &super::Link) -> Vec<IpAddr> {
        let own = link.interface.iter().flat_map(|it| &it.nameservers);
        once(self.config.nameservers.iter().chain(own).copied().collect())
    }

    /// Tells the resolver's name servers and domains when they have changed: those of `nameserver=`, of `ip=`, of
    /// DHCP, each once, and those of the boot interface first.
    pub(super) fn resolver(&mut self) {
        let mut links: Vec<_> = self.links.values().filter(|link| link.has_address(&self.addresses)).collect();
        if links.is_empty() {
            return; // without an address of ours, names are none of our business
        }
        links.sort_by_key(|link| !self.is_boot(link));
        let mut nameservers = self.config.nameservers.clone();
        nameservers.extend(links.iter().filter_map(|link| link.interface.as_ref()).flat_map(|it| &it.nameservers));
        nameservers.extend(links.iter().flat_map(|link| &link.ours).flat_map(|it| &it.nameservers));
        let mut search = self.config.search.clone();
        search.extend(links.iter().flat_map(|link| &link.ours).flat_map(|it| it.search.clone()));
        for (servers, domains) in links.iter().filter(|_| self.config.peer_dns).map(|link| Self::names6(link)) {
            nameservers.extend(servers);
            search.extend(domains);
        }
        let now = (once(nameservers), once(search));
        if self.resolver != now {
            self.resolver = now.clone();
            self.steps.push(Step::Resolver { nameservers: now.0, search: now.1 });
        }
    }
}

/// The first of what is there several times.
fn once<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    let mut seen: Vec<T> = Vec::new();
    for it in all {
        if !seen.contains(&it) {
            seen.push(it);
        }
    }
    seen
}
