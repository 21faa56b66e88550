//! A DHCPv4 client (RFC 2131) as a pure state machine: messages and time in, messages and leases out.
//!
//! What it does not do: RELEASE. The lease is kept at hand-over on purpose: the real system asks again from the same
//! interface and gets the same address, so that nobody's known host, firewall rule or open terminal is surprised.
//! Whether another station has the address is found out beside this ([`super::conflict`]).
//!
//! The same address needs the same client identifier. Ours is the hardware address as RFC 2132 section 9.14 has it,
//! which is what NetworkManager sends by default, networkd where dracut or `ip=` configures it
//! (`ClientIdentifier=mac`), and what servers make of a client that sends none (dhclient, ipconfig). The DUID of
//! RFC 4361 is made of a machine id, which an initramfs does not have.

mod lease;
pub mod message;

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

pub use lease::Lease;
use lease::usable;
use message::Message;

use super::domain;

/// The first question is repeated after this time, doubled up to [`SLOWEST`]. RFC 2131 section 4.1 advises 4 s; the
/// first packet after a link comes up is lost so often that asking earlier makes a boot faster, and one packet more
/// harms nobody.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A server that comes back is found within this time, even after hours.
const SLOWEST: Duration = Duration::from_secs(32);
/// A request that nobody answers so often goes back to asking every server.
const REQUEST_TRIES: u32 = 4;
/// RFC 2131 section 4.4.5: while renewing, not more often than this.
const RENEW_RETRY: Duration = Duration::from_secs(60);
/// But a lease of few minutes would so be asked for once or twice only, and be lost with two packets: this part of it
/// is often enough.
const RENEW_RETRY_SHARE: u32 = 32;
/// How often it is asked whether a lease is good on the network behind a cable that was out. Over a minute in all, as a
/// switch may take half of that to let the first packet pass.
const DOUBT_TRIES: u32 = 6;
/// RFC 2131 section 3.1 step 5: after a DECLINE, at least so long before it is asked again.
const DECLINED: Duration = Duration::from_secs(10);
/// By which a server may tell us from others. It has no meaning of its own.
const VENDOR_CLASS: &[u8] = b"vestibule";

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To everybody, from no address.
    Broadcast(Message),
    /// From the address that is leased. To 255.255.255.255 when any server may answer.
    Send { to: Ipv4Addr, message: Message },
    /// A lease was granted, or granted again.
    Bound(Lease),
    /// The address must not be used any longer; the reason, for a person.
    Lost(String),
}

/// One client on one interface.
#[derive(Debug)]
pub struct Client {
    mac: [u8; 6],
    hostname: Option<String>,
    random: u64,
    xid: u32,
    began: Duration,
    /// How often in a row what was offered was refused.
    refusals: u32,
    /// Answers are to be sent to everybody. Asked for by turns, as there are servers, relays and switches that fail at
    /// the one and at the other.
    broadcast: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Selecting { tries: u32, next: Duration },
    Requesting { address: Ipv4Addr, server: Ipv4Addr, tries: u32, asked: Duration, next: Duration },
    Bound(Held),
}

/// A lease that is in force.
#[derive(Debug)]
struct Held {
    lease: Box<Lease>,
    since: Duration,
    next: Option<Duration>,
    /// When the question was asked that has no answer yet.
    asked: Option<Duration>,
    /// The cable was out; how often it was asked since whether the lease is still good.
    doubt: Option<u32>,
}

impl Client {
    /// A client that asks at once. `seed` makes transaction numbers and jitter differ between machines and boots.
    pub fn start(now: Duration, mac: [u8; 6], hostname: Option<String>, seed: u64) -> (Self, Vec<Action>) {
        let mut client = Self {
            mac,
            hostname,
            random: seed | 1,
            xid: 0,
            began: now,
            refusals: 0,
            broadcast: false,
            state: State::Selecting { tries: 0, next: now },
        };
        let actions = client.restart(now);
        (client, actions)
    }

