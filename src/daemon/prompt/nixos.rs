//! NixOS' scripted stage 1: a shell loop that takes a passphrase from its console or from a file.
//!
//! `nixos/modules/system/boot/luksroot.nix` of nixpkgs, `do_open_passphrase()`: as long as it waits, it writes the device
//! to `/crypt-ramfs/device`, once a second; it takes `/crypt-ramfs/passphrase` when that exists, removes it when it was
//! wrong, and waits again. The directory is a ramfs of its own, which it unmounts when all is open; the passphrase is in
//! a file there because that is how it is asked for.

use std::fs::{OpenOptions, remove_file, rename};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    Answer, Kind, Posed, Prompt, Prompts, Question, Source, Stage, VERDICT_DEADLINE, Verdict, next_id, volumes,
};
use crate::root::Root;

const DEVICE: &str = "/crypt-ramfs/device";
const PASSPHRASE: &str = "/crypt-ramfs/passphrase";
const TEMPORARY: &str = "/crypt-ramfs/.vestibule";
/// How often the files are looked at; the loop itself looks once a second.
const POLL: Duration = Duration::from_millis(500);
/// How long the loop may take to write the device anew when it still waits: a second, on a busy machine a few.
const LOOP: Duration = Duration::from_secs(5);
/// Longest path of a device.
const MAX_PATH: u64 = 4096;

/// The source. It reads and answers below `root`.
pub struct Nixos {
    root: Root,
}

impl Nixos {
    pub fn new(root: Root) -> Self {
        Self { root }
    }

    async fn run(self, publish: watch::Sender<Prompts>) {
        let mut ticks = ticks();
        while !publish.is_closed() {
            ticks.tick().await;
            let Some(device) = self.waits_for() else { continue };
            let (prompt, Posed { mut answer, fate }) = Prompt::new(question(&device));
            publish.send_replace(Prompts::from([prompt]));
            let answered = loop {
                tokio::select! {
                    biased;
                    Ok(answer) = &mut answer => break Some(answer),
                    _ = ticks.tick() => if self.waits_for().as_ref() != Some(&device) {
                        break None;
                    },
                    () = publish.closed() => return,
                }
            };
            match answered {
                Some(Answer { secret, verdict }) => {
                    let given = self.give(secret.expose());
                    drop(secret);
                    let observed = match given {
                        Ok(()) => self.observe(&device).await,
                        Err(reason) => Verdict::NotDelivered(reason),
                    };
                    publish.send_replace(Prompts::from([]));
                    drop(verdict.send(observed));
                }
                None => {
                    publish.send_replace(Prompts::from([]));
                    let open = timeout(VERDICT_DEADLINE, self.settled(&device)).await;
                    drop(fate.send(if open == Ok(true) { Verdict::Unlocked } else { Verdict::NoVerdict }));
                }
            }
        }
    }

    /// The device whose passphrase is awaited now. What is open already is none: its file may be left over.
    fn waits_for(&self) -> Option<String> {
        let device = self.asked()?;
        (!self.root.join(PASSPHRASE).exists() && !self.is_open(&device)).then_some(device)
    }

    fn asked(&self) -> Option<String> {
        let mut text = String::new();
        std::fs::File::open(self.root.join(DEVICE)).ok()?.take(MAX_PATH).read_to_string(&mut text).ok()?;
        Some(text.trim().to_owned()).filter(|device| device.starts_with('/') || device.starts_with("UUID="))
    }

    /// Whether a volume lies on this device, which may be named by a link.
    fn is_open(&self, device: &str) -> bool {
        let named = device.strip_prefix("UUID=").map(|uuid| format!("/dev/disk/by-uuid/{uuid}"));
        let path = self.root.join(named.as_deref().unwrap_or(device));
        let found = path.canonicalize().unwrap_or(path);
        let lies_on = |below: String| {
            let below: PathBuf = self.root.join(below);
            below.canonicalize().unwrap_or(below) == found
        };
        volumes::open(&self.root).into_iter().filter_map(|volume| volume.device).any(lies_on)
    }

    /// As its own `cryptsetup-askpass` does, but in one step. An error is for a person.
    fn give(&self, secret: &[u8]) -> Result<(), String> {
        if secret.iter().any(|byte| matches!(byte, b'\n' | 0)) {
            return Err("this stage 1 takes no passphrase with a newline or NUL byte in it".into());
        }
        let temporary = self.root.join(TEMPORARY);
        let write = || {
            gone(remove_file(&temporary))?;
            gone(remove_file(self.root.join(DEVICE)))?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(secret)?;
            rename(&temporary, self.root.join(PASSPHRASE))
        };
        write().map_err(|error: io::Error| {
            drop(remove_file(&temporary));
            format!("{PASSPHRASE} can't be written: {error}")
        })
    }

    async fn observe(&self, device: &str) -> Verdict {
        match timeout(VERDICT_DEADLINE, self.settled(device)).await {
            Ok(true) => Verdict::Unlocked,
            Ok(false) => Verdict::Wrong { tries_left: None },
            Err(_) => {
                // Nobody has taken it; it must not lie there.
                if let Err(error) = gone(remove_file(self.root.join(PASSPHRASE))) {
                    log::error!("{PASSPHRASE} can't be removed: {error}");
                }
                Verdict::NoVerdict
            }
        }
    }

    /// Returns when a volume is open (`true`) or the loop waits for its passphrase again.
    async fn settled(&self, device: &str) -> bool {
        let mut ticks = ticks();
        loop {
            ticks.tick().await;
            if self.is_open(device) {
                return true;
            }
            if self.asked().as_deref() == Some(device) && !self.root.join(PASSPHRASE).exists() {
                // It may have been written a moment before the passphrase was found. A loop that waits writes it anew.
                let again = async {
                    drop(gone(remove_file(self.root.join(DEVICE))));
                    let mut ticks = interval(volumes::PROOF_POLL);
                    loop {
                        ticks.tick().await;
                        match self.asked() {
                            _ if self.is_open(device) => return true,
                            Some(asked) if asked == device => return false,
                            _ => {}
                        }
                    }
                };
                if let Ok(open) = timeout(LOOP, again).await {
                    return open;
                }
            }
        }
    }
}

impl Source for Nixos {
    fn spawn(self) -> watch::Receiver<Prompts> {
        let (publish, receiver) = watch::channel(Prompts::from([]));
        crate::task::spawn(self.run(publish));
        receiver
    }
}

fn question(device: &str) -> Question {
    Question {
        id: next_id(),
        kind: Kind::Passphrase,
        stage: Stage::Asking,
        // Only the script knows what it will be called.
        volume: None,
        device: Some(device.to_owned()),
        message: format!("Passphrase for {device}:").replace(char::is_control, "\u{fffd}"),
        tries_used: 0,
        // It asks for ever.
        tries_left: None,
        source: "nixos".into(),
    }
}

/// What is gone already need not be removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
