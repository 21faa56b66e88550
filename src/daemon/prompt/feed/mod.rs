//! Volumes that wait for their key file: `ssh HOST feed VOLUME < keyfile`.
//!
//! systemd-cryptsetup takes a socket for a key file: it connects and reads to the end (crypttab(5), "AF_UNIX KEY
//! FILES"); by itself it looks at `/run/cryptsetup-keys.d/VOLUME.key`. For everything else that reads a key file there
//! is a FIFO. A key is handed over whole, and is neither in a file nor kept before or after.
//!
//! While an asker is held, the console does not ask for its volume's passphrase. So it is held for a limited time, and
//! then let go without a key: systemd-cryptsetup takes that for a key that doesn't fit, which costs it one of its
//! `tries=`, and asks for the passphrase (`attach_luks_or_plain_or_bitlk_by_key_file()` and the loop in `run()` of its
//! `src/cryptsetup/cryptsetup.c`, 252).

mod place;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::place::{Line, Place};
use super::ask_dir::AskDirectory;
use super::ask_file::Ask;
use super::attach::Attach;
use super::process::{self, Process};
use super::{
    Answer, Kind, Posed, Prompt, Prompts, Question, Source, Stage, VERDICT_DEADLINE, Verdict, next_id, systemd, volumes,
};
use crate::config::key::KeyPlace;
use crate::root::Root;
use crate::secret::{MAX_KEY_LEN, Secret};

/// How long an asker may take to read a key that fits into the buffer between us.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// How long after the end of its asker a volume may still show up in sysfs.
const MAPPING_GRACE: Duration = Duration::from_secs(1);
/// After a failed accept(2) or open(2), so that an error that stays costs next to nothing.
const RETRY: Duration = Duration::from_secs(1);

/// The source. Its files exist from its making on, so that no asker comes too early.
pub struct Feed {
    root: Root,
    doors: Vec<(KeyPlace, Place)>,
}

impl Feed {
    /// Makes the files. What can't be made is a problem, in a sentence each. Needs a tokio runtime.
    pub fn prepare(root: &Root, keys: &[KeyPlace]) -> (Self, Vec<String>) {
        let (mut doors, mut problems) = (Vec::new(), Vec::new());
        for key in keys {
            match Place::make(root, key) {
                Ok(place) => doors.push((key.clone(), place)),
                Err(error) => {
                    problems.push(format!("the key of {} can't be fed: {}: {error}", key.volume, key.path().display()))
                }
            }
        }
        (Self { root: root.clone(), doors }, problems)
    }

    /// Removes the files of a daemon that was killed: an asker that finds nobody behind a socket fails.
    pub fn clean_up(root: &Root, keys: &[KeyPlace]) {
        for key in keys {
            if let Err(error) = place::remove(&root.join(key.path())) {
                log::warn!("{} can't be removed: {error}", key.path().display());
            }
        }
    }
}

impl Source for Feed {
    fn spawn(self) -> watch::Receiver<Prompts> {
        let (publish, receiver) = watch::channel(Prompts::from([]));
        let publish = Arc::new(publish);
        for (key, place) in self.doors {
            let (arrivals, _) = watch::channel(0);
            let keeper = Keeper { root: self.root.clone(), key, publish: publish.clone(), arrivals };
            crate::task::spawn(Arc::new(keeper).run(place));
        }
        receiver
    }
}

/// Who receives the askers of one place.
struct Keeper {
    root: Root,
    key: KeyPlace,
    publish: Arc<watch::Sender<Prompts>>,
    /// Askers so far.
    arrivals: watch::Sender<u64>,
}

/// How a line ended.
enum Ended {
    Answered(Answer),
    /// The asker went away by itself.
    Left,
    TooLate,
}

