//! Why there is no connection to a hub, each in a sentence to act on.

use std::fmt;

use super::Listen;
use crate::control::dial::readable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The hub has another host key than the pinned ones: fingerprints, theirs first.
    KeyChanged {
        offered: String,
        pinned: Vec<String>,
    },
    /// There is no key exchange: what of it, and the lists.
    NothingInCommon(String),
    KeyRefused {
        user: String,
        fingerprint: String,
    },
    KeyNotEnough,
    /// Our own key is of a kind that can't be used.
    UnfitKey,
    ListenRefused(Listen),
    NoServer(String),
    /// What was being done.
    TimedOut(&'static str),
    /// `ssh -L`: where to, and why not.
    Unreachable(String, String),
    TooManyChannels,
    /// The connection was there, and is gone.
    Lost(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::KeyChanged { offered, pinned } => write!(
                f,
                "THE HUB'S HOST KEY IS NOT THE PINNED ONE: it has {offered}, pinned is {}. Somebody may be in between: \
                 nothing was sent. If the hub really has a new key, compare it at the hub itself (ssh-keygen -lf \
                 /etc/ssh/ssh_host_ed25519_key.pub), then pin it",
                pinned.join(" and ")
            ),
            Self::NothingInCommon(what) => {
                write!(f, "the hub's SSH server and ours have nothing in common: {what}; the hub's may be too old")
            }
            Self::KeyRefused { user, fingerprint } => write!(
                f,
                "the hub does not accept our key {fingerprint} for {user}: put the line that `vestibule keys` prints \
                 into that account's authorized_keys"
            ),
            Self::KeyNotEnough => f.write_str(
                "the hub wants more than a key (AuthenticationMethods of its sshd_config): let a key alone be enough for \
                 this account",
            ),
            Self::UnfitKey => f.write_str(
                "the key to log in with is an RSA key or has a passphrase; make another: ssh-keygen -t ed25519 -N ''",
            ),
            Self::ListenRefused(Listen::Port { bind, port }) => write!(
                f,
                "the hub does not listen on {}:{}: either that port is taken there, maybe by an earlier connection \
                 of this machine that the hub has not given up yet, or it is not permitted (permitlisten in \
                 authorized_keys; AllowTcpForwarding and PermitListen in sshd_config); the hub doesn't say which",
                super::bracketed(bind),
                if *port == 0 { "a port of its choice".to_owned() } else { port.to_string() }
            ),
            Self::ListenRefused(Listen::Socket(path)) => write!(
                f,
                "the hub does not listen on {path}: either it is not permitted (restrict without port-forwarding in \
                 authorized_keys; AllowStreamLocalForwarding in sshd_config), or the account may not write there, or an \
                 old socket is there (StreamLocalBindUnlink yes removes it); the hub doesn't say which"
            ),
            Self::NoServer(why) => write!(f, "no SSH server answers there: {why}"),
            Self::TimedOut(what) => write!(f, "the hub did not answer in time: {what}"),
            Self::Unreachable(to, why) => write!(f, "the hub can't connect to {to}: {why}"),
            Self::TooManyChannels => f.write_str("too many connections pass through this hub already"),
            Self::Lost(why) => write!(f, "the connection to the hub is lost: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// What russh says of a connection, before the login and after it.
impl From<russh::Error> for Error {
    fn from(error: russh::Error) -> Self {
        use russh::Error as E;
        match error {
            E::NoCommonAlgo { kind, theirs, .. } => {
                Self::NothingInCommon(format!("{kind:?}, it has {}", readable(&theirs.join(", "))))
            }
            E::Version => Self::NoServer("what answers doesn't begin as SSH does".to_owned()),
            E::HUP | E::Disconnect => Self::Lost("the hub has closed it".to_owned()),
            E::KeepaliveTimeout => Self::Lost("the hub has not answered for half a minute".to_owned()),
            E::IO(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::Lost("the hub has closed it".to_owned())
            }
            other => Self::Lost(other.to_string()),
        }
    }
}
