//! What one of `[[notify]]` is told, and when. Pure: snapshots of the status and the time go in.
//!
//! There is no queue. What should be told follows from what is the case now, and from what has been told; so nobody is
//! told late of what is over, nor twice of the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::config::notify::Events;
use crate::control::message::{Kind, Phase, Question, Status};

/// Failures and successes often come in company (several volumes; given up, then the emergency shell): in one message.
const SETTLE: Duration = Duration::from_secs(3);
/// Requests in [`WINDOW`] at most, those that fail among them. A machine that goes in circles must not flood anybody.
const MOST: usize = 20;
const WINDOW: Duration = Duration::from_secs(3600);
/// After a first failure; doubled with each, up to [`LONGEST_PAUSE`], give or take a quarter.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Questions have been open for too long.
    Waiting,
    /// A volume was given up, or the boot is held by an emergency shell.
    Failed,
    /// Everything that was asked for is open. Once in a boot.
    Unlocked,
}

/// Times are those since some start.
pub struct Rules {
    after: Duration,
    on: Events,
    /// Questions that are open, by what they are about, and since when.
    asked: BTreeMap<String, Duration>,
    /// What has failed and still has, and since when. See [`failures`].
    failed: BTreeMap<String, Duration>,
    /// Since when everything is open.
    open: Option<Duration>,
    /// The volumes of all questions that there have been; `None` for those without a name.
    volumes: BTreeSet<Option<String>>,
    told_asked: BTreeSet<String>,
    told_failed: BTreeSet<String>,
    told_open: bool,
    addresses: Vec<String>,
    attempts: VecDeque<Duration>,
    failures_in_a_row: u32,
    not_before: Duration,
}

/// A message that is on its way: what has been told once it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    pub event: Event,
    what: Vec<String>,
}

impl Rules {
    pub fn new(after: Duration, on: Events) -> Self {
        Self {
            after,
            on,
            asked: BTreeMap::new(),
            failed: BTreeMap::new(),
            open: None,
            volumes: BTreeSet::new(),
            told_asked: BTreeSet::new(),
            told_failed: BTreeSet::new(),
            told_open: false,
            addresses: Vec::new(),
            attempts: VecDeque::new(),
            failures_in_a_row: 0,
            not_before: Duration::ZERO,
        }
    }

    /// What is the case since `now`.
    pub fn observe(&mut self, status: &Status, now: Duration) {
        keep(&mut self.asked, questions(status).map(subject), now);
        keep(&mut self.failed, failures(status), now);
        // What was given up, asked for again and given up again is new; so is a second emergency.
        self.told_failed.retain(|what| self.failed.contains_key(what));
        self.volumes.extend(questions(status).map(|question| question.volume.clone()));
        self.open = self.is_open(status).then(|| self.open.unwrap_or(now));
        let addresses: Vec<String> = status.network.iter().flat_map(|link| link.addresses.clone()).collect();
        if addresses != self.addresses {
            // What failed for want of a network need not wait any longer.
            (self.addresses, self.failures_in_a_row, self.not_before) = (addresses, 0, now);
        }
    }

    /// When there will be something to tell, if nothing changes until then; it may be in the past.
    pub fn next(&self) -> Option<Duration> {
        let (_, at) = self.wanted()?;
        let full = self.attempts.len() >= MOST;
        let freed = self.attempts.front().filter(|_| full).map_or(Duration::ZERO, |oldest| *oldest + WINDOW);
        Some(at.max(self.not_before).max(freed))
    }

    /// What is to be told now, as an attempt that is made.
    pub fn due(&mut self, now: Duration) -> Option<Telling> {
        self.forget(now);
        self.next().filter(|at| *at <= now)?;
        let (event, _) = self.wanted()?;
        Some(self.attempt(event, now))
    }

    /// What is to be told at hand-over, when there is no later: that everything is open, even if the last try failed.
    pub fn last(&mut self, now: Duration) -> Option<Telling> {
        self.forget(now);
        let open = self.on.unlocked && self.open.is_some() && !self.told_open && self.attempts.len() < MOST;
        open.then(|| self.attempt(Event::Unlocked, now))
    }

