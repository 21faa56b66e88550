//! A DHCPv4 client (RFC 2131) as a pure state machine: messages and time in, messages and leases out.
//!
//! What it does not do: DECLINE (no address conflict detection) and RELEASE. The lease is kept at hand-over on purpose:
//! the real system asks again from the same interface and gets the same address, so that nobody's known host, firewall
//! rule or open terminal is surprised.

pub mod message;

use std::{net::Ipv4Addr, time::Duration};

use message::Message;

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
/// Used when a server forgets the time, which RFC 2131 does not allow.
const FORGOTTEN_LEASE: u32 = 3600;
/// Shorter leases are taken as this long, or renewals would flood the network.
const SHORTEST_LEASE: u32 = 10;
/// What a lease time of all ones means: for ever (RFC 2131 section 3.3).
const FOREVER: u32 = u32::MAX;

/// What a server granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// Destination, prefix length, gateway (0.0.0.0: directly on the link).
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    pub nameservers: Vec<Ipv4Addr>,
    pub server: Ipv4Addr,
    /// `None`: for ever.
    pub valid: Option<Duration>,
    renew: Duration,
    rebind: Duration,
}

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
    state: State,
}

#[derive(Debug)]
enum State {
    Selecting { tries: u32, next: Duration },
    Requesting { address: Ipv4Addr, server: Ipv4Addr, tries: u32, next: Duration },
    Bound { lease: Lease, since: Duration, next: Option<Duration> },
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
            state: State::Selecting { tries: 0, next: now },
        };
        let actions = client.discover(now);
        (client, actions)
    }

    /// When [`Client::timer`] wants to be called.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Selecting { next, .. } | State::Requesting { next, .. } => Some(*next),
            State::Bound { next, .. } => *next,
        }
    }

    /// The lease that is in force.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// The interface may be on another network now: ask any server whether the lease is still good.
    pub fn verify(&mut self, now: Duration) -> Vec<Action> {
        let State::Bound { lease, next, .. } = &mut self.state else { return Vec::new() };
        let address = lease.address;
        *next = next.map(|next| next.min(now + RENEW_RETRY)); // a lease for ever has no timer, and is asked about once
        self.xid = self.random();
        vec![Action::Send { to: Ipv4Addr::BROADCAST, message: self.question(message::REQUEST, now, address) }]
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

    /// A message has come. Whatever does not answer our last question is ignored.
    pub fn message(&mut self, now: Duration, message: &Message) -> Vec<Action> {
        if !message.reply || message.xid != self.xid || message.mac != self.mac {
            return Vec::new();
        }
        let from = message.address(message::SERVER);
        match (&self.state, message.message_type()) {
            (State::Selecting { .. }, Some(message::OFFER)) => match (usable(message.yours), from) {
                (Some(address), Some(server)) => {
                    self.state = State::Requesting { address, server, tries: 0, next: now };
                    self.request(now)
                }
                _ => Vec::new(),
            },
            (State::Requesting { server, .. }, Some(message::ACK)) => match lease(message, *server) {
                Some(lease) => self.bind(now, lease),
                None => Vec::new(),
            },
            // Only after a question of ours: the transaction number changes with each renewal.
            (State::Bound { lease: old, .. }, Some(message::ACK)) => match lease(message, old.server) {
                Some(lease) if lease.address == old.address => self.bind(now, lease),
                Some(lease) => {
                    let reason = format!("the server moved it from {} to {}", old.address, lease.address);
                    [vec![Action::Lost(reason)], self.bind(now, lease)].concat()
                }
                None => Vec::new(),
            },
            (State::Requesting { server, .. }, Some(message::NAK)) if from.is_none_or(|from| from == *server) => {
                self.back_off(now);
                Vec::new()
            }
            (State::Bound { lease, .. }, Some(message::NAK)) => {
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
        self.state = State::Selecting { tries: 0, next: now };
        self.discover(now)
    }

    /// After a refusal, a pause: a server that offers what it then refuses must not be asked in a tight loop.
    fn back_off(&mut self, now: Duration) {
        let next = now + self.pause(self.refusals);
        self.refusals = self.refusals.saturating_add(1);
        self.state = State::Selecting { tries: 1, next };
    }

    fn discover(&mut self, now: Duration) -> Vec<Action> {
        let State::Selecting { tries, .. } = self.state else { return Vec::new() };
        let next = now + self.pause(tries);
        self.state = State::Selecting { tries: tries.saturating_add(1), next };
        self.xid = self.random();
        vec![Action::Broadcast(self.question(message::DISCOVER, now, Ipv4Addr::UNSPECIFIED))]
    }

    fn request(&mut self, now: Duration) -> Vec<Action> {
        let State::Requesting { address, server, tries, .. } = self.state else { return Vec::new() };
        let next = now + self.pause(tries);
        self.state = State::Requesting { address, server, tries: tries + 1, next };
        let mut question = self.question(message::REQUEST, now, Ipv4Addr::UNSPECIFIED);
        question.options.insert(message::REQUESTED_ADDRESS, address.octets().to_vec());
        question.options.insert(message::SERVER, server.octets().to_vec());
        vec![Action::Broadcast(question)]
    }

    fn bind(&mut self, now: Duration, lease: Lease) -> Vec<Action> {
        self.refusals = 0;
        let next = lease.valid.map(|_| now + lease.renew);
        self.state = State::Bound { lease: lease.clone(), since: now, next };
        vec![Action::Bound(lease)]
    }

    /// T1 passed: ask the server that gave the lease. T2 passed: ask any. Expired: give the address up.
    fn renew(&mut self, now: Duration) -> Vec<Action> {
        let State::Bound { lease, since, next } = &mut self.state else { return Vec::new() };
        let Some(valid) = lease.valid else { return Vec::new() };
        let elapsed = now.saturating_sub(*since);
        if elapsed >= valid {
            let lost = Action::Lost(format!("the lease from {} expired and nobody renewed it", lease.server));
            return [vec![lost], self.restart(now)].concat();
        }
        let rebinding = elapsed >= lease.rebind;
        let (to, until) = if rebinding { (Ipv4Addr::BROADCAST, valid) } else { (lease.server, lease.rebind) };
        let pause = ((until - elapsed) / 2).max(RENEW_RETRY).min(until - elapsed);
        *next = Some(now + pause);
        let address = lease.address;
        self.began = now;
        self.xid = self.random();
        vec![Action::Send { to, message: self.question(message::REQUEST, now, address) }]
    }

    fn question(&self, kind: u8, now: Duration, client: Ipv4Addr) -> Message {
        use message::*;
        let wanted = vec![MASK, ROUTES, ROUTERS, NAMESERVERS, LEASE_TIME, SERVER, RENEWAL_TIME, REBINDING_TIME];
        let mut options = std::collections::BTreeMap::from([
            (MESSAGE_TYPE, vec![kind]),
            (PARAMETERS, wanted), // ROUTES before ROUTERS, as RFC 3442 wants it
            // Hardware type and address, as RFC 2132 section 9.14 describes and most clients send: the real system is
            // then likely to be the same client for the server.
            (CLIENT_ID, [&[1], &self.mac[..]].concat()),
            // An Ethernet frame less IP and UDP headers.
            (MAX_SIZE, 1472u16.to_be_bytes().to_vec()),
        ]);
        if let Some(name) = &self.hostname {
            options.insert(HOSTNAME, name.as_bytes().to_vec());
        }
        let secs = now.saturating_sub(self.began).as_secs().min(u16::MAX.into()) as u16;
        Message { reply: false, xid: self.xid, secs, client, yours: Ipv4Addr::UNSPECIFIED, mac: self.mac, options }
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

fn usable(address: Ipv4Addr) -> Option<Ipv4Addr> {
    let no = address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback();
    (!no).then_some(address)
}

fn lease(message: &Message, server: Ipv4Addr) -> Option<Lease> {
    let address = usable(message.yours)?;
    let seconds = message.number(message::LEASE_TIME).unwrap_or(FORGOTTEN_LEASE).max(SHORTEST_LEASE);
    let valid = Duration::from_secs(seconds.into());
    // RFC 2131 section 4.4.5: T1 is half of the lease time and T2 seven eighths, unless the server says otherwise.
    let times = [message::RENEWAL_TIME, message::REBINDING_TIME].map(|code| message.number(code));
    let (renew, rebind) = match times.map(|time| time.map(|seconds| Duration::from_secs(seconds.into()))) {
        [Some(renew), Some(rebind)] if !renew.is_zero() && renew <= rebind && rebind <= valid => (renew, rebind),
        _ => (valid / 2, valid * 7 / 8),
    };
    let routers = message.addresses(message::ROUTERS).filter(|router| usable(*router).is_some());
    // RFC 3442: with classless routes, the routers are not used. Of several routers the first is the preferred one.
    let default = || routers.take(1).map(|router| (Ipv4Addr::UNSPECIFIED, 0, router)).collect();
    Some(Lease {
        address,
        prefix: message.prefix().unwrap_or_else(|| by_class(address)),
        routes: message.routes().unwrap_or_else(default),
        nameservers: message.addresses(message::NAMESERVERS).filter(|it| usable(*it).is_some()).collect(),
        server: message.address(message::SERVER).unwrap_or(server),
        valid: (seconds != FOREVER).then_some(valid),
        renew,
        rebind,
    })
}

/// Only for a server that sends no mask (RFC 791 section 3.2).
fn by_class(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests;
