//! Holding the boot: at hand-over it waits, while somebody is still at work, until that is released or its time is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::ready;

/// A day. Whoever needs longer asks again.
const MAX_SECONDS: u32 = 86_400;
/// Holds at once; only one counts, so more are a mistake or mischief.
const MAX_HOLDS: usize = 16;
/// How often those that wait for the daemon's end are told that it lives. Below their patience (`STOP_DEADLINE` in
/// cli.rs, `TimeoutStopSec` in vestibule.service), so that a daemon that hangs can't hold the boot.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// How long systemd is asked to wait for the next one: the daemon may still need the unit's own `TimeoutStopSec` when
/// a hold has just ended.
const PATIENCE: Duration = Duration::from_secs(30);
/// The text about a hold changes that often.
const MINUTE: Duration = Duration::from_secs(60);

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Holds(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    holds: Vec<Hold>,
    last: u64,
    /// The hand-over has come.
    waiting: bool,
}

struct Hold {
    number: u64,
    until: Instant,
    /// It ends with its session.
    bound: bool,
}

/// A hold that ends when this is dropped.
pub struct Held {
    holds: Holds,
    number: u64,
}

impl Holds {
    /// Holds the boot from now on, until it is released, for so long at most. In place of an earlier one.
    pub fn hold(&self, seconds: u32) -> Result<(), String> {
        self.add(seconds, false).map(drop)
    }

    /// The same, for no longer than what is returned lives.
    pub fn hold_while(&self, seconds: u32) -> Result<Held, String> {
        Ok(Held { holds: self.clone(), number: self.add(seconds, true)? })
    }

    fn add(&self, seconds: u32, bound: bool) -> Result<u64, String> {
        let mut added = Err(String::new());
        self.0.send_modify(|state| added = state.add(seconds, bound, Instant::now()));
        let number = added?;
        log::info!("the boot will wait at hand-over until it is released (vestibule release), for {seconds} s at most");
        Ok(number)
    }

    /// Ends all holds.
    pub fn release(&self) {
        if self.0.send_if_modified(|state| !std::mem::take(&mut state.holds).is_empty()) {
            log::info!("the boot is no longer held");
        }
    }

    /// In a sentence, if there is a hold.
    pub fn in_words(&self) -> Option<String> {
        self.0.borrow().in_words(Instant::now())
    }

    /// Tells when what is said in words may be another. The first is to be asked for right away.
    pub fn watch(&self) -> Watch {
        Watch(self.0.subscribe())
    }

    /// At hand-over: returns when nothing holds the boot. `enough` ends it as well.
    pub async fn wait(&self, enough: impl Future) {
        let mut signs = self.signs_of_life();
        let Some(words) = self.in_words() else { return };
        log::warn!("{words}: vestibule release lets it go on");
        let over = async {
            while signs.recv().await.is_some() {
                ready::extend_stop(PATIENCE);
            }
        };
        tokio::select! {
            () = over => {}
            _ = enough => self.release(),
        }
    }

    /// The hand-over has come: what to wait for, said now and then as long as something holds the boot.
    pub fn signs_of_life(&self) -> mpsc::Receiver<String> {
        self.0.send_modify(|state| state.waiting = true);
        let (sender, signs) = mpsc::channel(1);
        let holds = self.clone();
        crate::task::spawn(async move {
            let mut watch = holds.watch();
            let mut sent = None;
            loop {
                let now = Instant::now();
                let Some(words) = holds.0.borrow().in_words(now) else { return };
                if sent.is_none_or(|sent| now >= sent + SIGN_OF_LIFE) {
                    if sender.send(words).await.is_err() {
                        return;
                    }
                    sent = Some(now);
                }
                tokio::select! {
                    () = sleep(SIGN_OF_LIFE) => {}
                    () = watch.changed() => {}
                    () = sender.closed() => return,
                }
            }
        });
        signs
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holds.0.send_if_modified(|state| {
            let before = state.holds.len();
            state.holds.retain(|hold| hold.number != self.number);
            state.holds.len() < before
        });
    }
}

impl State {
    fn add(&mut self, seconds: u32, bound: bool, now: Instant) -> Result<u64, String> {
        if !(1..=MAX_SECONDS).contains(&seconds) {
            return Err(format!("the boot can be held for 1 to {MAX_SECONDS} s"));
        }
        self.holds.retain(|hold| hold.until > now && (hold.bound || bound));
        if self.holds.len() >= MAX_HOLDS {
            return Err(format!("the boot is held {MAX_HOLDS} times already"));
        }
        self.last += 1;
        self.holds.push(Hold { number: self.last, until: now + Duration::from_secs(seconds.into()), bound });
        Ok(self.last)
    }

