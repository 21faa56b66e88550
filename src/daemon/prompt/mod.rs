//! What the machine asks, and how an answer gets there.
//!
//! A source finds questions and publishes them as [`Prompt`]s; each carries its own one-shot reply, so whoever holds
//! one can answer exactly that question, once. The broker (`broker.rs`) is the sole owner of the collected list.

mod ask_dir;
pub mod ask_file;
mod ask_kind;
pub mod askpass;
mod attach;
pub mod broker;
mod cryptsetup;
pub mod emergency;
pub mod feed;
pub mod hook;
pub mod nixos;
mod observe;
mod plymouth;
mod poll;
pub mod process;
pub mod proof;
pub mod recipe;
pub mod recovery;
mod submit;
mod systemctl;
pub mod systemd;
pub mod tty;
pub mod volumes;
pub mod zfs;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use crate::control::message::{Kind, PromptId, Question, Stage, Verdict};
use crate::secret::Secret;

/// How long a verdict is waited for. One guess at a volume with eight Argon2id key slots of 1 GiB costs a weak machine
/// well over a minute, and systemd 256 to 260 check a first wrong passphrase twice.
pub const VERDICT_DEADLINE: Duration = Duration::from_secs(300);

/// Everything that one source sees being asked now.
pub type Prompts = Arc<[Prompt]>;

/// A place where questions come from.
///
/// A source starts its own task and publishes the whole list at each change. It must not answer by itself, must not
/// retry an answer, must not guess a verdict (proof of success is the volume itself, proof of failure is the same
/// asker asking again or going away), must not block the asker's other agents or its console, and must not end: when
/// it can't work it logs why, once, and publishes nothing. A question that still stands after the verdict on an answer
/// is published anew, with a new number.
pub trait Source {
    fn spawn(self) -> watch::Receiver<Prompts>;
}

/// A question together with the way to answer it.
#[derive(Clone)]
pub struct Prompt {
    pub question: Question,
    ends: Arc<Mutex<Ends>>,
}

struct Ends {
    reply: Option<oneshot::Sender<Answer>>,
    fate: Option<oneshot::Receiver<Verdict>>,
}

/// What a source keeps of a question that it has put up.
pub struct Posed {
    /// The answer. An error means that nobody will give one: the question went off the list unanswered.
    pub answer: oneshot::Receiver<Answer>,
    /// What became of the question when it went off the list unanswered, for example at the console.
    pub fate: oneshot::Sender<Verdict>,
}

/// An answer on its way to the asker, and where to report what was observed.
pub struct Answer {
    pub secret: Secret,
    pub verdict: oneshot::Sender<Verdict>,
}

/// A number for a question that no other one had, whatever its source.
fn next_id() -> PromptId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    PromptId(NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Prompt {
    /// A prompt for the broker, and the ends that its source keeps.
    pub fn new(question: Question) -> (Self, Posed) {
        let (reply, answer) = oneshot::channel();
        let (fate, observed) = oneshot::channel();
        let ends = Ends { reply: Some(reply), fate: Some(observed) };
        (Self { question, ends: Arc::new(Mutex::new(ends)) }, Posed { answer, fate })
    }

    /// Gives the answer. `None` when somebody has answered already or the question is gone; the secret is wiped then.
    pub fn answer(&self, secret: Secret) -> Option<oneshot::Receiver<Verdict>> {
        let sender = self.ends.lock().expect("no panic while held").reply.take()?;
        let (verdict, observed) = oneshot::channel();
        sender.send(Answer { secret, verdict }).ok()?;
        Some(observed)
    }

    /// Where the source reports what became of the question if nobody here answers it. Once.
    fn fate(&self) -> Option<oneshot::Receiver<Verdict>> {
        self.ends.lock().expect("no panic while held").fate.take()
    }
}
