//! A `zfs load-key` that waits for a passphrase on the console, or through plymouth: initramfs-tools and dracut without
//! systemd. (With systemd both ask through `systemd-ask-password`, which is that source's affair.)
//!
//! Read in OpenZFS 2.1.11 and 2.3.2: `contrib/initramfs/scripts/zfs` (`decrypt_fs`), `contrib/initramfs/zfsunlock`, and
//! `contrib/dracut/90zfs/{mount-zfs,zfs-lib}.sh.in`. As zfsunlock does, the key is loaded by a `zfs load-key` of our own;
//! when the key is there, the one that waits is ended with SIGTERM, and the script goes on.

pub mod tool;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

use self::tool::{Loaded, Tool, is_dataset};
use super::poll;
use super::process::{self, Process};
use super::proof::{Proof, Proved};
use super::{Answer, Kind, Posed, Prompt, Prompts, Question, Source, Stage, VERDICT_DEADLINE, Verdict, next_id, tty};
use crate::root::Root;
use crate::secret::Secret;

/// How often processes are looked at, where ZFS is there at all: nothing announces a read of a terminal.
const POLL: Duration = Duration::from_millis(500);
/// What shows that ZFS is there: its module's device, and what initramfs-tools' script writes before it asks.
const SIGNS: [&str; 2] = ["/dev/zfs", "/run/zfs_fs_name"];
/// How long a waiter may take to end after SIGTERM before that is reported.
const WAITER_END: Duration = Duration::from_secs(5);
/// How long the script may still bring waiters after the key was loaded: through plymouth it asks up to three times,
/// because `zfs load-key` fails when the key is there already.
const RELEASE: Duration = Duration::from_secs(3);
/// How long after the end of a waiter the key may still be found loaded. It loads it before it ends.
const GRACE: Duration = Duration::from_secs(2);

/// The source. It looks at processes below `root`.
pub struct Zfs {
    root: Root,
    proved: Proved,
}

impl Zfs {
    pub fn new(root: Root, proved: Proved) -> Self {
        Self { root, proved }
    }
}

impl Source for Zfs {
    fn spawn(self) -> watch::Receiver<Prompts> {
        let changed = Arc::new(Notify::new());
        let scan = Scan { zfs: Arc::new(self), asked: BTreeMap::new(), changed: changed.clone() };
        poll::start(scan, POLL, changed)
    }
}

/// The state of the one task that looks at processes.
struct Scan {
    zfs: Arc<Zfs>,
    /// By dataset.
    asked: BTreeMap<String, Asked>,
    /// An answer's story ended: look at once.
    changed: Arc<Notify>,
}

/// A dataset whose passphrase is asked for.
struct Asked {
    pid: i32,
    prompt: Prompt,
    /// Carries the answer, and ends with its verdict.
    carrier: JoinHandle<()>,
}

impl poll::Scan for Scan {
    fn prompts(&self) -> impl Iterator<Item = &Prompt> {
        self.asked.values().map(|asked| &asked.prompt)
    }

    fn look(&mut self) {
        let waiters: BTreeMap<String, Process> = self.zfs.waiters().into_iter().collect();
        let same = |dataset: &String, pid: i32| waiters.get(dataset).is_some_and(|waiter| waiter.pid == pid);
        self.asked.retain(|dataset, asked| same(dataset, asked.pid));
        for (dataset, waiter) in waiters {
            if self.asked.get(&dataset).is_some_and(|asked| !asked.carrier.is_finished()) {
                continue;
            }
            let (pid, (prompt, posed)) = (waiter.pid, Prompt::new(question(&dataset)));
            let (zfs, changed, of) = (self.zfs.clone(), self.changed.clone(), dataset.clone());
            let carrier = crate::task::spawn(async move {
                zfs.carry(&of, &waiter, posed).await;
                changed.notify_one();
            });
            self.asked.insert(dataset, Asked { pid, prompt, carrier });
        }
    }
}

impl Zfs {
    /// Processes that wait for the passphrase of a dataset, with its name.
    fn waiters(&self) -> Vec<(String, Process)> {
        if !SIGNS.iter().any(|sign| self.root.join(sign).exists()) {
            return Vec::new();
        }
        // Who can't be looked at has ended, or is nobody that we know.
        let all = process::all(&self.root).unwrap_or_default().into_iter();
        all.filter_map(|pid| self.waiter(pid)).collect()
    }

    fn waiter(&self, pid: i32) -> Option<(String, Process)> {
        let program = process::program(&self.root, pid)?;
        let name = program.file_name()?.to_str()?;
        if !matches!(name, "zfs" | "plymouth") {
            return None;
        }
        let arguments = process::arguments(&self.root, pid);
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let dataset = asked_dataset(name, &words)?;
        let waiter = Process::open(pid).ok()??;
        // What has its standard input from a pipe is answered through that.
        let waits = name == "plymouth" || tty::waits(&self.root, &waiter).unwrap_or(false);
        waits.then(|| (dataset.to_owned(), waiter))
    }

    async fn carry(&self, dataset: &str, waiter: &Process, posed: Posed) {
        let Ok(Answer { secret, verdict }) = posed.answer.await else {
            return drop(posed.fate.send(self.fate(dataset, waiter).await));
        };
        let observed = self.check(dataset, &secret).await;
        drop(secret);
        if observed == Verdict::Unlocked {
            self.proved.note(dataset);
            self.release(dataset).await;
        }
        drop(verdict.send(observed));
    }

