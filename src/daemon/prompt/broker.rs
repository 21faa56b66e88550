//! The sole owner of what is asked: collects the sources' questions, carries one answer to each, remembers what came
//! of it. Knows neither where questions come from nor files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::submit::Submission;
use super::volumes::Volumes;
use super::{Kind, Prompt, PromptId, Prompts, Question, Stage, Verdict};
use crate::control::message::{GivenUp, Outcome, Volume};
use crate::secret::Secret;

/// Outcomes on their way to one submitter; more than a machine has volumes.
const OUTCOMES: usize = 64;

/// Which questions a secret is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By volume, device, or, where neither is known, by the question's text. Empty: every passphrase question, and no
    /// PIN question.
    pub volumes: Vec<String>,
    /// What the secret is. `None`: what the first question wants that is named in `volumes`; no question of the other
    /// kind gets it after that, and none that wants the content of a key file.
    pub kind: Option<Kind>,
}

/// A handle to the one broker.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    view: watch::Sender<View>,
    volumes: Arc<Volumes>,
    stopping: watch::Sender<bool>,
}

/// What the broker knows at one moment, for those that watch it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What is asked or being checked, oldest first.
    pub questions: Arc<[Question]>,
    /// Encrypted volumes that are open, whoever opened them.
    pub unlocked: Arc<[Volume]>,
    /// Volumes whose asker went away without opening them, and that nothing asks for any more.
    pub gave_up: Arc<[GivenUp]>,
    /// Volumes that were asked for and are neither asked for, open, nor given up now: an answer from the console or
    /// from another agent is being checked, or what became of it could not be seen.
    pub elsewhere: Arc<[Volume]>,
    /// Something was asked at some time.
    pub asked_once: bool,
    /// Counts answers of ours that opened what they were for.
    pub opened: u64,
}

#[derive(Default)]
struct State {
    /// What each source publishes.
    lists: Vec<Prompts>,
    checking: BTreeMap<PromptId, Checking>,
    unlocked: Arc<[Volume]>,
    /// By name.
    gave_up: BTreeMap<String, GivenUp>,
    /// Questions that had an answer and its verdict, until their source takes them off its list.
    spent: BTreeSet<PromptId>,
    /// Every volume that was ever asked for, by name.
    known: BTreeMap<String, Volume>,
    asked_once: bool,
    opened: u64,
}

/// An answer on its way.
struct Checking {
    question: Question,
    /// `None` until it is there.
    verdict: watch::Receiver<Option<Verdict>>,
}

/// What became of an attempt to answer.
pub(super) enum Handed {
    /// The answer is on its way, and this is where its verdict will come.
    Given(watch::Receiver<Option<Verdict>>),
    /// Somebody else's answer is being checked, and this is where its verdict will come.
    Late(watch::Receiver<Option<Verdict>>),
    /// The question went away in this moment.
    Gone,
}

impl Broker {
    /// Starts collecting. `volumes` is what is open, for the questions that others answer.
    pub fn spawn(sources: Vec<watch::Receiver<Prompts>>, volumes: Arc<Volumes>) -> Self {
        let lists = sources.iter().map(|source| source.borrow().clone()).collect();
        let open = volumes.watch();
        let state = Mutex::new(State { lists, unlocked: open.borrow().clone(), ..State::default() });
        let (view, stopping) = Default::default();
        let broker = Self(Arc::new(Shared { state, view, volumes, stopping }));
        broker.publish(&mut broker.lock());
        for (index, source) in sources.into_iter().enumerate() {
            broker.follow(index, source);
        }
        crate::task::spawn(broker.clone().collect(open, |state, volumes| state.unlocked = volumes));
        broker
    }

    /// Collects from one more source, which may know the broker itself.
    pub fn add(&self, source: watch::Receiver<Prompts>) {
        let mut state = self.lock();
        state.lists.push(Prompts::from([]));
        self.follow(state.lists.len() - 1, source);
    }

