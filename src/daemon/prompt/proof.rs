//! What proves that a volume is open, where device mapper knows nothing of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::volumes;
use super::zfs::tool::Tool;
use crate::control::message::Volume;
use crate::root::Root;

/// How often `zfs` is asked while a verdict is awaited: each time it is a process.
const ZFS_POLL: Duration = Duration::from_millis(500);

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A mapping of this name.
    Mapping(String),
    /// The key of this ZFS dataset is loaded.
    Dataset(String),
    /// The key of the bcachefs file system with this UUID is in a keyring that root sees, or it is mounted.
    Bcachefs(String),
    /// Nothing is known that could be looked at.
    None,
}

impl Proof {
    /// Whether it is open now; `None` when that can't be told.
    pub async fn holds(&self, root: &Root) -> Option<bool> {
        match self {
            Self::Mapping(name) => Some(volumes::is_open(root, name)),
            Self::Dataset(name) => Tool::find(root)?.has_key(name).await,
            Self::Bcachefs(uuid) => Some(has_bcachefs_key(root, uuid)),
            Self::None => None,
        }
    }

    /// Returns when it is open; never, when that can't be told. The caller sets the deadline.
    pub async fn appears(&self, root: &Root) {
        let mut ticks = interval(match self {
            Self::Mapping(_) | Self::Bcachefs(_) => volumes::PROOF_POLL,
            Self::Dataset(_) => ZFS_POLL,
            Self::None => return std::future::pending().await,
        });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.holds(root).await == Some(true) {
                return;
            }
        }
    }
}

/// `KeyHandle::format_key_name()` in `src/key.rs` of bcachefs-tools; keyrings(7), `/proc/keys`; the file system's
/// directory in sysfs is there while it is mounted.
fn has_bcachefs_key(root: &Root, uuid: &str) -> bool {
    let described = format!(" bcachefs:{uuid}:");
    root.join(format!("/sys/fs/bcachefs/{uuid}")).exists()
        || std::fs::read_to_string(root.join("/proc/keys")).is_ok_and(|keys| keys.contains(&described))
}

/// Volumes that were proved open and that device mapper doesn't know. Sources write it; `status` shows it.
#[derive(Clone, Default)]
pub struct Proved(Arc<Mutex<BTreeMap<String, Volume>>>);

impl Proved {
    pub fn note(&self, name: &str) {
        let volume = Volume { name: name.to_owned(), device: None };
        self.0.lock().expect("no panic while held").insert(volume.name.clone(), volume);
    }

    pub fn all(&self) -> Vec<Volume> {
        self.0.lock().expect("no panic while held").values().cloned().collect()
    }
}