    /// Loads the key beside the process that waits.
    async fn check(&self, dataset: &str, secret: &Secret) -> Verdict {
        let Some(tool) = Tool::find(&self.root) else {
            return Verdict::NotDelivered("there is no zfs command that could be run".into());
        };
        let loaded = tool.load_key(dataset, secret, VERDICT_DEADLINE).await;
        match (loaded, tool.has_key(dataset).await) {
            // Also when the console was faster.
            (_, Some(true)) => Verdict::Unlocked,
            (Loaded::WrongPassphrase, _) => Verdict::Wrong { tries_left: None },
            (Loaded::Failed(reason), _) => Verdict::NotDelivered(reason),
            (Loaded::Yes | Loaded::TooLate, _) => Verdict::NoVerdict,
        }
    }

    /// Frees the boot from a question that has its answer.
    async fn release(&self, dataset: &str) {
        let end = Instant::now() + RELEASE;
        let mut ticks = interval(POLL);
        while Instant::now() < end {
            ticks.tick().await;
            for (_, waiter) in self.waiters().into_iter().filter(|(of, _)| of == dataset) {
                let terminal = waiter.descriptor(0);
                if let Err(error) = waiter.terminate()
                    && !waiter.has_ended()
                {
                    log::error!("the key of {dataset} is loaded, but what still asks can't be ended: {error}");
                }
                if timeout(WAITER_END, waiter.ended()).await.is_err() {
                    log::error!("the key of {dataset} is loaded, but what still asks doesn't end");
                }
                if let Ok(terminal) = terminal {
                    restore_echo(&terminal);
                }
            }
        }
    }

    /// What became of a question that nobody answered here.
    async fn fate(&self, dataset: &str, waiter: &Process) -> Verdict {
        let proof = Proof::Dataset(dataset.to_owned());
        let open = async {
            tokio::select! {
                () = proof.appears(&self.root) => true,
                open = async {
                    waiter.ended().await;
                    timeout(GRACE, proof.appears(&self.root)).await.is_ok()
                } => open,
            }
        };
        match timeout(VERDICT_DEADLINE, open).await {
            Ok(true) => {
                self.proved.note(dataset);
                Verdict::Unlocked
            }
            Ok(false) => Verdict::GaveUp,
            Err(_) => Verdict::NoVerdict,
        }
    }
}

/// `zfs` handles no SIGTERM: it leaves its terminal as `libzfs_getpassphrase()` has set it, without these flags.
fn restore_echo(terminal: &OwnedFd) {
    let Ok(mut settings) = tcgetattr(terminal) else { return }; // plymouth has none
    settings.local_flags.insert(LocalFlags::ECHO | LocalFlags::ECHOE | LocalFlags::ECHOK);
    if let Err(error) = tcsetattr(terminal, SetArg::TCSANOW, &settings) {
        log::warn!("the echo of the console can't be switched on again: {error}");
    }
}

fn question(dataset: &str) -> Question {
    Question {
        id: next_id(),
        kind: Kind::Passphrase,
        stage: Stage::Asking,
        volume: Some(dataset.to_owned()),
        device: None,
        message: format!("Enter passphrase for '{dataset}':"),
        // Ours cost it nothing, and how many it had at the console can't be seen.
        tries_used: 0,
        tries_left: None,
        source: "zfs".into(),
    }
}

/// The dataset that a process asks for, by its program and arguments.
fn asked_dataset<'a>(program: &str, words: &[&'a str]) -> Option<&'a str> {
    let dataset = match (program, words) {
        ("zfs", [_, "load-key", options @ .., dataset]) if !options.contains(&"-n") => dataset,
        ("plymouth", [_, "ask-for-password", rest @ ..]) => rest.iter().find_map(|word| message_dataset(word))?,
        _ => return None,
    };
    is_dataset(dataset).then_some(dataset)
}

/// The dataset in the text with which all of OpenZFS's scripts ask for a passphrase.
pub fn message_dataset(message: &str) -> Option<&str> {
    let (_, dataset) = message.split_once("Encrypted ZFS password for ")?;
    Some(dataset.trim_end_matches([' ', ':'])).filter(|dataset| is_dataset(dataset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_dataset() {
        for (words, dataset) in [
            (&["zfs", "load-key", "rpool/ROOT"][..], Some("rpool/ROOT")),
            (&["/sbin/zfs", "load-key", "-r", "rpool"], Some("rpool")),
            (&["zfs", "load-key", "-n", "rpool"], None),
            (&["zfs", "load-key", "-a"], None),
            (&["zfs", "get", "keystatus", "rpool"], None),
            (&["plymouth", "ask-for-password", "--prompt", "Encrypted ZFS password for rpool"], Some("rpool")),
            (
                &["plymouth", "ask-for-password", "--prompt=Encrypted ZFS password for r/x: ", "--command=x"],
                Some("r/x"),
            ),
            (&["plymouth", "ask-for-password", "--prompt", "Password"], None),
            (&["plymouth", "--ping"], None),
        ] {
            let program = words[0].rsplit('/').next().unwrap();
            assert_eq!(asked_dataset(program, words), dataset, "{words:?}");
        }
    }
}
