//! What somebody may do who has logged in: a role's grants, narrowed by the key that was used. Pure.

use serde::{Deserialize, Serialize};

use crate::control::message::{Destination, Request, Start, What};
use crate::session::command;

/// Everything that isn't named here is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    pub commands: Vec<Granted>,
    /// A rescue shell.
    pub shell: bool,
    /// Programs of one's own: every command line that is none of vestibule's commands.
    pub exec: bool,
    /// A terminal.
    pub pty: bool,
    /// The files that sftp and scp reach.
    pub sftp: Option<Files>,
    /// Where connections may be made to (`ssh -L`, `-W`, `-J`).
    pub open: Permitted,
    /// Where may be listened (`ssh -R`).
    pub listen: Permitted,
    /// Whether others than this machine reach what listens (`GatewayPorts` in sshd_config(5)).
    pub gateway_ports: bool,
    /// The one command that is run, whatever is asked for.
    pub command: Option<String>,
    /// For programs that are started.
    pub environment: Vec<(String, String)>,
    /// What runs here is a system: a command line is for its shell, whether it begins as one of vestibule's commands or not.
    pub system: bool,
}

/// Commands that can be granted one by one. `help` is for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Granted {
    Unlock,
    Feed,
    Peek,
    Status,
    Reboot,
    Poweroff,
    Hold,
}

impl Granted {
    pub const ALL: [Self; 7] =
        [Self::Unlock, Self::Feed, Self::Peek, Self::Status, Self::Reboot, Self::Poweroff, Self::Hold];

    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unlock => "unlock",
            Self::Feed => "feed",
            Self::Peek => "peek",
            Self::Status => "status",
            Self::Reboot => "reboot",
            Self::Poweroff => "poweroff",
            Self::Hold => "hold",
        }
    }
}

/// A directory for sftp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Files {
    /// The directory below which everything is.
    pub root: String,
    /// What this directory is called by the client; `/` if nothing is said.
    #[serde(default)]
    pub shown_as: Option<String>,
    #[serde(default)]
    pub access: Access,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    #[default]
    ReadWrite,
    ReadOnly,
    /// A drop box: new files can be written, and nothing be read.
    WriteOnly,
}

/// Which destinations a role permits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Permitted {
    /// The role says nothing: what the key's line lists, and without a list nothing.
    #[default]
    AsTheKeySays,
    /// These and, where the key's line has a list as well, only those that are in both.
    Only(Vec<Pattern>),
}

/// A destination, or all ports of a host, or a port of all hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// `None` is any, which is written `*`.
    Tcp { host: Option<String>, port: Option<u16> },
    /// The path of a UNIX socket.
    Unix(String),
}

/// What a key's line or a certificate takes away from the role, and what it adds within it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Narrowing {
    /// `command=`, or a certificate's `force-command`.
    pub command: Option<String>,
    pub no_pty: bool,
    pub no_forwarding: bool,
    /// `permitopen=`; `None` if there is none.
    pub open: Option<Vec<Pattern>>,
    /// `permitlisten=`; `None` if there is none.
    pub listen: Option<Vec<Pattern>>,
    /// `environment=`
    pub environment: Vec<(String, String)>,
    /// Good for a single login.
    pub once: bool,
}

impl Grants {
    /// Neither widens the other, but for destinations about which the role says nothing.
    pub fn narrowed_by(mut self, narrowing: &Narrowing) -> Self {
        self.pty &= !narrowing.no_pty;
        if narrowing.command.is_some() {
            self.command.clone_from(&narrowing.command);
        }
        if let Some(command) = &self.command {
            let only = command::name(command);
            self.commands.retain(|granted| Some(granted.name()) == only.as_deref());
        }
        self.environment.extend(narrowing.environment.iter().cloned());
        self.open = self.open.narrowed_by(narrowing.open.as_deref(), narrowing.no_forwarding);
        self.listen = self.listen.narrowed_by(narrowing.listen.as_deref(), narrowing.no_forwarding);
        self
    }

