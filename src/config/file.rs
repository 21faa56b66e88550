//! `/etc/vestibule/config.toml`, and the `vestibule.*` words of the kernel command line that override it. Pure.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::{
    cmdline::CommandLine,
    dial::{self, Dial},
    key::{self, KeyPlace},
    network::{NetworkConfig, section},
};

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
    /// Whether SSH is served over vsock(7), too.
    pub vsock: Vsock,
    /// Seconds that a client has to log in.
    pub login_seconds: u64,
    /// Whether only key exchanges are offered that withstand a quantum computer.
    pub post_quantum_only: bool,
    /// Whether to bring up the network (`ip=` says how). If not, what the initramfs configures is used.
    /// A section `[network]` may stand in its place, with a switch `enabled`.
    #[serde(deserialize_with = "switch_or_section")]
    pub network: bool,
    /// What that section says beyond, if that is not what happens anyway.
    #[serde(skip)]
    pub configured: Option<NetworkConfig>,
    /// Whether what is written to a serial console is kept for `peek`.
    pub console_capture: bool,
    /// Whether an image without a usable authorised key may be built.
    pub allow_no_keys: bool,
    /// Volumes whose key file is fed.
    #[serde(rename = "key")]
    pub keys: Vec<KeyPlace>,
    /// Hubs through which this machine is reached.
    #[serde(rename = "dial")]
    pub hubs: Vec<Dial>,
    /// Whether to dial them.
    #[serde(skip)]
    pub dialling: bool,
    /// Read by [`super::role_entry`].
    #[serde(rename = "role", deserialize_with = "read_elsewhere")]
    pub roles: (),
    /// Read by [`super::notify`].
    #[serde(rename = "notify", deserialize_with = "read_elsewhere")]
    pub notifications: (),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            vsock: Vsock::Off,
            login_seconds: DEFAULT_LOGIN_SECONDS,
            post_quantum_only: false,
            network: true,
            configured: None,
            console_capture: true,
            allow_no_keys: false,
            keys: Vec::new(),
            hubs: Vec::new(),
            dialling: true,
            roles: (),
            notifications: (),
        }
    }
}

/// `vsock = true`, `false` or a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "SwitchOrNumber")]
pub enum Vsock {
    Off,
    /// At the number of the TCP port.
    SamePort,
    Port(u32),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "vsock must be true, false or a port")]
enum SwitchOrNumber {
    Switch(bool),
    Number(u32),
}

impl From<SwitchOrNumber> for Vsock {
    fn from(written: SwitchOrNumber) -> Self {
        match written {
            SwitchOrNumber::Switch(false) => Self::Off,
            SwitchOrNumber::Switch(true) => Self::SamePort,
            SwitchOrNumber::Number(port) => Self::Port(port),
        }
    }
}

/// Reads the file's text. The error names the line and what is wrong there; what is wrong in the network's section only
/// is told beside the settings.
pub fn parse(text: &str) -> Result<(Settings, Vec<String>), String> {
    let mut settings: Settings = toml::from_str(text).map_err(|error| {
        let line = 1 + error.span().map_or(0, |span| text[..span.start].matches('\n').count());
        format!("line {line}: {}", error.message())
    })?;
    let mut problems = Vec::new();
    if let Some(section) = section::read(text) {
        (settings.network, settings.configured, problems) = (section.enabled, section.config, section.problems);
    }
    Ok((settings.check()?, problems))
}

/// A section is read by [`section::read`].
fn switch_or_section<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Network;
    impl<'de> Visitor<'de> for Network {
        type Value = bool;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("true, false or a section [network]")
        }

        fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(true)
        }
    }
    deserializer.deserialize_any(Network)
}

fn read_elsewhere<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    IgnoredAny::deserialize(deserializer).map(drop)
}

