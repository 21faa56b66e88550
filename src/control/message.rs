//! What daemon and clients say to each other. Pure data: no sockets, no files.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::dial::Hub;
use crate::config::grants::{Granted, Narrowing};
use crate::config::role::Roles;
use crate::control::notification::Notification;
use crate::secret::Secret;

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
