//! What follows if another station has an IPv4 address of ours. A leased one is declined and another asked for. A static
//! one is what somebody looks for this machine at: it stays, and the conflict is told. Pure.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    super::{
        arp::Arp,
        conflict::{Action, Watch},
        dhcp::Client,
        link::{By, Link, written},
        step::Step,
    },
    Plan,
};
use crate::config::network::Mac;

impl Plan {
    /// Sees to it that the address which an interface has, or is about to get, is watched as long as there is a cable;
    /// after each time that there was none it may be on another network (RFC 5227 section 2.1).
    pub(super) fn watch(&mut self, now: Duration, index: u32) {
        let Some(link) = self.links.get_mut(&index) else { return };
        let wanted = subject(link);
        if wanted == link.watch.as_ref().map(Watch::subject) {
            return;
        }
        if link.watch.take().is_some() && wanted.is_none() {
            self.steps.push(Step::SilenceArp(index));
        }
        if let Some((mac, address)) = wanted {
            self.steps.push(Step::ListenArp { index, address });
            let (watch, actions) = Watch::start(now, mac, address);
            link.watch = Some(watch);
            self.act_on(now, index, actions);
        }
    }

    /// An ARP message about an address of ours. With two interfaces on one link, each answers for both (`arp_ignore` in
    /// Documentation/networking/ip-sysctl.rst): that is no other station.
    pub(super) fn arp(&mut self, now: Duration, index: u32, message: &Arp) {
        let is_ours = self.links.values().any(|link| link.seen.mac == Some(message.mac));
        let is_proxy = self.links.get(&index).is_some_and(|link| link.proxy == Some(message.mac));
        if !is_ours && !is_proxy {
            self.conflict(now, index, |watch| watch.heard(now, message));
        }
    }

    pub(super) fn conflict(&mut self, now: Duration, index: u32, feed: impl FnOnce(&mut Watch) -> Vec<Action>) {
        let watch = self.links.get_mut(&index).and_then(|link| link.watch.as_mut());
        if let Some(watch) = watch {
            let actions = feed(watch);
            self.act_on(now, index, actions);
        }
    }

    fn act_on(&mut self, now: Duration, index: u32, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(message) => self.steps.push(Step::SendArp(index, message)),
                Action::Free => {
                    if self.links.get_mut(&index).and_then(|link| link.conflict.take()).is_some() {
                        self.say(index, "no other station has our address any more".to_owned());
                    }
                }
                Action::Claimed(by) if self.leased(index).is_some() => {
                    self.tell(index, by, "it stays, as it was ours first");
                }
                Action::Claimed(by) | Action::Taken(by) | Action::Lost(by) => match self.leased(index) {
                    Some(address) => self.give_up(now, index, address, by),
                    None => self.tell(index, by, "it stays, as it is a static one; give one of them another"),
                },
            }
        }
    }

    /// The address that is watched, if it came, or comes, by DHCP.
    fn leased(&self, index: u32) -> Option<Ipv4Addr> {
        let link = self.links.get(&index)?;
        let (_, address) = link.watch.as_ref()?.subject();
        (!link.has(By::Static) && link.dhcp.is_some()).then_some(address)
    }

    fn give_up(&mut self, now: Duration, index: u32, address: Ipv4Addr, by: Mac) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if link.claimed.is_some_and(|(mac, other)| mac == by && other != address) {
            // Whatever a server offers, this one has it: to believe it would mean to have no address at all.
            link.proxy = Some(by);
            let text = format!("{} answers for other stations (proxy ARP), and is not believed", written(by));
            return self.say(index, text);
        }
        link.claimed = Some((by, address));
        let who = format!("the station {} has it", written(by));
        link.conflict = Some(format!("{address} was declined: {who}; another is asked for"));
        self.say(index, format!("{address} is declined, and another asked for in a moment: {who}"));
        self.dhcp(index, |client: &mut Client| client.decline(now, who));
    }

    /// Said once for each station.
    fn tell(&mut self, index: u32, by: Mac, what: &str) {
        let Some(link) = self.links.get_mut(&index) else { return };
        let Some((_, address)) = link.watch.as_ref().map(Watch::subject) else { return };
        let text = format!("{address} is used by the station {} too; {what}", written(by));
        if link.conflict.as_ref() != Some(&text) {
            link.conflict = Some(text.clone());
            self.say(index, text);
        }
    }
}

/// The address to be watched, with the Ethernet address that has it.
fn subject(link: &Link) -> Option<(Mac, Ipv4Addr)> {
    let v4 = |it: &IpAddr| if let IpAddr::V4(it) = it { Some(*it) } else { None };
    let ours = link.ours.iter().find_map(|ours| v4(&ours.address.address));
    let address = ours.or_else(|| link.dhcp.as_ref().and_then(Client::offered))?;
    (link.seen.carrier && !link.theirs).then_some(())?;
    Some((link.seen.mac?, address))
}
