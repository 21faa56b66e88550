//! `askpass` of Debian's cryptsetup-initramfs, which waits at the console, at plymouth and at a named pipe.
//!
//! cryptsetup 2.6.1 and 2.8, `debian/askpass.c`: what is written into `/lib/cryptsetup/passfifo` until its writer
//! closes it is the passphrase, with every byte; a writer that closes it without a byte gives an empty one, which costs a
//! try. It goes through a pipe to the `cryptsetup` that was started with it and has the same `CRYPTTAB_NAME`: that one's
//! end, with or without the volume, is the verdict, whoever answered.
//!
//! The pipe is opened through the asker's own descriptor, so that nothing but what this `askpass` reads is written to.
//! Known gap: an answer at the console in the same moment wins, and its verdict is reported as ours.

mod asked;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::cryptsetup::Opening;
use super::poll;
use super::process::{self, Process};
use super::recipe::{Recipe, Recipes};
use super::{Answer, Posed, Prompt, Prompts, Source, VERDICT_DEADLINE, Verdict, volumes};
use crate::root::Root;
use crate::secret::Secret;
use asked::Asked;

/// How often processes are looked at: a reader of a pipe is not announced. One readlink(2) for each process.
const POLL: Duration = Duration::from_millis(200);
/// `FIFO_PATH` in askpass.c, and what it is where `/lib` is a link.
const FIFO: [&str; 2] = ["/usr/lib/cryptsetup/passfifo", "/lib/cryptsetup/passfifo"];
/// Most that is written at once, in bytes: up to `PIPE_BUF` (pipe(7)) a write is whole or not at all, and a part of a
/// passphrase would be taken for all of it. cryptsetup's own limit at a terminal is 512.
const MAX_PASSPHRASE: usize = 4096;
/// How long after the end of a cryptsetup its volume may still show up in sysfs.
const MAPPING_GRACE: Duration = Duration::from_millis(500);
const NOBODY_TRIED: &str = "cryptsetup had ended before a passphrase came (its console says why); it is tried again";
/// How long a volume has to stay open where every passphrase opens it (`plain`): the script looks for a file system, waits
/// up to 10 s for udev, and closes it when there is none.
const PLAIN_STAYS: Duration = Duration::from_secs(12);

/// The source. It looks at processes below `root`.
pub struct Askpass {
    root: Root,
    recipes: Recipes,
}

impl Askpass {
    pub fn new(root: Root, recipes: Recipes) -> Self {
        Self { root, recipes }
    }
}

impl Source for Askpass {
    fn spawn(self) -> watch::Receiver<Prompts> {
        let Self { root, recipes } = self;
        let changed = Arc::new(Notify::new());
        let scan = Scan { root, recipes, askers: BTreeMap::new(), changed: changed.clone(), complained: false };
        poll::start(scan, POLL, changed)
    }
}

/// The state of the one task that looks at processes.
struct Scan {
    root: Root,
    recipes: Recipes,
    /// By the number of their `askpass`.
    askers: BTreeMap<i32, Waiting>,
    /// An answer's story ended: look at once.
    changed: Arc<Notify>,
    complained: bool,
}

/// An `askpass` that waits, and its question.
struct Waiting {
    asker: Arc<Asker>,
    prompt: Prompt,
    /// Carries the answer, and ends with its verdict.
    carrier: JoinHandle<()>,
}

struct Asker {
    askpass: Process,
    /// Its descriptor of the pipe.
    fifo: i32,
    cryptsetup: Process,
    asked: Asked,
    /// Every passphrase opens it, so that being open proves nothing.
    plain: bool,
}

impl poll::Scan for Scan {
    fn prompts(&self) -> impl Iterator<Item = &Prompt> {
        self.askers.values().map(|asker| &asker.prompt)
    }

