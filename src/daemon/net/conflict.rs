//! Whether another station has an IPv4 address of ours (RFC 5227), as a pure state machine.
//!
//! The RFC probes for four to nine seconds before an address is used. A boot does not wait for that: what is leased is
//! probed for from the moment of the offer, while the server is still asked to confirm it, and used as soon as it is
//! confirmed. A station that is awake answers within the time that the server takes, so that the usual conflict is
//! known before the address is added; one that answers later, up to [`SETTLED`], takes it from us all the same
//! (RFC 2131 section 3.1 step 5: DECLINE). Until then the address is only used, and never announced or defended. This
//! is what RFC 4429 allows with IPv6, and between the zero of systemd-networkd, ipconfig and dhclient, which look for
//! no conflict of what is leased, and the five seconds of dhcpcd.

use std::{net::Ipv4Addr, time::Duration};

use super::arp::Arp;
use crate::config::network::Mac;

/// When after the first one it is asked again (`PROBE_NUM` of RFC 5227 section 1.1 is three): soon, and once more for
/// what a switch or a station lost that was just waking up.
const PROBES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1)];
/// Nobody has answered until now, two seconds (`ANNOUNCE_WAIT`) after the last probe: the address is ours. It is
/// announced, which also corrects who still knows it at another Ethernet address.
const SETTLED: Duration = Duration::from_secs(3);
/// `ANNOUNCE_INTERVAL`, between the two announcements (`ANNOUNCE_NUM`).
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(2);
/// `DEFEND_INTERVAL`: a second claim within this time is no mistake of a station that was asleep.
const DEFEND: Duration = Duration::from_secs(10);
/// An address that is used although another station has it is asked for again after this time, to tell when it is free.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To every station on the link.
    Send(Arp),
    /// Another station had it before us.
    Taken(Mac),
    /// Nobody has it, or has it any longer.
    Free,
    /// Another station claims what is ours. It was answered (RFC 5227 section 2.4 (b)).
    Claimed(Mac),
    /// It does so again at once: two stations can't have it.
    Lost(Mac),
}

/// One address on one interface, as long as it is used there.
#[derive(Clone, Debug)]
pub struct Watch {
    mac: Mac,
    address: Ipv4Addr,
    began: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// So many probes were sent.
    Probing(usize),
    Taken,
    /// It was announced once.
    Announcing,
    /// Ours; when it was defended last.
    Ours(Option<Duration>),
}

impl Watch {
    /// Probes at once.
    pub fn start(now: Duration, mac: Mac, address: Ipv4Addr) -> (Self, Vec<Action>) {
        let mut watch = Self { mac, address, began: now, stage: Stage::Probing(0) };
        let actions = watch.timer(now);
        (watch, actions)
    }

    /// What is watched, with our Ethernet address.
    pub fn subject(&self) -> (Mac, Ipv4Addr) {
        (self.mac, self.address)
    }

    /// When [`Watch::timer`] wants to be called.
    pub fn deadline(&self) -> Option<Duration> {
        let after = match self.stage {
            Stage::Probing(sent) => PROBES.get(sent).copied().unwrap_or(SETTLED),
            Stage::Taken => AGAIN,
            Stage::Announcing => SETTLED + ANNOUNCE_AGAIN,
            Stage::Ours(_) => return None,
        };
        Some(self.began + after)
    }

