//! Who is connected, for the limits: the crowd, the penalties and the logins behind one lock, and each connection's place.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::capacity::Capacity;
use super::crowd::{Crowd, Id, Rung, Turn};
use super::origin::Source;
use super::penalty::{Offence, Penalties};
use super::quiet::Quiet;

/// Between two times that one who waits asks for room: a thousand of them make two thousand questions a second,
/// and for a person it is short.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Census(Arc<Mutex<Counts>>);

struct Counts {
    capacity: Capacity,
    /// What time it is.
    clock: fn() -> Instant,
    crowd: Crowd,
    /// How to tell those in the crowd to go.
    told: HashMap<Id, Arc<Notify>>,
    penalties: Penalties,
    /// Connections that have logged in.
    sessions: usize,
    quiet: Quiet,
}

/// One connection's place in the census; given back on drop.
pub struct Place {
    census: Census,
    id: Id,
    source: Source,
    told: Arc<Notify>,
    logged_in: bool,
}

/// So many have logged in that there is no room for another.
#[derive(Debug)]
pub struct Full(pub usize);

impl Census {
    pub fn new(capacity: Capacity) -> Self {
        Self::with_clock(capacity, Instant::now)
    }

    fn with_clock(capacity: Capacity, clock: fn() -> Instant) -> Self {
        Self(Arc::new(Mutex::new(Counts {
            capacity,
            clock,
            crowd: Crowd::new(capacity),
            told: HashMap::new(),
            penalties: Penalties::default(),
            sessions: 0,
            quiet: Quiet::default(),
        })))
    }

    /// A newcomer always gets a place; somebody else may have to go for it.
    pub fn enter(&self, source: Source) -> Place {
        let told = Arc::new(Notify::new());
        let mut counts = self.lock();
        let now = counts.now();
        let (id, leaves) = counts.crowd.enter(source.clone(), now, chance());
        counts.told.insert(id, told.clone());
        counts.send_away(leaves);
        Place { census: self.clone(), id, source, told, logged_in: false }
    }

    /// Sends everybody away who has not logged in.
    pub fn close(&self) {
        let mut counts = self.lock();
        let all = counts.crowd.clear();
        counts.send_away(all);
    }

