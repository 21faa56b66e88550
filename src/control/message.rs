//! What daemon and clients say to each other. Pure data: no sockets, no files.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use super::status::{
    GivenUp, Kind, Link, Outcome, Phase, PromptId, Question, RECOVERY, Stage, Status, Verdict, Volume,
};
use crate::config::grants::{Granted, Narrowing};
use crate::config::role::Roles;
use crate::secret::Secret;

/// What a session reports once its user has proved a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The login name.
    pub role: String,
    /// Fingerprint and comment of the key, for the log.
    pub key: String,
    /// What the key's line takes away from the role.
    pub narrowing: Narrowing,
}

/// What to start for a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The rescue shell, as a login shell.
    Shell,
    /// A command line, for the shell's `-c`.
    Exec(Vec<u8>),
    /// A server for files, below the directory of the role.
    Sftp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub what: What,
    /// A pseudo-terminal for it; without one it gets pipes.
    pub terminal: Option<Terminal>,
    /// Beside what the role and the key set, for example `SSH_ORIGINAL_COMMAND`, which may be any bytes.
    pub environment: Vec<(String, Vec<u8>)>,
}

/// RFC 4254 section 6.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// `TERM`
    pub name: String,
    pub size: Size,
    /// Encoded terminal modes (RFC 4254 section 8): opcode and argument.
    pub modes: Vec<(u8, u32)>,
}

/// In characters and, where the client knows them, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub columns: u32,
    pub rows: u32,
    pub width: u32,
    pub height: u32,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Status(u8),
    /// Without `SIG`, as in RFC 4254 section 6.10.
    Signal {
        name: String,
        core_dumped: bool,
    },
}

/// Where a connection is to be made to, or what is to be listened on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Destination {
    Tcp {
        host: String,
        port: u16,
    },
    /// The path of a UNIX socket.
    Unix(String),
}

/// A passphrase, and which questions it is for.
#[derive(Serialize, Deserialize)]
pub struct Submit {
    /// Volumes by name or device; empty for every passphrase question.
    pub volumes: Vec<String>,
    /// What the secret is, where the client knows; a PIN is never given to a passphrase question, nor the other way
    /// round.
    pub kind: Option<Kind>,
    pub secret: Secret,
    /// How long to wait for a first question, in milliseconds.
    pub wait_ms: u64,
}

/// A `cryptsetup` command whose passphrase everybody is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Without the name of the program.
    pub arguments: Vec<String>,
    /// The `PATH` where the program is found.
    pub path: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    Reboot,
    Off,
}

impl From<Power> for Granted {
    fn from(power: Power) -> Self {
        match power {
            Power::Reboot => Self::Reboot,
            Power::Off => Self::Poweroff,
        }
    }
}

/// What a client asks of the daemon. Each request opens a stream of events that ends with [`Event::Done`] or
/// [`Event::Refused`].
#[derive(Serialize, Deserialize)]
pub enum Request {
    /// Binds a session to its role. Once, and before anything else.
    Login(Login),
    /// A login that failed, for the log: the reason, and the user name if it came so far.
    LoginFailed {
        user: Option<String>,
        reason: String,
    },
    /// One [`Event::Status`].
    Status,
    /// An [`Event::Status`] at every change and, with `log`, an [`Event::Log`] for kernel log lines, until cancelled.
    Watch {
        log: bool,
    },
    /// An [`Event::Outcome`] for each question that was answered.
    Submit(Submit),
    /// The consoles as [`Event::Text`], once or at every change until cancelled.
    Peek {
        follow: bool,
    },
    Power(Power),
    /// Ends the daemon, as at hand-over. While the boot is held, an [`Event::Text`] says so every few seconds. Local clients
    /// only.
    Stop,
    /// Ends the stream with the same number.
    Cancel,
    /// Serve SSH on the stream socket that comes with it, from there in words. Local clients only.
    Serve {
        from: String,
    },
    /// [`Event::Asked`], then an [`Event::Outcome`] for each answer, until the volume is open. Local clients only.
    Open(Open),
    /// [`Event::Started`] and, when it has ended, [`Event::Exited`]. Cancelled: hung up on, as when a terminal is closed.
    Start(Start),
    /// A terminal's new size; `start` is the number of its [`Request::Start`].
    Window {
        start: u32,
        size: Size,
    },
    /// A signal for what was started, by its name without `SIG` (RFC 4254 section 6.9).
    Signal {
        start: u32,
        name: String,
    },
    /// [`Event::Connected`].
    Connect(Destination),
    /// [`Event::Listening`], and an [`Event::Accepted`] for each connection, until cancelled.
    Listen(Destination),
    /// The boot waits at hand-over, until [`Request::Release`], for so long from now at most. In place of the last one.
    Hold {
        seconds: u32,
    },
    Release,
    /// A key that would get in was offered; its signature is still to come.
    KeyKnown,
    /// The same, but it ends when it is cancelled or its client has gone. [`Event::Holding`] when the boot is held.
    HoldWhile {
        seconds: u32,
    },
}

/// What the daemon answers.
#[derive(Serialize, Deserialize)]
pub enum Event {
    /// The first frame to a session.
    Setup(Setup),
    Status(Box<Status>),
    /// Lines of the kernel log.
    Log(Vec<String>),
    Outcome(Outcome),
    Text(String),
    /// The request was not permitted or could not be done; the reason, for a person.
    Refused(String),
    Done,
    /// The question stands.
    Asked(Box<Question>),
    /// It runs. Comes with descriptors: the master of its terminal; or, without one, its standard input, output and error;
    /// or one stream for input and output.
    Started {
        descriptors: u8,
    },
    Exited(Exit),
    /// Comes with the stream.
    Connected,
    /// The port, where a TCP port was asked for.
    Listening {
        port: u16,
    },
    /// Somebody has connected, from there. Comes with the stream.
    Accepted {
        address: String,
        port: u16,
    },
    Holding,
}

impl Event {
    /// How many descriptors come with it.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Started { descriptors } => usize::from(*descriptors),
            Self::Connected | Self::Accepted { .. } => 1,
            _ => 0,
        }
    }
}

/// What a session needs to know before it speaks to its peer. It opens no file itself.
#[derive(Serialize, Deserialize)]
pub struct Setup {
    pub host: String,
    /// Address of the peer, where the network has proved it; without one, no line with `from=` counts.
    pub peer: Option<IpAddr>,
    /// When the image was made, in seconds since 1970; it can't be earlier than that.
    pub built: u64,
    /// The host key, in OpenSSH's format.
    pub host_key: Secret,
    /// Its certificate, in OpenSSH's format.
    pub host_certificate: Option<String>,
    /// Path and content of the authorized_keys file that counts.
    pub authorized_keys: (String, String),
    pub roles: Roles,
    /// Whether only key exchanges are offered that withstand a quantum computer.
    pub post_quantum_only: bool,
    /// Seconds until an unauthenticated peer is disconnected.
    pub login_seconds: u64,
}