    fn look(&mut self) {
        self.askers.retain(|_, waiting| !waiting.asker.askpass.has_ended());
        for waiting in self.askers.values_mut().filter(|waiting| waiting.carrier.is_finished()) {
            // It still asks, so the last answer didn't reach it.
            let (prompt, posed) = Prompt::new(waiting.asker.asked.question());
            *waiting = Waiting {
                carrier: carry(&self.root, &waiting.asker, posed, &self.changed),
                prompt,
                asker: waiting.asker.clone(),
            };
        }
        let programs = match programs(&self.root) {
            Ok(programs) => programs,
            Err(error) => return self.complain(&format!("/proc can't be read: {error}")),
        };
        for (pid, _) in programs.iter().filter(|(_, program)| is(program, "askpass")) {
            if !self.askers.contains_key(pid) {
                match self.meet(*pid, &programs) {
                    Ok(Some(waiting)) => drop(self.askers.insert(*pid, waiting)),
                    Ok(None) => {}
                    Err(error) => self.complain(&format!("process {pid} can't be observed: {error}")),
                }
            }
        }
    }
}

impl Scan {
    /// An `askpass` that listens already, whose `cryptsetup` is there.
    fn meet(&self, pid: i32, programs: &[(i32, PathBuf)]) -> io::Result<Option<Waiting>> {
        let text = |name: &str| Some(process::variable(&self.root, pid, name)?.to_string_lossy().into_owned());
        let prompt = process::arguments(&self.root, pid).get(1).map(|text| text.to_string_lossy().into_owned());
        let Some(asked) = Asked::new(text, prompt) else { return Ok(None) };
        let Some(&fifo) = listens(&self.root, pid).first() else { return Ok(None) };
        let mine =
            |pid: i32| process::variable(&self.root, pid, "CRYPTTAB_NAME").is_some_and(|name| name == *asked.volume);
        let waits = |(pid, program): &&(i32, PathBuf)| is(program, "cryptsetup") && mine(*pid);
        let Some((waiter, program)) = programs.iter().find(waits) else { return Ok(None) };
        let (Some(askpass), Some(cryptsetup)) = (Process::open(pid)?, Process::open(*waiter)?) else { return Ok(None) };

        let opening = Opening::parse_piped(&process::arguments(&self.root, *waiter));
        let plain = opening.as_ref().is_some_and(|opening| opening.format() == "plain");
        if let Some(opening) = opening {
            let path = process::variable(&self.root, *waiter, "PATH");
            self.recipes.note(Arc::new(Recipe { opening, program: program.clone(), path, asked_again: true }));
        }
        let (prompt, posed) = Prompt::new(asked.question());
        let asker = Arc::new(Asker { askpass, fifo, cryptsetup, asked, plain });
        let carrier = carry(&self.root, &asker, posed, &self.changed);
        Ok(Some(Waiting { asker, prompt, carrier }))
    }

    fn complain(&mut self, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            log::error!("passphrase prompts of askpass may be missed: {what}");
        }
    }
}

/// The programs that run now.
fn programs(root: &Root) -> io::Result<Vec<(i32, PathBuf)>> {
    let all = process::all(root)?.into_iter();
    Ok(all.filter_map(|pid| Some((pid, process::program(root, pid)?))).collect())
}

fn is(program: &std::path::Path, name: &str) -> bool {
    program.file_name().is_some_and(|found| found == name)
}

/// The descriptors on which a process listens for a passphrase.
fn listens(root: &Root, pid: i32) -> Vec<i32> {
    let paths = FIFO.iter().filter_map(|path| Some(root.join(path).to_str()?.to_owned()));
    paths.flat_map(|path| process::descriptors_on(root, pid, &path)).collect()
}

