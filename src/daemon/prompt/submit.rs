//! One passphrase on its way to everything that it is meant for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::broker::{Broker, Handed, View, Wanted};
use super::{Kind, PromptId, Question, Stage, Verdict};
use crate::control::message::Outcome;
use crate::secret::Secret;

/// How long after a volume was unlocked another question may come that wants the same passphrase: dracut without
/// systemd asks for one volume after the other, with a udevadm settle in between.
const SETTLE: Duration = Duration::from_secs(3);
/// The same in initramfs-tools, whose script waits up to 10 s for udev between two volumes (`wait_for_udev 10` in
/// `setup_mapping()`) and then examines the next. After the last one the hand-over comes first, and ends the waiting.
const SETTLE_ASKPASS: Duration = Duration::from_secs(12);

/// Giving one secret to the questions that it is meant for, and to those that follow. See [`Broker::submit`].
pub(super) struct Submission {
    broker: Broker,
    /// Names; see [`Wanted`].
    wanted: Vec<String>,
    /// What the secret is, once that is known. A PIN is never tried as a passphrase, nor the other way round: each wrong
    /// PIN brings a TPM or a token closer to its lock-out.
    kind: Option<Kind>,
    secret: Secret,
    outcomes: mpsc::Sender<Outcome>,
    /// What had the secret: no volume gets it twice.
    given: BTreeSet<String>,
    /// Names in `wanted` that a question of this kind asked for.
    met: BTreeSet<String>,
    /// Questions that went away in the moment of the answer.
    missed: BTreeMap<String, Question>,
    missed_ids: BTreeSet<PromptId>,
    verdicts: JoinSet<(Question, bool, Verdict)>,
    /// An outcome was sent.
    reported: bool,
}

enum Event {
    Changed,
    Verdict(Box<Question>, bool, Verdict),
    Settled,
}

impl Submission {
    pub fn new(broker: Broker, wanted: Wanted, secret: Secret, outcomes: mpsc::Sender<Outcome>) -> Self {
        let Wanted { volumes: wanted, kind } = wanted;
        let (given, met, missed, missed_ids, verdicts, reported) = Default::default();
        Self { broker, wanted, kind, secret, outcomes, given, met, missed, missed_ids, verdicts, reported }
    }

    /// Until everything that is wanted has its verdict, and nothing new has asked for a while; or until the broker stops.
    pub async fn run(mut self, wait: Duration) {
        let (mut view, mut stopping) = (self.broker.view(), self.broker.stopping());
        // For the first question, or, when volumes are named, for the last of them.
        let patience = Instant::now() + wait;
        let mut settle = Instant::now();
        loop {
            let now = view.borrow_and_update().clone();
            let stopped = *stopping.borrow();
            if !stopped {
                self.offer(&now).await;
            }
            let until = match self.satisfied(&now) {
                _ if stopped => Instant::now(),
                true => settle,
                false => settle.max(patience),
            };
            let event = tokio::select! {
                Some(Ok((question, ours, verdict))) = self.verdicts.join_next() => {
                    Event::Verdict(Box::new(question), ours, verdict)
                }
                Ok(()) = view.changed() => Event::Changed,
                Ok(_) = stopping.wait_for(|&stopping| stopping), if !stopped => Event::Changed,
                () = sleep_until(until), if self.verdicts.is_empty() => Event::Settled,
                () = self.outcomes.closed() => return,
            };
            match event {
                Event::Changed => {}
                Event::Verdict(question, ours, verdict) => {
                    if verdict == Verdict::Unlocked || !ours {
                        settle = Instant::now() + if question.source == "askpass" { SETTLE_ASKPASS } else { SETTLE };
                    }
                    let open = verdict == Verdict::NoVerdict && is_open(&view.borrow(), key(&question));
                    self.conclude(*question, ours, if open { Verdict::Unlocked } else { verdict }).await;
                }
                Event::Settled => return self.account_for_the_rest(&view).await,
            }
        }
    }

    /// Gives the secret to every question that is meant and hasn't had it.
    async fn offer(&mut self, view: &View) {
        for question in view.questions.iter() {
            let key = key(question).to_owned();
            if !self.means(question) {
                continue;
            }
            self.kind = Some(question.kind);
            self.met.extend(self.wanted.iter().filter(|name| named(question, name)).cloned());
            if self.given.contains(&key) || self.missed_ids.contains(&question.id) {
                continue;
            }
            if self.secret.is_empty() {
                self.given.insert(key);
                let reason = "an empty passphrase is not given to anybody, so no try is used up".into();
                self.report(question.clone(), Verdict::NotDelivered(reason)).await;
                continue;
            }
            match self.broker.answer(question.id, &self.secret) {
                Handed::Given(verdict) => self.follow(question, true, verdict),
                Handed::Late(verdict) => self.follow(question, false, verdict),
                Handed::Gone => {
                    self.missed_ids.insert(question.id);
                    self.missed.insert(key, question.clone());
                }
            }
        }
    }

