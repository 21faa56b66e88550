//! When routers are asked by us and not by the kernel, which asks only when an interface comes up: if it was up before,
//! the kernel may not have listened, and name servers in what it heard are gone. Setting it down and up would take away
//! addresses that others have there. Pure.

use std::time::Duration;

use super::{
    super::{
        link::Solicit,
        step::{Check, LinkSeen, Step},
    },
    Plan,
};
use crate::config::network::Ipv6;

/// `MAX_RTR_SOLICITATIONS` and `RTR_SOLICITATION_INTERVAL` (RFC 4861 section 10). The kernel's own are the same at
/// first.
const TRIES: u32 = 3;
const INTERVAL: Duration = Duration::from_secs(4);

/// What is to be asked on an interface that is about to become ours.
pub fn wanted(ipv6: Ipv6, seen: &LinkSeen) -> Option<Solicit> {
    let listens = matches!(ipv6, Ipv6::Kernel | Ipv6::Auto | Ipv6::Dhcp | Ipv6::Either);
    (listens && seen.up && seen.carrier).then_some(Solicit { left: TRIES, next: None })
}

impl Plan {
    /// Asks, from a link-local address, until something has come of it.
    pub(super) fn solicit(&mut self, now: Duration, index: u32) {
        let came = |it: &super::AddressSeen| it.index == index && it.advertised && it.check == Check::Passed;
        let came = self.addresses.iter().any(came);
        let Some(link) = self.links.get_mut(&index) else { return };
        if !link.is_held() || link.theirs || !link.seen.up || !link.seen.carrier {
            link.solicit = None; // if it comes back, the kernel asks
        }
        let Some(Solicit { left, next }) = &mut link.solicit else { return };
        if link.asks6_since.is_none() {
            *next = None;
            return;
        }
        if *next.get_or_insert(now) > now {
            return;
        }
        // The first one always: names that came with the address before are not known.
        let enough = came && *left < TRIES;
        if let (false, Some(mac)) = (enough, link.seen.mac) {
            (*left, *next) = (*left - 1, Some(now + INTERVAL));
            self.steps.push(Step::Solicit(index, mac));
        }
        if enough || *left == 0 || link.seen.mac.is_none() {
            link.solicit = None;
        }
    }
}
