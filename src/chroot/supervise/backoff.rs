//! How long to wait before a service is started again. Pure.

use std::time::Duration;

/// A service that fell over once is back soon.
const FIRST: Duration = Duration::from_secs(1);
/// One that can't run costs no more than a start in a minute, and is back within one when what it lacked is there.
const LONGEST: Duration = Duration::from_secs(60);
/// After so long it did run, and whatever ended it is something new.
pub const GOOD: Duration = Duration::from_secs(60);

/// Doubles with each start in vain.
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// After a service that ran for so long.
    pub fn wait(&mut self, ran: Duration) -> Duration {
        if ran >= GOOD {
            self.0 = FIRST;
        }
        let wait = self.0;
        self.0 = (self.0 * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_minute_and_begins_anew_after_a_good_run() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.wait(Duration::ZERO).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.wait(GOOD - Duration::from_millis(1)).as_secs(), 60);
        assert_eq!(backoff.wait(GOOD).as_secs(), 1);
        assert_eq!(backoff.wait(Duration::ZERO).as_secs(), 2);
    }
}
