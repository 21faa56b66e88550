//! Questions of systemd's password agents protocol: dracut with systemd, mkinitcpio's sd-encrypt, NixOS.
//!
//! One more agent beside the console's and plymouth's: `docs/PASSWORD_AGENTS.md` of systemd. Questions are files; the
//! first answer that reaches an asker's socket wins, and the others see the file go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::time::ClockId;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::ask_dir::AskDirectory;
use super::ask_file::Ask;
use super::ask_kind::{bcachefs, dataset, kind};
use super::attach::Attach;
use super::observe::{Asked, Observer};
use super::process::{self, Process};
use super::proof::{Proof, Proved};
use super::{Answer, Kind, Posed, Prompt, Prompts, Question, Source, Stage, Verdict, next_id};
use crate::root::Root;

pub(super) const DIRECTORY: &str = "/run/systemd/ask-password";
/// How often the directory is looked for before it exists: it comes with the first question or a moment before. One
/// stat(2), and nobody waits longer than this to see the first question.
const DIRECTORY_POLL: Duration = Duration::from_millis(500);
/// Bytes of passphrase that fit into an answer: askers read `LINE_MAX`. Version 252 cuts longer ones off silently, 257
/// ignores them.
const MAX_PASSPHRASE: usize = 2048;

/// The source. It reads and answers below `root`.
pub struct Systemd {
    root: Root,
    proved: Proved,
}

impl Systemd {
    pub fn new(root: Root) -> Self {
        Self { root, proved: Proved::default() }
    }

    /// Where to note volumes that device mapper doesn't know.
    pub fn noting(self, proved: Proved) -> Self {
        Self { proved, ..self }
    }
}

impl Source for Systemd {
    fn spawn(self) -> watch::Receiver<Prompts> {
        let (publish, receiver) = watch::channel(Prompts::from([]));
        let agent = Agent {
            root: self.root,
            proved: self.proved,
            publish,
            asked: watch::Sender::new(Arc::from([])),
            open: BTreeMap::new(),
            askers: HashMap::new(),
            unreadable: BTreeSet::new(),
            changed: Arc::new(Notify::new()),
        };
        crate::task::spawn(agent.run());
        receiver
    }
}

/// The state of the one task that reads the directory.
struct Agent {
    root: Root,
    proved: Proved,
    publish: watch::Sender<Prompts>,
    /// What is asked now, for those that observe what becomes of an answer.
    asked: watch::Sender<Arc<[Asked]>>,
    /// By file name.
    open: BTreeMap<OsString, Open>,
    /// By process number.
    askers: HashMap<i32, Asker>,
    /// Files that were complained about.
    unreadable: BTreeSet<OsString>,
    /// An asker died, or an answer's story ended: look again.
    changed: Arc<Notify>,
}

/// A question that is asked now.
struct Open {
    ask: Ask,
    asked: Asked,
    prompt: Prompt,
    /// Carries the answer, and ends with its verdict.
    carrier: JoinHandle<()>,
}

/// A process that has asked at least once.
struct Asker {
    process: Arc<Process>,
    attach: Option<Attach>,
    version: Option<u32>,
    /// Questions so far; those for verification don't count.
    passphrases: u32,
    pins: u32,
    /// Its first question for the volume's passphrase was seen, and nothing from the keyring was tried before.
    from_the_start: bool,
}

impl Agent {
    async fn run(mut self) {
        let path = self.root.join(DIRECTORY);
        let mut complained = false;
        while !self.publish.is_closed() {
            match AskDirectory::watch(&path) {
                // Look again at once: another directory may be in its place already.
                Ok(Some(directory)) if self.follow(&directory).await => continue,
                Ok(_) => self.show(BTreeMap::new()),
                Err(error) if !std::mem::replace(&mut complained, true) => {
                    log::error!("{DIRECTORY} can't be watched, so systemd's questions are not seen: {error}");
                }
                Err(_) => {}
            }
            sleep(DIRECTORY_POLL).await;
        }
    }

    /// Publishes what is asked, until the directory goes away or nobody listens. `false` when it can't be read.
    async fn follow(&mut self, directory: &AskDirectory) -> bool {
        let closed = self.publish.clone();
        let changed = self.changed.clone();
        loop {
            let Ok(files) = directory.files() else { return false };
            self.show(files);
            tokio::select! {
                () = closed.closed() => return true,
                () = changed.notified() => {}
                () = expiry(self.next_expiry()) => {}
                here = directory.changed() => if !here { return true },
            }
        }
    }

