//! A client and a server over simulated days, on a network that loses packets.

use super::*;

struct World {
    client: Client,
    /// Whether there is a server, and which address it has to give (zero: none).
    server: Option<u16>,
    knows: bool,
    now: Duration,
    loss: u64,
    dice: u64,
    has: bool,
    turns: usize,
    packets: usize,
}

impl World {
    fn new(loss: u64, seed: u64, server: Option<u16>) -> Self {
        let (client, actions) = Client::start(Duration::ZERO, MAC, None, Want::Addresses, seed);
        let (now, dice) = (Duration::ZERO, seed | 1);
        let mut world = Self { client, server, knows: false, now, loss, dice, has: false, turns: 0, packets: 0 };
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
                Action::Bound(_) => {
                    self.turns += usize::from(!self.has);
                    self.has = true;
                }
                Action::Lost(why) => {
                    assert!(self.has, "{why}");
                    self.turns += 1;
                    self.has = false;
                }
                Action::Send(question) => self.ask(&question),
            }
        }
    }

    fn ask(&mut self, question: &Message) {
        self.packets += 1;
        let Some(last) = self.server.filter(|_| !self.lost()) else { return };
        let reply = match question.kind {
            SOLICIT => answer(question, ADVERTISE, SERVER, last),
            RENEW | REBIND if !self.knows => answer(question, REPLY, SERVER, 0),
            CONFIRM => {
                let reply = answer(question, REPLY, SERVER, 0);
                Message { options: reply.options[..2].to_vec(), ..reply }
            }
            _ => {
                self.knows = true;
                answer(question, REPLY, SERVER, last)
            }
        };
        for _ in 0..2 {
            if !self.lost() {
                let actions = self.client.message(self.now, &reply);
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
            assert!(self.client.deadline() > Some(self.now), "due again at {:?}", self.now);
        }
        self.now = end;
    }
}

#[test]
fn renewed_for_days() {
    let mut world = World::new(0, 7, Some(7));
    world.pass(secs(3 * 86_400));
    assert_eq!((world.has, world.turns), (true, 1));
    assert_eq!(world.packets, 2 + 3 * 86_400 / 50 - 1, "at T1 each time");
}

#[test]
fn a_server_that_comes_back_is_found() {
    let mut world = World::new(0, 7, Some(7));
    world.pass(secs(100));
    world.server = None;
    world.pass(secs(3600));
    assert!(!world.has);
    world.server = Some(7);
    world.pass(secs(133)); // the slowest pause, and a tenth more
    assert!(world.has);
}

#[test]
fn a_server_that_has_lost_its_memory_costs_nothing() {
    let mut world = World::new(0, 7, Some(7));
    for _ in 0..9 {
        world.pass(secs(100));
        world.knows = false;
    }
    assert_eq!(world.turns, 1);
}

proptest! {
    /// Servers come, go and forget, and other stations have addresses, while packets are lost: no busy loop, nothing is lost that was not had, and when there is
    /// a server for long enough there is an address.
    #[test]
    fn any_days(seed: u64, loss in 0u64..30, story in prop::collection::vec((0u8..6, 0u64..500), 1..30)) {
        let mut world = World::new(loss, seed, Some(7));
        for (what, seconds) in story {
            match what {
                0 => world.server = None,
                1 => world.server = Some(7),
                2 => world.server = Some(0),
                3 => world.knows = false,
                4 => {
                    let leased = world.client.lease().and_then(|lease| lease.addresses.first());
                    if let Some(address) = leased.map(|it| it.address) {
                        let actions = world.client.decline(world.now, address);
                        world.act(actions);
                    }
                }
                _ => {
                    let actions = world.client.verify(world.now);
                    world.act(actions);
                }
            }
            world.pass(secs(seconds));
            prop_assert_eq!(world.client.lease().is_some(), world.has);
        }
        world.server = Some(7);
        world.pass(secs(3600));
        prop_assert!(world.has || loss > 10);
    }
}
