//! A DHCPv6 client (RFC 8415) as a pure state machine: messages and time in, messages and leases out.
//!
//! Everything is sent to all servers on the link (ff02::1:2), from a link-local address. As with DHCPv4, nothing is
//! released at hand-over, so that the real system may get the same address; and what waits for a random time or for
//! better offers in the RFC waits less here, as a boot waits with it.

mod lease;
pub mod message;

use std::{net::Ipv6Addr, time::Duration};

pub use lease::Lease6;
use message::Message;

use super::domain;

/// `SOL_TIMEOUT`, `REQ_TIMEOUT`, `CNF_TIMEOUT` and `INF_TIMEOUT` of RFC 8415 section 7.6.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// RFC 3315's `SOL_MAX_RT`. RFC 8415 has an hour for it, in which nobody could log in after a server came back.
const SLOWEST: Duration = Duration::from_secs(120);
/// `REQ_MAX_RT`, `REQ_MAX_RC`.
const REQUEST_SLOWEST: Duration = Duration::from_secs(30);
const REQUEST_TRIES: u32 = 10;
/// `CNF_MAX_RT`, and as many tries as fit into `CNF_MAX_RD`.
const CONFIRM_SLOWEST: Duration = Duration::from_secs(4);
const CONFIRM_TRIES: u32 = 4;
/// `DEC_MAX_RC`.
const DECLINE_TRIES: u32 = 4;
/// What DHCPv4 has after a DECLINE (RFC 2131 section 3.1 step 5): a server that gives the same address again must not
/// be asked in a tight loop.
const DECLINED: Duration = Duration::from_secs(10);
/// `REN_TIMEOUT`, `REB_TIMEOUT`; and `REN_MAX_RT`, `REB_MAX_RT`.
const RENEW_RETRY: Duration = Duration::from_secs(10);
const RENEW_SLOWEST: Duration = Duration::from_secs(600);
/// How long better offers are waited for once there is one. The RFC collects them for a second.
const BETTER: Duration = Duration::from_millis(100);
/// A server with this preference is taken at once (RFC 8415 section 18.2.9).
const BEST: u8 = 255;

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To all servers on the link.
    Send(Message),
    /// Addresses were granted, or granted again; without addresses, what was asked for is known.
    Bound(Lease6),
    /// The addresses must not be used any longer; the reason, for a person.
    Lost(String),
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Addresses,
    /// Name servers only.
    Information,
}

/// One client on one interface.
#[derive(Debug)]
pub struct Client {
    /// Its DUID: the kind with nothing but the hardware address, as an initramfs has no place to keep another
    /// (RFC 8415 section 11.4).
    id: [u8; 10],
    /// Its identity association, as dhclient names it: the end of the hardware address.
    association: u32,
    hostname: Option<String>,
    want: Want,
    random: u64,
    held: Option<Held>,
    exchange: Option<Exchange>,
}

/// What is in force.
#[derive(Debug)]
struct Held {
    lease: Lease6,
    since: Duration,
}

/// A question, asked until it is answered or given up.
#[derive(Debug)]
struct Exchange {
    kind: u8,
    xid: u32,
    /// Who is asked; nobody in particular if empty.
    server: Vec<u8>,
    addresses: Vec<Ipv6Addr>,
    began: Duration,
    tries: u32,
    pause: Duration,
    next: Duration,
    /// The best offer, and when to take it.
    offer: Option<(u8, Lease6)>,
}

impl Client {
    /// A client that asks at once. `seed` makes transaction numbers and jitter differ between machines and boots.
    pub fn start(now: Duration, mac: [u8; 6], hostname: Option<String>, want: Want, seed: u64) -> (Self, Vec<Action>) {
        let [a, b, c, d, e, f] = mac;
        let mut client = Self {
            id: [0, 3, 0, 1, a, b, c, d, e, f],
            association: u32::from_be_bytes([c, d, e, f]),
            hostname,
            want,
            random: seed | 1,
            held: None,
            exchange: None,
        };
        let actions = client.begin(now);
        (client, actions)
    }

    pub fn want(&self) -> Want {
        self.want
    }

    /// When [`Client::timer`] wants to be called.
    pub fn deadline(&self) -> Option<Duration> {
        [self.exchange.as_ref().map(|it| it.next), self.turn()].into_iter().flatten().min()
    }