    /// Takes the directory as it is now, and tells everybody what changed.
    fn show(&mut self, files: BTreeMap<OsString, Vec<u8>>) {
        self.unreadable.retain(|name| files.contains_key(name));
        let mut asks = BTreeMap::new();
        for (name, content) in files {
            match Ask::parse(&content) {
                Ok(ask) => drop(asks.insert(name, ask)),
                Err(error) if self.unreadable.insert(name.clone()) => {
                    log::warn!("ignoring {DIRECTORY}/{}: {error}", name.to_string_lossy());
                }
                Err(_) => {}
            }
        }
        let now = monotonic();
        asks.retain(|_, ask| ask.not_after.is_none_or(|end| end > now));
        let before: Vec<_> = self.open.values().map(|open| open.prompt.question.id).collect();
        self.open.retain(|name, open| asks.get(name) == Some(&open.ask) && !open.asked.process.has_ended());
        for (name, ask) in asks {
            match self.open.get(&name) {
                Some(open) if !open.carrier.is_finished() => {}
                // The reply is spent, and the question still stands: it is asked anew.
                Some(open) => {
                    let (asked, question) = (open.asked.clone(), open.prompt.question.clone());
                    let open = self.pose(ask, asked, Question { id: next_id(), ..question });
                    self.open.insert(name, open);
                }
                None => {
                    let known = self.recognise(&ask);
                    match known {
                        Ok(Some((asked, question))) => {
                            let open = self.pose(ask, asked, question);
                            self.open.insert(name, open);
                        }
                        Ok(None) => {}
                        Err(error) if self.unreadable.insert(name) => {
                            log::warn!("ignoring a question of process {}, which can't be observed: {error}", ask.pid);
                        }
                        Err(_) => {}
                    }
                }
            }
        }
        self.askers.retain(|_, asker| !asker.process.has_ended());
        self.asked.send_replace(self.open.values().map(|open| open.asked.clone()).collect());
        let prompts: Prompts = self.open.values().map(|open| open.prompt.clone()).collect();
        if !prompts.iter().map(|prompt| prompt.question.id).eq(before) {
            self.publish.send_replace(prompts);
        }
    }

    /// Who asks, and for what. `None` when the asker has ended.
    fn recognise(&mut self, ask: &Ask) -> std::io::Result<Option<(Asked, Question)>> {
        if self.askers.get(&ask.pid).is_none_or(|asker| asker.process.has_ended()) {
            let Some(asker) = self.meet(ask.pid)? else { return Ok(None) };
            self.askers.insert(ask.pid, asker);
        }
        let asker = self.askers.get_mut(&ask.pid).expect("it was just met");
        let disk = ask.disk();
        let verification = disk.as_ref().is_some_and(|disk| disk.verification);
        let kind = kind(ask, asker.attach.is_some());
        let passphrase = kind == Kind::Passphrase;
        let count = if passphrase { &mut asker.passphrases } else { &mut asker.pins };
        *count += u32::from(!verification);
        let count = *count;
        if passphrase && count == 1 {
            // systemd-cryptsetup would take its first passphrase from the keyring, later ones not.
            asker.from_the_start = ask.accept_cached;
        }
        let attach = asker.attach.as_ref();
        let tries_left = attach
            .filter(|_| disk.is_some())
            .and_then(|attach| attach.tries_left(asker.version, asker.from_the_start, count));
        let question = Question {
            id: next_id(),
            kind,
            stage: Stage::Asking,
            volume: attach.map(|attach| attach.volume.clone()).or_else(|| dataset(ask).map(str::to_owned)),
            device: attach
                .map(|attach| attach.device.clone())
                .or_else(|| disk.as_ref().map(|disk| disk.device.clone())),
            message: ask.message.clone(),
            tries_used: count.saturating_sub(1),
            tries_left,
            source: "systemd".into(),
        };
        let asked = Asked {
            sequence: question.id.0,
            process: asker.process.clone(),
            proof: match (attach, dataset(ask)) {
                (Some(attach), _) => Proof::Mapping(attach.volume.clone()),
                (None, Some(dataset)) => Proof::Dataset(dataset.to_owned()),
                (None, None) => bcachefs(ask).map_or(Proof::None, Proof::Bcachefs),
            },
            message: ask.message.clone(),
            kind,
            verification,
            tries_left,
        };
        Ok(Some((asked, question)))
    }

