use super::super::origin::Origin;
use super::*;

const CAPACITY: Capacity = Capacity { greeted: 20, processes: 10, early: 5, per_source: 6, sessions: 50 };
fn from(n: u8) -> Source {
    Origin::Network([192, 0, 2, n].into()).source()
}

/// A crowd, a clock and a cheap source of chance.
struct Door {
    crowd: Crowd,
    state: u32,
    now: Instant,
}

impl Door {
    fn new() -> Self {
        Self { crowd: Crowd::new(CAPACITY), state: 1, now: Instant::now() }
    }

    fn random(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.state.rotate_left(16)
    }

    fn enter(&mut self, source: u8) -> Id {
        let random = self.random();
        self.crowd.enter(from(source), self.now, random).0
    }

    fn starts(&mut self, id: Id) -> bool {
        let random = self.random();
        self.crowd.start(id, self.now, random) != Turn::Later
    }

    fn comes(&mut self, source: u8) -> (Id, bool) {
        let id = self.enter(source);
        (id, self.starts(id))
    }

    fn has(&self, id: Id) -> bool {
        self.crowd.waiting.iter().any(|it| it.id == id)
    }

    fn processes(&self) -> usize {
        self.crowd.count(|it| it.rung.has_process())
    }
}

#[test]
fn silent_floods_drive_out_their_own_oldest() {
    let mut door = Door::new();
    let owner = door.enter(1);
    let flood: Vec<_> = (0..25).map(|_| door.enter(9)).collect();
    assert!(door.has(owner), "the owner came first and stays");
    let gone: Vec<_> = flood.iter().map(|id| !door.has(*id)).collect();
    assert_eq!(gone, [vec![true; 6], vec![false; 19]].concat());
    assert_eq!(door.crowd.waiting.len(), CAPACITY.greeted);
}

#[test]
fn the_largest_source_makes_room_at_once_and_has_its_share() {
    let mut door = Door::new();
    for _ in 0..100 {
        door.comes(9);
    }
    assert_eq!(door.processes(), CAPACITY.per_source);
    let owners: Vec<_> = (0..2).map(|_| door.comes(1)).collect();
    assert!(owners.iter().all(|(id, started)| *started && door.has(*id)), "{owners:?}");
    for _ in 0..100 {
        door.comes(9);
    }
    assert!(owners.iter().all(|(id, _)| door.has(*id)), "as long as the flood has more");
    assert!(door.processes() <= CAPACITY.processes);
}

#[test]
fn among_equals_nobody_goes_who_has_not_had_time() {
    let mut door = Door::new();
    let first: Vec<_> = (0..CAPACITY.processes as u8).map(|n| door.comes(n)).collect();
    assert!(first.iter().all(|(_, started)| *started));
    let (owner, started) = door.comes(100);
    assert!(!started && door.has(owner), "the owner waits");
    for n in 101..110 {
        assert!(!door.comes(n).1);
    }
    assert!(first.iter().all(|(id, _)| door.has(*id)));
    door.now += PATIENCE;
    assert!(!door.comes(120).1, "who comes just now waits as well");
    assert!(door.starts(owner));
    assert_eq!(first.iter().filter(|(id, _)| !door.has(*id)).count(), 1);
    // From now on the owner has time, whatever comes.
    door.now += PATIENCE / 2;
    for n in 0..250 {
        let (id, _) = door.comes(n);
        door.starts(id);
    }
    assert!(door.has(owner));
}

#[test]
fn a_slow_login_does_not_go_for_a_larger_source() {
    let mut door = Door::new();
    let (owner, _) = door.comes(1);
    let mut flood: Vec<_> = (0..CAPACITY.per_source - 1).map(|_| door.comes(9).0).collect();
    for _ in 0..100 {
        door.now += PATIENCE;
        flood.push(door.comes(9).0);
        assert!(door.has(owner));
        flood.retain(|id| door.has(*id));
        while flood.len() >= CAPACITY.per_source {
            door.crowd.leave(flood.remove(0)); // one that ends by itself: there is room for another
        }
    }
}

