//! What a DHCPv6 server grants, or tells, as one believable whole. Pure.

use std::{net::Ipv6Addr, time::Duration};

use super::message::{self, Granted, Message};
use crate::daemon::net::domain;

/// For ever (RFC 8415 section 7.7).
const FOREVER: u32 = u32::MAX;
/// Shorter times are taken as this long: one renewal each second is all that a network should have to bear.
const SHORTEST: u32 = 2;
/// More addresses for one interface are of no use.
const MOST: usize = 4;
/// `IRT_DEFAULT` and `IRT_MINIMUM` of RFC 8415 section 7.6, in seconds.
const REFRESH: u32 = 86_400;
const LEAST_REFRESH: u32 = 600;

/// Addresses, or without any what a server tells everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease6 {
    pub addresses: Vec<Leased>,
    pub nameservers: Vec<Ipv6Addr>,
    /// Domains to look for names in.
    pub search: Vec<String>,
    /// Who gave it (its DUID).
    pub(super) server: Vec<u8>,
    /// T1 and T2; without addresses, when to ask again. `None`: never.
    pub(super) renew: Option<Duration>,
    pub(super) rebind: Option<Duration>,
}

/// An address, for its own link only as far as the lease tells: a prefix length comes from router advertisements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    pub address: Ipv6Addr,
    /// `None`: for ever.
    pub valid: Option<Duration>,
}

impl Lease6 {
    /// What an answer grants to the identity association `id`; `None` if no address that a host can have.
    pub fn read(message: &Message, id: u32) -> Option<Self> {
        let association = message.associations().find(|it| it.id == id && it.status == message::SUCCESS)?;
        let (renew, rebind) = (association.renew, association.rebind);
        // RFC 8415 section 21.4: such an association is to be ignored.
        if renew > rebind && rebind > 0 {
            return None;
        }
        let granted = association.addresses.iter().filter(|it| it.valid > 0 && usable(it.address));
        let granted: Vec<&Granted> = granted.take(MOST).collect();
        // The usual parts of the shortest preferred time, where the server leaves it to us (RFC 8415 section 21.4).
        let shortest = granted.iter().map(|it| if it.preferred > 0 { it.preferred } else { it.valid }).min()?;
        let shortest = shortest.max(SHORTEST);
        let or = |said: u32, part: u32| match said {
            FOREVER => None,
            0 if shortest == FOREVER => None,
            said if said == 0 || said > shortest => Some(seconds(shortest) * part / 10),
            said => Some(seconds(said.max(SHORTEST / 2))),
        };
        let leased = |it: &&Granted| {
            let valid = (it.valid != FOREVER).then(|| seconds(it.valid.max(SHORTEST)));
            Leased { address: it.address, valid }
        };
        let addresses = granted.iter().map(leased).collect();
        Some(Self { addresses, renew: or(renew, 5), rebind: or(rebind, 8), ..Self::told(message) })
    }

    /// What an answer to an INFORMATION-REQUEST tells.
    pub fn told(message: &Message) -> Self {
        let refresh = message.number(message::REFRESH_TIME).unwrap_or(REFRESH).max(LEAST_REFRESH);
        let global = |it: &Ipv6Addr| !it.is_unspecified() && !it.is_multicast() && !it.is_loopback();
        Self {
            addresses: Vec::new(),
            nameservers: message.addresses(message::NAMESERVERS).filter(global).take(MOST).collect(),
            search: message.option(message::SEARCH).map(domain::list).unwrap_or_default(),
            server: message.option(message::SERVER_ID).unwrap_or_default().to_vec(),
            renew: (refresh != FOREVER).then(|| seconds(refresh)),
            rebind: None,
        }
    }

    /// When the last address goes; `None` for never.
    pub fn valid(&self) -> Option<Duration> {
        let ends: Option<Vec<Duration>> = self.addresses.iter().map(|it| it.valid).collect();
        ends?.into_iter().max()
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// An address that one host can have, and use beyond its link.
fn usable(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_unicast_link_local())
}
