//! A `cryptsetup` that waits for a passphrase on a terminal: dracut without systemd.
//!
//! Recognised by its program, its arguments, a terminal without echo, and that it sleeps where readers of a terminal
//! do. It is not given our answer: we run the same command with the passphrase on a pipe, which costs the console none
//! of its tries, and when that has opened the volume, the one that waits is ended with SIGTERM. It then restores the
//! echo (after SIGKILL it could not), exits with 1, and dracut 059's `ask_for_password` prints "Wrong password"; its
//! caller `cryptroot-ask` ignores that status and marks the device as asked, and dracut goes on as soon as the volume's
//! device is there.
//!
//! The same goes for plymouth's client, where dracut lets that ask (`plymouth.rs`): only the signs that it waits differ.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::termios::{LocalFlags, tcgetattr};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::cryptsetup::Opening;
use super::plymouth;
use super::poll;
use super::process::{self, Process};
use super::recipe::{MAPPING_GRACE, Recipe, Recipes};
use super::{Answer, Posed, Prompt, Prompts, Question, Source, VERDICT_DEADLINE, Verdict, volumes};
use crate::config::family::Family;
use crate::root::Root;
use crate::secret::Secret;

/// How often processes are looked at: nothing announces a read of a terminal. One readlink(2) for each process that is
/// not the kernel's, so well under a millisecond in an initramfs.
const POLL: Duration = Duration::from_millis(300);
/// How long a waiting cryptsetup may take to end after SIGTERM before that is reported. It only restores its terminal.
const WAITER_END: Duration = Duration::from_secs(5);
/// Where the kernel sleeps in a read of a terminal (`n_tty_read`, `wait_woken` inside it), or in the select(2) before it
/// that cryptsetup uses with `--timeout`. During a key derivation the echo is on again, and the process elsewhere.
const READING: [&str; 4] = ["wait_woken", "n_tty_read", "do_select", "poll_schedule_timeout"];

/// Why mkinitcpio's `encrypt` gets no answer: see [`Family::Mkinitcpio`]. It asks by itself only when vestibule's own hook,
/// which asks in both places, did not run before it or found no daemon.
const CONSOLE_ALONE: &str =
    "mkinitcpio's encrypt asks for it at the console alone; only a passphrase typed there lets the boot go on";

/// The source. It looks at processes below `root`.
pub struct Tty {
    root: Root,
    recipes: Recipes,
    family: Option<Family>,
}

impl Tty {
    pub fn new(root: Root, recipes: Recipes, family: Option<Family>) -> Self {
        Self { root, recipes, family }
    }
}

impl Source for Tty {
    fn spawn(self) -> watch::Receiver<Prompts> {
        let changed = Arc::new(Notify::new());
        let (kernel, waiters) = Default::default();
        let Self { root, recipes, family } = self;
        let scan = Scan { root, recipes, family, kernel, waiters, changed: changed.clone(), complained: false };
        poll::start(scan, POLL, changed)
    }
}

/// The state of the one task that looks at processes.
struct Scan {
    root: Root,
    recipes: Recipes,
    family: Option<Family>,
    /// Processes without a program: kernel threads, which never get one.
    kernel: BTreeSet<i32>,
    waiters: BTreeMap<i32, Waiter>,
    /// An answer's story ended: look at once.
    changed: Arc<Notify>,
    complained: bool,
}

/// A cryptsetup that may ask.
struct Waiter {
    command: Arc<Command>,
    prompt: Option<Prompt>,
    /// Carries the answer to the last prompt, and ends with its verdict.
    carrier: Option<JoinHandle<()>>,
}

/// A process, and what it was started for.
struct Command {
    asker: Asker,
    process: Process,
    recipe: Arc<Recipe>,
    family: Option<Family>,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// cryptsetup itself, on its terminal.
    Cryptsetup,
    /// plymouth's client, which has a cryptsetup to run.
    Plymouth,
}

impl poll::Scan for Scan {
    fn prompts(&self) -> impl Iterator<Item = &Prompt> {
        self.waiters.values().filter_map(|waiter| waiter.prompt.as_ref())
    }

    fn look(&mut self) {
        let all: BTreeSet<i32> = match process::all(&self.root) {
            Ok(all) => all.into_iter().collect(),
            Err(error) => return self.complain(&format!("/proc can't be read: {error}")),
        };
        self.kernel.retain(|pid| all.contains(pid));
        self.waiters.retain(|_, waiter| !waiter.command.process.has_ended());
        for pid in all {
            if self.kernel.contains(&pid) {
                continue;
            }
            match process::program(&self.root, pid) {
                None => drop(self.kernel.insert(pid)),
                Some(program) => match program.file_name().and_then(|name| name.to_str()) {
                    Some("cryptsetup") => self.meet(Asker::Cryptsetup, pid, program),
                    Some("plymouth") => self.meet(Asker::Plymouth, pid, program),
                    // Not remembered: a shell may yet become a cryptsetup.
                    _ => {}
                },
            }
        }
        for pid in self.waiters.keys().copied().collect::<Vec<_>>() {
            self.attend(pid);
        }
    }
}

