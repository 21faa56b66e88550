//! What is asked and how the machine does, as all clients see it. Pure data.

use serde::{Deserialize, Serialize};

use super::dial::Hub;
use super::notification::Notification;

/// Names one question for as long as it is asked; never used again within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PromptId(pub u64);

/// What kind of secret a question wants. A PIN is never tried as a passphrase, nor retried by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Passphrase,
    Pin,
    /// The content of a key file. Only `feed` gives it.
    Key,
}

/// Whether a question can take an answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Nobody has answered yet.
    Asking,
    /// An answer was given and its verdict is not known yet.
    Checking,
}

/// The source of questions about volumes that were given up; see [`Question::is_recovery`].
pub const RECOVERY: &str = "recovery";

/// One thing that the machine is asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub id: PromptId,
    pub kind: Kind,
    pub stage: Stage,
    /// The name that the volume will have below `/dev/mapper`, where it is known.
    pub volume: Option<String>,
    /// The block device that holds the volume, where it is known.
    pub device: Option<String>,
    /// The text that the console shows, control characters replaced.
    pub message: String,
    /// Answers that this asker has already refused.
    pub tries_used: u32,
    /// Answers that it will still take, this one included; `None` when there is no limit or it can't be told.
    pub tries_left: Option<u32>,
    /// Which source found it: `systemd`, `askpass`, `tty`, `plymouth`, `hook`, `zfs`, `nixos`, `feed` or `recovery`.
    pub source: String,
}

impl Question {
    /// Nothing on the machine asks this any more; an answer opens the volume all the same.
    pub fn is_recovery(&self) -> bool {
        self.source == RECOVERY
    }
}

/// What was observed after an answer. Never a hope: see `daemon::prompt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The volume is there.
    Unlocked,
    /// The asker refused it and asks again (or will).
    Wrong { tries_left: Option<u32> },
    /// The asker went away without a volume: no tries left, timed out or cancelled.
    GaveUp,
    /// Nothing was observed before the deadline.
    NoVerdict,
    /// The answer was not given to the asker at all; the reason, for a person.
    NotDelivered(String),
}

/// One network interface, for `status` and the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub name: String,
    /// `aa:bb:cc:dd:ee:ff`
    pub mac: Option<String>,
    pub carrier: bool,
    /// `192.0.2.7/24`
    pub addresses: Vec<String>,
    pub gateway: Option<String>,
    pub nameservers: Vec<String>,
    /// `dhcp`, `dhcp6`, `static`, `ra` (only router advertisements), or `system` when somebody else configured it.
    pub configured_by: Option<String>,
    /// What is wrong or being waited for, in a sentence.
    pub note: Option<String>,
}

/// A volume that is open, whoever opened it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name below `/dev/mapper`.
    pub name: String,
    /// The block device that holds it, where it is known.
    pub device: Option<String>,
}

/// A volume whose asker went away without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Its name below `/dev/mapper`.
    pub name: String,
    /// The block device that holds it, where it is known.
    pub device: Option<String>,
    /// Why, where that is known.
    pub why: Option<String>,
}

/// How far the boot has come, as far as the questions tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing has been asked yet.
    Booting,
    /// At least one question is open, or somebody else's answer to it is being checked.
    Asking,
    /// Everything that was asked is unlocked.
    Unlocked,
    /// An asker gave up, and nothing on the machine asks any more; an answer to `recovery` still helps.
    Failed,
    /// The real system is taking over; vestibule is going away.
    HandOver,
}

/// Everything that `status` tells. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of vestibule.
    pub version: String,
    pub host: String,
    pub phase: Phase,
    pub questions: Vec<Question>,
    pub unlocked: Vec<Volume>,
    /// Volumes whose asker went away without opening them.
    pub gave_up: Vec<GivenUp>,
    pub network: Vec<Link>,
    /// What is wrong with the configuration, one sentence each.
    pub problems: Vec<String>,
    /// What holds the boot in emergency mode, in a sentence.
    pub emergency: Option<String>,
    /// What holds the boot at hand-over, and for how long still, in a sentence.
    pub hold: Option<String>,
    /// Through which it is reached.
    pub hubs: Vec<Hub>,
    pub notifications: Vec<Notification>,
}

/// One question that was answered, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub question: Question,
    pub verdict: Verdict,
}