    pub fn sent(&mut self, telling: &Telling) {
        self.failures_in_a_row = 0;
        match telling.event {
            Event::Waiting => self.told_asked.extend(telling.what.iter().cloned()),
            Event::Failed => self.told_failed.extend(telling.what.iter().cloned()),
            Event::Unlocked => self.told_open = true,
        }
    }

    /// `random` keeps many machines, which lost the same server, from coming back at the same moment.
    pub fn not_sent(&mut self, now: Duration, random: u8) {
        let pause = FIRST_PAUSE * 2u32.saturating_pow(self.failures_in_a_row.min(10));
        let pause = pause.min(LONGEST_PAUSE);
        // From 3/4 to 5/4 of it.
        self.not_before = now + pause * 3 / 4 + pause * u32::from(random) / (2 * 255);
        self.failures_in_a_row += 1;
    }

    /// The event that comes first, and when.
    fn wanted(&self) -> Option<(Event, Duration)> {
        let untold = |all: &BTreeMap<String, Duration>, told: &BTreeSet<String>| {
            all.iter().filter(|(what, _)| !told.contains(*what)).map(|(_, since)| *since).min()
        };
        let failed = untold(&self.failed, &self.told_failed).filter(|_| self.on.failed);
        let open = self.open.filter(|_| self.on.unlocked && !self.told_open);
        let asked = untold(&self.asked, &self.told_asked).filter(|_| self.on.waiting);
        let all = [
            failed.map(|since| (Event::Failed, since + SETTLE)),
            open.map(|since| (Event::Unlocked, since + SETTLE)),
            asked.map(|since| (Event::Waiting, since + self.after)),
        ];
        all.into_iter().flatten().min_by_key(|(_, at)| *at)
    }

    /// At hand-over nothing is asked any more, which proves nothing: then every volume counts by its name.
    fn is_open(&self, status: &Status) -> bool {
        let is_open = |name: &Option<String>| {
            name.as_ref().is_some_and(|name| status.unlocked.iter().any(|volume| volume.name == *name))
        };
        let proved = match status.phase {
            Phase::Unlocked => true,
            Phase::HandOver => self.open.is_some() || (!self.volumes.is_empty() && self.volumes.iter().all(is_open)),
            Phase::Booting | Phase::Asking | Phase::Failed => false,
        };
        proved && self.asked.is_empty() && self.failed.is_empty()
    }

    /// Attempts that no longer count.
    fn forget(&mut self, now: Duration) {
        while self.attempts.front().is_some_and(|oldest| *oldest + WINDOW <= now) {
            self.attempts.pop_front();
        }
    }

    fn attempt(&mut self, event: Event, now: Duration) -> Telling {
        self.attempts.push_back(now);
        let what = match event {
            Event::Waiting => self.asked.keys().cloned().collect(),
            Event::Failed => self.failed.keys().cloned().collect(),
            Event::Unlocked => Vec::new(),
        };
        Telling { event, what }
    }
}

/// What somebody could answer, and the machine waits for; not what is only there in case.
pub fn questions(status: &Status) -> impl Iterator<Item = &Question> {
    status.questions.iter().filter(|question| !question.is_recovery())
}

/// The same for each try at the same volume.
fn subject(question: &Question) -> String {
    let name = question.volume.as_ref().or(question.device.as_ref()).unwrap_or(&question.message);
    let kind = match question.kind {
        Kind::Passphrase => "passphrase",
        Kind::Pin => "PIN",
        Kind::Key => "key",
    };
    format!("{kind} {name}")
}

/// Volumes that were given up, and an emergency; the words of an emergency may change while it lasts.
fn failures(status: &Status) -> impl Iterator<Item = String> {
    let gave_up = status.gave_up.iter().map(|volume| format!("volume {}", volume.name));
    gave_up.chain(status.emergency.as_ref().map(|_| "emergency".to_owned()))
}

/// `all` with what is new since `now`, and without what is over.
fn keep(all: &mut BTreeMap<String, Duration>, seen: impl Iterator<Item = String>, now: Duration) {
    *all = seen.map(|what| (all.get(&what).copied().unwrap_or(now), what)).map(|(since, what)| (what, since)).collect();
}

#[cfg(test)]
mod tests;
