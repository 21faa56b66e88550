//! No dead end: a volume whose asker gave up can still be opened, and the boot then goes on.
//!
//! A standing question for each volume that was given up. Its answer opens the volume in the way that its initramfs
//! would have: by the noted `cryptsetup` command, or, where systemd opens volumes, by starting the volume's unit again
//! and giving the answer to the question that this asks. When an answer of ours has opened the last volume that was
//! asked for, a shell that holds the boot is ended (`emergency.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::broker::{Broker, Handed, View};
use super::emergency::Hold;
use super::recipe::{Recipe, Recipes};
use super::systemctl::Started;
use super::{
    Answer, Kind, Posed, Prompt, Prompts, Question, Source, Stage, VERDICT_DEADLINE, Verdict, next_id, systemctl,
    volumes,
};
use crate::control::message::{GivenUp, RECOVERY};
use crate::root::Root;
use crate::secret::Secret;

/// How long after an answer opened the last volume a shell is still ended: the emergency may have been on its way
/// already. dracut writes its report before the shell, and systemd starts the shell only when nothing else starts
/// (`Type=idle`, at most 5 s).
const RESUME_WINDOW: Duration = Duration::from_secs(60);
/// How long systemd's passphrases stay in the kernel's keyring (`KEYRING_TIMEOUT_USEC` in `ask-password-api.c`: 150 s).
/// Each start of a unit may use up one try on a wrong one, or all that there are.
const CACHED: Duration = Duration::from_secs(150);
/// Between two starts of a unit; systemd refuses more than five in ten seconds (`DefaultStartLimitBurst=`).
const RETRY: Duration = Duration::from_secs(5);
/// How long after its unit has started a volume may still show up in sysfs.
const MAPPING_GRACE: Duration = Duration::from_secs(1);

/// The source. It follows the broker that it is a source of.
pub struct Recovery {
    pub root: Root,
    pub recipes: Recipes,
    pub broker: Broker,
    pub hold: watch::Receiver<Option<Hold>>,
}

impl Source for Recovery {
    fn spawn(self) -> watch::Receiver<Prompts> {
        let (publish, receiver) = watch::channel(Prompts::from([]));
        let (standing, resume_until) = Default::default();
        let opened = self.broker.view().borrow().opened;
        let follower =
            Follower { parts: Arc::new(self), publish, standing, changed: Arc::default(), opened, resume_until };
        crate::task::spawn(follower.run());
        receiver
    }
}

/// The state of the one task that follows the broker.
struct Follower {
    parts: Arc<Recovery>,
    publish: watch::Sender<Prompts>,
    /// By the volume's name.
    standing: BTreeMap<String, Standing>,
    /// An answer's story ended.
    changed: Arc<Notify>,
    /// See [`View::opened`].
    opened: u64,
    /// A shell that holds the boot until then is ended.
    resume_until: Option<Instant>,
}

/// A question that stands, or whose answer is being tried.
struct Standing {
    prompt: Prompt,
    carrier: JoinHandle<()>,
}

/// How a volume is opened when its asker is gone.
enum Way {
    Command(Arc<Recipe>),
    /// By the name of its unit.
    Unit(String),
}

impl Follower {
    async fn run(mut self) {
        let (mut view, mut hold) = (self.parts.broker.view(), self.parts.hold.clone());
        let (closed, changed) = (self.publish.clone(), self.changed.clone());
        loop {
            let seen = view.borrow_and_update().clone();
            let held = hold.borrow_and_update().clone();
            self.pose(&seen, held.is_some());
            self.resume(&seen, &held);
            let end = self.resume_until;
            tokio::select! {
                Ok(()) = view.changed() => {}
                Ok(()) = hold.changed() => {}
                () = changed.notified() => {}
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {}
                () = closed.closed() => return,
            }
        }
    }

    /// Puts up a question for each volume that was given up, and takes it down when something else asks or it is open.
    fn pose(&mut self, view: &View, held: bool) {
        let before: Vec<_> = self.standing.values().map(|standing| standing.prompt.question.id).collect();
        self.standing.retain(|name, standing| {
            view.gave_up.iter().any(|volume| volume.name == *name) && !standing.carrier.is_finished()
        });
        for volume in view.gave_up.iter() {
            if self.standing.contains_key(&volume.name) {
                continue;
            }
            let Some(way) = self.parts.way(&volume.name, held) else { continue };
            let (prompt, posed) = Prompt::new(question(volume));
            let (parts, name, changed) = (self.parts.clone(), volume.name.clone(), self.changed.clone());
            let carrier = crate::task::spawn(async move {
                parts.carry(&name, way, posed).await;
                changed.notify_one();
            });
            self.standing.insert(volume.name.clone(), Standing { prompt, carrier });
        }
        let prompts: Prompts = self.standing.values().map(|standing| standing.prompt.clone()).collect();
        if !prompts.iter().map(|prompt| prompt.question.id).eq(before) {
            self.publish.send_replace(prompts);
        }
    }

