//! What comes of DHCPv6 and router advertisements, beside the addresses and routes that the kernel makes of the latter.
//! Pure.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::{
    super::{
        advert::Advert,
        dhcp6::{Action, Client, Lease6, Want},
        link::By,
        step::{Address, Check, Step},
    },
    Plan,
    address::Names,
};
use crate::config::network::Ipv6;

/// The kernel drops a leased address by itself, should we not be there any more, this much after us.
const LEASE_MARGIN: u32 = 30;
/// How long a router may take to answer until DHCPv6 is asked without one (`either6`): it has half a second
/// (RFC 4861 section 6.2.6), and the kernel asks it three times, each four seconds.
const ROUTER_GRACE: Duration = Duration::from_secs(5);

impl Plan {
    /// Asks what is to be asked, as soon as there is a link-local address to ask from, which takes the kernel a second
    /// or two: it looks first whether another station has it.
    pub(super) fn ask6(&mut self, now: Duration, index: u32) {
        let mine = |it: &&super::AddressSeen| it.index == index && it.check == Check::Passed;
        let mut usable = self.addresses.iter().filter(mine);
        let link_local = |address: IpAddr| matches!(address, IpAddr::V6(it) if it.is_unicast_link_local());
        let advertised = usable.clone().any(|it| it.advertised);
        let can_ask = usable.any(|it| link_local(it.address));
        let Some(link) = self.links.get_mut(&index) else { return };
        if !link.seen.carrier || !can_ask {
            link.asks6_since = None;
            // What was leased is kept while the cable is out; a question is not.
            if link.dhcp6.take_if(|client| client.lease().is_none()).is_some() {
                self.steps.push(Step::Silence6(index));
            }
            return;
        }
        let since = *link.asks6_since.get_or_insert(now);
        let (Some(mac), Some(interface)) = (link.seen.mac, &link.interface) else { return };
        link.router_due = None;
        let want = match interface.ipv6 {
            Ipv6::Off | Ipv6::LinkLocal | Ipv6::Static(_) => None,
            Ipv6::Dhcp => Some(Want::Addresses),
            // Where routers say that addresses are to be had by DHCPv6 there are no others.
            Ipv6::Kernel | Ipv6::Auto => link.seen.router,
            Ipv6::Either if advertised || link.seen.router.is_some() => link.seen.router,
            Ipv6::Either if now >= since + ROUTER_GRACE => Some(Want::Addresses),
            Ipv6::Either => {
                link.router_due = Some(since + ROUTER_GRACE);
                None
            }
        };
        let better = match (&link.dhcp6, want) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(client), Some(want)) => (client.want(), want) == (Want::Information, Want::Addresses),
        };
        let (Some(want), true) = (want, better) else { return };
        let hostname = interface.hostname.clone().or_else(|| self.hostname.clone());
        let seed = self.seed ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (client, actions) = Client::start(now, mac, hostname, want, seed);
        link.dhcp6 = Some(client);
        self.steps.push(Step::Listen6(index));
        self.act6(index, actions);
    }

    /// Feeds the client of an interface, if it has one, and does what comes of it.
    pub(super) fn dhcp6(&mut self, index: u32, feed: impl FnOnce(&mut Client) -> Vec<Action>) {
        let client = self.links.get_mut(&index).and_then(|link| link.dhcp6.as_mut());
        if let Some(client) = client {
            let actions = feed(client);
            self.act6(index, actions);
        }
    }

    fn act6(&mut self, index: u32, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(message) => self.steps.push(Step::Send6(index, message)),
                Action::Bound(lease) => self.bound6(index, lease),
                Action::Lost(why) => {
                    for gone in self.unconfigure(index, By::Dhcp6) {
                        self.say(index, format!("{gone} is lost: {why}"));
                    }
                }
            }
        }
    }

    fn bound6(&mut self, index: u32, lease: Lease6) {
        let Some(link) = self.links.get(&index) else { return };
        let before = link.ours.iter().filter(|ours| ours.by == By::Dhcp6).map(|ours| ours.address.address);
        let before: Vec<IpAddr> = before.collect();
        let has = |address: &IpAddr| lease.addresses.iter().any(|it| IpAddr::V6(it.address) == *address);
        if !before.iter().all(has) {
            self.unconfigure(index, By::Dhcp6); // those that stay come again at once
        }
        for leased in &lease.addresses {
            let valid = leased.valid.map(|valid| (valid.as_secs() as u32).saturating_add(LEASE_MARGIN));
            // Which addresses are on the link, routers say and not DHCPv6 (RFC 8415 section 18.2.10.1).
            let address = Address { index, address: leased.address.into(), prefix: 128, peer: None, valid };
            self.configure(By::Dhcp6, address, &[], Names::default());
            if !before.contains(&IpAddr::V6(leased.address)) {
                let time = leased.valid.map_or("for ever".to_owned(), |valid| format!("{} s", valid.as_secs()));
                self.say(index, format!("{} by DHCPv6, lease {time}", leased.address));
            }
        }
    }

    /// Takes note of a router's name servers and domains.
    pub(super) fn advert(&mut self, now: Duration, index: u32, advert: Advert) {
        self.set(index, |link| link.advertised.take(now, advert));
    }

    /// What DHCPv6 and routers tell about names on an interface, in this order.
    pub(super) fn names6(link: &super::Link) -> Names {
        let told = link.dhcp6.as_ref().and_then(Client::lease);
        let servers = told.into_iter().flat_map(|lease| lease.nameservers.iter().copied());
        let servers: Vec<Ipv6Addr> = servers.chain(link.advertised.nameservers()).collect();
        let domains = told.into_iter().flat_map(|lease| lease.search.iter()).chain(link.advertised.search());
        // A link-local address is none without its link, which the resolver's file can't name safely: interfaces are renamed.
        let servers = servers.into_iter().filter(|server| !server.is_unicast_link_local()).map(IpAddr::V6);
        (servers.collect(), domains.cloned().collect())
    }
}