    /// What is in force.
    pub fn lease(&self) -> Option<&Lease6> {
        self.held.as_ref().map(|held| &held.lease)
    }

    /// The interface may be on another network now: ask whether the addresses are still good there.
    pub fn verify(&mut self, now: Duration) -> Vec<Action> {
        match (&self.held, self.want) {
            (None, _) => Vec::new(),
            (Some(_), Want::Information) => self.begin(now),
            (Some(_), Want::Addresses) => self.ask(now, message::CONFIRM, Vec::new()),
        }
    }

    /// Another station has this address of the lease. Tells the server (RFC 8415 section 18.2.8), and asks anew after a
    /// pause, also for what else was leased.
    pub fn decline(&mut self, now: Duration, address: Ipv6Addr) -> Vec<Action> {
        let leased = |held: &mut Held| held.lease.addresses.iter().any(|it| it.address == address);
        let Some(Held { lease, .. }) = self.held.take_if(leased) else { return Vec::new() };
        let lost = Action::Lost("another station on this link has it".to_owned());
        let declined = self.exchange(now, message::DECLINE, lease.server, vec![address]);
        [vec![lost], declined].concat()
    }

    /// Time has passed.
    pub fn timer(&mut self, now: Duration) -> Vec<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        if self.turn().is_some_and(|turn| turn <= now) {
            return self.turned(now);
        }
        let Some(exchange) = &mut self.exchange else { return Vec::new() };
        let tries = match exchange.kind {
            message::REQUEST => REQUEST_TRIES,
            message::CONFIRM => CONFIRM_TRIES,
            message::DECLINE => DECLINE_TRIES,
            _ => u32::MAX,
        };
        if let Some((_, offer)) = exchange.offer.take() {
            return self.request(now, &offer);
        }
        if exchange.tries < tries {
            return self.repeat(now);
        }
        match self.held {
            None if exchange.kind == message::DECLINE => self.pause(now),
            Some(_) => self.rest(now), // RFC 8415 section 18.2.3: nobody has said no
            None => self.begin(now),
        }
    }

    /// Asks no more, unless the lease has had a turn meanwhile.
    fn rest(&mut self, now: Duration) -> Vec<Action> {
        self.exchange = None;
        if self.turn().is_some_and(|turn| turn <= now) { self.turned(now) } else { Vec::new() }
    }

    /// When the lease has its next turn: T1, T2 or the end.
    fn turn(&self) -> Option<Duration> {
        let Held { lease, since } = self.held.as_ref()?;
        let asking = self.exchange.as_ref().map(|exchange| exchange.kind);
        let renew = lease.renew.filter(|_| asking.is_none());
        let rebind = lease.rebind.filter(|_| asking.is_none_or(|kind| kind == message::RENEW));
        let end = lease.valid().filter(|_| !lease.addresses.is_empty());
        [renew, rebind, end].into_iter().flatten().min().map(|after| *since + after)
    }

    fn turned(&mut self, now: Duration) -> Vec<Action> {
        let Some(Held { lease, since }) = &self.held else { return Vec::new() };
        let elapsed = now.saturating_sub(*since);
        if lease.addresses.is_empty() {
            return self.begin(now);
        }
        if lease.valid().is_some_and(|valid| elapsed >= valid) {
            let lost = Action::Lost("the lease expired and nobody renewed it".to_owned());
            return [vec![lost], self.begin(now)].concat();
        }
        if lease.rebind.is_some_and(|rebind| elapsed >= rebind) {
            return self.ask(now, message::REBIND, Vec::new());
        }
        let server = lease.server.clone();
        self.ask(now, message::RENEW, server)
    }

    /// A message has come. Whatever does not answer our question is ignored.
    pub fn message(&mut self, now: Duration, message: &Message) -> Vec<Action> {
        let Some(exchange) = &mut self.exchange else { return Vec::new() };
        let server = message.option(message::SERVER_ID).unwrap_or_default();
        let is_ours = message.option(message::CLIENT_ID).is_none_or(|id| id == self.id); // RFC 8415 section 16.10
        let is_theirs = !server.is_empty() && (exchange.server.is_empty() || exchange.server == server);
        if message.xid != exchange.xid || !is_ours || !is_theirs {
            return Vec::new();
        }
        let granted = || Lease6::read(message, self.association);
        match (exchange.kind, message.kind) {
            (message::DECLINE, message::REPLY) => self.pause(now), // whatever it says
            (message::INFORMATION_REQUEST, message::REPLY) => self.bind(now, Lease6::told(message)),
            (message::SOLICIT, message::ADVERTISE) => match granted() {
                Some(offer) => self.offered(now, message.option(message::PREFERENCE), offer),
                None => Vec::new(),
            },
            // Only with this option is it more than an offer.
            (message::SOLICIT, message::REPLY) if message.option(message::RAPID_COMMIT).is_none() => Vec::new(),
            (message::CONFIRM, message::REPLY) => match message.status() {
                message::SUCCESS => self.rest(now),
                _ => self.refused(now, "it does not belong to this network"),
            },
            (message::SOLICIT | message::REQUEST | message::RENEW | message::REBIND, message::REPLY) => {
                match granted() {
                    Some(lease) => self.bind(now, lease),
                    None => self.nothing(now, message),
                }
            }
            _ => Vec::new(),
        }
    }

    fn offered(&mut self, now: Duration, preference: Option<&[u8]>, offer: Lease6) -> Vec<Action> {
        let preference = preference.and_then(|bytes| bytes.first().copied()).unwrap_or(0);
        if preference == BEST {
            return self.request(now, &offer);
        }
        let Some(exchange) = &mut self.exchange else { return Vec::new() };
        if exchange.offer.is_none() {
            exchange.next = now + BETTER;
        }
        if exchange.offer.as_ref().is_none_or(|(best, _)| preference > *best) {
            exchange.offer = Some((preference, offer));
        }
        Vec::new()
    }

    /// An answer without an address for us.
    fn nothing(&mut self, now: Duration, message: &Message) -> Vec<Action> {
        let mut statuses = message.associations().map(|it| it.status).chain([message.status()]);
        let server = message.option(message::SERVER_ID).unwrap_or_default().to_vec();
        match self.exchange.as_ref().map(|exchange| exchange.kind) {
            // The server has forgotten us, and may give us the same address again (RFC 8415 section 18.2.10.1).
            Some(message::RENEW | message::REBIND) if statuses.any(|it| it == message::NO_BINDING) => {
                self.ask(now, message::REQUEST, server)
            }
            // With no time left (section 18.2.10.1).
            Some(message::RENEW | message::REBIND) if message.associations().any(|it| !it.addresses.is_empty()) => {
                self.refused(now, "the server took it back")
            }
            Some(message::REQUEST) if self.held.is_some() => self.refused(now, "the server took it back"),
            Some(message::REQUEST) if statuses.any(|it| it == message::NOT_ON_LINK) => self.begin(now),
            // Asked again when its time has come.
            _ => Vec::new(),
        }
    }

    fn refused(&mut self, now: Duration, why: &str) -> Vec<Action> {
        [vec![Action::Lost(why.to_owned())], self.begin(now)].concat()
    }

    fn bind(&mut self, now: Duration, lease: Lease6) -> Vec<Action> {
        self.exchange = None;
        self.held = Some(Held { lease: lease.clone(), since: now });
        vec![Action::Bound(lease)]
    }

    /// From the beginning. What was told is good until something else is; what was leased is not.
    fn begin(&mut self, now: Duration) -> Vec<Action> {
        self.held.take_if(|held| !held.lease.addresses.is_empty());
        let kind = match self.want {
            Want::Addresses => message::SOLICIT,
            Want::Information => message::INFORMATION_REQUEST,
        };
        self.ask(now, kind, Vec::new())
    }

    fn request(&mut self, now: Duration, offer: &Lease6) -> Vec<Action> {
        let addresses = offer.addresses.iter().map(|it| it.address).collect();
        self.exchange(now, message::REQUEST, offer.server.clone(), addresses)
    }

    /// About the addresses that we have, if any.
    fn ask(&mut self, now: Duration, kind: u8, server: Vec<u8>) -> Vec<Action> {
        let held = self.held.iter().flat_map(|held| &held.lease.addresses);
        let addresses = held.map(|it| it.address).collect();
        self.exchange(now, kind, server, addresses)
    }

    /// From the beginning, in a while.
    fn pause(&mut self, now: Duration) -> Vec<Action> {
        let xid = self.random() & message::XID;
        let next = now + DECLINED;
        let (kind, server, addresses) = (message::SOLICIT, Vec::new(), Vec::new());
        let (tries, pause, offer) = (0, Duration::ZERO, None);
        self.exchange = Some(Exchange { kind, xid, server, addresses, began: next, tries, pause, next, offer });
        Vec::new()
    }

    fn exchange(&mut self, now: Duration, kind: u8, server: Vec<u8>, addresses: Vec<Ipv6Addr>) -> Vec<Action> {
        let xid = self.random() & message::XID;
        let (tries, pause, offer) = (0, Duration::ZERO, None);
        self.exchange = Some(Exchange { kind, xid, server, addresses, began: now, tries, pause, next: now, offer });
        self.repeat(now)
    }

    /// Asks, and again (RFC 8415 section 15: twice as long each time, a tenth more or less, up to a limit).
    fn repeat(&mut self, now: Duration) -> Vec<Action> {
        let random = self.random() % 256;
        let Some(exchange) = &mut self.exchange else { return Vec::new() };
        let (first, slowest) = match exchange.kind {
            message::RENEW | message::REBIND => (RENEW_RETRY, RENEW_SLOWEST),
            message::REQUEST => (FIRST_RETRY, REQUEST_SLOWEST),
            message::CONFIRM => (FIRST_RETRY, CONFIRM_SLOWEST),
            _ => (FIRST_RETRY, SLOWEST),
        };
        let pause = if exchange.tries == 0 { first } else { (exchange.pause * 2).min(slowest) };
        exchange.pause = pause;
        exchange.tries = exchange.tries.saturating_add(1);
        // A SOLICIT never sooner (RFC 8415 section 18.2.1); nor need anything else be.
        exchange.next = now + pause + pause * random / 2560;
        self.question(now).map(Action::Send).into_iter().collect()
    }

    fn question(&self, now: Duration) -> Option<Message> {
        use message::*;
        let exchange = self.exchange.as_ref()?;
        let hundredths = now.saturating_sub(exchange.began).as_millis() / 10;
        let elapsed = u16::try_from(hundredths).unwrap_or(u16::MAX);
        let mut options: Options = vec![(CLIENT_ID, self.id.to_vec()), (ELAPSED, elapsed.to_be_bytes().to_vec())];
        if !exchange.server.is_empty() {
            options.push((SERVER_ID, exchange.server.clone()));
        }
        let mut wanted = vec![NAMESERVERS, SEARCH];
        match exchange.kind {
            INFORMATION_REQUEST => wanted.push(REFRESH_TIME),
            kind => {
                let granted = |address: &Ipv6Addr| Granted { address: *address, preferred: 0, valid: 0 };
                let addresses = exchange.addresses.iter().map(granted).collect();
                let id = self.association;
                let association = Association { id, renew: 0, rebind: 0, addresses, status: SUCCESS };
                options.push((IA_NA, association.encode()));
                if kind == SOLICIT {
                    options.push((RAPID_COMMIT, Vec::new()));
                }
            }
        }
        if ![CONFIRM, DECLINE].contains(&exchange.kind) {
            options.push((WANTED, wanted.into_iter().flat_map(u16::to_be_bytes).collect()));
            options.extend(self.hostname.as_deref().and_then(full_name).map(|name| (FULL_NAME, name)));
        }
        Some(Message { kind: exchange.kind, xid: exchange.xid, options })
    }

    /// xorshift64: not for secrets. A transaction number only has to differ.
    fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as u32
    }
}

/// The server is asked to put it into DNS (RFC 4704 section 4.1). A name without dots is part of a full one, and so has
/// no end (section 4.2).
fn full_name(name: &str) -> Option<Vec<u8>> {
    const SERVER_UPDATES: u8 = 1;
    let mut encoded = domain::encode(name)?;
    encoded.truncate(encoded.len() - usize::from(!name.contains('.')));
    Some([&[SERVER_UPDATES], &encoded[..]].concat())
}

#[cfg(test)]
mod tests;
