//! How a volume was going to be opened, remembered from the first sight of its asker, so that it can still be opened
//! when that asker has given up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;

use super::cryptsetup::{Opened, Opening};
use super::{Kind, Question, Stage, VERDICT_DEADLINE, Verdict, next_id, volumes};
use crate::root::Root;
use crate::secret::Secret;

/// How long after the end of a cryptsetup its volume may still show up in sysfs.
pub(super) const MAPPING_GRACE: Duration = Duration::from_secs(1);

/// One `cryptsetup` command, to be run again with a passphrase on a pipe.
pub struct Recipe {
    pub opening: Opening,
    pub program: PathBuf,
    /// The `PATH` of the asker.
    pub path: Option<OsString>,
    /// The initramfs starts another asker when one has given up, until it gives up itself. Opened in between, the volume
    /// would stand in the way of the next.
    pub asked_again: bool,
}

impl Recipe {
    /// The question for its passphrase. Attempts of ours cost the asker none of its tries.
    pub fn question(&self, source: &str) -> Question {
        let Opening { device, volume, asks_for_a_pin, .. } = &self.opening;
        // With a token it may be the passphrase that is asked for by now. That can't be seen, and a PIN is no passphrase.
        let (kind, message) = match asks_for_a_pin {
            true => (Kind::Pin, format!("Enter token PIN for {device}:")),
            false => (Kind::Passphrase, format!("Enter passphrase for {device}:")),
        };
        Question {
            id: next_id(),
            kind,
            stage: Stage::Asking,
            volume: Some(volume.clone()),
            device: Some(device.clone()),
            message: message.replace(char::is_control, "\u{fffd}"),
            tries_used: 0,
            tries_left: None,
            source: source.into(),
        }
    }

    /// Runs it. An error by name where this format takes no passphrase from a pipe.
    pub async fn open(&self, secret: &Secret) -> Opened {
        if !self.opening.takes_a_pipe() {
            let what = match self.opening.asks_for_a_pin {
                true => "a token takes its PIN".to_owned(),
                false => format!("a {} volume takes its passphrase", self.opening.format()),
            };
            return Opened::Failed(format!("{what} only at the console"));
        }
        self.opening.open(&self.program, self.path.clone(), secret, VERDICT_DEADLINE).await
    }

    /// Runs it, and looks whether the volume is open then.
    pub async fn check(&self, root: &Root, secret: &Secret) -> Verdict {
        let Opening { device, volume, .. } = &self.opening;
        match self.open(secret).await {
            Opened::Yes => match timeout(MAPPING_GRACE, volumes::opened(root, volume)).await {
                Ok(()) => Verdict::Unlocked,
                Err(_) => {
                    log::warn!("{volume}: cryptsetup says that it opened it, but it is not open");
                    Verdict::NoVerdict
                }
            },
            // Somebody else was faster.
            _ if volumes::is_open(root, volume) => Verdict::Unlocked,
            Opened::WrongPassphrase => Verdict::Wrong { tries_left: None },
            Opened::Failed(reason) => {
                log::warn!("{device}: {reason}");
                Verdict::NotDelivered(reason)
            }
            Opened::TooLate => {
                log::warn!("{device}: no verdict within {VERDICT_DEADLINE:?}; our cryptsetup was ended");
                Verdict::NoVerdict
            }
        }
    }
}

/// The recipes of all volumes that were asked for, by the volume's name. Sources write it, recovery reads it.
#[derive(Clone, Default)]
pub struct Recipes(Arc<Mutex<BTreeMap<String, Arc<Recipe>>>>);

impl Recipes {
    /// The latest counts.
    pub fn note(&self, recipe: Arc<Recipe>) {
        self.0.lock().expect("no panic while held").insert(recipe.opening.volume.clone(), recipe);
    }

    pub fn find(&self, volume: &str) -> Option<Arc<Recipe>> {
        self.0.lock().expect("no panic while held").get(volume).cloned()
    }
}