    /// A warning that strangers can cause as often as they like.
    pub fn warn(&self, text: impl FnOnce() -> String) {
        let mut counts = self.lock();
        let now = counts.now();
        let line = counts.quiet.line(text(), now);
        drop(counts);
        if let Some(line) = line {
            log::warn!("{line}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("no panic while held")
    }
}

impl Counts {
    fn now(&self) -> Instant {
        (self.clock)()
    }

    fn send_away(&mut self, ids: impl IntoIterator<Item = Id>) {
        for id in ids {
            if let Some(told) = self.told.remove(&id) {
                told.notify_one();
            }
        }
    }
}

impl Place {
    /// How long this connection is to be held back before it gets a process, for what others from its source did.
    pub fn hold(&self) -> Duration {
        let mut counts = self.census.lock();
        let now = counts.now();
        let hold = counts.penalties.hold(&self.source, now, chance());
        if !hold.is_zero() {
            counts.crowd.climb(self.id, Rung::Held, now);
        }
        hold
    }

    /// Room for a process now, or a time to wait before it asks again. The time is random, so that of all that wait anyone
    /// may be the next.
    pub fn start(&self) -> Result<Option<Duration>, Full> {
        let mut counts = self.census.lock();
        if counts.sessions >= counts.capacity.sessions {
            return Err(Full(counts.sessions));
        }
        let now = counts.now();
        match counts.crowd.start(self.id, now, chance()) {
            Turn::Later => Ok(Some(LONGEST_WAIT.mul_f64(f64::from(chance()) / f64::from(u32::MAX)))),
            Turn::Now(leaves) => {
                counts.send_away(leaves);
                Ok(None)
            }
        }
    }

    /// It has offered a key that would get in.
    pub fn known(&self) {
        let mut counts = self.census.lock();
        let now = counts.now();
        counts.crowd.climb(self.id, Rung::Known, now);
    }

    pub fn log_in(&mut self) {
        self.logged_in = true;
        let mut counts = self.census.lock();
        counts.sessions += 1;
        counts.penalties.forgive(&self.source);
        counts.leave(self.id);
    }

    /// It came to nothing.
    pub fn penalize(&self, offence: Offence) {
        let mut counts = self.census.lock();
        let now = counts.now();
        counts.penalties.add(&self.source, offence, now);
    }

    pub fn logged_in(&self) -> bool {
        self.logged_in
    }

    /// Until it has to make room for somebody else.
    pub fn sent_away(&self) -> impl Future<Output = ()> + Send + use<> {
        let told = self.told.clone();
        async move { told.notified().await }
    }

    pub fn warn(&self, text: impl FnOnce() -> String) {
        self.census.warn(text);
    }
}

impl Counts {
    fn leave(&mut self, id: Id) {
        self.crowd.leave(id);
        self.told.remove(&id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.census.lock();
        if self.logged_in {
            counts.sessions -= 1;
        } else {
            counts.leave(self.id);
        }
    }
}

/// Who has to go is a matter of chance that others can't foresee: a hash with a key that the standard library takes from
/// getrandom(2).
fn chance() -> u32 {
    RandomState::new().hash_one(0_u32) as u32
}

#[cfg(test)]
mod tests {
    use super::super::origin::Origin;
    use super::*;
    use futures::FutureExt;
    use std::sync::LazyLock;

    const CAPACITY: Capacity = Capacity { greeted: 40, processes: 8, early: 8, per_source: 4, sessions: 3 };

    /// For it, no time passes while a test runs.
    fn census() -> Census {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        Census::with_clock(CAPACITY, || *START)
    }

    fn from(n: u8) -> Source {
        Origin::Network([192, 0, 2, n].into()).source()
    }

    fn gone(place: &Place) -> bool {
        place.sent_away().now_or_never().is_some()
    }

    fn started(census: &Census, n: u8) -> Place {
        let place = census.enter(from(n));
        assert_eq!(place.start().unwrap(), None);
        place
    }

    #[test]
    fn a_flood_makes_room_or_waits() {
        let census = census();
        let owner = started(&census, 1);
        let flood: Vec<_> = (0..30).map(|_| census.enter(from(9))).collect();
        let waiting = flood.iter().filter_map(|place| place.start().unwrap()).count();
        assert_eq!(waiting, flood.len() - CAPACITY.per_source);
        let _others: Vec<_> = (2..5).map(|n| started(&census, n)).collect();
        let _one_more = started(&census, 5);
        assert!(!gone(&owner), "the owner is of another source");
        assert_eq!(flood.iter().filter(|place| gone(place)).count(), 1, "the flood made room");
    }

    #[test]
    fn logins_count_by_themselves_and_all_places_come_back() {
        let census = census();
        let mut places: Vec<_> = (1..=3).map(|n| started(&census, n)).collect();
        places.iter_mut().for_each(Place::log_in);
        let fourth = census.enter(from(4));
        assert_eq!(fourth.start().unwrap_err().0, 3, "no room for another login");
        census.close();
        assert!(gone(&fourth) && !gone(&places[0]), "only those that wait are sent away");
        places.pop();
        let fifth = started(&census, 5);
        drop((places, fourth, fifth));
        let mut counts = census.lock();
        assert_eq!((counts.sessions, counts.told.len(), counts.crowd.clear().len()), (0, 0, 0));
    }

    #[test]
    fn who_offends_is_held_and_who_logs_in_is_not() {
        let census = census();
        let mut place = started(&census, 1);
        assert!(place.hold().is_zero());
        (0..20).for_each(|_| place.penalize(Offence::Crash));
        let held: Vec<_> = (0..20).map(|_| census.enter(from(1)).hold()).collect();
        assert!(held.iter().any(|hold| !hold.is_zero()) && held.iter().any(|hold| *hold != held[0]), "{held:?}");
        assert!(census.enter(from(2)).hold().is_zero());
        place.log_in();
        assert!(census.enter(from(1)).hold().is_zero());
    }
}