    /// An asker's first question.
    fn meet(&self, pid: i32) -> std::io::Result<Option<Asker>> {
        let Some(process) = Process::open(pid)?.filter(|process| !process.has_ended()) else { return Ok(None) };
        let process = Arc::new(process);
        let (ends, changed) = (process.clone(), self.changed.clone());
        crate::task::spawn(async move {
            ends.ended().await;
            changed.notify_one();
        });
        let attach = Attach::parse(&process::arguments(&self.root, pid));
        let discovers = |attach: &Attach| attach.key_files().iter().any(|path| self.root.join(path).exists());
        Ok(Some(Asker {
            attach: attach.map(|attach| if discovers(&attach) { attach.found_a_key() } else { attach }),
            version: process::systemd_version(&self.root, pid),
            process,
            passphrases: 0,
            pins: 0,
            from_the_start: false,
        }))
    }

    fn pose(&self, ask: Ask, asked: Asked, question: Question) -> Open {
        let (prompt, posed) = Prompt::new(question);
        let socket = self.root.join(&ask.socket);
        let observer = Observer { root: self.root.clone(), mine: asked.clone(), asked: self.asked.subscribe() };
        let (changed, proved) = (self.changed.clone(), self.proved.clone());
        let carrier = crate::task::spawn(async move {
            carry(posed, &socket, observer, &proved).await;
            changed.notify_one();
        });
        Open { ask, asked, prompt, carrier }
    }

    fn next_expiry(&self) -> Option<u64> {
        self.open.values().filter_map(|open| open.ask.not_after).min()
    }
}

/// Waits for the answer, hands it over, and reports what was observed.
async fn carry(posed: Posed, socket: &Path, observer: Observer, proved: &Proved) {
    let Ok(Answer { secret, verdict }) = posed.answer.await else {
        // Who waits for neither has gone; so it is below.
        return drop(posed.fate.send(observe(observer, false, proved).await));
    };
    let observed = match deliver(socket, secret.expose()) {
        Ok(delivered) => {
            drop(secret);
            observe(observer, delivered, proved).await
        }
        Err(reason) => Verdict::NotDelivered(reason),
    };
    drop(verdict.send(observed));
}

async fn observe(observer: Observer, delivered: bool, proved: &Proved) -> Verdict {
    let proof = observer.mine.proof.clone();
    let verdict = observer.observe(delivered).await;
    match (&verdict, &proof) {
        (Verdict::Unlocked, Proof::Dataset(name)) => proved.note(name),
        (Verdict::Unlocked, Proof::Bcachefs(uuid)) => proved.note(&format!("UUID={uuid}")),
        _ => {}
    }
    verdict
}

/// Sends one answer. `false` when the asker no longer listens: somebody else was faster. An error is for a person.
fn deliver(socket: &Path, secret: &[u8]) -> Result<bool, String> {
    if secret.is_empty() {
        return Err("an empty passphrase is not given to anybody".into());
    }
    if secret.len() > MAX_PASSPHRASE {
        return Err(format!("systemd takes at most {MAX_PASSPHRASE} bytes, this has {}", secret.len()));
    }
    if secret.contains(&0) {
        // strv_parse_nulstr(): it would count as several passphrases.
        return Err("systemd takes no passphrase with a NUL byte in it".into());
    }
    let mut datagram = zeroize::Zeroizing::new(Vec::with_capacity(1 + secret.len()));
    datagram.push(b'+');
    datagram.extend_from_slice(secret);
    let sender =
        std::os::unix::net::UnixDatagram::unbound().map_err(|error| format!("no socket can be made: {error}"))?;
    sender.set_nonblocking(true).map_err(|error| format!("no socket can be made: {error}"))?;
    match sender.send_to(&datagram, socket) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(false),
        Err(error) => Err(format!("the asker's socket doesn't take it: {error}")),
    }
}

/// µs of CLOCK_MONOTONIC, as in `NotAfter=`.
fn monotonic() -> u64 {
    let now = ClockId::CLOCK_MONOTONIC.now().expect("Linux has this clock");
    Duration::from(now).as_micros() as u64
}

/// Returns when `NotAfter=` has passed; never for a question without one.
async fn expiry(not_after: Option<u64>) {
    match not_after {
        Some(end) => sleep(Duration::from_micros(end.saturating_sub(monotonic()))).await,
        None => std::future::pending().await,
    }
}
