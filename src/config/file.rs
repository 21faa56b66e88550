//! `/etc/vestibule/config.toml`, and the `vestibule.*` words of the kernel command line that override it. Pure.

use serde::Deserialize;

use super::cmdline::CommandLine;
use super::key::{self, KeyPlace};

/// SSH's place in the initramfs; away from 22, so that known_hosts keeps it apart from the real system's.
pub const DEFAULT_PORT: u16 = 2222;
/// Long enough to touch a token or type the passphrase of a key.
pub const DEFAULT_LOGIN_SECONDS: u64 = 60;

/// The settings, each with the default that is used when the file does not exist or can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// TCP port of the SSH server.
    pub port: u16,
    /// Seconds that a client has to log in.
    pub login_seconds: u64,
    /// Whether to bring up the network (`ip=` says how). If not, what the initramfs configures is used.
    pub network: bool,
    /// Whether what is written to a serial console is kept for `peek`.
    pub console_capture: bool,
    /// Whether an image without a usable authorised key may be built.
    pub allow_no_keys: bool,
    /// Volumes whose key file is fed.
    #[serde(rename = "key")]
    pub keys: Vec<KeyPlace>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            login_seconds: DEFAULT_LOGIN_SECONDS,
            network: true,
            console_capture: true,
            allow_no_keys: false,
            keys: Vec::new(),
        }
    }
}

/// Reads the file's text. The error names the line and what is wrong there.
pub fn parse(text: &str) -> Result<Settings, String> {
    let settings: Settings = toml::from_str(text).map_err(|error| {
        let line = 1 + error.span().map_or(0, |span| text[..span.start].matches('\n').count());
        format!("line {line}: {}", error.message())
    })?;
    settings.check()
}

impl Settings {
    /// These settings with what the kernel command line says instead; and the words that can't be used.
    pub fn with(self, line: &CommandLine) -> (Self, Vec<String>) {
        let mut settings = self;
        let mut problems = Vec::new();
        for (word, value) in line.iter() {
            let Some(key) = word.strip_prefix("vestibule.") else { continue };
            let text = format!("{key} = {}", value.unwrap_or("true"));
            match settings.clone().set(key, value.unwrap_or("1")) {
                Ok(changed) => settings = changed,
                Err(reason) => problems.push(format!("kernel command line: vestibule.{text}: {reason}; ignored")),
            }
        }
        (settings, problems)
    }

    fn set(mut self, key: &str, value: &str) -> Result<Self, String> {
        let number = || value.parse::<u64>().map_err(|_| format!("{value:?} is no number"));
        let flag = || match value {
            "1" | "yes" | "on" | "true" => Ok(true),
            "0" | "no" | "off" | "false" => Ok(false),
            other => Err(format!("{other:?} is neither 1 nor 0")),
        };
        match key {
            "port" => self.port = number()?.try_into().map_err(|_| format!("{value} is no TCP port"))?,
            "login-seconds" => self.login_seconds = number()?,
            "network" => self.network = flag()?,
            "console-capture" => self.console_capture = flag()?,
            _ => return Err("no such setting (port, login-seconds, network, console-capture)".to_owned()),
        }
        self.check()
    }

    fn check(self) -> Result<Self, String> {
        match self {
            Self { port: 0, .. } => Err("port must be from 1 to 65535".to_owned()),
            Self { login_seconds: 0 | 3601.., .. } => Err("login-seconds must be from 1 to 3600".to_owned()),
            good => key::check(&good.keys).map(|()| good),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_example_is_the_default() {
        let example = include_str!("../../config.example.toml");
        assert_eq!(parse(example).unwrap(), Settings::default());
        let all_set: String = example
            .lines()
            .map(|line| line.strip_prefix("#").filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(parse(&all_set).unwrap(), Settings::default(), "the commented settings are the defaults");
        let set = all_set.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
        assert_eq!(set.count(), 5, "and all of them stand there");
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, expected) in [
            ("port = 22\nprot = 3\n", "line 2"),
            ("port = \"x\"\n", "line 1"),
            ("port = 70000\n", "line 1"),
            ("port = 0\n", "port must be"),
            ("login-seconds = 0", "login-seconds must be"),
            ("[[[", "line 1"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_kernel_command_line_wins_where_it_makes_sense() {
        let line = CommandLine::parse(
            "vestibule.port=2200 vestibule.network=0 vestibule.console-capture=0 vestibule.port=x vestibule.nope quiet",
        );
        let (settings, problems) = Settings::default().with(&line);
        assert_eq!((settings.port, settings.network, settings.console_capture), (2200, false, false));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("vestibule.port = x"), "{problems:?}");
    }
}
