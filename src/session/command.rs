//! What a user may ask for, the same words over SSH and locally. Pure.

use clap::{Args, CommandFactory, Parser, Subcommand};

/// Names that the binary, or a command over SSH, also answers to, and what each means.
const APPLETS: [(&str, &str); 3] =
    [("console_auth", "unlock"), ("cryptroot-unlock", "unlock"), ("console_peek", "peek")];

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Give a passphrase to what is asked, and tell whether it was right
    ///
    /// With a terminal: the unlock screen. Without one, the passphrase is read from standard input until its end; one
    /// trailing newline is dropped.
    ///
    /// Exit status: 0 every question that was asked is unlocked, 1 a passphrase was wrong, 2 usage, 3 nothing is
    /// asking, 4 no verdict in time, 5 the asker gave up (no tries left), 6 not permitted.
    Unlock(Unlock),
    /// Give a key file to a volume that waits for it, and tell whether it was right
    ///
    /// The content of the file is read from standard input until its end, as it is. It is given to the volume only if it
    /// waits for its key ([[key]] in the configuration). The exit status is that of unlock.
    Feed(Feed),
    /// Print the consoles as a person there would see them
    Peek {
        /// Print them again at every change, until interrupted
        #[arg(short, long)]
        follow: bool,
    },
    /// What is asked, tries used and left, unlocked volumes, network, phase
    Status {
        /// One JSON object, for programs
        #[arg(long)]
        json: bool,
    },
    /// Have the boot wait for you before the real system takes over
    ///
    /// It waits until release, and no longer than that from now; a second hold counts in place of the first. Sessions, shells and the network stay
    /// meanwhile. A shutdown waits as well.
    Hold {
        /// For so long at most
        #[arg(short, long, default_value = DEFAULT_HOLD_SECONDS, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: u32,
    },
    /// Let the boot go on that hold has wait
    Release,
    /// Reboot the machine
    Reboot,
    /// Switch the machine off
    Poweroff,
}

#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Unlock {
    /// Volumes by name or device; every passphrase question if none is named (a PIN must be named)
    pub volumes: Vec<String>,
    /// Take the bytes of standard input as they are, a trailing newline included
    #[arg(long)]
    pub raw: bool,
    /// Seconds to wait for a question if nothing asks yet
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_WAIT_SECONDS)]
    pub wait: u32,
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The volume, by name or device
    pub volume: String,
    /// Seconds to wait until it is asked for
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_WAIT_SECONDS)]
    pub wait: u32,
}

/// Long enough for a repair, and short enough that a machine which was forgotten is back on the same day.
const DEFAULT_HOLD_SECONDS: &str = "3600";

/// The SSH server is up some seconds before the question; a script that logs in at once should not miss it.
pub const DEFAULT_WAIT_SECONDS: u32 = 30;

/// A command as it came over SSH.
#[derive(Debug, Parser)]
#[command(name = "ssh HOST", no_binary_name = true, disable_help_flag = false, version)]
struct Remote {
    #[command(subcommand)]
    asked: Asked,
}

/// What can be asked for over SSH.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Asked {
    #[command(flatten)]
    Command(Command),
    /// A rescue shell (ssh -t HOST shell), if the role has one
    ///
    /// Any other command line is run by that shell, if the role may run programs.
    Shell {
        /// The boot waits at hand-over until the shell has ended, for so many seconds at most
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
              default_missing_value = DEFAULT_HOLD_SECONDS, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        hold: Option<u32>,
    },
}

/// Text for the user in place of a command: help (`status` 0) or a usage error (`status` 2).
#[derive(Debug, PartialEq, Eq)]
pub struct Usage {
    pub status: u8,
    pub text: String,
}

/// Whether a line is one of our commands, by its first word; else it is for a shell.
pub fn is_ours(line: &str) -> bool {
    let first = resolve_applet(line.split_whitespace().next().unwrap_or_default());
    matches!(first, "help" | "--help" | "-h" | "--version" | "-V")
        || Remote::command().get_subcommands().any(|command| command.get_name() == first)
}

