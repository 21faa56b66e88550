//! Those that have not logged in, and who of them has to go. Pure; chance is an argument.
//!
//! sshd refuses newcomers when many are waiting (MaxStartups, PerSourceMaxStartups): then a flood that keeps its
//! connections open keeps everybody out until their time is up. Here newcomers always come in, and somebody else goes:
//! one of the source that has most, of those that have come least far, by chance. So a flood drives out itself; an owner
//! who logs in while the flood is as large as it likes is driven out only by chance, and less likely with each step; and
//! no number of sources makes sure that he is.

use std::collections::HashMap;
use std::net::IpAddr;

use super::capacity::Capacity;

/// Connections of one source that are held back for a penalty. With the time that they are held it makes some 20
/// processes each second, which is what a source that misbehaves can cost.
pub const HELD_PER_SOURCE: usize = 32;
/// Chance that somebody goes as soon as there are `Capacity::early` processes; it grows to 100 at the limit. As the 30 in
/// MaxStartups' default 10:30:100.
const EARLY_PERCENT: u32 = 30;

/// How far a connection has come. Those that have come least far go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// It has not said that it speaks SSH. It has no process yet; clients leave this rung with their first packet.
    Silent,
    /// It has, and is held back for a penalty.
    Held,
    /// It has a process.
    Started,
    /// It has offered a key that would get in.
    Known,
}

impl Rung {
    fn has_process(self) -> bool {
        self >= Self::Started
    }
}

/// Names one connection, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(u64);

pub struct Crowd {
    /// Oldest first.
    waiting: Vec<Waiting>,
    capacity: Capacity,
    next: u64,
}

struct Waiting {
    id: Id,
    source: IpAddr,
    rung: Rung,
}

impl Crowd {
    pub fn new(capacity: Capacity) -> Self {
        Self { waiting: Vec::new(), capacity, next: 0 }
    }

    /// A newcomer, and who has to go for it.
    pub fn enter(&mut self, source: IpAddr, random: u32) -> (Id, Option<Id>) {
        let leaves = (self.count(|it| !it.rung.has_process()) >= self.capacity.greeted)
            .then(|| self.of_largest_source(|it| !it.rung.has_process(), random))
            .flatten();
        let id = Id(self.next);
        self.next += 1;
        self.waiting.push(Waiting { id, source, rung: Rung::Silent });
        (id, self.send_away(leaves))
    }

    /// Somebody has come further, and who has to go for it. Nobody who has gone comes further.
    pub fn climb(&mut self, id: Id, rung: Rung, random: u32) -> Option<Id> {
        let place = self.waiting.iter().position(|it| it.id == id)?;
        let source = self.waiting[place].source;
        let others_of = |it: &Waiting| it.id != id && it.source == source;
        let leaves = match rung {
            Rung::Held if self.count(|it| others_of(it) && it.rung == Rung::Held) >= HELD_PER_SOURCE => {
                self.least_far(|it| others_of(it) && it.rung == Rung::Held, random)
            }
            Rung::Started => {
                if self.count(|it| others_of(it) && it.rung.has_process()) >= self.capacity.per_source {
                    self.least_far(|it| others_of(it) && it.rung.has_process(), random)
                } else {
                    self.early_drop(id, random)
                }
            }
            _ => None,
        };
        self.waiting[place].rung = rung;
        self.send_away(leaves)
    }