impl Settings {
    /// The port of vsock(7), if one is served.
    pub fn vsock_port(&self) -> Option<u32> {
        match self.vsock {
            Vsock::Off => None,
            Vsock::SamePort => Some(self.port.into()),
            Vsock::Port(port) => Some(port),
        }
    }

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
            // 1 is a switch here as it is for the others; nobody needs that port.
            "vsock" => match flag() {
                Ok(on) => self.vsock = if on { Vsock::SamePort } else { Vsock::Off },
                Err(_) => self.vsock = Vsock::Port(number()?.try_into().map_err(|_| format!("{value} is no port"))?),
            },
            "login-seconds" => self.login_seconds = number()?,
            "post-quantum-only" => self.post_quantum_only = flag()?,
            "network" => self.network = flag()?,
            "console-capture" => self.console_capture = flag()?,
            "dial" => self.dialling = flag()?,
            _ => {
                return Err(
                    "no such setting (port, vsock, login-seconds, post-quantum-only, network, console-capture, dial)"
                        .to_owned(),
                );
            }
        }
        self.check()
    }

    fn check(self) -> Result<Self, String> {
        match self {
            Self { port: 0, .. } => Err("port must be from 1 to 65535".to_owned()),
            Self { vsock: Vsock::Port(0 | u32::MAX), .. } => Err("vsock must be true, false or a port".to_owned()),
            Self { login_seconds: 0 | 3601.., .. } => Err("login-seconds must be from 1 to 3600".to_owned()),
            good => key::check(&good.keys).and_then(|()| dial::check(&good.hubs)).map(|()| good),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_example_is_the_default() {
        let example = include_str!("../../config.example.toml");
        assert_eq!(parse(example).unwrap(), (Settings::default(), Vec::new()));
        let all_set: String = example
            .lines()
            .map(|line| line.strip_prefix("#").filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            parse(&all_set).unwrap(),
            (Settings::default(), Vec::new()),
            "the commented settings are the defaults"
        );
        let settings = all_set.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
        assert_eq!(settings.count(), 11, "and all of them stand there");
    }

    #[test]
    fn the_network_in_the_shipped_example_is_understood() {
        let example = include_str!("../../config.example.toml");
        let (before_keys, _) = example.split_once("# Volumes whose key file").unwrap();
        let entries = before_keys.split_once("# [[").unwrap().1;
        let entries = format!("# [[{entries}").replace("\n# ", "\n");
        let (settings, problems) = parse(entries.trim_start_matches("# ")).unwrap();
        assert_eq!(problems, [""; 0]);
        let expected = [
            "lan0: the name of 52:54:00:12:34:56",
            "storage: VLAN 5 on lan0",
            "bond0: bond of eth3, eth4, mode=802.3ad,miimon=100, MTU 9000",
            "br0: bridge of bond0",
            "lan0: 192.0.2.7/24 gateway 192.0.2.1, 2001:db8::7/64 gateway 2001:db8::1, MTU 1500, \
             MAC address 02:00:00:00:00:01, name server 192.0.2.53",
            "eth1: DHCP, IPv6 autoconfiguration, host name web1",
            "eth2: 192.0.2.7/32 peer 198.51.100.9",
            "route to 198.51.100.0/24 by 192.0.2.1 on lan0",
            "lan0 is preferred",
        ];
        assert_eq!(settings.configured.unwrap().lines(), expected);
    }

    #[test]
    fn the_hubs_in_the_shipped_example_are_understood() {
        let example = include_str!("../../config.example.toml");
        let block = example.split_once("# [[dial]]").unwrap().1.split_once("\n\n").unwrap().0;
        let (settings, _) = parse(&format!("[[dial]]{}", block.replace("\n# ", "\n"))).unwrap();
        assert_eq!(
            (settings.hubs[0].name.as_str(), settings.hubs[0].hub().as_str()),
            ("office", "boxes@hub.example.com:22")
        );
    }

    #[test]
    fn the_network_is_a_switch_or_a_section() {
        for (text, network, configured) in [
            ("network = false", false, false),
            ("network = true", true, false),
            ("[network]\nenabled = false\n", false, false),
            ("[network]\nkeep = true\n", true, true),
            ("network.enabled = false\nnetwork.keep = true\n", false, true),
        ] {
            let (settings, problems) = parse(text).unwrap();
            assert_eq!((settings.network, settings.configured.is_some()), (network, configured), "{text}");
            assert_eq!(problems, [""; 0], "{text}");
        }
        assert!(parse("port = 22\nnetwork = 3\n").unwrap_err().contains("line 2"));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, expected) in [
            ("port = 22\nprot = 3\n", "line 2"),
            ("port = \"x\"\n", "line 1"),
            ("port = 70000\n", "line 1"),
            ("port = 0\n", "port must be"),
            ("login-seconds = 0", "login-seconds must be"),
            ("vsock = 0", "vsock must be"),
            ("port = 22\nvsock = \"x\"", "line 2: vsock must be"),
            ("[[[", "line 1"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn vsock_is_a_switch_or_a_port() {
        for (file, word, expected) in [
            ("", "quiet", None),
            ("vsock = true\nport = 22", "quiet", Some(22)),
            ("vsock = 7", "quiet", Some(7)),
            ("vsock = true", "vestibule.vsock=0", None),
            ("", "vestibule.vsock", Some(u32::from(DEFAULT_PORT))),
            ("", "vestibule.vsock=70000", Some(70000)),
        ] {
            let (settings, problems) = parse(file).unwrap().0.with(&CommandLine::parse(word));
            assert_eq!((settings.vsock_port(), problems.len()), (expected, 0), "{file} {word}");
        }
    }

    #[test]
    fn the_kernel_command_line_wins_where_it_makes_sense() {
        let line = CommandLine::parse(
            "vestibule.port=2200 vestibule.network=0 vestibule.console-capture=0 vestibule.dial=0 vestibule.port=x vestibule.nope quiet",
        );
        let (settings, problems) = Settings::default().with(&line);
        assert_eq!((settings.port, settings.network, settings.console_capture), (2200, false, false));
        assert!(!settings.dialling);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("vestibule.port = x"), "{problems:?}");
    }
}