    fn follow(&self, index: usize, source: watch::Receiver<Prompts>) {
        let watcher = self.clone();
        crate::task::spawn(self.clone().collect(source, move |state, prompts| watcher.replace(state, index, prompts)));
    }

    /// What is asked and what is open, now and at each change.
    pub fn view(&self) -> watch::Receiver<View> {
        self.0.view.subscribe()
    }

    /// Gives one secret to every question that is wanted, and to those that follow; waits up to `wait` for a first one,
    /// or, when volumes are named, for the last of them.
    ///
    /// Sends an outcome for each question as soon as it is known, and closes the channel when everything is settled. No
    /// outcome at all: nothing asked. A volume never gets the secret twice. Dropping the receiver ends the waiting, not
    /// what was handed over.
    pub fn submit(&self, wanted: Wanted, secret: Secret, wait: Duration) -> mpsc::Receiver<Outcome> {
        let (outcomes, receiver) = mpsc::channel(OUTCOMES);
        crate::task::spawn(Submission::new(self.clone(), wanted, secret, outcomes).run(wait));
        receiver
    }

    /// Ends all submissions, now and from now on: the boot continues, and who waits for a verdict can't wait any longer.
    /// What is being checked gets [`Verdict::NoVerdict`], unless its volume is open in this moment; nothing more is
    /// handed over.
    pub fn stop(&self) {
        self.0.volumes.look();
        let open = self.0.volumes.watch().borrow().clone();
        self.take(|state, open| state.unlocked = open, open);
        self.0.stopping.send_replace(true);
    }

