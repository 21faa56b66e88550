//! Penalties for sources whose connections come to nothing. Pure.
//!
//! As PerSourcePenalties of sshd_config(5), with one difference: nobody is ever refused. A source that has made too many
//! fruitless connections is held back for some seconds before its next one gets a process, because the owner may share
//! the address of the attacker (NAT), and a refusal would last for as long as the attacker goes on. Penalties fade by
//! themselves, a second each second, and a login clears them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::origin::Source;

/// Penalties up to this sum have no effect: mistyped options and an agent with other keys are no attack.
const FREE: Duration = Duration::from_secs(10);
/// No sum is more than this: a minute after an attack everything is forgotten.
const MOST: Duration = Duration::from_secs(60);
/// Nobody is held back for longer than this: so long that others go first, so short that a person waits for it.
const LONGEST_HOLD: Duration = Duration::from_secs(3);
/// Sources that are remembered, of some 100 bytes each. If there are more, the one with the least penalty is forgotten:
/// a flood from many sources costs the owner nothing, who has none.
const SOURCES: usize = 4096;

/// Why a connection that had a process came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// It left, or was sent away, without having tried a key.
    NoAttempt,
    /// Its keys were refused.
    Refused,
    /// It did not log in in time.
    TooSlow,
    /// Its session process crashed, or did what a session never does.
    Crash,
}

impl Offence {
    /// In the proportions of sshd's noauth (1 s), authfail (5 s), grace-exceeded (10 s) and crash (90 s).
    fn penalty(self) -> Duration {
        Duration::from_secs(match self {
            Self::NoAttempt => 1,
            Self::Refused => 3,
            Self::TooSlow => 5,
            Self::Crash => 30,
        })
    }
}

#[derive(Default)]
pub struct Penalties(HashMap<Source, Penalty>);

struct Penalty {
    sum: Duration,
    at: Instant,
}

impl Penalty {
    fn left(&self, now: Instant) -> Duration {
        self.sum.saturating_sub(now.saturating_duration_since(self.at))
    }
}

impl Penalties {
    pub fn add(&mut self, source: &Source, offence: Offence, now: Instant) {
        if self.0.len() >= SOURCES && !self.0.contains_key(source) {
            self.0.retain(|_, penalty| !penalty.left(now).is_zero());
            let least = self.0.iter().min_by_key(|(_, penalty)| penalty.left(now)).map(|(source, _)| source.clone());
            if let Some(least) = least.filter(|_| self.0.len() >= SOURCES) {
                self.0.remove(&least);
            }
        }
        let penalty = self.0.entry(source.clone()).or_insert(Penalty { sum: Duration::ZERO, at: now });
        *penalty = Penalty { sum: (penalty.left(now) + offence.penalty()).min(MOST), at: now };
    }

    /// How long the source's next connection is held back: a random time, so that of several that are held, none is
    /// ahead by more than chance.
    pub fn hold(&self, source: &Source, now: Instant, random: u32) -> Duration {
        let Some(penalty) = self.0.get(source) else { return Duration::ZERO };
        let longest = penalty.left(now).saturating_sub(FREE).min(LONGEST_HOLD);
        longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Somebody has logged in from there.
    pub fn forgive(&mut self, source: &Source) {
        self.0.remove(source);
    }
}

#[cfg(test)]
mod tests {
    use super::super::origin::Origin;
    use super::*;

    fn from(n: u32) -> Source {
        Origin::Network(n.to_be_bytes().into()).source()
    }

    fn longest(penalties: &Penalties, source: &Source, now: Instant) -> Duration {
        penalties.hold(source, now, u32::MAX)
    }

    #[test]
    fn mistakes_are_free_floods_are_held_and_forgotten() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for _ in 0..3 {
            penalties.add(&from(1), Offence::Refused, now);
        }
        assert_eq!(longest(&penalties, &from(1), now), Duration::ZERO, "three wrong keys are no attack");
        penalties.add(&from(1), Offence::Refused, now);
        assert_eq!(longest(&penalties, &from(1), now), Duration::from_secs(2));
        assert_eq!(penalties.hold(&from(1), now, 0), Duration::ZERO, "by chance");
        assert_eq!(longest(&penalties, &from(2), now), Duration::ZERO, "nobody else");
        for _ in 0..1000 {
            penalties.add(&from(1), Offence::Crash, now);
        }
        assert_eq!(longest(&penalties, &from(1), now), LONGEST_HOLD);
        assert_eq!(longest(&penalties, &from(1), now + MOST - FREE), Duration::ZERO);
    }

    #[test]
    fn penalties_fade_and_a_login_clears_them() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for second in 0..100 {
            penalties.add(&from(1), Offence::NoAttempt, now + Duration::from_secs(second));
        }
        let then = now + Duration::from_secs(99);
        assert_eq!(longest(&penalties, &from(1), then), Duration::ZERO, "one each second is no flood");
        penalties.add(&from(1), Offence::Crash, then);
        assert_eq!(longest(&penalties, &from(1), then), LONGEST_HOLD);
        penalties.forgive(&from(1));
        assert_eq!(longest(&penalties, &from(1), then), Duration::ZERO);
    }

    #[test]
    fn many_sources_do_not_fill_it() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for _ in 0..4 {
            penalties.add(&from(0), Offence::Crash, now);
        }
        for n in 1..3 * SOURCES as u32 {
            penalties.add(&from(n), Offence::TooSlow, now);
        }
        assert_eq!(penalties.0.len(), SOURCES);
        assert_eq!(longest(&penalties, &from(0), now), LONGEST_HOLD, "the worst is not forgotten for the many");
        penalties.add(&from(u32::MAX), Offence::NoAttempt, now + MOST);
        assert_eq!(penalties.0.len(), 1, "what has faded makes room first");
    }
}
