//! Hubs in the status, and what the daemon and the process of a connection to a hub say to each other, in frames as
//! everywhere. Pure data.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::dial::Listen;
use crate::secret::Secret;

/// Another SSH server, through which this machine is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hub {
    pub name: String,
    /// `user@host:port`
    pub hub: String,
    pub state: HubState,
    /// Where it listens for us, on the hub: `localhost:20022`, or a socket's path.
    pub listening: Option<String>,
    /// Why it doesn't, in a sentence.
    pub problem: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HubState {
    /// It is being tried.
    Dialling,
    Listening,
    /// It will be tried again, or when there is a network.
    Waiting,
}

/// From the daemon.
#[derive(Serialize, Deserialize)]
pub enum Order {
    /// First, and once.
    Dial(Dial),
    /// To the stream with this number; the socket that takes its bytes comes with it.
    Take(u32),
    /// Nobody takes the stream with this number.
    Refuse(u32),
    /// The boot continues: say goodbye, and end.
    Leave,
}

/// How to log in, and what to ask for.
#[derive(Serialize, Deserialize)]
pub struct Dial {
    pub user: String,
    /// In OpenSSH's format.
    pub key: Secret,
    /// The host keys that the hub may have, as [`crate::dial::Pins`] reads them.
    pub pins: Vec<String>,
    pub listen: Listen,
}

/// From the process.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The hub listens: where, in words (`localhost:20022`).
    Listening(String),
    /// Somebody has connected there. The address is what the hub claims.
    Incoming { number: u32, address: Option<IpAddr> },
    /// It is over, and why, in a sentence.
    Over {
        why: String,
        /// Somebody may be listening in between.
        loud: bool,
    },
}

/// Longest text of a report that is used, in characters: a changed key with eight pinned ones has about so many.
const MAX_TEXT: usize = 1000;

/// A report's text, fit for the log and the status: it may be what a hostile hub has said, or a process that it took over.
pub fn readable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_TEXT).collect()
}

impl Order {
    /// How many descriptors come with it.
    pub fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Take(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hub_says_is_one_short_line() {
        assert_eq!(readable("a\x1b[2J\nb\u{9b}c"), "a[2Jbc");
        assert_eq!(readable(&"é".repeat(1 << 20)).chars().count(), MAX_TEXT);
    }
}