    /// True after [`Broker::stop`].
    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.0.stopping.subscribe()
    }

    /// Answers one question. The first answer wins: a second one is told the first one's verdict.
    pub(super) fn answer(&self, id: PromptId, secret: &Secret) -> Handed {
        let mut state = self.lock();
        if let Some(checking) = state.checking.get(&id) {
            return Handed::Late(checking.verdict.clone());
        }
        let found = state.prompts().find(|prompt| prompt.question.id == id).cloned();
        let Some(prompt) = found else { return Handed::Gone };
        let Some(verdict) = prompt.answer(secret.duplicate()) else { return Handed::Gone };
        let question = Question { stage: Stage::Checking, ..prompt.question.clone() };
        let (report, observed) = watch::channel(None);
        state.checking.insert(id, Checking { question: question.clone(), verdict: observed.clone() });
        self.publish(&mut state);
        drop(state);
        let broker = self.clone();
        crate::task::spawn(async move {
            // A source that drops its end has ended: nothing was observed.
            let verdict = verdict.await.unwrap_or(Verdict::NoVerdict);
            broker.conclude(&question, &verdict);
            report.send_replace(Some(verdict));
        });
        Handed::Given(observed)
    }

    fn conclude(&self, question: &Question, verdict: &Verdict) {
        log::info!("{}: {}", question.volume.as_deref().unwrap_or(&question.message), in_words(verdict));
        let mut state = self.lock();
        state.checking.remove(&question.id);
        if state.prompts().any(|prompt| prompt.question.id == question.id) {
            state.spent.insert(question.id);
        }
        state.opened += u64::from(*verdict == Verdict::Unlocked);
        state.remember(question, verdict, true);
        self.publish(&mut state);
    }

    /// Takes a source's new list, and asks what becomes of questions that went away unanswered.
    fn replace(&self, state: &mut State, index: usize, prompts: Prompts) {
        let before = std::mem::replace(&mut state.lists[index], prompts);
        let current: BTreeSet<_> = state.lists[index].iter().map(|prompt| prompt.question.id).collect();
        for prompt in before.iter().filter(|prompt| !current.contains(&prompt.question.id)) {
            let (question, broker) = (prompt.question.clone(), self.clone());
            let answered = state.checking.contains_key(&question.id) || state.spent.remove(&question.id);
            let Some(fate) = prompt.fate().filter(|_| !answered) else { continue };
            crate::task::spawn(async move {
                let Ok(verdict) = fate.await else { return };
                let mut state = broker.lock();
                state.remember(&question, &verdict, false);
                broker.publish(&mut state);
            });
        }
    }

    async fn collect<T: Clone>(self, mut source: watch::Receiver<T>, apply: impl Fn(&mut State, T)) {
        loop {
            self.take(&apply, source.borrow_and_update().clone());
            if source.changed().await.is_err() {
                return;
            }
        }
    }

    fn take<T>(&self, apply: impl Fn(&mut State, T), news: T) {
        let mut state = self.lock();
        apply(&mut state, news);
        self.publish(&mut state);
    }

    fn publish(&self, state: &mut State) {
        let view = state.view();
        self.0.view.send_if_modified(|before| {
            let changed = *before != view;
            *before = view;
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic while held")
    }
}

impl State {
    fn prompts(&self) -> impl Iterator<Item = &Prompt> {
        self.lists.iter().flat_map(|list| list.iter())
    }

    fn view(&mut self) -> View {
        let open = |id: &PromptId| !self.checking.contains_key(id) && !self.spent.contains(id);
        let standing = self.prompts().map(|prompt| &prompt.question).filter(|question| open(&question.id));
        let checking = self.checking.values().map(|checking| &checking.question);
        let mut questions: Vec<_> = standing.chain(checking).cloned().collect();
        questions.sort_by_key(|question| question.id);
        self.asked_once |= !questions.is_empty();
        self.known.extend(questions.iter().filter_map(volume).map(|volume| (volume.name.clone(), volume)));

        // A question about a volume that was given up doesn't take that back.
        let asks =
            |question: &Question, name: &str| question.volume.as_deref() == Some(name) && !question.is_recovery();
        let asked = |name: &str| questions.iter().any(|question| asks(question, name));
        let open = |name: &str| self.unlocked.iter().any(|volume| volume.name == name);
        self.gave_up.retain(|name, _| !asked(name) && !open(name));
        let gone = |name: &str| !asked(name) && !open(name) && !self.gave_up.contains_key(name);
        let elsewhere = self.known.values().filter(|volume| gone(&volume.name)).cloned().collect();
        View {
            elsewhere,
            questions: questions.into(),
            unlocked: self.unlocked.clone(),
            gave_up: self.gave_up.values().cloned().collect(),
            asked_once: self.asked_once,
            opened: self.opened,
        }
    }

    /// `ours`: the verdict is on an answer that was given here.
    fn remember(&mut self, question: &Question, verdict: &Verdict, ours: bool) {
        let Some(volume) = volume(question) else { return };
        match verdict {
            Verdict::GaveUp => {
                let why = match (question.tries_left, ours) {
                    (Some(1), true) => Some("no tries left"),
                    (_, true) => None,
                    (_, false) => Some("its asker has ended: time-out, or no tries left"),
                };
                let Volume { name, device } = volume;
                let given_up = GivenUp { name: name.clone(), device, why: why.map(str::to_owned) };
                self.gave_up.insert(name, given_up);
            }
            // Those who watch what is open may be a moment behind.
            Verdict::Unlocked if self.unlocked.iter().all(|open| open.name != volume.name) => {
                self.unlocked = self.unlocked.iter().cloned().chain([volume]).collect();
            }
            _ => {}
        }
    }
}

fn volume(question: &Question) -> Option<Volume> {
    Some(Volume { name: question.volume.clone()?, device: question.device.clone() })
}

/// For the log.
fn in_words(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Unlocked => "unlocked",
        Verdict::Wrong { .. } => "the answer was wrong",
        Verdict::GaveUp => "its asker gave up",
        Verdict::NoVerdict => "no verdict in time",
        Verdict::NotDelivered(reason) => reason,
    }
}
