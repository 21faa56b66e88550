//! Those that have not logged in, and who of them has to go. Pure; chance and time are arguments.
//!
//! sshd refuses newcomers when many are waiting (MaxStartups, PerSourceMaxStartups): then a flood that keeps its
//! connections open keeps everybody out until their time is up. Here somebody of the source that has most makes room, of
//! those that have come least far, by chance. Among equals nobody goes who has not had time for a login; until somebody
//! has, newcomers wait, and chance decides who is next. So a flood from one source drives out itself; one from many sources, or
//! from the owner's own address, makes the owner wait for some seconds, and then he has time enough.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::capacity::Capacity;
use super::origin::Source;

/// Time to log in that nobody is denied for equals: some ten round trips on a slow link, or a slow machine that is busy. A key that would get in is
/// offered within it; what comes then, its holder's touch or passphrase, has more.
const PATIENCE: Duration = Duration::from_secs(3);
const PATIENCE_WITH_KEY: Duration = Duration::from_secs(20);
/// Differences below this between sources are none: an owner may well open a few connections at once.
const MANY_MORE: usize = 4;
/// Chance that somebody goes as soon as there are `Capacity::early` processes; it grows to 100 at the limit. As the 30 in
/// MaxStartups' default 10:30:100.
const EARLY_PERCENT: u32 = 30;

/// How far a connection has come. Those that have come least far go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// It has not said that it speaks SSH. It has no process yet; clients leave this rung with their first packet.
    Silent,
    /// It has, and waits for room, or is held back for a penalty.
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
    source: Source,
    rung: Rung,
    /// When it came to this rung.
    since: Instant,
}

impl Waiting {
    /// It has had time for what comes next.
    fn is_late(&self, now: Instant) -> bool {
        let patience = if self.rung == Rung::Known { PATIENCE_WITH_KEY } else { PATIENCE };
        now.saturating_duration_since(self.since) >= patience
    }
}

/// Whether one may have a process now, and who has to go for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Now(Option<Id>),
    Later,
}

impl Crowd {
    pub fn new(capacity: Capacity) -> Self {
        Self { waiting: Vec::new(), capacity, next: 0 }
    }

    /// A newcomer, and who has to go for it.
    pub fn enter(&mut self, source: Source, now: Instant, random: u32) -> (Id, Option<Id>) {
        let leaves = (self.count(|it| !it.rung.has_process()) >= self.capacity.greeted)
            .then(|| self.of_largest_source(|it| !it.rung.has_process(), random))
            .flatten();
        let id = Id(self.next);
        self.next += 1;
        self.waiting.push(Waiting { id, source, rung: Rung::Silent, since: now });
        (id, self.send_away(leaves))
    }

    /// Somebody has come further. Nobody who has gone comes further.
    pub fn climb(&mut self, id: Id, rung: Rung, now: Instant) {
        if let Some(it) = self.waiting.iter_mut().find(|it| it.id == id) {
            (it.rung, it.since) = (rung, now);
        }
    }

    /// Somebody asks for a process. `random` decides who has to go, and whether that is so early.
    pub fn start(&mut self, id: Id, now: Instant, random: u32) -> Turn {
        let Some(it) = self.waiting.iter().find(|it| it.id == id) else { return Turn::Later };
        let turn = self.turn(it, now, random);
        match turn {
            Turn::Now(leaves) => {
                self.send_away(leaves);
                self.climb(id, Rung::Started, now);
            }
            Turn::Later => self.climb(id, Rung::Held, now),
        }
        turn
    }

    fn turn(&self, newcomer: &Waiting, now: Instant, random: u32) -> Turn {
        let Capacity { early, processes, per_source, .. } = self.capacity;
        let own = |it: &Waiting| it.rung.has_process() && it.source == newcomer.source;
        let (all, mine) = (self.count(|it| it.rung.has_process()), self.count(own));
        if all < early && mine < per_source {
            return Turn::Now(None);
        }
        // A source that has many more than this one makes room at once. None has more than its share.
        if mine + MANY_MORE <= per_source && mine + MANY_MORE <= self.largest_count(|it| it.rung.has_process()) {
            let leaves = || self.of_largest_source(|it| it.rung.has_process(), random);
            let due = all >= processes || drops_early(all, early, processes, random >> 16);
            return Turn::Now(due.then(leaves).flatten());
        }
        // Among equals, those who wait already are no worse than who comes just now.
        if newcomer.rung == Rung::Silent && self.waiting.iter().any(|it| it.rung == Rung::Held) {
            return Turn::Later;
        }
        if mine >= per_source {
            return self
                .least_far(|it| own(it) && it.is_late(now), random)
                .map_or(Turn::Later, |id| Turn::Now(Some(id)));
        }
        // Nobody goes for a source that has more.
        let counts = self.counts(|it| it.rung.has_process());
        let no_smaller = |it: &Waiting| counts[&it.source] >= mine;
        let late = self.least_far(|it| it.rung.has_process() && no_smaller(it) && it.is_late(now), random);
        match late {
            None if all >= processes => Turn::Later,
            late => Turn::Now(late.filter(|_| drops_early(all, early, processes, random >> 16))),
        }
    }

    pub fn leave(&mut self, id: Id) {
        self.waiting.retain(|it| it.id != id);
    }

    /// Everybody.
    pub fn clear(&mut self) -> Vec<Id> {
        self.waiting.drain(..).map(|it| it.id).collect()
    }

    /// One of the sources that have most of those.
    fn of_largest_source(&self, among: impl Fn(&Waiting) -> bool, random: u32) -> Option<Id> {
        let counts = self.counts(&among);
        let most = counts.values().max().copied()?;
        self.least_far(|it| among(it) && counts[&it.source] == most, random)
    }

    fn largest_count(&self, among: impl Fn(&Waiting) -> bool) -> usize {
        self.counts(among).into_values().max().unwrap_or(0)
    }

    fn counts(&self, among: impl Fn(&Waiting) -> bool) -> HashMap<&Source, usize> {
        let mut counts = HashMap::new();
        for it in self.waiting.iter().filter(|it| among(it)) {
            *counts.entry(&it.source).or_default() += 1;
        }
        counts
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
        let chance =
            |count| (0..0x1_0000).filter(|random| drops_early(count, 10, 100, *random)).count() * 100 / 0x1_0000;
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
}
