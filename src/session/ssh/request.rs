//! What a channel's request (RFC 4254 section 6.5) turns into, for somebody with these grants. Pure.

use crate::config::grants::{Granted, Grants};
use crate::control::message::{Start, Terminal, What};
use crate::session::command::{self, Asked, Command};
use crate::session::text::exit;

/// Variables that one channel may set, and how long each may be: enough for every locale setting there is.
const MAX_VARIABLES: usize = 24;
const MAX_VARIABLE: usize = 256;
/// What sshd(8) calls its own server for files, in forced commands as well (sshd_config(5), `ForceCommand`).
const INTERNAL_SFTP: &str = "internal-sftp";

/// What the client wants to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Nothing in particular: `ssh HOST`.
    Login,
    Line(&'a [u8]),
    Sftp,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// A command of ours.
    Command(Command),
    Program {
        start: Start,
        hold_seconds: Option<u32>,
    },
    /// Text, and the exit status that goes with it: 0 is help.
    Say {
        status: u8,
        text: String,
    },
}

/// What was settled before the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prelude {
    pub terminal: Option<Terminal>,
    pub environment: Vec<(String, Vec<u8>)>,
}

impl Prelude {
    /// Whether the variable is taken: what says how to write for people, and nothing that changes what programs do.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let harmless = matches!(name, "LANG" | "LANGUAGE" | "COLORTERM" | "NO_COLOR")
            || name.strip_prefix("LC_").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        // Locale names may be paths of files to read (setlocale(3)); those of a client are no business of ours.
        let plain =
            name.len() + value.len() <= MAX_VARIABLE && !value.contains('/') && !value.chars().any(char::is_control);
        let taken = harmless && plain && self.environment.len() < MAX_VARIABLES;
        if taken {
            self.environment.push((name.to_owned(), value.into()));
        }
        taken
    }
}

/// What is done about it. `role` is the name, for messages.
pub fn plan(wanted: Wanted, prelude: Prelude, role: &str, grants: &Grants) -> Plan {
    let Some(forced) = &grants.command else { return free(wanted, prelude, role, grants) };
    let mut prelude = prelude;
    let original = match wanted {
        Wanted::Login => None,
        Wanted::Line(line) => Some(line.to_vec()),
        Wanted::Sftp => Some(INTERNAL_SFTP.into()),
    };
    prelude.environment.extend(original.map(|line| ("SSH_ORIGINAL_COMMAND".to_owned(), line)));
    match forced.as_str() {
        INTERNAL_SFTP => program(What::Sftp, Prelude { terminal: None, ..prelude }),
        line => {
            asked(line.as_bytes(), prelude, grants).unwrap_or_else(|prelude| program(What::Exec(line.into()), prelude))
        }
    }
}

fn free(wanted: Wanted, prelude: Prelude, role: &str, grants: &Grants) -> Plan {
    match wanted {
        Wanted::Sftp if grants.sftp.is_some() => program(What::Sftp, Prelude { terminal: None, ..prelude }),
        Wanted::Sftp => denied(role, "has no directory for sftp"),
        Wanted::Login | Wanted::Line(b"") if grants.has(Granted::Unlock) || grants.has(Granted::Peek) => {
            let wait = command::DEFAULT_WAIT_SECONDS;
            Plan::Command(Command::Unlock(command::Unlock { wait, ..command::Unlock::default() }))
        }
        Wanted::Login | Wanted::Line(b"") if grants.shell => program(What::Shell, prelude),
        Wanted::Login | Wanted::Line(b"") if grants.sftp.is_some() => {
            denied(role, "has no screen and no shell here; use sftp or scp")
        }
        Wanted::Login | Wanted::Line(b"") => denied(role, "has no screen and no shell here; ask for help"),
        Wanted::Line(line) => match asked(line, prelude, grants) {
            Ok(plan) => plan,
            Err(prelude) if grants.exec => program(What::Exec(line.to_vec()), prelude),
            Err(_) => {
                let line = String::from_utf8_lossy(line);
                let word = line.split_whitespace().next().unwrap_or_default();
                let word: String = word.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect();
                denied(role, &format!("may not run programs, and {word:?} is no command here; ask for help"))
            }
        },
    }
}

/// One of our own commands; an error gives back what is needed for a program.
fn asked(line: &[u8], prelude: Prelude, grants: &Grants) -> Result<Plan, Prelude> {
    let Ok(line) = std::str::from_utf8(line) else { return Err(prelude) };
    if grants.system || !command::is_ours(line) {
        return Err(prelude);
    }
    Ok(match command::parse(line) {
        Ok(Asked::Command(command)) => Plan::Command(command),
        Ok(Asked::Shell { hold }) => Plan::Program { start: start(What::Shell, prelude), hold_seconds: hold },
        Err(usage) => Plan::Say { status: usage.status, text: usage.text },
    })
}

