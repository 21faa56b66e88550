//! How streams come in that are no connections to our own port: whoever has one brings it here, and it is served like
//! those, with the same limits.

use std::os::fd::OwnedFd;

use anyhow::bail;
use tokio::sync::mpsc;

use super::origin::Origin;

/// Streams that wait to be taken in, which takes no longer than one task takes to start.
const WAITING: usize = 16;

/// Any number of these lead to one listener.
#[derive(Clone)]
pub struct Entrance(mpsc::Sender<Arrival>);

/// A stream and where it comes from.
pub struct Arrival {
    /// A connected stream socket of any family, blocking or not.
    pub stream: OwnedFd,
    pub origin: Origin,
}

impl Entrance {
    /// One end for those who bring streams, and the listener's.
    pub fn new() -> (Self, mpsc::Receiver<Arrival>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Waits for a moment while many come. An error where there is no listener, or none any more: the stream is closed.
    pub async fn enter(&self, arrival: Arrival) -> anyhow::Result<()> {
        if self.0.send(arrival).await.is_err() {
            bail!("SSH is not served, or no longer");
        }
        Ok(())
    }
}