    /// Time has passed.
    pub fn timer(&mut self, now: Duration) -> Vec<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let announcement = Action::Send(Arp::announcement(self.mac, self.address));
        match self.stage {
            Stage::Probing(sent) if sent < PROBES.len() => {
                // Counted from now: one that was late must not be followed by the next at once.
                self.began = now.saturating_sub(PROBES[sent]);
                self.stage = Stage::Probing(sent + 1);
                vec![Action::Send(Arp::probe(self.mac, self.address))]
            }
            Stage::Probing(_) => {
                self.began = now.saturating_sub(SETTLED);
                self.stage = Stage::Announcing;
                vec![Action::Free, announcement]
            }
            Stage::Taken => {
                (self.began, self.stage) = (now, Stage::Probing(0));
                self.timer(now)
            }
            Stage::Announcing => {
                self.stage = Stage::Ours(None);
                vec![announcement]
            }
            Stage::Ours(_) => Vec::new(),
        }
    }

    /// An ARP message of another station has come.
    pub fn heard(&mut self, now: Duration, message: &Arp) -> Vec<Action> {
        let claims = message.sender == self.address;
        match self.stage {
            _ if message.mac == self.mac => Vec::new(),
            Stage::Probing(_) if claims || message.is_probe_for(self.address) => {
                (self.began, self.stage) = (now, Stage::Taken);
                vec![Action::Taken(message.mac)]
            }
            Stage::Announcing | Stage::Ours(None) if claims => self.defend(now, message.mac),
            Stage::Ours(Some(last)) if claims && now.saturating_sub(last) >= DEFEND => self.defend(now, message.mac),
            Stage::Ours(Some(_)) if claims => vec![Action::Lost(message.mac)],
            _ => Vec::new(),
        }
    }

    fn defend(&mut self, now: Duration, against: Mac) -> Vec<Action> {
        self.stage = Stage::Ours(Some(now));
        vec![Action::Send(Arp::announcement(self.mac, self.address)), Action::Claimed(against)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = [2, 0, 0, 0, 0, 1];
    const THEIRS: Mac = [2, 0, 0, 0, 0, 9];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Watch {
        let (watch, actions) = Watch::start(SECOND, OURS, ADDRESS);
        assert_eq!(actions, [Action::Send(Arp::probe(OURS, ADDRESS))]);
        watch
    }

    /// What is done at each deadline until this time, with the milliseconds since the start.
    fn until(watch: &mut Watch, end: Duration) -> Vec<(u128, Action)> {
        let mut did = Vec::new();
        while let Some(now) = watch.deadline().filter(|it| *it <= end) {
            did.extend(watch.timer(now).into_iter().map(|action| ((now - SECOND).as_millis(), action)));
        }
        did
    }

    fn settled() -> Watch {
        let mut watch = start();
        until(&mut watch, SECOND * 100);
        watch
    }

    #[test]
    fn nobody_answers() {
        let mut watch = start();
        let (probe, ours) = (Action::Send(Arp::probe(OURS, ADDRESS)), Action::Send(Arp::announcement(OURS, ADDRESS)));
        let did = until(&mut watch, SECOND * 100);
        assert_eq!(did, [(200, probe), (1000, probe), (3000, Action::Free), (3000, ours), (5000, ours)]);
        assert_eq!(watch.deadline(), None);
    }

    #[test]
    fn probes_that_are_late_are_not_sent_at_once() {
        let mut watch = start();
        assert_eq!(watch.timer(SECOND * 20).len(), 1);
        assert_eq!(watch.timer(SECOND * 20), []);
        assert_eq!(watch.deadline(), Some(SECOND * 20 + PROBES[2] - PROBES[1]));
    }

    #[test]
    fn an_answer_and_another_probe_are_conflicts_and_our_own_is_none() {
        let answer = Arp { request: false, mac: THEIRS, sender: ADDRESS, target: [0; 4].into() };
        for message in [answer, Arp::announcement(THEIRS, ADDRESS), Arp::probe(THEIRS, ADDRESS)] {
            let mut watch = start();
            assert_eq!(watch.heard(SECOND, &Arp { mac: OURS, ..message }), []);
            assert_eq!(watch.heard(SECOND, &message), [Action::Taken(THEIRS)]);
            assert_eq!(watch.heard(SECOND, &message), [], "said once");
        }
        let other = Arp { sender: [192, 0, 2, 8].into(), ..answer };
        assert_eq!(start().heard(SECOND, &other), []);
    }

    #[test]
    fn one_that_is_taken_is_asked_for_again() {
        let mut watch = start();
        watch.heard(SECOND, &Arp::announcement(THEIRS, ADDRESS));
        assert_eq!(watch.deadline(), Some(SECOND + AGAIN));
        let did = until(&mut watch, SECOND * 100);
        assert_eq!(did[3].1, Action::Free);
        assert_eq!(did.len(), 6, "{did:?}");
    }

    #[test]
    fn defended_once_and_then_lost() {
        let mut watch = settled();
        let claim = Arp::announcement(THEIRS, ADDRESS);
        let defence = [Action::Send(Arp::announcement(OURS, ADDRESS)), Action::Claimed(THEIRS)];
        assert_eq!(watch.heard(SECOND * 200, &Arp::probe(THEIRS, ADDRESS)), [], "the kernel answers");
        assert_eq!(watch.heard(SECOND * 200, &claim), defence);
        assert_eq!(watch.heard(SECOND * 209, &claim), [Action::Lost(THEIRS)]);
        assert_eq!(watch.heard(SECOND * 210, &claim), defence, "a new one");
    }
}