#[test]
fn from_the_same_address_it_is_no_different() {
    let mut door = Door::new();
    for _ in 0..12 {
        door.comes(1);
    }
    let (owner, started) = door.comes(1);
    assert!(!started);
    door.now += PATIENCE;
    assert!(door.starts(owner));
    for _ in 0..12 {
        let (id, _) = door.comes(1);
        door.starts(id);
    }
    assert!(door.has(owner) && door.processes() == CAPACITY.per_source);
}

#[test]
fn with_a_key_that_would_get_in_there_is_more_time() {
    let mut door = Door::new();
    let (owner, _) = door.comes(1);
    door.crowd.climb(owner, Rung::Known, door.now);
    let until = door.now + PATIENCE_WITH_KEY;
    let mut n = 0_u8;
    let step = Duration::from_millis(100);
    while door.now + step < until {
        door.now += step;
        n = n.wrapping_add(1);
        for source in [n, 1] {
            let (id, _) = door.comes(source);
            door.starts(id);
        }
        assert!(door.has(owner));
    }
}

#[test]
fn early_drop_begins_at_thirty_percent_and_ends_with_certainty() {
    let chance = |count| (0..0x1_0000).filter(|random| drops_early(count, 10, 100, *random)).count() * 100 / 0x1_0000;
    assert_eq!([0, 9, 10, 55, 100, 500].map(chance), [0, 0, 30, 65, 100, 100]);
    assert!(drops_early(5, 5, 5, 0xffff) && !drops_early(4, 5, 5, 0), "no range, no chance");
    // With those that have had their time: some of them go before it is full.
    let mut door = Door::new();
    let first: Vec<_> = (0..7).map(|n| door.comes(n).0).collect();
    door.now += PATIENCE;
    (100..120).for_each(|n| assert!(door.comes(n).1 || door.processes() == CAPACITY.processes));
    assert!(first.iter().any(|id| !door.has(*id)));
}

#[test]
fn who_has_gone_does_not_come_back() {
    let mut door = Door::new();
    let id = door.enter(1);
    door.crowd.leave(id);
    assert!(!door.starts(id) && door.crowd.waiting.is_empty());
    let id = door.enter(1);
    assert_eq!(door.crowd.clear(), [id]);
}

/// As machines with much memory have it: what is tested is a hub's share alone.
const ROOMY: Capacity = Capacity { greeted: 1024, processes: 128, early: 64, per_source: 96, sessions: 1024 };

fn through(hub: &str, n: Option<u8>) -> Source {
    Origin::Hub { name: hub.to_owned(), address: n.map(|n| [192, 0, 2, n].into()) }.source()
}

/// What a hub claims of its flood: no addresses, as for a UNIX socket; one; or always another.
const CLAIMS: [fn(u8) -> Option<u8>; 3] = [|_| None, |_| Some(9), Some];

impl Door {
    fn with(capacity: Capacity) -> Self {
        Self { crowd: Crowd::new(capacity), ..Self::new() }
    }

    fn brought(&mut self, source: Source) -> Id {
        let random = self.random();
        self.crowd.enter(source, self.now, random).0
    }

    /// Those through one hub: without a process, and with one.
    fn of_hub(&self, hub: &str) -> (usize, usize) {
        let of = |started| self.crowd.count(|it| it.source.hub() == Some(hub) && it.rung.has_process() == started);
        (of(false), of(true))
    }
}

#[test]
fn silence_through_a_hub_drives_out_itself_and_nobody_else() {
    for claim in CLAIMS {
        let mut door = Door::with(ROOMY);
        let before = [door.enter(9), door.brought(through("other", claim(9))), door.brought(through("other", None))];
        let flood: Vec<_> = (0..200).map(|n| door.brought(through("gate", claim(n)))).collect();
        assert_eq!(door.of_hub("gate"), (HUB_GREETED, 0));
        let stay: Vec<_> = flood.iter().map(|id| door.has(*id)).collect();
        assert_eq!(stay, [vec![false; 200 - HUB_GREETED], vec![true; HUB_GREETED]].concat(), "the oldest go");
        let owner = door.brought(through("gate", claim(1)));
        assert!(door.has(owner) && door.starts(owner), "there is room for a process at once");
        assert!(before.iter().all(|id| door.has(*id)), "nobody else goes");
    }
}