    /// Whether that may be asked of the daemon; if not, why.
    pub fn permit(&self, request: &Request) -> Result<(), &'static str> {
        let permitted = match request {
            Request::Cancel | Request::Window { .. } | Request::Signal { .. } => true,
            // Every session watches: that is how it learns of the hand-over.
            Request::Status | Request::Watch { .. } => true,
            Request::Peek { .. } => self.has(Granted::Peek),
            Request::Submit(_) => self.has(Granted::Unlock) || self.has(Granted::Feed),
            Request::Power(power) => self.has((*power).into()),
            Request::Hold { .. } | Request::HoldWhile { .. } | Request::Release => self.has(Granted::Hold),
            Request::Start(Start { terminal: Some(_), .. }) if !self.pty => return Err("may not have a terminal"),
            Request::Start(start) => return self.permit_start(&start.what),
            Request::Connect(to) => return self.open.check(to),
            Request::Listen(on) => return self.listen.check(on),
            Request::Login(_) | Request::LoginFailed { .. } | Request::KeyKnown => false,
            Request::Stop | Request::Open(_) | Request::Serve { .. } => false,
        };
        if permitted { Ok(()) } else { Err("may not do that") }
    }

    /// Whether somebody with these could as well not log in.
    pub fn is_nothing(&self) -> bool {
        let forwards = [&self.open, &self.listen].into_iter().any(|permitted| *permitted != Permitted::nothing());
        let programs = self.shell || self.exec || self.command.is_some() || self.sftp.is_some();
        self.commands.is_empty() && !forwards && !programs
    }

    pub fn has(&self, command: Granted) -> bool {
        self.commands.contains(&command)
    }

    fn permit_start(&self, what: &What) -> Result<(), &'static str> {
        match (what, &self.command) {
            (What::Exec(line), Some(only)) if line == only.as_bytes() => Ok(()),
            (What::Sftp, Some(only)) if only == "internal-sftp" && self.sftp.is_some() => Ok(()),
            (What::Shell, Some(only)) if only.split_whitespace().next() == Some("shell") && self.shell => Ok(()),
            (_, Some(_)) => Err("may only run the command that is set for it"),
            (What::Shell, None) if self.shell => Ok(()),
            (What::Shell, None) => Err("may not have a shell"),
            (What::Exec(_), None) if self.exec => Ok(()),
            (What::Exec(_), None) => Err("may not run programs"),
            (What::Sftp, None) if self.sftp.is_some() => Ok(()),
            (What::Sftp, None) => Err("has no directory for sftp"),
        }
    }
}

/// Whether a variable of the environment may be called so (`valid_env_name()` in OpenSSH's misc.c).
pub fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Permitted {
    pub fn nothing() -> Self {
        Self::Only(Vec::new())
    }

    fn narrowed_by(self, list: Option<&[Pattern]>, none: bool) -> Self {
        match (self, list) {
            (_, _) if none => Self::nothing(),
            (Self::AsTheKeySays, list) => Self::Only(list.unwrap_or_default().to_vec()),
            (Self::Only(role), None) => Self::Only(role),
            (Self::Only(role), Some(key)) => {
                Self::Only(role.iter().flat_map(|a| key.iter().filter_map(|b| a.and(b))).collect())
            }
        }
    }

    fn check(&self, to: &Destination) -> Result<(), &'static str> {
        match self {
            Self::Only(patterns) if patterns.iter().any(|pattern| pattern.matches(to)) => Ok(()),
            _ => Err("may not forward that"),
        }
    }
}

impl Pattern {
    fn matches(&self, to: &Destination) -> bool {
        match (self, to) {
            (Self::Tcp { host, port }, Destination::Tcp { host: to_host, port: to_port }) => {
                host.as_deref().is_none_or(|host| host.eq_ignore_ascii_case(to_host))
                    && port.is_none_or(|port| port == *to_port)
            }
            (Self::Unix(path), Destination::Unix(to)) => path == to,
            _ => false,
        }
    }