fn program(what: What, prelude: Prelude) -> Plan {
    Plan::Program { start: start(what, prelude), hold_seconds: None }
}

fn start(what: What, prelude: Prelude) -> Start {
    let Prelude { terminal, environment } = prelude;
    Start { what, terminal, environment }
}

fn denied(role: &str, why: &str) -> Plan {
    Plan::Say { status: exit::NOT_PERMITTED, text: format!("vestibule: the role {role} {why}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::grants::Narrowing;
    use crate::config::role::Roles;

    fn planned(role: &str, forced: Option<&str>, wanted: Wanted) -> Plan {
        let narrowing = Narrowing { command: forced.map(str::to_owned), ..Narrowing::default() };
        let grants = Roles::default().find(role).unwrap().grants.clone().narrowed_by(&narrowing);
        plan(wanted, Prelude::default(), role, &grants)
    }

    fn run(what: What, original: Option<&[u8]>) -> Plan {
        let environment = original.map(|line| ("SSH_ORIGINAL_COMMAND".to_owned(), line.to_owned()));
        let environment = environment.into_iter().collect();
        Plan::Program { start: Start { what, terminal: None, environment }, hold_seconds: None }
    }

    #[test]
    fn what_each_role_gets() {
        use Wanted::{Line, Login, Sftp};
        for role in ["root", "unlock", "peek"] {
            assert!(matches!(planned(role, None, Login), Plan::Command(Command::Unlock(_))), "{role}");
        }
        assert_eq!(planned("root", None, Line(b"shell")), run(What::Shell, None));
        assert_eq!(planned("root", None, Line(b"cat \xff")), run(What::Exec(b"cat \xff".to_vec()), None));
        assert_eq!(planned("root", None, Line(b"unlok")), run(What::Exec(b"unlok".to_vec()), None));
        assert_eq!(planned("root", None, Sftp), run(What::Sftp, None));
        for (role, wanted, said) in [
            ("unlock", Line(b"cat x"), "may not run programs, and \"cat\" is no command here"),
            ("peek", Line(b"\xff\x1b[2J x"), "may not run programs"),
            ("unlock", Sftp, "has no directory for sftp"),
            ("sftp", Login, "has no screen and no shell"),
        ] {
            match planned(role, None, wanted) {
                Plan::Say { status: exit::NOT_PERMITTED, text } => {
                    assert!(text.contains(said) && !text.contains('\x1b'), "{text}");
                }
                other => panic!("{role} {wanted:?}: {other:?}"),
            }
        }
        assert!(matches!(planned("root", None, Line(b"unlock --wait x")), Plan::Say { status: 2, .. }));
        assert!(matches!(planned("peek", None, Line(b"help")), Plan::Say { status: 0, .. }));
    }

    #[test]
    fn in_a_system_all_words_are_its_own() {
        let grants = Roles::default().in_a_system().find("root").unwrap().grants.clone();
        let planned = |grants: &Grants, wanted| plan(wanted, Prelude::default(), "root", grants);
        assert_eq!(planned(&grants, Wanted::Login), run(What::Shell, None));
        assert_eq!(planned(&grants, Wanted::Sftp), run(What::Sftp, None));
        for line in ["reboot", "status --json", "help", "id"] {
            assert_eq!(planned(&grants, Wanted::Line(line.as_bytes())), run(What::Exec(line.into()), None));
        }
        let forced = grants.narrowed_by(&Narrowing { command: Some("status".to_owned()), ..Narrowing::default() });
        assert_eq!(planned(&forced, Wanted::Login), run(What::Exec(b"status".to_vec()), None));
    }

    #[test]
    fn a_forced_command_is_run_whatever_is_wanted() {
        use Wanted::{Line, Login, Sftp};
        for (wanted, original) in
            [(Login, None), (Line(b"rm -r / \xff"), Some(&b"rm -r / \xff"[..])), (Sftp, Some(b"internal-sftp"))]
        {
            assert_eq!(planned("root", Some("date -u"), wanted), run(What::Exec(b"date -u".to_vec()), original));
            assert_eq!(planned("root", Some("internal-sftp"), wanted), run(What::Sftp, original));
            let ours = Plan::Command(Command::Status { json: true });
            assert_eq!(planned("unlock", Some("status --json"), wanted), ours);
        }
    }

    #[test]
    fn variables_that_are_taken() {
        let mut prelude = Prelude::default();
        for (name, value, taken) in [
            ("LANG", "de_DE.UTF-8", true),
            ("LC_ALL", "C", true),
            ("LC_ALL", "/tmp/locale", false),
            ("LC_=x", "C", false),
            ("LD_PRELOAD", "x.so", false),
            ("PATH", "/tmp", false),
            ("LANG", "a\nb", false),
            ("LANG", &"x".repeat(300), false),
        ] {
            assert_eq!(prelude.set(name, value), taken, "{name}={value}");
        }
        assert!((0..100).filter(|_| prelude.set("LANG", "C")).count() < 24);
    }
}
