//! How many streams need the hub now.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Demand(Arc<watch::Sender<usize>>);

/// Needs the hub until dropped.
pub struct Wanted(Demand);

impl Demand {
    pub fn want(&self) -> Wanted {
        self.0.send_modify(|count| *count += 1);
        Wanted(self.clone())
    }

    pub fn is_there(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Until somebody needs it.
    pub async fn wanted(&self) {
        self.wait_for(|count| count > 0).await;
    }

    /// Until nobody has needed it for so long; for ever if it is not on demand.
    pub async fn idle(&self, after: Option<Duration>) {
        let Some(after) = after else { return std::future::pending().await };
        loop {
            self.wait_for(|count| count == 0).await;
            if timeout(after, self.wanted()).await.is_err() {
                return;
            }
        }
    }

    async fn wait_for(&self, holds: impl Fn(usize) -> bool) {
        // An error would mean that the sender is gone, which is here.
        let _ = self.0.subscribe().wait_for(|count| holds(*count)).await;
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_when_the_last_one_has_gone() {
        const MOMENT: Duration = Duration::from_millis(1);
        let demand = Demand::default();
        let (first, second) = (demand.want(), demand.want());
        demand.wanted().await;
        let idle = demand.idle(Some(MOMENT));
        tokio::pin!(idle);
        drop(first);
        assert!(timeout(50 * MOMENT, &mut idle).await.is_err(), "somebody needs it still");
        drop(second);
        idle.await;
        assert!(timeout(50 * MOMENT, demand.idle(None)).await.is_err(), "it is not on demand");
    }
}