    /// Waits for a verdict on our answer, or on somebody else's that came first.
    fn follow(&mut self, question: &Question, ours: bool, verdict: watch::Receiver<Option<Verdict>>) {
        self.given.insert(key(question).to_owned());
        let (question, stopping) = (question.clone(), self.broker.stopping());
        self.verdicts.spawn(async move { (question, ours, settled(verdict, stopping).await) });
    }

    async fn conclude(&mut self, question: Question, ours: bool, verdict: Verdict) {
        let refused = matches!(verdict, Verdict::Wrong { .. } | Verdict::NotDelivered(_));
        if !ours && refused {
            // Somebody else's passphrase was wrong. The volume asks again, and then gets ours.
            let key = key(&question).to_owned();
            self.given.remove(&key);
            self.missed.insert(key, question);
            return;
        }
        self.report(question, verdict).await;
    }

    /// What was meant, and neither had an answer nor asks any more.
    async fn account_for_the_rest(mut self, view: &watch::Receiver<View>) {
        let view = view.borrow().clone();
        for (key, question) in std::mem::take(&mut self.missed) {
            if !self.given.contains(&key) {
                let open = question.volume.as_deref().is_some_and(|name| is_open(&view, name));
                let reason = "the question went away before the answer reached it";
                self.report(question, if open { Verdict::Unlocked } else { Verdict::NotDelivered(reason.into()) })
                    .await;
            }
        }
        let unmet: Vec<_> = self.wanted.iter().filter(|name| !self.met.contains(*name)).cloned().collect();
        let (open, closed): (Vec<_>, Vec<_>) = unmet.into_iter().partition(|name| is_open(&view, name));
        for name in open {
            self.report(unasked(&name), Verdict::Unlocked).await;
        }
        // No outcome at all says that nothing asks; beside others, silence would say that this one is open.
        let missing = if self.reported { closed } else { Vec::new() };
        for name in missing {
            self.report(unasked(&name), Verdict::NotDelivered("nothing asks for it".into())).await;
        }
    }

    async fn report(&mut self, question: Question, verdict: Verdict) {
        self.reported = true;
        // Nobody may be listening any more; the answer was given all the same.
        drop(self.outcomes.send(Outcome { question, verdict }).await);
    }

    fn means(&self, question: &Question) -> bool {
        // The content of a key file is given only by those who say that it is one.
        let kind = self.kind.map_or(question.kind != Kind::Key, |kind| kind == question.kind);
        match self.wanted.is_empty() {
            true => kind && question.kind == Kind::Passphrase,
            false => kind && self.wanted.iter().any(|name| named(question, name)),
        }
    }

    /// Nothing has to be waited for any more but verdicts and followers.
    fn satisfied(&self, view: &View) -> bool {
        match self.wanted.is_empty() {
            true => !self.given.is_empty(),
            false => self.wanted.iter().all(|name| self.met.contains(name) || is_open(view, name)),
        }
    }
}

fn is_open(view: &View, name: &str) -> bool {
    view.unlocked.iter().any(|volume| volume.name == name || volume.device.as_deref() == Some(name))
}

/// Stands for a volume that was named and that nothing asked for.
fn unasked(name: &str) -> Question {
    Question {
        id: PromptId(0),
        kind: Kind::Passphrase,
        stage: Stage::Asking,
        volume: Some(name.to_owned()),
        device: None,
        message: String::new(),
        tries_used: 0,
        tries_left: None,
        source: String::new(),
    }
}

async fn settled(mut verdict: watch::Receiver<Option<Verdict>>, mut stopping: watch::Receiver<bool>) -> Verdict {
    let found = tokio::select! {
        biased;
        found = verdict.wait_for(Option::is_some) => found.ok().and_then(|verdict| verdict.clone()),
        _ = stopping.wait_for(|&stopping| stopping) => None,
    };
    found.unwrap_or(Verdict::NoVerdict)
}

fn named(question: &Question, name: &str) -> bool {
    let unknown = question.volume.is_none() && question.device.is_none();
    [question.volume.as_deref(), question.device.as_deref(), Some(&*question.message).filter(|_| unknown)]
        .contains(&Some(name))
}

/// What a question is about, across its repetitions.
fn key(question: &Question) -> &str {
    question.volume.as_deref().or(question.device.as_deref()).unwrap_or(&question.message)
}