#[test]
fn where_a_hub_tells_addresses_apart_the_owner_stays_while_others_are_silent() {
    let mut door = Door::with(ROOMY);
    let owner = door.brought(through("gate", Some(1)));
    for _ in 0..200 {
        door.brought(through("gate", Some(9)));
    }
    assert!(door.has(owner) && door.of_hub("gate") == (HUB_GREETED, 0));
}

#[test]
fn processes_through_a_hub_are_few_and_make_room_for_its_owner_alone() {
    for claim in CLAIMS {
        let mut door = Door::with(ROOMY);
        let others: Vec<_> = (0..20).map(|n| door.comes(n).0).collect();
        let behind = door.brought(through("other", claim(9)));
        assert!(door.starts(behind));
        for n in 0..100 {
            let id = door.brought(through("gate", claim(n)));
            door.starts(id);
        }
        assert_eq!(door.of_hub("gate").1, HUB_PROCESSES);
        let owner = door.brought(through("gate", claim(1)));
        assert!(!door.starts(owner), "among equals nobody goes who has not had time");
        // Those of all others have had their time as well, and still only the hub's own go.
        door.now += PATIENCE;
        assert!(door.has(owner) && door.starts(owner));
        for n in 0..100 {
            let id = door.brought(through("gate", claim(n)));
            door.starts(id);
        }
        assert!(door.has(owner), "now there is time to log in");
        assert!(door.has(behind) && others.iter().all(|id| door.has(*id)), "nobody else goes");
        assert!(door.comes(1).1 && door.comes(200).1, "at the port nobody waits");
        let another = door.brought(through("other", claim(1)));
        assert!(door.starts(another), "nor at another hub");
        assert_eq!(door.of_hub("gate").1, HUB_PROCESSES);
    }
}

#[test]
fn one_address_of_a_hub_makes_room_for_another_at_once() {
    let mut door = Door::with(ROOMY);
    let mut comes = |n| {
        let id = door.brought(through("gate", Some(n)));
        (id, door.starts(id))
    };
    for _ in 0..100 {
        comes(9);
    }
    let (owner, started) = comes(1);
    for _ in 0..100 {
        comes(9);
    }
    assert!(started && door.has(owner));
}

/// Whoever comes, waits, offers keys or leaves, some channels of a hub are left for others.
#[test]
fn strangers_never_have_all_channels_of_a_hub() {
    const LEFT: usize = 16;
    for (capacity, claim) in [(ROOMY, CLAIMS[0]), (ROOMY, CLAIMS[2]), (CAPACITY, CLAIMS[1]), (CAPACITY, CLAIMS[2])] {
        let (mut door, mut most) = (Door::with(capacity), 0);
        for _ in 0..1000 {
            let random = door.random() as usize;
            let hub = if random.is_multiple_of(4) { "other" } else { "gate" };
            door.brought(through(hub, claim((random >> 8) as u8)));
            let Waiting { id, rung, .. } = door.crowd.waiting[(random >> 16) % door.crowd.waiting.len()];
            match random >> 4 & 7 {
                0 => door.crowd.leave(id),
                1 => door.now += PATIENCE / 8,
                2 if rung == Rung::Started => door.crowd.climb(id, Rung::Known, door.now),
                _ if !rung.has_process() => {
                    door.starts(id);
                }
                _ => {}
            }
            for hub in ["gate", "other"] {
                let (greeted, started) = door.of_hub(hub);
                most = most.max(greeted + started);
                assert!(greeted + started + LEFT <= crate::flow::table::MAX_CHANNELS, "{greeted} and {started}");
                assert!(started <= capacity.per_source, "a hub has no more than a source");
            }
        }
        assert!(most > CAPACITY.greeted, "it has been a flood: {most}");
    }
}