/// Parses the command string of an SSH exec request (RFC 4254 section 6.5).
pub fn parse(line: &str) -> Result<Asked, Usage> {
    let mut words = split_words(line)?;
    if let Some(first) = words.first_mut() {
        *first = resolve_applet(first).to_owned();
    }
    Remote::try_parse_from(words).map(|remote| remote.asked).map_err(|error| {
        let status = error.exit_code().try_into().unwrap_or(2);
        Usage { status, text: error.render().to_string() }
    })
}

/// The subcommand that a name stands for: `console_peek` is `peek`; any other name is itself.
pub fn resolve_applet(name: &str) -> &str {
    APPLETS.iter().find(|(applet, _)| *applet == name).map_or(name, |(_, command)| command)
}

/// The subcommand that a command line begins with, whether there is one of that name or not.
pub fn name(line: &str) -> Option<String> {
    split_words(line).ok()?.first().map(|first| resolve_applet(first).to_owned())
}

/// Splits words at white space; single and double quotes protect it, a backslash protects one character. No
/// expansion of any kind: there is no shell here.
fn split_words(line: &str) -> Result<Vec<String>, Usage> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Usage { status: 2, text: "a quote in the command is not closed\n".to_owned() });
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unlock(volumes: &[&str], raw: bool, wait: u32) -> Command {
        Command::Unlock(Unlock { volumes: volumes.iter().map(ToString::to_string).collect(), raw, wait })
    }

    #[test]
    fn commands() {
        for (line, command) in [
            ("unlock", unlock(&[], false, DEFAULT_WAIT_SECONDS)),
            ("console_auth", unlock(&[], false, DEFAULT_WAIT_SECONDS)),
            ("cryptroot-unlock --wait 5", unlock(&[], false, 5)),
            ("unlock --raw root 'my data'", unlock(&["root", "my data"], true, DEFAULT_WAIT_SECONDS)),
            ("feed data --wait 5", Command::Feed(Feed { volume: "data".to_owned(), wait: 5 })),
            ("  peek  -f ", Command::Peek { follow: true }),
            ("console_peek", Command::Peek { follow: false }),
            ("status --json", Command::Status { json: true }),
            ("hold", Command::Hold { seconds: 3600 }),
            ("hold -s 60", Command::Hold { seconds: 60 }),
            ("release", Command::Release),
            ("reboot", Command::Reboot),
            ("poweroff", Command::Poweroff),
        ] {
            assert_eq!(parse(line).unwrap(), Asked::Command(command), "{line}");
            assert!(is_ours(line), "{line}");
        }
    }

    #[test]
    fn shells() {
        for (line, hold) in [("shell", None), ("shell --hold", Some(3600)), ("shell --hold=60", Some(60))] {
            assert_eq!(parse(line).unwrap(), Asked::Shell { hold }, "{line}");
        }
        assert_eq!(parse("shell --hold=0").unwrap_err().status, 2);
    }

    #[test]
    fn what_is_for_a_shell() {
        for line in ["", "unlok", "cat /etc/passwd", "sh -c unlock", "/bin/status", "'unlock'", "unlock;reboot"] {
            assert!(!is_ours(line), "{line}");
        }
        for line in ["help", "--version", "unlock 'oops", "status | cat", " peek"] {
            assert!(is_ours(line), "{line}");
        }
    }

    #[test]
    fn help_is_no_error_and_mistakes_are() {
        for (line, status, text) in [
            ("help", 0, "poweroff"),
            ("unlock --help", 0, "Exit status: 0 every question"),
            ("unlok", 2, "unlok"),
            ("unlock --wait soon", 2, "soon"),
            ("unlock 'oops", 2, "not closed"),
            ("feed", 2, "<VOLUME>"),
            ("hold --seconds 0", 2, "1..=86400"),
            ("", 2, "Usage"),
        ] {
            let usage = parse(line).expect_err(line);
            assert_eq!(usage.status, status, "{line}");
            assert!(usage.text.contains(text), "{line}: {}", usage.text);
        }
    }

    proptest! {
        #[test]
        fn never_panics(line in ".{0,80}") {
            let _ = parse(&line);
        }
    }
}
