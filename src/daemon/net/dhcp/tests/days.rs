//! A client and a server over simulated days, on a network that loses packets.

use super::*;

/// A server with one address to give. It can be away, forget everything, and be another.
struct Server {
    address: Ipv4Addr,
    gives: Ipv4Addr,
    /// In seconds.
    lease: u32,
    /// Until when the address is leased.
    until: Duration,
    /// When it was renewed.
    renewed: Vec<Duration>,
}

impl Server {
    fn new(lease: u32) -> Self {
        Self { address: SERVER_ADDRESS, gives: ADDRESS, lease, until: Duration::ZERO, renewed: Vec::new() }
    }

    /// As an authoritative server answers: it refuses what it doesn't know.
    fn answer(&mut self, now: Duration, question: &Message) -> Option<Message> {
        let server = question.address(SERVER);
        let kind = match (question.message_type()?, server) {
            (DISCOVER, _) => OFFER,
            (REQUEST, Some(chosen)) if chosen != self.address => return None,
            (REQUEST, Some(_)) if question.address(REQUESTED_ADDRESS) == Some(self.gives) => ACK,
            (REQUEST, None) if question.client == self.gives && now < self.until => ACK,
            _ => NAK,
        };
        if kind == ACK {
            self.until = now + secs(self.lease.into());
            self.renewed.push(now);
        }
        let mut answer = answer(question, kind, self.address);
        answer.yours = if kind == NAK { Ipv4Addr::UNSPECIFIED } else { self.gives };
        answer.options.insert(LEASE_TIME, self.lease.to_be_bytes().to_vec());
        Some(answer)
    }
}

struct World {
    client: Client,
    server: Option<Server>,
    now: Duration,
    /// Of a hundred packets, so many are lost.
    loss: u64,
    dice: u64,
    /// When the client had an address, and when not.
    turns: Vec<(Duration, Option<Ipv4Addr>)>,
    packets: usize,
}

impl World {
    fn new(loss: u64, seed: u64, server: Option<Server>) -> Self {
        let (client, actions) = Client::start(Duration::ZERO, MAC, None, seed);
        let (now, turns) = (Duration::ZERO, Vec::new());
        let mut world = Self { client, server, now, loss, dice: seed | 1, turns, packets: 0 };
        world.act(actions);
        world
    }