impl Scan {
    fn meet(&mut self, asker: Asker, pid: i32, program: PathBuf) {
        if self.waiters.contains_key(&pid) {
            return;
        }
        let arguments = process::arguments(&self.root, pid);
        let found = match asker {
            Asker::Cryptsetup => Opening::parse(&arguments).map(|opening| (program, opening)),
            Asker::Plymouth => plymouth::parse(&arguments).map(|(program, opening)| (program.into(), opening)),
        };
        let Some((program, opening)) = found else { return };
        match Process::open(pid) {
            Ok(Some(process)) => {
                let path = process::variable(&self.root, pid, "PATH");
                let asked_again = self.family == Some(Family::Mkinitcpio);
                let recipe = Arc::new(Recipe { opening, program, path, asked_again });
                if !recipe.opening.asks_for_a_pin {
                    self.recipes.note(recipe.clone());
                }
                let command = Arc::new(Command { asker, process, recipe, family: self.family });
                self.waiters.insert(pid, Waiter { command, prompt: None, carrier: None });
            }
            Ok(None) => {}
            Err(error) => self.complain(&format!("process {pid} can't be observed: {error}")),
        }
    }

    /// Puts up the question of a process, or takes it down.
    fn attend(&mut self, pid: i32) {
        let waits = match self.waiters[&pid].command.waits(&self.root) {
            Ok(waits) => waits,
            Err(error) => {
                self.complain(&format!("the terminal of process {pid} can't be looked at: {error}"));
                false
            }
        };
        let Some(waiter) = self.waiters.get_mut(&pid) else { return };
        if !waits {
            waiter.prompt = None;
            return;
        }
        let busy = waiter.carrier.as_ref().is_some_and(|carrier| !carrier.is_finished());
        if busy && waiter.prompt.is_some() {
            return;
        }
        let (prompt, posed) = Prompt::new(waiter.command.question());
        let carrier = carry(self.root.clone(), waiter.command.clone(), posed);
        let changed = self.changed.clone();
        waiter.prompt = Some(prompt);
        waiter.carrier = Some(crate::task::spawn(async move {
            carrier.await;
            changed.notify_one();
        }));
    }

    fn complain(&mut self, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            log::error!("passphrase prompts on terminals may be missed: {what}");
        }
    }
}

impl Command {
    fn waits(&self, root: &Root) -> std::io::Result<bool> {
        match self.asker {
            Asker::Cryptsetup => waits(root, &self.process),
            Asker::Plymouth => Ok(plymouth::waits(root, &self.process)),
        }
    }

    fn question(&self) -> Question {
        match self.asker {
            Asker::Cryptsetup => self.recipe.question("tty"),
            Asker::Plymouth => plymouth::question(&self.recipe),
        }
    }

    /// Tries the passphrase beside the process that waits.
    async fn check(&self, root: &Root, secret: &Secret) -> Verdict {
        match self.family {
            Some(Family::Mkinitcpio) => Verdict::NotDelivered(CONSOLE_ALONE.into()),
            None => self.recipe.check(root, secret).await,
        }
    }

    /// Frees the terminal from a question that has its answer.
    async fn release(&self) {
        if let Err(error) = self.process.terminate()
            && !self.process.has_ended()
        {
            log::error!(
                "{} is open, but the process that still asks can't be ended: {error}",
                self.recipe.opening.device
            );
        }
        if timeout(WAITER_END, self.process.ended()).await.is_err() {
            log::error!("{} is open, but the process that still asks doesn't end", self.recipe.opening.device);
        }
    }

    /// What became of a question that nobody answered here.
    async fn fate(&self, root: &Root) -> Verdict {
        let volume = &self.recipe.opening.volume;
        let opened = volumes::opened(root, volume);
        let ended = async {
            self.process.ended().await;
            timeout(MAPPING_GRACE, volumes::opened(root, volume)).await.is_ok()
        };
        let open = async {
            tokio::select! {
                () = opened => true,
                open = ended => open,
            }
        };
        match timeout(VERDICT_DEADLINE, open).await {
            Ok(true) => Verdict::Unlocked,
            Ok(false) => Verdict::GaveUp,
            Err(_) => Verdict::NoVerdict,
        }
    }
}

async fn carry(root: Root, command: Arc<Command>, posed: Posed) {
    // Whoever waits for a verdict may be gone; what was done is done.
    let Ok(Answer { secret, verdict }) = posed.answer.await else {
        return drop(posed.fate.send(command.fate(&root).await));
    };
    let observed = command.check(&root, &secret).await;
    drop(secret);
    if observed == Verdict::Unlocked {
        command.release().await;
    }
    drop(verdict.send(observed));
}

/// Whether a process reads a passphrase now. cryptsetup opens `/dev/tty`, and where there is none (dracut) it takes
/// standard input; the descriptor is borrowed from it, as opening `/dev/console` ourselves may reach another terminal.
pub(super) fn waits(root: &Root, process: &Process) -> std::io::Result<bool> {
    let reads = match process::sleeps_in(root, process.pid) {
        Some(function) => READING.iter().any(|name| function.starts_with(name)),
        // The kernel doesn't tell. Asleep and without echo is then all that can be known.
        None => process::sleeps(root, process.pid),
    };
    if !reads {
        return Ok(false);
    }
    let terminals = process::descriptors_on(root, process.pid, "/dev/tty").into_iter().chain([0]);
    for number in terminals {
        match process.descriptor(number) {
            Ok(terminal) if is_silent(&terminal) => return Ok(true),
            Ok(_) => {}
            Err(_) if process.has_ended() => return Ok(false),
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EBADF as i32) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// A terminal whose echo is off. Not so what is no terminal.
fn is_silent(terminal: &OwnedFd) -> bool {
    tcgetattr(terminal).is_ok_and(|settings| !settings.local_flags.contains(LocalFlags::ECHO))
}