    /// What matches both.
    fn and(&self, other: &Self) -> Option<Self> {
        fn both<T: Clone>(a: &Option<T>, b: &Option<T>, same: impl Fn(&T, &T) -> bool) -> Option<Option<T>> {
            match (a, b) {
                (Some(a), Some(b)) if !same(a, b) => None,
                (one, other) => Some(one.clone().or_else(|| other.clone())),
            }
        }
        match (self, other) {
            (Self::Unix(a), Self::Unix(b)) if a == b => Some(self.clone()),
            (Self::Tcp { host, port }, Self::Tcp { host: other_host, port: other_port }) => Some(Self::Tcp {
                host: both(host, other_host, |a, b| a.eq_ignore_ascii_case(b))?,
                port: both(port, other_port, |a, b| a == b)?,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::{Size, Terminal};

    fn tcp(host: &str, port: u16) -> Pattern {
        Pattern::Tcp { host: (host != "*").then(|| host.to_owned()), port: (port != 0).then_some(port) }
    }

    fn allowed(role: &Permitted, key: Option<Vec<Pattern>>, no_forwarding: bool, to: (&str, u16)) -> bool {
        let grants = Grants { open: role.clone(), ..Grants::default() };
        let grants = grants.narrowed_by(&Narrowing { open: key, no_forwarding, ..Narrowing::default() });
        let to = Destination::Tcp { host: to.0.to_owned(), port: to.1 };
        grants.permit(&Request::Connect(to)).is_ok()
    }

    #[test]
    fn the_narrower_wins() {
        let (unsaid, role) = (Permitted::AsTheKeySays, Permitted::Only(vec![tcp("a", 0), tcp("*", 22)]));
        for (permitted, key, none, to, expected) in [
            (&unsaid, None, false, ("a", 22), false),
            (&unsaid, Some(vec![tcp("A", 22)]), false, ("a", 22), true),
            (&unsaid, Some(vec![tcp("a", 22)]), true, ("a", 22), false),
            (&role, None, false, ("a", 80), true),
            (&role, None, false, ("b", 80), false),
            (&role, Some(vec![tcp("*", 80)]), false, ("a", 80), true),
            (&role, Some(vec![tcp("*", 80)]), false, ("b", 80), false),
            (&role, Some(vec![tcp("*", 80)]), false, ("a", 22), false),
            (&role, Some(vec![tcp("b", 0)]), false, ("b", 22), true),
            (&role, Some(vec![]), false, ("a", 22), false),
            (&role, None, true, ("a", 22), false),
            (&Permitted::nothing(), Some(vec![tcp("*", 0)]), false, ("a", 22), false),
        ] {
            assert_eq!(allowed(permitted, key.clone(), none, to), expected, "{permitted:?} {key:?} {none} {to:?}");
        }
    }

    #[test]
    fn without_a_terminal_there_are_programs_all_the_same() {
        let terminal = || Terminal { name: "vt100".to_owned(), size: Size::default(), modes: vec![] };
        for (no_pty, asked, expected) in [(false, true, true), (true, true, false), (true, false, true)] {
            let role = Grants { shell: true, pty: true, ..Grants::default() };
            let grants = role.narrowed_by(&Narrowing { no_pty, ..Narrowing::default() });
            let start = Start { what: What::Shell, terminal: asked.then(terminal), environment: vec![] };
            assert_eq!(grants.permit(&Request::Start(start)).is_ok(), expected, "{no_pty} {asked}");
        }
    }

    #[test]
    fn a_forced_command_is_the_only_one() {
        let all = Grants {
            shell: true,
            exec: true,
            sftp: Some(Files { root: "/".to_owned(), shown_as: None, access: Access::ReadWrite }),
            ..Grants::default()
        };
        let narrowing = Narrowing { command: Some("date".to_owned()), ..Narrowing::default() };
        let forced = all.clone().narrowed_by(&narrowing);
        for (what, free, narrowed) in [
            (What::Shell, true, false),
            (What::Sftp, true, false),
            (What::Exec(b"id".to_vec()), true, false),
            (What::Exec(b"date".to_vec()), true, true),
        ] {
            assert_eq!(
                (all.permit_start(&what).is_ok(), forced.permit_start(&what).is_ok()),
                (free, narrowed),
                "{what:?}"
            );
        }
        for (only, what, role, permitted) in [
            ("internal-sftp", What::Sftp, &all, true),
            ("internal-sftp", What::Sftp, &Grants::default(), false),
            ("internal-sftp", What::Shell, &all, false),
            ("shell", What::Shell, &all, true),
            ("shell", What::Shell, &Grants::default(), false),
            ("shell", What::Sftp, &all, false),
        ] {
            let narrowing = Narrowing { command: Some(only.to_owned()), ..Narrowing::default() };
            let forced = role.clone().narrowed_by(&narrowing);
            assert_eq!(forced.permit_start(&what).is_ok(), permitted, "{only} {what:?}");
        }
    }

    #[test]
    fn a_forced_command_takes_all_others() {
        use Granted::{Peek, Reboot, Status, Unlock};
        for (command, left) in [
            ("unlock --wait 5", vec![Unlock]),
            ("console_auth", vec![Unlock]),
            ("'peek' -f", vec![Peek]),
            ("reboot", vec![]),
            ("sh -c peek", vec![]),
            ("'", vec![]),
        ] {
            let role = Grants { commands: vec![Unlock, Peek, Status], ..Grants::default() };
            let forced = Narrowing { command: Some(command.to_owned()), ..Narrowing::default() };
            assert_eq!(role.narrowed_by(&forced).commands, left, "{command}");
            let role =
                Grants { commands: vec![Unlock, Peek, Reboot], command: Some("peek".into()), ..Grants::default() };
            assert_eq!(role.narrowed_by(&Narrowing::default()).commands, [Peek], "the role's own");
        }
    }
}