impl Keeper {
    async fn run(self: Arc<Self>, place: Place) {
        let closed = self.publish.clone();
        loop {
            let next = tokio::select! {
                next = place.next() => next,
                () = closed.closed() => return,
            };
            match next {
                Ok(line) => {
                    self.arrivals.send_modify(|arrivals| *arrivals += 1);
                    tokio::select! {
                        () = self.clone().hold(line) => place.settled().await,
                        () = closed.closed() => return,
                    }
                }
                Err(error) => {
                    log::warn!("waiting for who reads the key of {} failed: {error}; trying again", self.key.volume);
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Holds an asker until it has its key, or for as long as is allowed. What becomes of it is observed elsewhere.
    async fn hold(self: Arc<Self>, line: Line) {
        let (volume, wait) = (&self.key.volume, self.key.wait_seconds);
        log::info!("{volume} waits for its key for {wait} s: ssh HOST feed {volume} < keyfile");
        let deadline = Instant::now() + Duration::from_secs(wait);
        let observer = Observer {
            opens_volumes: line.process.as_deref().is_some_and(|process| opens_volumes(&self.root, process)),
            process: line.process.clone(),
            arrivals: *self.arrivals.borrow(),
            keeper: self.clone(),
        };
        loop {
            let (fate, ended) = self.ask(&line, deadline).await;
            match ended {
                Ended::Answered(Answer { secret, verdict }) if secret.len() > MAX_KEY_LEN => {
                    // Nothing was written, so the asker may still have its key.
                    let reason = format!("a key of more than {MAX_KEY_LEN} bytes is not fed");
                    drop(verdict.send(Verdict::NotDelivered(reason)));
                    continue;
                }
                Ended::Answered(Answer { secret, verdict }) => {
                    write(line, secret).await;
                    crate::task::spawn(async move { drop(verdict.send(observer.observe().await)) });
                }
                Ended::Left | Ended::TooLate => {
                    if let Ended::TooLate = ended {
                        log::warn!("no key for {volume} came within {wait} s; its asker goes on without");
                    }
                    drop(line);
                    crate::task::spawn(async move { drop(fate.send(observer.observe().await)) });
                }
            }
            return;
        }
    }

    /// Shows the question until it ends.
    async fn ask(&self, line: &Line, deadline: Instant) -> (oneshot::Sender<Verdict>, Ended) {
        let (prompt, Posed { answer, fate }) = Prompt::new(self.question(line.process.as_deref()));
        let id = prompt.question.id;
        self.publish.send_modify(|prompts| *prompts = prompts.iter().cloned().chain([prompt]).collect());
        let ended = tokio::select! {
            biased;
            Ok(answer) = answer => Ended::Answered(answer),
            () = line.gone() => Ended::Left,
            () = sleep_until(deadline) => Ended::TooLate,
        };
        self.publish.send_modify(|prompts| {
            *prompts = prompts.iter().filter(|prompt| prompt.question.id != id).cloned().collect();
        });
        (fate, ended)
    }

    fn question(&self, asker: Option<&Process>) -> Question {
        let volume = self.key.volume.clone();
        let attach = asker.and_then(|asker| Attach::parse(&process::arguments(&self.root, asker.pid)));
        Question {
            id: next_id(),
            kind: Kind::Key,
            stage: Stage::Asking,
            device: attach.map(|attach| attach.device),
            message: format!("Waiting for the key file of {volume}"),
            volume: Some(volume),
            tries_used: 0,
            // A key is tried once.
            tries_left: None,
            source: "feed".into(),
        }
    }
}

/// Hands a key over, and lets the asker go. One that stops reading has what it wanted of it, or fails by itself; that is
/// observed.
async fn write(mut line: Line, secret: Secret) {
    match timeout(WRITE_DEADLINE, line.write(secret.expose())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::warn!("a key was not read to its end: {error}"),
        Err(_) => log::warn!("a key was not read to its end within {WRITE_DEADLINE:?}"),
    }
}

/// Follows what becomes of an asker that has been let go.
struct Observer {
    keeper: Arc<Keeper>,
    process: Option<Arc<Process>>,
    /// The volume is opened by this very process.
    opens_volumes: bool,
    /// Its own number among the askers of its place.
    arrivals: u64,
}

impl Observer {
    /// The volume is open: unlocked. The same process asks for a passphrase, or somebody reads the key file anew: the
    /// key was wrong, or there was none. Its process has ended without a volume: it gave up.
    async fn observe(self) -> Verdict {
        let (root, volume) = (&self.keeper.root, &self.keeper.key.volume);
        let mut arrivals = self.keeper.arrivals.subscribe();
        let verdict = async {
            tokio::select! {
                biased;
                () = volumes::opened(root, volume) => Verdict::Unlocked,
                () = self.asks_somebody() => Verdict::Wrong { tries_left: None },
                () = later(&mut arrivals, self.arrivals) => Verdict::Wrong { tries_left: None },
                () = self.ended() => match timeout(MAPPING_GRACE, volumes::opened(root, volume)).await {
                    Ok(()) => Verdict::Unlocked,
                    Err(_) => Verdict::GaveUp,
                },
            }
        };
        timeout(VERDICT_DEADLINE, verdict).await.unwrap_or(Verdict::NoVerdict)
    }

    /// Returns when a question of this process stands in systemd's directory.
    async fn asks_somebody(&self) {
        let Some(process) = &self.process else { return std::future::pending().await };
        let directory = self.keeper.root.join(systemd::DIRECTORY);
        let ours = |content: &Vec<u8>| Ask::parse(content).is_ok_and(|ask| ask.pid == process.pid);
        let mut ticks = tokio::time::interval(volumes::PROOF_POLL);
        loop {
            ticks.tick().await;
            if AskDirectory::read(&directory).is_ok_and(|files| files.values().any(ours)) {
                return;
            }
        }
    }

    /// Returns when the asker has ended, where that tells something.
    async fn ended(&self) {
        match &self.process {
            Some(process) if self.opens_volumes => process.ended().await,
            _ => std::future::pending().await,
        }
    }
}

/// Returns when another asker has come.
async fn later(arrivals: &mut watch::Receiver<u64>, mine: u64) {
    if arrivals.wait_for(|arrivals| *arrivals > mine).await.is_err() {
        std::future::pending().await
    }
}

/// Not so for what only passes the key on (`cat FIFO | cryptsetup …`), and ends before it is tried.
fn opens_volumes(root: &Root, process: &Process) -> bool {
    let program = process::program(root, process.pid);
    let name = program.as_ref().and_then(|program| program.file_name()).and_then(|name| name.to_str());
    matches!(name, Some("systemd-cryptsetup" | "cryptsetup"))
}