    /// When [`Client::timer`] wants to be called.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Selecting { next, .. } | State::Requesting { next, .. } => Some(*next),
            State::Bound(held) => held.next,
        }
    }

    /// The lease that is in force.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound(held) => Some(&held.lease),
            _ => None,
        }
    }

    /// The address that was offered, as long as the server has not confirmed it.
    pub fn offered(&self) -> Option<Ipv4Addr> {
        match self.state {
            State::Requesting { address, .. } => Some(address),
            _ => None,
        }
    }

    /// Another station has the address, whether it is confirmed already or not; `why` is for a person. Tells the server
    /// (RFC 2131 section 4.4.4), and asks anew after a pause.
    pub fn decline(&mut self, now: Duration, why: String) -> Vec<Action> {
        let (address, server, lost) = match &self.state {
            State::Selecting { .. } => return Vec::new(),
            State::Requesting { address, server, .. } => (*address, *server, None),
            State::Bound(Held { lease, .. }) => (lease.address, lease.server, Some(Action::Lost(why))),
        };
        self.xid = self.random();
        let mut message = self.question(message::DECLINE, now, Ipv4Addr::UNSPECIFIED);
        // Table 5 of RFC 2131 leaves no room for others.
        message.options.retain(|code, _| [message::MESSAGE_TYPE, message::CLIENT_ID].contains(code));
        message.options.insert(message::REQUESTED_ADDRESS, address.octets().to_vec());
        message.options.insert(message::SERVER, server.octets().to_vec());
        (message.secs, message.broadcast) = (0, false);
        self.xid = self.random(); // what is still under way is of no use any more
        self.state = State::Selecting { tries: 0, next: now + DECLINED };
        self.began = now + DECLINED;
        lost.into_iter().chain([Action::Broadcast(message)]).collect()
    }

    /// The interface may be on another network now: ask any server whether the lease is still good.
    pub fn verify(&mut self, now: Duration) -> Vec<Action> {
        let State::Bound(held) = &mut self.state else { return Vec::new() };
        held.doubt = Some(0);
        self.renew(now)
    }

    /// Time has passed.
    pub fn timer(&mut self, now: Duration) -> Vec<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match &self.state {
            State::Selecting { .. } => self.discover(now),
            State::Requesting { tries: REQUEST_TRIES.., .. } => self.restart(now),
            State::Requesting { .. } => self.request(now),
            State::Bound { .. } => self.renew(now),
        }
    }

    /// A message has come. Whatever does not answer our last question, or answers it again, is ignored.
    pub fn message(&mut self, now: Duration, message: &Message) -> Vec<Action> {
        if !message.reply || message.xid != self.xid || message.mac != self.mac {
            return Vec::new();
        }
        let from = message.address(message::SERVER);
        match (&self.state, message.message_type()) {
            (State::Selecting { .. }, Some(message::OFFER)) => match (usable(message.yours), from) {
                (Some(address), Some(server)) => {
                    self.state = State::Requesting { address, server, tries: 0, asked: now, next: now };
                    self.request(now)
                }
                _ => Vec::new(),
            },
            (State::Requesting { server, asked, .. }, Some(message::ACK)) => match Lease::read(message, *server) {
                Some(lease) => self.bind(*asked, lease),
                None => Vec::new(),
            },
            (State::Requesting { server, .. }, Some(message::NAK)) if from.is_none_or(|from| from == *server) => {
                self.back_off(now);
                Vec::new()
            }
            (State::Bound(Held { lease: old, asked: Some(asked), .. }), Some(message::ACK)) => {
                match Lease::read(message, old.server) {
                    Some(lease) if lease.address == old.address => self.bind(*asked, lease),
                    Some(lease) => {
                        let reason = format!("the server moved it from {} to {}", old.address, lease.address);
                        [vec![Action::Lost(reason)], self.bind(*asked, lease)].concat()
                    }
                    None => Vec::new(),
                }
            }
            (State::Bound(Held { lease, asked: Some(_), .. }), Some(message::NAK)) => {
                let server = from.unwrap_or(lease.server);
                let reason = message.options.get(&message::REASON).map(|text| String::from_utf8_lossy(text));
                let reason: String = reason.iter().flat_map(|text| text.chars()).filter(|c| !c.is_control()).collect();
                let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                let lost = Action::Lost(format!("{server} took it back{reason}"));
                [vec![lost], self.restart(now)].concat()
            }
            _ => Vec::new(),
        }
    }

    fn restart(&mut self, now: Duration) -> Vec<Action> {
        self.began = now;
        self.xid = self.random();
        self.state = State::Selecting { tries: 0, next: now };
        self.discover(now)
    }

    /// After a refusal, a pause: a server that offers what it then refuses must not be asked in a tight loop.
    fn back_off(&mut self, now: Duration) {
        let next = now + self.pause(self.refusals);
        self.refusals = self.refusals.saturating_add(1);
        self.xid = self.random(); // the offer may come twice
        self.state = State::Selecting { tries: 1, next };
    }

    /// With the same transaction number each time: an offer may be late, as many servers look first whether an address
    /// is free, which takes dhcpd one second and dnsmasq three.
    fn discover(&mut self, now: Duration) -> Vec<Action> {
        let State::Selecting { tries, .. } = self.state else { return Vec::new() };
        let next = now + self.pause(tries);
        self.broadcast = tries % 2 == 1;
        self.state = State::Selecting { tries: tries.saturating_add(1), next };
        vec![Action::Broadcast(self.question(message::DISCOVER, now, Ipv4Addr::UNSPECIFIED))]
    }

    fn request(&mut self, now: Duration) -> Vec<Action> {
        let State::Requesting { address, server, tries, .. } = self.state else { return Vec::new() };
        let next = now + self.pause(tries);
        self.broadcast ^= tries > 0; // first as in the question that was answered
        self.state = State::Requesting { address, server, tries: tries + 1, asked: now, next };
        let mut question = self.question(message::REQUEST, now, Ipv4Addr::UNSPECIFIED);
        question.options.insert(message::REQUESTED_ADDRESS, address.octets().to_vec());
        question.options.insert(message::SERVER, server.octets().to_vec());
        vec![Action::Broadcast(question)]
    }

    /// The lease counts from when it was asked for (RFC 2131 section 4.4.1).
    fn bind(&mut self, since: Duration, lease: Lease) -> Vec<Action> {
        self.refusals = 0;
        let next = lease.valid.map(|_| since + lease.renew);
        self.state = State::Bound(Held { lease: lease.clone().into(), since, next, asked: None, doubt: None });
        vec![Action::Bound(lease)]
    }

    /// T1 passed: ask the server that gave the lease. T2 passed, or in doubt: ask any. Expired: give the address up.
    fn renew(&mut self, now: Duration) -> Vec<Action> {
        let next_xid = self.random();
        let doubt = match &self.state {
            State::Bound(Held { doubt: Some(tries), .. }) if *tries < DOUBT_TRIES => Some((*tries, self.pause(*tries))),
            _ => None,
        };
        let State::Bound(held) = &mut self.state else { return Vec::new() };
        let lease = &held.lease;
        let elapsed = now.saturating_sub(held.since);
        if lease.valid.is_some_and(|valid| elapsed >= valid) {
            let lost = Action::Lost(format!("the lease from {} expired and nobody renewed it", lease.server));
            return [vec![lost], self.restart(now)].concat();
        }
        held.doubt = doubt.map(|(tries, _)| tries + 1);
        // What the lease itself wants next, if it has an end.
        let wanted = lease.valid.map(|valid| match elapsed {
            early if early < lease.renew => lease.renew - early,
            late => {
                let until = if late < lease.rebind { lease.rebind } else { valid };
                let least = RENEW_RETRY.min(valid / RENEW_RETRY_SHARE);
                ((until - late) / 2).max(least).min(until - late)
            }
        });
        held.next = [wanted, doubt.map(|(_, pause)| pause)].into_iter().flatten().min().map(|pause| now + pause);
        if doubt.is_none() && elapsed < lease.renew {
            return Vec::new(); // nobody answered: it is as good as it was
        }
        held.asked = Some(now);
        let to = if doubt.is_some() || elapsed >= lease.rebind { Ipv4Addr::BROADCAST } else { lease.server };
        let address = lease.address;
        self.xid = next_xid;
        self.began = now;
        self.broadcast = false;
        vec![Action::Send { to, message: self.question(message::REQUEST, now, address) }]
    }

    fn question(&self, kind: u8, now: Duration, client: Ipv4Addr) -> Message {
        use message::*;
        // ROUTES before ROUTERS, as RFC 3442 wants it.
        let wanted = [MASK, ROUTES, ROUTERS, NAMESERVERS, DOMAIN, MTU, LEASE_TIME, SERVER, RENEWAL_TIME];
        let mut options = BTreeMap::from([
            (MESSAGE_TYPE, vec![kind]),
            (PARAMETERS, [&wanted[..], &[REBINDING_TIME, SEARCH]].concat()),
            (CLIENT_ID, [&[1], &self.mac[..]].concat()),
            (VENDOR_CLASS, self::VENDOR_CLASS.to_vec()),
            // An Ethernet frame less IP and UDP headers.
            (MAX_SIZE, 1472u16.to_be_bytes().to_vec()),
        ]);
        options.extend(self.hostname.as_deref().and_then(name_option));
        let secs = now.saturating_sub(self.began).as_secs().min(u16::MAX.into()) as u16;
        let (xid, broadcast, mac) = (self.xid, self.broadcast, self.mac);
        Message { reply: false, xid, secs, broadcast, client, yours: Ipv4Addr::UNSPECIFIED, mac, options }
    }

    /// Doubles with each try, with up to a quarter more at random so that a rack that boots at once spreads out.
    fn pause(&mut self, tries: u32) -> Duration {
        let pause = (FIRST_RETRY * 2u32.pow(tries.min(8))).min(SLOWEST);
        pause + pause * (self.random() % 256) / 1024
    }

    /// xorshift64: not for secrets. A transaction number only has to differ.
    fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as u32
    }
}

/// A name with dots goes as a full one, which the server is asked to put into DNS, and not as both (RFC 4702).
fn name_option(name: &str) -> Option<(u8, Vec<u8>)> {
    /// "The server does the updates", and "as DNS writes it" (RFC 4702 section 2.1); two bytes that are not used.
    const HEADER: [u8; 3] = [0x01 | 0x04, 0, 0];
    let encoded = domain::encode(name)?;
    Some(match name.contains('.') {
        true => (message::FULL_NAME, [&HEADER[..], &encoded].concat()),
        false => (message::HOSTNAME, name.as_bytes().to_vec()),
    })
}

#[cfg(test)]
mod tests;
