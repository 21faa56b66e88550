//! What came of an answer to a systemd question: observed, never guessed.
//!
//! - the volume is mapped: unlocked, whoever's answer it was;
//! - the same process asks again: refused. When our answer did not reach it, it was somebody else's that was refused;
//! - the process has ended and no volume appears: it gave up.
//!
//! `systemd-ask-password` in a script exits with the answer, and its end tells nothing. The same question from another
//! process soon after means refused. Success can be seen where something proves it (ZFS, bcachefs); otherwise there is no verdict.
//!
//! Known gap: between our datagram and the asker's next look at its socket, it may instead take another agent's answer
//! from the kernel keyring. That window is one wake-up of the asker; a refusal in it is reported as ours.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::process::Process;
use super::proof::Proof;
use super::{Kind, VERDICT_DEADLINE, Verdict};
use crate::root::Root;

/// How long after its asker's end a volume may still show up. systemd-cryptsetup maps it before it exits; sysfs follows
/// at once, even on a busy machine.
const MAPPING_GRACE: Duration = Duration::from_secs(1);
/// How long a script may take to try an answer and ask again: `zfs load-key` derives a key in about a second on a
/// weak machine.
const RETRY_WINDOW: Duration = Duration::from_secs(10);

/// A question that was seen, as far as observers need it.
#[derive(Clone)]
pub struct Asked {
    /// Later questions have higher numbers. Kept when a question is put up for answering anew.
    pub sequence: u64,
    pub process: Arc<Process>,
    pub proof: Proof,
    pub message: String,
    pub kind: Kind,
    /// The passphrase is wanted a second time, to compare.
    pub verification: bool,
    pub tries_left: Option<u32>,
}

/// Follows what becomes of one question.
pub struct Observer {
    pub root: Root,
    pub mine: Asked,
    /// Everything that is asked now.
    pub asked: watch::Receiver<Arc<[Asked]>>,
}

impl Observer {
    /// `delivered`: our answer reached the asker. Otherwise the verdict is that on whoever was faster.
    pub async fn observe(mut self, delivered: bool) -> Verdict {
        let deadline = Instant::now() + VERDICT_DEADLINE;
        // An equal question that is open already is no consequence of this answer.
        let latest = self.asked.borrow().iter().map(|other| other.sequence).max().unwrap_or(0).max(self.mine.sequence);
        let process = self.mine.process.clone();
        let mut asked = self.asked.clone();
        let event = async {
            tokio::select! {
                biased;
                () = self.mine.proof.appears(&self.root) => Seen::Open,
                again = asks_again(&mut asked, |other| other.process.pid == process.pid, self.mine.sequence) => {
                    Seen::Again(again)
                }
                () = process.ended() => Seen::Ended,
            }
        };
        match timeout_at(deadline, event).await {
            Ok(Seen::Open) => Verdict::Unlocked,
            Ok(Seen::Again(again)) => self.refused(&again, delivered),
            Ok(Seen::Ended) => self.after_the_end(delivered, latest).await,
            Err(_) => Verdict::NoVerdict,
        }
    }

    fn refused(&self, again: &Asked, delivered: bool) -> Verdict {
        match (delivered, again.verification) {
            (_, true) => Verdict::NoVerdict,
            (false, false) => not_ours(),
            (true, false) => {
                let tries_left = again.tries_left.filter(|_| again.kind == self.mine.kind);
                Verdict::Wrong { tries_left }
            }
        }
    }

    async fn after_the_end(&mut self, delivered: bool, latest: u64) -> Verdict {
        if let Proof::Mapping(_) = &self.mine.proof {
            let grace = Instant::now() + MAPPING_GRACE;
            let open = timeout_at(grace, self.mine.proof.appears(&self.root)).await;
            return if open.is_ok() { Verdict::Unlocked } else { Verdict::GaveUp };
        }
        let same = |other: &Asked| other.message == self.mine.message && other.proof == self.mine.proof;
        let event = async {
            tokio::select! {
                biased;
                () = self.mine.proof.appears(&self.root) => Verdict::Unlocked,
                _ = asks_again(&mut self.asked, same, latest) => match delivered {
                    true => Verdict::Wrong { tries_left: None },
                    false => not_ours(),
                },
            }
        };
        if let Ok(verdict) = timeout_at(Instant::now() + RETRY_WINDOW, event).await {
            return verdict;
        }
        match self.mine.proof.holds(&self.root).await {
            Some(true) => Verdict::Unlocked,
            Some(false) => Verdict::GaveUp,
            None => Verdict::NoVerdict,
        }
    }
}

enum Seen {
    Open,
    Again(Asked),
    Ended,
}

fn not_ours() -> Verdict {
    Verdict::NotDelivered("another answer came first and was refused; it is asked again".into())
}

/// The next question after number `sequence` that `same` recognises. Never returns when the source is gone.
async fn asks_again(asked: &mut watch::Receiver<Arc<[Asked]>>, same: impl Fn(&Asked) -> bool, sequence: u64) -> Asked {
    let later = |all: &Arc<[Asked]>| all.iter().find(|other| other.sequence > sequence && same(other)).cloned();
    let found = asked.wait_for(|all| later(all).is_some()).await.ok().and_then(|all| later(&all));
    match found {
        Some(found) => found,
        None => std::future::pending().await,
    }
}