fn carry(root: &Root, asker: &Arc<Asker>, posed: Posed, changed: &Arc<Notify>) -> JoinHandle<()> {
    let (root, asker, changed) = (root.clone(), asker.clone(), changed.clone());
    crate::task::spawn(async move {
        // Whoever waits for a verdict may be gone; what was done is done.
        match posed.answer.await {
            Err(_) => drop(posed.fate.send(asker.fate(&root).await)),
            Ok(Answer { secret, verdict }) => {
                // Its end leaves askpass waiting, and the boot with it: it gets the answer all the same.
                let nobody_tries = asker.cryptsetup.has_ended();
                let said = asker.say(&root, &secret);
                drop(secret);
                drop(verdict.send(match (said, nobody_tries) {
                    (Said::Given, true) => Verdict::NotDelivered(NOBODY_TRIED.into()),
                    (said, _) => asker.verdict(&root, said).await,
                }));
            }
        }
        changed.notify_one();
    })
}

/// What became of an attempt to hand over an answer.
enum Said {
    Given,
    /// Somebody else's answer was taken.
    TooLate,
    Not(String),
}

impl Asker {
    /// Writes the answer: all of it, then the end.
    fn say(&self, root: &Root, secret: &Secret) -> Said {
        if secret.is_empty() || secret.len() > MAX_PASSPHRASE {
            return Said::Not(format!("a passphrase must have from 1 to {MAX_PASSPHRASE} bytes"));
        }
        if self.askpass.has_ended() {
            return Said::TooLate;
        }
        // The plymouth client of an askpass inherits the pipe, and doesn't read it.
        let programs = programs(root).unwrap_or_default();
        let mut others = programs.iter().filter(|(pid, program)| *pid != self.askpass.pid && is(program, "askpass"));
        if let Some((other, _)) = others.find(|(pid, _)| !listens(root, *pid).is_empty()) {
            let reason = format!("another askpass (process {other}) could take it; end that one and try again");
            return Said::Not(reason);
        }
        let path = root.join(format!("/proc/{}/fd/{}", self.askpass.pid, self.fifo));
        // Without O_NONBLOCK this would wait for a reader; so it is an error when there is none.
        let opened = OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
        match opened.and_then(|mut fifo| fifo.write_all(secret.expose())) {
            Ok(()) => Said::Given,
            Err(_) if self.askpass.has_ended() => Said::TooLate,
            // ENXIO: it has closed the pipe, as it does when the console was faster.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => Said::TooLate,
            Err(error) => Said::Not(format!("askpass (process {}) can't be answered: {error}", self.askpass.pid)),
        }
    }

    async fn verdict(&self, root: &Root, said: Said) -> Verdict {
        match said {
            Said::Given => self.fate(root).await,
            Said::TooLate => match self.fate(root).await {
                Verdict::Wrong { .. } => {
                    Verdict::NotDelivered("another answer came first and was refused; it is asked again".into())
                }
                other => other,
            },
            Said::Not(reason) => {
                log::warn!("{}: {reason}", self.asked.volume);
                Verdict::NotDelivered(reason)
            }
        }
    }

    /// What becomes of the question, whoever answers it.
    async fn fate(&self, root: &Root) -> Verdict {
        let opened = volumes::opened(root, &self.asked.volume);
        let ended = async {
            self.cryptsetup.ended().await;
            timeout(MAPPING_GRACE, volumes::opened(root, &self.asked.volume)).await.is_ok()
        };
        let open = async {
            tokio::select! {
                () = opened => true,
                open = ended => open,
            }
        };
        match timeout(VERDICT_DEADLINE, open).await {
            Ok(true) if self.plain => self.stays(root).await,
            Ok(true) => Verdict::Unlocked,
            Ok(false) => self.asked.refused(),
            Err(_) => Verdict::NoVerdict,
        }
    }

    /// The verdict on a volume that every passphrase opens.
    async fn stays(&self, root: &Root) -> Verdict {
        let closed = async {
            while volumes::is_open(root, &self.asked.volume) {
                tokio::time::sleep(volumes::PROOF_POLL).await;
            }
        };
        match timeout(PLAIN_STAYS, closed).await {
            Ok(()) => self.asked.refused(),
            Err(_) => Verdict::Unlocked,
        }
    }
}
