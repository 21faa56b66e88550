//! What a chroot is: `/etc/vestibule/chroots/NAME.toml`, read into what can be done. Pure.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

/// As systemd's `DefaultTimeoutStopSec` is for people at a console: long enough for a database, short enough to wait for.
const DEFAULT_STOP_SECONDS: u64 = 10;
/// Nobody waits longer than that for a service.
const MAX_STOP_SECONDS: u64 = 600;
/// The port of our own server, as everywhere.
const DEFAULT_PORT: u16 = 2222;
/// More than anybody writes, and few enough to look through at each step.
const MAX_MOUNTS: usize = 64;
const MAX_SERVICES: usize = 32;

/// One chroot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The directory that becomes `/`.
    pub root: PathBuf,
    /// Mounts are made where nobody else sees them.
    pub private: bool,
    /// In the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Our own SSH server inside, if it is wanted.
    pub ssh: Option<Ssh>,
    pub services: Vec<Service>,
    /// Where name servers in the chroot's `/etc/resolv.conf` come from.
    pub resolv_conf: ResolvConf,
    pub log: LogTo,
    /// For every process in it.
    pub environment: Vec<(String, String)>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub what: What,
    /// In the chroot, absolute, without `.` and `..`.
    pub target: PathBuf,
    /// As mount(8) has them, comma-separated: flags, and data for the file system.
    pub options: String,
    /// It may fail, which is said: not every kernel has all of them.
    pub optional: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A directory or file of outside.
    Bind(PathBuf),
    /// A new file system of this type, of this source (what `mount` shows for it).
    New { kind: String, source: String },
}

/// Our own server: `vestibule serve --stdio` inside, on a socket that is bound outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    pub port: u16,
    /// Addresses; none: all of them.
    pub listen: Vec<std::net::IpAddr>,
}

/// A program of the chroot that is kept running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    /// The program, absolute in the chroot, and its arguments.
    pub command: Vec<String>,
    /// A name of the chroot's passwd, or a number.
    pub user: String,
    /// Names of the chroot's group file, or numbers: in addition to those that the user is in.
    pub groups: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Between SIGTERM and SIGKILL.
    pub stop_seconds: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResolvConf {
    /// It is left alone.
    #[default]
    Keep,
    /// A copy of the one outside.
    Copy,
    /// What Android's properties say (`net.dns1` and its like), else public ones that are said in the log.
    Android,
}

/// Where what services print, and what the supervisor says, is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTo {
    /// Android's log, else syslog, else the kernel's.
    #[default]
    System,
    /// A file outside, moved away to `FILE.1` when it is this large, in bytes.
    File { path: PathBuf, rotate_at: u64 },
}