    fn until(&self, now: Instant) -> Option<Instant> {
        self.holds.iter().map(|hold| hold.until).filter(|until| *until > now).max()
    }

    fn in_words(&self, now: Instant) -> Option<String> {
        let left = self.until(now)? - now;
        let verb = if self.waiting { "waits" } else { "will wait at hand-over" };
        let left = match left.as_nanos().div_ceil(MINUTE.as_nanos()) {
            1 => "a minute".to_owned(),
            minutes => format!("{minutes} minutes"),
        };
        Some(format!("the boot {verb} until it is released, for {left} at most"))
    }

    /// When that is another sentence: when another minute has passed, the last of which is the end.
    fn next_words(&self, now: Instant) -> Option<Instant> {
        let left = self.until(now)? - now;
        let part = Duration::from_nanos((left.as_nanos() % MINUTE.as_nanos()) as u64);
        Some(now + if part.is_zero() { MINUTE } else { part })
    }
}

/// See [`Holds::watch`].
pub struct Watch(watch::Receiver<State>);

impl Watch {
    pub async fn changed(&mut self) {
        let now = Instant::now();
        let next = self.0.borrow().next_words(now);
        tokio::select! {
            changed = self.0.changed() => if changed.is_err() {
                std::future::pending().await // nobody can hold it any more
            },
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn minutes(state: &State, now: Instant) -> String {
        let words = state.in_words(now).unwrap_or_default();
        words.split_once("for ").map_or("", |(_, rest)| rest).to_owned()
    }

    #[test]
    fn the_last_command_counts_and_each_session() {
        let (mut state, now) = (State::default(), Instant::now());
        for (seconds, bound, words) in [
            (150, false, "3 minutes at most"),
            (3600, false, "60 minutes at most"),
            (61, false, "2 minutes at most"), // in place of the one before
            (600, true, "10 minutes at most"),
            (120, true, "10 minutes at most"),
        ] {
            state.add(seconds, bound, now).unwrap();
            assert_eq!(minutes(&state, now), words);
        }
        assert_eq!(minutes(&state, now + seconds(541)), "a minute at most");
        assert_eq!(state.in_words(now + seconds(600)), None);
        for seconds in [0, MAX_SECONDS + 1] {
            assert!(state.add(seconds, false, now).is_err());
        }
        let taken = (0..MAX_HOLDS).filter(|_| state.add(9, true, now).is_ok()).count();
        assert_eq!(taken, MAX_HOLDS - 3, "three were there");
        assert!(state.add(9, true, now + seconds(9)).is_ok(), "those that are over make room");
    }

    #[test]
    fn what_is_said_follows_the_minutes() {
        let (mut state, mut now) = (State::default(), Instant::now());
        assert_eq!(state.next_words(now), None);
        state.add(125, false, now).unwrap();
        let mut said = Vec::new();
        while let Some(next) = state.next_words(now) {
            said.push(minutes(&state, now));
            assert_eq!(minutes(&state, next - Duration::from_millis(1)), *said.last().unwrap());
            now = next;
        }
        assert_eq!(said, ["3 minutes at most", "2 minutes at most", "a minute at most"]);
    }

    #[tokio::test]
    async fn the_boot_waits_for_what_is_left() {
        let never = std::future::pending::<()>;
        let holds = Holds::default();
        holds.wait(never()).now_or_never().expect("nothing holds it");
        let start = Instant::now();
        holds.hold(1).unwrap();
        holds.wait(never()).await;
        assert!(start.elapsed() >= seconds(1), "until it is over");

        holds.hold(3600).unwrap();
        let held = holds.hold_while(3600).unwrap();
        let mut waiting = Box::pin(holds.wait(never()));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(holds.in_words().unwrap().starts_with("the boot waits until it is released, for 60 minutes"));
        drop(held);
        assert!(waiting.as_mut().now_or_never().is_none());
        holds.release();
        waiting.await;

        let held = holds.hold_while(3600).unwrap();
        holds.wait(std::future::ready(())).await;
        assert_eq!(holds.in_words(), None, "a signal ends it");
        drop(held);
    }

    #[tokio::test]
    async fn signs_of_life_end_with_the_hold() {
        let holds = Holds::default();
        assert_eq!(holds.signs_of_life().recv().await, None);
        holds.hold(3600).unwrap();
        let mut signs = holds.signs_of_life();
        assert!(signs.recv().await.unwrap().contains("60 minutes"));
        holds.release();
        assert_eq!(signs.recv().await, None);
    }
}
