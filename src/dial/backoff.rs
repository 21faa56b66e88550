//! How long to wait before a hub is dialled again. Pure.

use std::time::Duration;

/// A hub that was restarted is there again within seconds.
const FIRST: Duration = Duration::from_secs(1);
/// A hub that is away for days is found within a minute, and is not bothered more often than that.
const LONGEST: Duration = Duration::from_secs(60);
/// A connection that has lasted so long was a good one, and the next is tried at once again.
const GOOD: Duration = Duration::from_secs(30);

/// Doubles with each attempt in vain.
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// After a connection at which the hub has listened for so long. `random` is any number: hundreds of machines that have
    /// lost the same hub should not all come back at once.
    pub fn wait(&mut self, listened: Duration, random: u32) -> Duration {
        if listened >= GOOD {
            self.0 = FIRST;
        }
        let half = self.0 / 2;
        self.0 = (self.0 * 2).min(LONGEST);
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_minute_and_begins_anew_after_a_good_connection() {
        let mut backoff = Backoff::default();
        let seconds = |wait: Duration| wait.as_secs_f64();
        let waits: Vec<f64> = (0..9).map(|_| seconds(backoff.wait(Duration::ZERO, u32::MAX))).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
        assert_eq!(seconds(backoff.wait(Duration::from_secs(29), 0)), 30.0, "jitter takes half away at most");
        assert_eq!(seconds(backoff.wait(Duration::from_secs(30), 0)), 0.5);
    }
}
