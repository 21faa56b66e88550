//! How a process ended, in words. Signals go by numbers here: libraries have no names for real-time ones.

use nix::sys::signal::Signal;
use rustix::process::WaitStatus;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Status(i32),
    Signal(i32),
    /// Nobody could wait for it.
    Unknown,
}

impl From<WaitStatus> for Exit {
    fn from(status: WaitStatus) -> Self {
        let signal = status.terminating_signal().map_or(Self::Unknown, Self::Signal);
        status.exit_status().map_or(signal, Self::Status)
    }
}

impl Exit {
    pub fn is_well(self) -> bool {
        self == Self::Status(0)
    }

    pub fn text(self) -> String {
        match self {
            Self::Status(status) => format!("ended with status {status}"),
            Self::Signal(number) => match Signal::try_from(number) {
                Ok(signal) => format!("was ended by {}", signal.as_str()),
                Err(_unnamed) => format!("was ended by signal {number}"),
            },
            Self::Unknown => "ended, status unknown".to_owned(),
        }
    }
}