    fn lost(&mut self) -> bool {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 32) % 100 < self.loss
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Bound(lease) => {
                    if self.turns.last().is_none_or(|turn| turn.1 != Some(lease.address)) {
                        self.turns.push((self.now, Some(lease.address)));
                    }
                }
                Action::Lost(_) => self.turns.push((self.now, None)),
                Action::Broadcast(question) => self.ask(Ipv4Addr::BROADCAST, &question),
                Action::Send { to, message } => self.ask(to, &message),
            }
        }
    }

    fn ask(&mut self, to: Ipv4Addr, question: &Message) {
        self.packets += 1;
        if self.lost() {
            return;
        }
        let now = self.now;
        let reached = self.server.as_mut().filter(|server| to.is_broadcast() || to == server.address);
        let Some(answer) = reached.and_then(|server| server.answer(now, question)) else { return };
        // By the wire, and sometimes twice.
        let answer = Message::decode(&answer.encode()).unwrap();
        for _ in 0..2 {
            if !self.lost() {
                let actions = self.client.message(self.now, &answer);
                self.act(actions);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.client.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            let actions = self.client.timer(self.now);
            self.act(actions);
        }
        self.now = end;
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_lease_of_ten_seconds_is_renewed_for_days() {
    let mut world = World::new(0, 7, Some(Server::new(10)));
    world.pass(HOUR * 72);
    assert_eq!(world.turns, [(Duration::ZERO, Some(ADDRESS))], "never lost");
    let renewed = world.server.unwrap().renewed.len();
    assert_eq!(renewed, 72 * 3600 / 5 + 1, "every five seconds, at T1");
}

#[test]
fn a_third_of_the_packets_lost_costs_hardly_a_lease() {
    let (mut renewed, mut lost) = (0, 0);
    for seed in 1..10 {
        let mut world = World::new(30, seed, Some(Server::new(120)));
        world.pass(HOUR * 24);
        let got = world.turns[0].0;
        assert!(got < secs(40), "seed {seed}: got it after {got:?}");
        lost += world.turns.iter().filter(|turn| turn.1.is_none()).count();
        renewed += world.server.unwrap().renewed.len();
    }
    assert!(renewed > 9 * 24 * 30 && lost * 2000 < renewed, "{lost} lost, renewed {renewed} times");
}

#[test]
fn a_server_that_comes_back_is_found() {
    let mut world = World::new(0, 7, Some(Server::new(600)));
    world.pass(HOUR);
    let away = world.server.take();
    world.pass(HOUR * 10);
    assert_eq!(world.turns.len(), 2, "lost, at its end and not before: {:?}", world.turns);
    let (lost, until) = (world.turns[1].0, away.as_ref().unwrap().until);
    assert_eq!(lost, until);
    world.server = away;
    world.pass(secs(41)); // the slowest pause, and a quarter more
    assert_eq!(world.turns.last().map(|turn| turn.1), Some(Some(ADDRESS)));
}

#[test]
fn a_server_that_was_away_for_less_than_the_lease_is_not_missed() {
    let mut world = World::new(0, 7, Some(Server::new(3600)));
    for _ in 0..48 {
        world.pass(HOUR / 3);
        let away = world.server.take();
        world.pass(HOUR / 3);
        world.server = away;
        world.pass(HOUR / 3);
    }
    assert_eq!(world.turns.len(), 1, "{:?} {:?}", world.turns, world.server.unwrap().renewed);
}

#[test]
fn another_server_with_another_address_takes_over() {
    let mut world = World::new(0, 7, Some(Server::new(600)));
    world.pass(secs(100));
    world.server = Some(Server { address: OTHER, gives: [192, 0, 2, 99].into(), ..Server::new(600) });
    world.pass(secs(600));
    // It is not asked before T2, and then refuses.
    let new = Some([192, 0, 2, 99].into());
    assert_eq!(world.turns[1..], [(secs(525), None), (secs(525), new)]);
}

#[test]
fn a_server_that_never_comes_is_asked_at_a_bearable_rate() {
    let mut world = World::new(0, 7, None);
    world.pass(HOUR * 24);
    assert!((2000..2800).contains(&world.packets), "{}", world.packets);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Servers come, go and are replaced while packets are lost: no address is held beyond its lease, and when there is a
    /// server for long enough there is an address.
    #[test]
    fn any_days(
        seed: u64, loss in 0u64..40, lease in prop::sample::select(vec![10u32, 60, 600, 86_400, u32::MAX]),
        story in prop::collection::vec((0u8..4, 0u64..5000), 1..30),
    ) {
        let mut world = World::new(loss, seed, Some(Server::new(lease)));
        let mut away = None;
        for (what, seconds) in story {
            match what {
                0 => away = world.server.take().or(away),
                1 => world.server = away.take().or(world.server),
                2 => world.server = Some(Server { gives: [192, 0, 2, seed as u8 & 0x7f | 1].into(), ..Server::new(lease) }),
                _ => {
                    let actions = world.client.verify(world.now);
                    world.act(actions);
                }
            }
            world.pass(secs(seconds));
            if let Some(held) = world.client.lease() && held.valid.is_some() {
                prop_assert!(world.client.deadline().is_some());
            }
        }
        world.server = Some(Server::new(lease));
        let actions = world.client.verify(world.now);
        world.act(actions);
        world.pass(HOUR);
        prop_assert!(loss > 20 || world.client.lease().is_some_and(|held| held.address == ADDRESS), "{:?}", world.turns);
    }
}