    pub fn leave(&mut self, id: Id) {
        self.waiting.retain(|it| it.id != id);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    fn early_drop(&self, newcomer: Id, random: u32) -> Option<Id> {
        let others = |it: &Waiting| it.id != newcomer && it.rung.has_process();
        let count = self.count(others);
        let Capacity { early, processes, .. } = self.capacity;
        let id = self.of_largest_source(others, random)?;
        let known = self.waiting.iter().any(|it| it.id == id && it.rung == Rung::Known);
        (count >= processes || (!known && drops_early(count, early, processes, random >> 16))).then_some(id)
    }

    /// One of the sources that have most of those.
    fn of_largest_source(&self, among: impl Fn(&Waiting) -> bool, random: u32) -> Option<Id> {
        let mut counts = HashMap::<IpAddr, usize>::new();
        for it in self.waiting.iter().filter(|it| among(it)) {
            *counts.entry(it.source).or_default() += 1;
        }
        let most = counts.values().max().copied()?;
        self.least_far(|it| among(it) && counts[&it.source] == most, random)
    }

    /// One of those that have come least far: the oldest of the silent, who have had time; by chance of all others.
    fn least_far(&self, among: impl Fn(&Waiting) -> bool, random: u32) -> Option<Id> {
        let rung = self.waiting.iter().filter(|it| among(it)).map(|it| it.rung).min()?;
        let candidates: Vec<_> = self.waiting.iter().filter(|it| among(it) && it.rung == rung).collect();
        let chosen = if rung == Rung::Silent { 0 } else { (random & 0xffff) as usize % candidates.len() };
        Some(candidates[chosen].id)
    }

    fn send_away(&mut self, id: Option<Id>) -> Option<Id> {
        id.inspect(|id| self.leave(*id))
    }

    fn count(&self, among: impl Fn(&Waiting) -> bool) -> usize {
        self.waiting.iter().filter(|it| among(it)).count()
    }
}

/// Random early drop, as sshd_config(5) has it for MaxStartups. `random` is from 0 to 65535.
fn drops_early(count: usize, start: usize, full: usize, random: u32) -> bool {
    if count < start || full <= start {
        return count >= full;
    }
    let part = (count - start).min(full - start) as u32 * (100 - EARLY_PERCENT) / (full - start) as u32;
    random * 100 < (EARLY_PERCENT + part) * 0x1_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: Capacity = Capacity { greeted: 20, processes: 10, early: 5, per_source: 6, sessions: 50 };
    /// Never drops early.
    const LUCKY: u32 = u32::MAX;

    fn from(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    /// A crowd and a cheap source of chance.
    struct Door {
        crowd: Crowd,
        state: u32,
    }

    impl Door {
        fn new() -> Self {
            Self { crowd: Crowd::new(CAPACITY), state: 1 }
        }

        fn random(&mut self) -> u32 {
            self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            self.state.rotate_left(16)
        }

        fn enter(&mut self, source: u8) -> Id {
            let random = self.random();
            self.crowd.enter(from(source), random).0
        }

        fn started(&mut self, source: u8) -> Id {
            let (id, random) = (self.enter(source), self.random());
            self.crowd.climb(id, Rung::Started, random);
            id
        }

        fn fill(&mut self, source: u8) {
            for _ in 0..CAPACITY.per_source {
                self.started(source);
            }
        }

        fn has(&self, id: Id) -> bool {
            self.crowd.waiting.iter().any(|it| it.id == id)
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
    fn a_source_has_its_share_and_the_largest_makes_room() {
        let mut door = Door::new();
        let owner = door.started(1);
        for _ in 0..1000 {
            door.started(9);
            assert!(door.crowd.count(|it| it.source == from(9)) <= CAPACITY.per_source);
        }
        assert!(door.has(owner));
        // From many sources with one each, as the owner: then it is a matter of chance.
        for source in 10..200 {
            let newcomer = door.started(source);
            assert!(door.has(newcomer), "newcomers always come in");
        }
        assert!(door.crowd.waiting.len() <= CAPACITY.processes);
    }

    #[test]
    fn with_a_key_that_would_get_in_nobody_goes_for_those_without() {
        let mut door = Door::new();
        let owner = door.started(1);
        assert_eq!(door.crowd.climb(owner, Rung::Known, 0), None);
        for n in 0..1000_u32 {
            door.started(2 + (n % 250) as u8);
            door.started(1); // also from the owner's own address
        }
        assert!(door.has(owner));
    }

    #[test]
    fn from_the_same_address_chance_decides_and_not_age() {
        let mut stayed = 0;
        for round in 0..200 {
            let mut door = Door::new();
            door.state = round;
            door.fill(1);
            let owner = door.started(1);
            door.fill(1);
            stayed += u32::from(door.has(owner));
        }
        // (1 - 1/6)^6 is a third; the oldest first would be never.
        assert!((40..100).contains(&stayed), "{stayed} of 200");
    }

    #[test]
    fn those_held_back_are_few_for_each_source() {
        let mut crowd = Crowd::new(Capacity { greeted: 500, ..CAPACITY });
        for _ in 0..100 {
            let (id, _) = crowd.enter(from(9), 7);
            crowd.climb(id, Rung::Held, 7);
        }
        assert_eq!(crowd.count(|it| it.rung == Rung::Held), HELD_PER_SOURCE);
    }

    #[test]
    fn early_drop_begins_at_thirty_percent_and_ends_with_certainty() {
        let chance =
            |count| (0..0x1_0000).filter(|random| drops_early(count, 10, 100, *random)).count() * 100 / 0x1_0000;
        assert_eq!([0, 9, 10, 55, 100, 500].map(chance), [0, 0, 30, 65, 100, 100]);
        assert!(drops_early(5, 5, 5, 0xffff) && !drops_early(4, 5, 5, 0), "no range, no chance");
    }

    #[test]
    fn who_has_gone_does_not_come_back() {
        let mut door = Door::new();
        let id = door.enter(1);
        door.crowd.leave(id);
        assert_eq!(door.crowd.climb(id, Rung::Started, LUCKY), None);
        assert!(door.crowd.waiting.is_empty());
    }
}
