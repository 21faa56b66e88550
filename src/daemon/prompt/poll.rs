//! Sources that find their askers by looking at processes, again and again: nothing announces a read of a terminal.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::{Prompt, Prompts};

/// What looks. `look` brings its prompts up to date; it neither waits nor publishes.
pub trait Scan: Send + 'static {
    fn look(&mut self);
    fn prompts(&self) -> impl Iterator<Item = &Prompt> + Send;
}

/// Looks every so often, and at once when `changed` is notified (an answer's story ended), and publishes what has changed;
/// until nobody reads it any more.
pub fn start(mut scan: impl Scan, every: Duration, changed: Arc<Notify>) -> watch::Receiver<Prompts> {
    let (publish, receiver) = watch::channel(Prompts::from([]));
    crate::task::spawn(async move {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = changed.notified() => {}
                () = publish.closed() => return,
            }
            scan.look();
            let now = scan.prompts().map(|prompt| prompt.question.id);
            if !now.eq(publish.borrow().iter().map(|prompt| prompt.question.id)) {
                publish.send_replace(scan.prompts().cloned().collect());
            }
        }
    });
    receiver
}
