//! What comes of DHCP. Pure.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    super::{
        dhcp::{Action, Client, Lease},
        link::{By, Way},
        step::{Address, Step},
    },
    Plan,
};

/// The kernel drops a leased address by itself, should we not be there any more, this much after us.
const LEASE_MARGIN: u32 = 30;

impl Plan {
    /// Asks for a lease as long as there is a cable.
    pub(super) fn ask(&mut self, now: Duration, index: u32) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if !link.seen.carrier {
            // A lease is kept while the cable is out; a question is not.
            if link.dhcp.take_if(|client| client.lease().is_none()).is_some() {
                self.steps.push(Step::Silence(index));
            }
            return;
        }
        let (Some(mac), None) = (link.seen.mac, &link.dhcp) else { return };
        let hostname = link.interface.as_ref().and_then(|it| it.hostname.clone()).or_else(|| self.hostname.clone());
        // Another number for each interface; the odd constant spreads consecutive ones.
        let seed = self.seed ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (client, actions) = Client::start(now, mac, hostname, seed);
        link.dhcp = Some(client);
        self.steps.push(Step::Listen(index));
        self.act(index, actions);
    }

    /// Feeds the client of an interface, if it has one, and does what comes of it.
    pub(super) fn dhcp(&mut self, index: u32, feed: impl FnOnce(&mut Client) -> Vec<Action>) {
        let client = self.links.get_mut(&index).and_then(|link| link.dhcp.as_mut());
        if let Some(client) = client {
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
                    for gone in self.unconfigure(index, By::Dhcp) {
                        self.steps.push(Step::Listen(index));
                        self.say(index, format!("{gone} is lost: {why}"));
                    }
                }
            }
        }
    }

    /// A smaller MTU than the interface has by itself is what the way to others carries. A larger one is of no use to
    /// us, and to set it makes some drivers lose their carrier. What the administrator has set stands.
    fn lease_mtu(&mut self, index: u32, leased: Option<u32>) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if link.theirs || link.interface.as_ref().is_some_and(|it| it.mtu.is_some()) {
            return;
        }
        let before = link.seen.mtu;
        let own = link.own_mtu.unwrap_or(before);
        let mtu = leased.unwrap_or(own).min(own);
        link.own_mtu = (mtu != own).then_some(own);
        if mtu != before {
            self.steps.push(Step::SetMtu { index, mtu, before });
        }
    }

    fn bound(&mut self, index: u32, lease: Lease) {
        let known = self.links.get(&index).is_some_and(|link| {
            link.ours.iter().any(|ours| ours.by == By::Dhcp && ours.address.address == lease.address)
        });
        let valid = lease.valid.map(|valid| (valid.as_secs() as u32).saturating_add(LEASE_MARGIN));
        let address = Address { index, address: lease.address.into(), prefix: lease.prefix, peer: None, valid };
        let way = |&(destination, prefix, gateway): &(Ipv4Addr, u8, Ipv4Addr)| -> Way {
            (destination.into(), prefix, (!gateway.is_unspecified()).then_some(gateway.into()))
        };
        let ways: Vec<Way> = lease.routes.iter().map(way).collect();
        let nameservers = lease.nameservers.iter().copied().map(IpAddr::V4);
        let nameservers = nameservers.filter(|_| self.config.peer_dns).collect();
        let search = if self.config.peer_dns { lease.search.clone() } else { Vec::new() };
        self.lease_mtu(index, lease.mtu);
        self.configure(By::Dhcp, address, &ways, (nameservers, search));
        if known {
            return; // renewed: nothing that a person has to read
        }
        self.set(index, |link| link.conflict = None);
        self.steps.push(Step::ListenAddressed(index));
        let gateway = lease.routes.iter().find(|route| route.1 == 0).map(|route| format!(", gateway {}", route.2));
        let time = lease.valid.map_or("for ever".to_owned(), |valid| format!("{} s", valid.as_secs()));
        let (Lease { address, prefix, server, .. }, gateway) = (&lease, gateway.unwrap_or_default());
        self.say(index, format!("{address}/{prefix} by DHCP from {server}{gateway}, lease {time}"));
    }
}
