//! What follows if another station has an address of IPv6, which the kernel finds out (RFC 4862 section 5.4): a leased
//! one is declined and another asked for, a static one stays and is tried again. One that the kernel has made of an
//! advertisement is only told of: a prefix has one such address. Pure.

use std::{net::IpAddr, time::Duration};

use super::{
    super::{
        link::{By, refusal},
        step::{Address, AddressSeen, Check, Step},
    },
    Plan,
};

/// How long until a static address that another station had is tried again. The kernel never does; the other station
/// may be one that is shut down or renumbered by whoever reads our note.
const TRY_AGAIN: Duration = Duration::from_secs(60);

impl Plan {
    /// Looks at how the kernel's checks went.
    pub(super) fn check6(&mut self, now: Duration, index: u32) {
        let here = self.addresses.iter().filter(|it| it.index == index && it.address.is_ipv6());
        let checked: Vec<AddressSeen> = here.filter(|it| it.check != Check::Running).copied().collect();
        for seen in checked {
            match seen.check {
                Check::Failed => self.failed(now, &seen),
                _ => {
                    let refused = self.links.get_mut(&index).and_then(|link| link.refused.remove(&seen.address));
                    if refused.is_some() {
                        self.say(index, format!("{} is usable now: no other station has it any more", seen.address));
                    }
                }
            }
        }
        // One that is gone, or that the kernel is still looking at, is not tried again now.
        let refused = self.links.get_mut(&index).into_iter().flat_map(|link| link.refused.values_mut());
        refused.flatten().filter(|at| **at <= now).for_each(|at| *at = now + TRY_AGAIN);
    }

    /// The kernel keeps those without an end, as one that cannot be used, and removes the others.
    pub(super) fn failed_and_gone(&mut self, now: Duration, seen: &AddressSeen) {
        self.refuse(seen, None);
        self.decline6(now, seen);
    }

    fn failed(&mut self, now: Duration, seen: &AddressSeen) {
        let Some(link) = self.links.get(&seen.index) else { return };
        let of = |by: By| link.ours.iter().find(|it| it.by == by && it.address.address == seen.address);
        let (fixed, leased) = (of(By::Static6).map(|it| it.address), of(By::Dhcp6).is_some());
        match (fixed, link.refused.get(&seen.address)) {
            (Some(address), Some(Some(at))) if *at <= now => self.try_again(now, address, seen),
            (Some(_), None | Some(None)) => self.refuse(seen, Some(now + TRY_AGAIN)),
            (None, None) => self.refuse(seen, None),
            _ => {}
        }
        if leased {
            self.strike(seen); // it is about to be removed
            self.decline6(now, seen);
        }
    }

    /// Said once.
    fn refuse(&mut self, seen: &AddressSeen, again: Option<Duration>) {
        let link = self.links.get_mut(&seen.index);
        if link.is_some_and(|link| link.refused.insert(seen.address, again).is_none()) {
            self.say(seen.index, refusal(seen.address));
        }
    }

    fn try_again(&mut self, now: Duration, address: Address, seen: &AddressSeen) {
        self.strike(seen); // what it is now, the kernel will tell
        self.set(seen.index, |link| {
            link.leaving.push(seen.address);
            link.refused.insert(seen.address, Some(now + TRY_AGAIN));
        });
        self.steps.extend([Step::RemoveAddress(address), Step::AddAddress(address)]);
        // Those that depend on the address have gone with it, and the others are there already.
        let ours = self.links.get(&seen.index).into_iter().flat_map(|link| &link.ours);
        let routes = ours.filter(|it| it.address == address).flat_map(|it| &it.routes);
        self.steps.extend(routes.copied().map(Step::AddRoute));
    }

    /// Tells the server, if it has leased this address. Its next one is another that the kernel will check.
    fn decline6(&mut self, now: Duration, seen: &AddressSeen) {
        let IpAddr::V6(address) = seen.address else { return };
        let link = self.links.get_mut(&seen.index);
        let leased = |lease: &super::super::dhcp6::Lease6| lease.addresses.iter().any(|it| it.address == address);
        let Some(link) = link.filter(|link| link.dhcp6.as_ref().and_then(|it| it.lease()).is_some_and(leased)) else {
            return;
        };
        link.refused.remove(&seen.address);
        link.trouble =
            Some(format!("{address} was declined: another station on this link has it; another is asked for"));
        self.dhcp6(seen.index, |client| client.decline(now, address));
    }
}
