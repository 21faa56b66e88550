//! What a chroot is: `/etc/vestibule/chroots/NAME.toml`, read into what can be done. Pure.

use std::path::PathBuf;

use serde::Deserialize;

/// As systemd's `DefaultTimeoutStopSec` is for people at a console: long enough for a database, short enough to wait for.
pub const DEFAULT_STOP_SECONDS: u64 = 10;
/// The port of our own server, as everywhere.
pub const DEFAULT_PORT: u16 = 2222;
/// The service that is our own server goes by that name, so no other may.
pub const SSH: &str = "ssh";
/// Longest name of a chroot or a service: it is in log lines and file names.
const MAX_NAME: usize = 64;

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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "super::file::WrittenMount")]
pub struct Mount {
    pub what: What,
    /// In the chroot, absolute, without `.` and `..`.
    pub target: PathBuf,
    /// As mount(8) has them, comma-separated: flags, and data for the file system.
    pub options: String,
    /// It may fail, or its source not be there, which is said: not every kernel has all of them.
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "super::file::WrittenService")]
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
    /// What Android's properties say (`net.dns1` and its like). Where they say nothing, it is left alone, which is said.
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

impl Definition {
    /// The one of a directory about which nothing is written.
    pub fn of(root: PathBuf) -> Self {
        Self {
            root,
            private: false,
            mounts: standard_mounts(),
            ssh: Some(Ssh::default()),
            services: Vec::new(),
            resolv_conf: ResolvConf::default(),
            log: LogTo::default(),
            environment: Vec::new(),
        }
    }
}

impl Default for Ssh {
    fn default() -> Self {
        Self { port: DEFAULT_PORT, listen: Vec::new() }
    }
}

/// What every system expects to find, in order. /dev comes from outside, since on phones nothing else knows their devices.
pub fn standard_mounts() -> Vec<Mount> {
    let bind = |path: &str, options: &str| (What::Bind(path.into()), path.into(), options.to_owned());
    let new = |kind: &str, path: &str, options: &str| {
        let what = What::New { kind: kind.to_owned(), source: kind.to_owned() };
        (what, PathBuf::from(path), options.to_owned())
    };
    // A fifth of the memory at most: what fills /tmp must not have the phone kill its apps.
    let mounts = [
        bind("/dev", ""),
        bind("/dev/pts", ""),
        new("proc", "/proc", "nosuid,nodev,noexec"),
        new("sysfs", "/sys", "nosuid,nodev,noexec"),
        new("tmpfs", "/tmp", "nosuid,nodev,size=20%,mode=1777"),
        new("tmpfs", "/run", "nosuid,nodev,size=20%,mode=0755"),
    ];
    mounts
        .into_iter()
        .map(|(what, target, options)| {
            // A kernel without devpts, or an initramfs that hasn't mounted it, has no terminals to offer.
            let optional = matches!(&what, What::Bind(_)) && target.as_os_str() == "/dev/pts";
            Mount { what, target, options, optional }
        })
        .collect()
}

/// Of a chroot or a service: letters, digits and `-_.`, not beginning with a dash or a dot.
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && !text.starts_with(['-', '.']) && text.bytes().all(plain)
}
