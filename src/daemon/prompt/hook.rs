//! A hook of the initramfs that lets the daemon ask, in place of a `cryptsetup` that would ask at the console alone:
//! `vestibule open`, which mkinitcpio's hook runs before `encrypt`.
//!
//! It sits at the console and hands in what is typed there like any other client; here is the question, for everybody, and
//! the cryptsetup that tries an answer. The question stands until the volume is open or the hook has gone.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::cryptsetup::Opening;
use super::recipe::{Recipe, Recipes};
use super::{Answer, Posed, Prompt, Prompts, Question, Source, Verdict, volumes};
use crate::control::message::{Open, Outcome};
use crate::root::Root;

/// Outcomes that a hook has not taken yet. It takes them at once, or has gone.
const OUTCOMES: usize = 8;

/// The source, and the way for hooks to put up a question. Cheap to clone.
#[derive(Clone)]
pub struct Hook {
    root: Root,
    recipes: Recipes,
    list: watch::Sender<Prompts>,
}

impl Source for Hook {
    fn spawn(self) -> watch::Receiver<Prompts> {
        self.list.subscribe()
    }
}

impl Hook {
    pub fn new(root: Root, recipes: Recipes) -> Self {
        Self { root, recipes, list: watch::Sender::new(Prompts::from([])) }
    }

    /// Asks everybody for the passphrase that this `cryptsetup` would ask for. Returns the question as it stands first, and
    /// what comes of each answer, whoever gave it; dropping the receiver takes the question down. The error is for a person.
    pub fn open(&self, open: Open) -> Result<(Question, mpsc::Receiver<Outcome>), String> {
        let arguments: Vec<_> = std::iter::once("cryptsetup".into()).chain(open.arguments).map(Into::into).collect();
        let opening = Opening::parse(&arguments).ok_or("this cryptsetup command asks for no passphrase")?;
        if !opening.takes_a_pipe() {
            return Err(format!("a {} volume takes its passphrase only at the console", opening.format()));
        }
        let path = open.path.map(Into::into);
        let recipe = Arc::new(Recipe { opening, program: "cryptsetup".into(), path, asked_again: true });
        self.recipes.note(recipe.clone());
        let (outcomes, receiver) = mpsc::channel(OUTCOMES);
        let (prompt, posed) = Prompt::new(recipe.question(SOURCE));
        let question = prompt.question.clone();
        self.replace(None, Some(&prompt));
        crate::task::spawn(Asker { hook: self.clone(), recipe, outcomes }.run(prompt, posed));
        Ok((question, receiver))
    }

    /// Takes one question off the list, and puts up another.
    fn replace(&self, old: Option<&Prompt>, new: Option<&Prompt>) {
        self.list.send_modify(|list| {
            let others = list.iter().filter(|prompt| old.is_none_or(|old| old.question.id != prompt.question.id));
            *list = others.chain(new).cloned().collect();
        });
    }
}

const SOURCE: &str = "hook";

/// One hook that waits.
struct Asker {
    hook: Hook,
    recipe: Arc<Recipe>,
    outcomes: mpsc::Sender<Outcome>,
}

enum Event {
    Answered(Answer),
    /// Opened by somebody who didn't ask us.
    Opened,
    /// The hook has gone.
    Left,
}

impl Asker {
    async fn run(self, mut prompt: Prompt, mut posed: Posed) {
        while !self.pose(&prompt, posed).await {
            let (next, ends) = Prompt::new(self.recipe.question(SOURCE));
            self.hook.replace(Some(&prompt), Some(&next));
            (prompt, posed) = (next, ends);
        }
        self.hook.replace(Some(&prompt), None);
    }

    /// Until one question has its verdict; whether it was the last.
    async fn pose(&self, prompt: &Prompt, Posed { answer, fate }: Posed) -> bool {
        let root = &self.hook.root;
        let event = tokio::select! {
            // Biased: an answer that was given is tried, even if the hook leaves in that moment.
            biased;
            Ok(answer) = answer => Event::Answered(answer),
            () = volumes::opened(root, &self.recipe.opening.volume) => Event::Opened,
            () = self.outcomes.closed() => Event::Left,
        };
        let (observed, report) = match event {
            Event::Answered(Answer { secret, verdict }) => (self.recipe.check(root, &secret).await, verdict),
            Event::Opened => (Verdict::Unlocked, fate),
            Event::Left => (Verdict::GaveUp, fate),
        };
        let outcome = Outcome { question: prompt.question.clone(), verdict: observed.clone() };
        let ended = matches!(observed, Verdict::Unlocked | Verdict::GaveUp);
        // Whoever waits for it may be gone; what was done is done.
        drop(report.send(observed));
        drop(self.outcomes.send(outcome).await);
        ended
    }
}
