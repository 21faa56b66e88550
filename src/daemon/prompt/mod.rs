//! What the machine asks, and how an answer gets there.
//!
//! A source finds questions and publishes them as [`Prompt`]s; each carries its own one-shot reply, so whoever holds
//! one can answer exactly that question, once. The broker (`broker.rs`) is the sole owner of the collected list.

use std::sync::{Arc, Mutex};

use tokio::sync::{oneshot, watch};

pub use crate::control::message::{Kind, PromptId, Question, Stage, Verdict};
use crate::secret::Secret;

/// Everything that one source sees being asked now.
pub type Prompts = Arc<[Prompt]>;

/// A place where questions come from.
///
/// A source starts its own task and publishes the whole list at each change. It must not answer by itself, must not
/// retry an answer, must not guess a verdict (proof of success is the volume itself, proof of failure is the same
/// asker asking again or going away), must not block the asker's other agents or its console, and must not end: when
/// it can't work it logs why, once, and publishes nothing.
pub trait Source {
    fn spawn(self) -> watch::Receiver<Prompts>;
}

/// A question together with the way to answer it.
#[derive(Clone)]
pub struct Prompt {
    pub question: Question,
    reply: Arc<Mutex<Option<oneshot::Sender<Answer>>>>,
}

/// An answer on its way to the asker, and where to report what was observed.
pub struct Answer {
    pub secret: Secret,
    pub verdict: oneshot::Sender<Verdict>,
}

impl Prompt {
    /// A prompt for the broker, and the end at which its source waits for the answer.
    pub fn new(question: Question) -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Self { question, reply: Arc::new(Mutex::new(Some(sender))) }, receiver)
    }

    /// Gives the answer. `None` when somebody has answered already or the question is gone; the secret is wiped then.
    pub fn answer(&self, secret: Secret) -> Option<oneshot::Receiver<Verdict>> {
        let sender = self.reply.lock().expect("no panic while held").take()?;
        let (verdict, observed) = oneshot::channel();
        sender.send(Answer { secret, verdict }).ok()?;
        Some(observed)
    }
}
