//! Why the daemon ends: a signal (systemd's stop at hand-over), `vestibule stop` (the hand-over hook of other
//! initramfs), or the end of the one session that `serve --once` serves.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Signal(&'static str),
    Asked,
    Served,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Signal(name) => write!(f, "{name}"),
            Self::Asked => f.write_str("vestibule stop"),
            Self::Served => f.write_str("the one session of --once is over"),
        }
    }
}

/// Asks the daemon to end. Any number of times; the first counts.
#[derive(Clone)]
pub struct Stopper(mpsc::Sender<Reason>);

/// Waits for a reason to end.
pub struct Lifecycle {
    asked: mpsc::Receiver<Reason>,
    signals: [(tokio::signal::unix::Signal, &'static str); 2],
}

impl Stopper {
    pub fn stop(&self) {
        // A full or closed queue means that the daemon is ending already.
        let _ = self.0.try_send(Reason::Asked);
    }

    pub fn served(&self) {
        let _ = self.0.try_send(Reason::Served); // as above
    }
}

impl Lifecycle {
    /// From now on these signals are ours: they no longer kill the process.
    pub fn start() -> std::io::Result<(Self, Stopper)> {
        let (sender, asked) = mpsc::channel(1);
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        // A hang-up of the console that started us is no reason to leave somebody locked out.
        drop(signal(SignalKind::hangup())?);
        Ok((Self { asked, signals: [(terminate, "SIGTERM"), (interrupt, "SIGINT")] }, Stopper(sender)))
    }

    pub async fn reason(&mut self) -> Reason {
        let [(terminate, first), (interrupt, second)] = &mut self.signals;
        tokio::select! {
            _ = terminate.recv() => Reason::Signal(first),
            _ = interrupt.recv() => Reason::Signal(second),
            Some(reason) = self.asked.recv() => reason,
        }
    }

    /// A signal alone: being asked once more changes nothing.
    pub async fn signal(&mut self) {
        let [(terminate, _), (interrupt, _)] = &mut self.signals;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
