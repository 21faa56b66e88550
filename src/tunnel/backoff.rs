//! How long to wait until the hub is dialled again. Pure: chance and times are arguments.

use std::time::Duration;

/// After the first failure: a hub that restarts is back after some seconds.
const FIRST: Duration = Duration::from_secs(1);
/// At most: what a person who has mended something is ready to wait.
const LONGEST: Duration = Duration::from_secs(60);
/// A connection that has lasted so long was a good one. One that ends at once, again and again, isn't dialled more often than
/// one that never comes to be.
const GOOD: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait now: between half of it and all of it by `chance` (0 to 255), so that not all machines come at
    /// the same moment when a hub has restarted.
    pub fn next(&mut self, chance: u8) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole / 2 + (whole / 2) * u32::from(chance) / 255
    }

    /// The connection has ended after so long.
    pub fn lasted(&mut self, so_long: Duration) {
        if so_long >= GOOD {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_and_longer_but_not_too_long() {
        let mut backoff = Backoff::default();
        let seconds: Vec<u64> = (0..9).map(|_| backoff.next(255).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.next(0).as_secs(), 30);
        backoff.lasted(GOOD / 2);
        assert_eq!(backoff.next(255), LONGEST);
        backoff.lasted(GOOD);
        assert_eq!(backoff.next(0), FIRST / 2);
    }
}
