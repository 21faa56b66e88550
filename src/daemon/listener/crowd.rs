//! Those that have not logged in, and who of them has to go. Pure; chance and time are arguments.
//!
//! sshd refuses newcomers when many are waiting (MaxStartups, PerSourceMaxStartups): then a flood that keeps its
//! connections open keeps everybody out until their time is up. Here somebody of the source that has most makes room, of
//! those that have come least far, by chance. Among equals nobody goes who has not had time for a login; until somebody
//! has, newcomers wait, and chance decides who is next. So a flood from one source drives out itself; one from many sources, or
//! from the owner's own address, makes the owner wait for some seconds, and then he has time enough.
//!
//! The same holds for each hub by itself, with smaller numbers: the connection to it has few channels, and whoever finds none
//! free is refused by the SSH client, before anybody could make room here.

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
/// Connections without a process through one hub. With [`HUB_PROCESSES`], three quarters of the channels of the connection
/// to it (`flow::table::MAX_CHANNELS`): the others are for who comes next, for who has just been sent away, and for who has
/// logged in.
const HUB_GREETED: usize = 24;
/// Processes of connections through one hub that have not logged in, whatever addresses it claims; no more than one source
/// may have.
const HUB_PROCESSES: usize = 24;

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
        let greeted = |it: &Waiting| !it.rung.has_process();
        let of_hub = |it: &Waiting| greeted(it) && it.source.hub() == source.hub();
        let leaves = if source.hub().is_some() && self.count(of_hub) >= HUB_GREETED {
            self.of_largest_source(of_hub, random)
        } else if self.count(greeted) >= self.capacity.greeted {
            self.of_largest_source(greeted, random)
        } else {
            None
        };
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
        if let Some(hub) = newcomer.source.hub() {
            let share = HUB_PROCESSES.min(self.capacity.per_source);
            let capacity = Capacity { early: share, processes: share, per_source: share, ..self.capacity };
            let turn = self.turn_among(|it| it.source.hub() == Some(hub), capacity, newcomer, now, random);
            if turn != Turn::Now(None) {
                return turn; // who goes for it makes room among all as well
            }
        }
        self.turn_among(|_| true, self.capacity, newcomer, now, random)
    }

    /// As if there were only those.
    fn turn_among(
        &self,
        among: impl Fn(&Waiting) -> bool,
        capacity: Capacity,
        newcomer: &Waiting,
        now: Instant,
        random: u32,
    ) -> Turn {
        let Capacity { early, processes, per_source, .. } = capacity;
        let started = |it: &Waiting| it.rung.has_process() && among(it);
        let own = |it: &Waiting| started(it) && it.source == newcomer.source;
        let (all, mine) = (self.count(started), self.count(own));
        if all < early && mine < per_source {
            return Turn::Now(None);
        }
        // A source that has many more than this one makes room at once. None has more than its share.
        if mine + MANY_MORE <= per_source && mine + MANY_MORE <= self.largest_count(started) {
            let leaves = || self.of_largest_source(started, random);
            let due = all >= processes || drops_early(all, early, processes, random >> 16);
            return Turn::Now(due.then(leaves).flatten());
        }
        // Among equals, those who wait already are no worse than who comes just now.
        if newcomer.rung == Rung::Silent && self.waiting.iter().any(|it| among(it) && it.rung == Rung::Held) {
            return Turn::Later;
        }
        if mine >= per_source {
            return self
                .least_far(|it| own(it) && it.is_late(now), random)
                .map_or(Turn::Later, |id| Turn::Now(Some(id)));
        }
        // Nobody goes for a source that has more.
        let counts = self.counts(started);
        let no_smaller = |it: &Waiting| counts[&it.source] >= mine;
        let late = self.least_far(|it| started(it) && no_smaller(it) && it.is_late(now), random);
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
mod tests;
