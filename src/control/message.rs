//! What daemon and clients say to each other. Pure data: no sockets, no files.

use serde::{Deserialize, Serialize};

/// Names one question for as long as it is asked; never used again within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PromptId(pub u64);

/// What kind of secret a question wants. A PIN is never tried as a passphrase, nor retried by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Passphrase,
    Pin,
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
    /// Which source found it: `systemd` or `tty`.
    pub source: String,
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
    /// `dhcp`, `static`, or `system` when somebody else configured it.
    pub configured_by: Option<String>,
    /// What is wrong or being waited for, in a sentence.
    pub note: Option<String>,
}