    /// Lets a boot go on that is held, once for each volume that an answer of ours has opened.
    fn resume(&mut self, view: &View, hold: &Option<Hold>) {
        let now = Instant::now();
        if std::mem::replace(&mut self.opened, view.opened) != view.opened {
            self.resume_until = Some(now + RESUME_WINDOW);
        }
        self.resume_until = self.resume_until.filter(|&end| now < end);
        let all_open = view.questions.is_empty() && view.gave_up.is_empty();
        if let Some(hold) = hold.as_ref().filter(|hold| all_open && hold.can_end())
            && self.resume_until.take().is_some()
        {
            hold.end(&self.parts.root);
        }
    }
}

impl Recovery {
    /// `None` where nothing is known that would open it, and as long as the initramfs asks again by itself.
    fn way(&self, volume: &str, held: bool) -> Option<Way> {
        match self.recipes.find(volume) {
            Some(recipe) if recipe.asked_again && !held => None,
            Some(recipe) => Some(Way::Command(recipe)),
            None => self.root.join("/run/systemd/system").exists().then(|| Way::Unit(systemctl::unit(volume))),
        }
    }

    async fn carry(&self, volume: &str, way: Way, posed: Posed) {
        // An error: the question went off the list unanswered.
        let Ok(Answer { secret, verdict }) = posed.answer.await else { return };
        let observed = match way {
            Way::Command(recipe) => recipe.check(&self.root, &secret).await,
            Way::Unit(unit) => match timeout(VERDICT_DEADLINE, self.start_again(volume, &unit, &secret)).await {
                Ok(observed) => observed,
                Err(_) => Verdict::NoVerdict,
            },
        };
        drop(verdict.send(observed));
    }

    /// Starts the volume's unit, and gives the secret to the first question that it asks. It asks none when a passphrase
    /// that was given before, and that the kernel keeps for a while, opens this volume, or is wrong and uses up its tries.
    async fn start_again(&self, volume: &str, unit: &str, secret: &Secret) -> Verdict {
        let mut view = self.broker.view();
        let start = self.start_until_it_runs(unit);
        let asked = async {
            loop {
                let question = asked(&view.borrow_and_update(), volume);
                if let Some(question) = question {
                    return question;
                }
                if view.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            question = asked => self.pass_on(question, secret).await,
            started = start => match started {
                _ if volumes::is_open(&self.root, volume) => Verdict::Unlocked,
                Ok(()) if timeout(MAPPING_GRACE, volumes::opened(&self.root, volume)).await.is_ok() => Verdict::Unlocked,
                Ok(()) => Verdict::NoVerdict,
                Err(reason) => Verdict::NotDelivered(reason),
            },
        }
    }

    /// Tries again for as long as the kernel may keep a wrong passphrase.
    async fn start_until_it_runs(&self, unit: &str) -> Result<(), String> {
        let end = Instant::now() + CACHED;
        loop {
            match systemctl::start(&self.root, unit, VERDICT_DEADLINE).await {
                Started::Yes => return Ok(()),
                Started::Failed(reason) if Instant::now() > end => return Err(reason),
                Started::Failed(_) => sleep(RETRY).await,
                Started::No(reason) => return Err(reason),
            }
        }
    }

    /// Its verdict is the one that the question's own source observes.
    async fn pass_on(&self, question: Question, secret: &Secret) -> Verdict {
        if question.kind != Kind::Passphrase {
            return Verdict::NotDelivered("it asks for something else than a passphrase now: see status".into());
        }
        let (mut observed, ours) = match self.broker.answer(question.id, secret) {
            Handed::Given(observed) => (observed, true),
            Handed::Late(observed) => (observed, false),
            Handed::Gone => return Verdict::NotDelivered("the question went away before the answer reached it".into()),
        };
        let verdict = match observed.wait_for(Option::is_some).await {
            Ok(verdict) => verdict.clone().unwrap_or(Verdict::NoVerdict),
            Err(_) => Verdict::NoVerdict,
        };
        match verdict {
            Verdict::Unlocked => Verdict::Unlocked,
            // It was the unit's last try, and not the last: recovery asks again.
            Verdict::GaveUp if ours => Verdict::Wrong { tries_left: None },
            other if ours => other,
            _ => Verdict::NotDelivered("another answer came first and was not right; it is asked again".into()),
        }
    }
}

/// What asks for the volume again.
fn asked(view: &View, volume: &str) -> Option<Question> {
    let asks = |question: &&Question| question.volume.as_deref() == Some(volume) && !question.is_recovery();
    view.questions.iter().find(asks).cloned()
}

fn question(volume: &GivenUp) -> Question {
    let why = volume.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    let message = format!("{} was given up{why}; its passphrase opens it, and the boot goes on", volume.name);
    Question {
        id: next_id(),
        kind: Kind::Passphrase,
        stage: Stage::Asking,
        volume: Some(volume.name.clone()),
        device: volume.device.clone(),
        message,
        tries_used: 0,
        tries_left: None,
        source: RECOVERY.into(),
    }
}
