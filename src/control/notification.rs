//! What became of telling somebody, for `status`. Pure.

use serde::{Deserialize, Serialize};

/// One who is told by `[[notify]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// `https://push.example`: scheme and host. The rest of the URL may be secret.
    pub to: String,
    pub state: State,
    /// What went wrong the last time, in a sentence.
    pub problem: Option<String>,
    /// How many messages the server has taken.
    pub sent: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There has been nothing to tell.
    Quiet,
    /// A message is on its way.
    Sending,
    /// The server has taken the last message.
    Sent,
    /// It has not; that is tried again.
    Failed,
}
