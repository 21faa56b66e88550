//! `[[dial]]` of the configuration: a machine behind NAT logs in to another SSH server, the *hub*, has it listen, and is
//! reached through it. Pure.

use std::net::IpAddr;

use serde::Deserialize;

use crate::dial::{Listen, Pins, bracketed};

/// SSH's own port, which is where a stock server is.
const SSH_PORT: u16 = 22;
/// Where ports that are counted or derived begin: above those of services, below those that systems hand out (32768).
pub const DEFAULT_BASE: u16 = 20_000;
/// Ports from the base on that `from-machine` chooses among. Two of 100 machines meet with a chance of 39 percent, of 20
/// machines 2 percent; the hub's administrator sees it when the keys are entered.
const SPAN: u16 = 10_000;
/// And those of `from-address`: the last number of an IPv4 address.
const LAST_OCTETS: u16 = 256;
/// Hubs of one machine. Each is a process.
const MAX_HUBS: usize = 8;
/// `sun_path` holds 108 bytes, the final NUL included (unix(7)).
const MAX_PATH: usize = 107;
/// Longest name: it is in log lines.
const MAX_NAME: usize = 64;
/// In a socket's path, stands for the machine's name.
const MACHINE: &str = "{machine}";

/// A hub and where it is to listen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Dial {
    /// For the log and the status.
    pub name: String,
    pub user: String,
    pub host: String,
    pub port: u16,
    pub pins: Pins,
    place: Place,
    bind: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Port(u16),
    /// The hub's choice.
    Choose,
    /// This and the last number of the IPv4 address that the hub is dialled from.
    FromAddress(u16),
    /// This and what the host key gives.
    FromMachine(u16),
    Socket(String),
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    name: Option<String>,
    hub: String,
    host_key: OneOrMore,
    listen: PortOrWord,
    bind: Option<String>,
    base: Option<u16>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PortOrWord {
    Port(u16),
    Word(String),
}

impl TryFrom<Written> for Dial {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, hub, host_key, listen, bind, base } = written;
        let (user, host, port) = address(&hub)?;
        let pins = match host_key {
            OneOrMore::One(key) => Pins::parse(&[key]),
            OneOrMore::More(keys) => Pins::parse(&keys),
        };
        let pins = pins.map_err(|why| format!("host-key: {why}"))?;
        let place = place(listen, base)?;
        if matches!(place, Place::Socket(_)) && bind.is_some() {
            return Err("bind goes with a port, and listen is a socket".to_owned());
        }
        let bind = bind.unwrap_or_else(|| "localhost".to_owned());
        if bind.is_empty() || !is_plain(&bind) {
            return Err(format!("bind: {bind:?} is no address; leave it away for localhost"));
        }
        let name = name.unwrap_or_else(|| host.clone());
        if name.is_empty() || name.len() > MAX_NAME || !is_plain(&name) {
            return Err(format!("name: {name:?} must be letters, digits and -._: alone, {MAX_NAME} at most"));
        }
        Ok(Self { name, user, host, port, pins, place, bind })
    }
}

/// `user@host`, `user@host:port` or `user@[address]:port`.
fn address(text: &str) -> Result<(String, String, u16), String> {
    let wrong = |why: &str| format!("hub: {text:?}: {why}; write \"user@host\" or \"user@host:port\"");
    let (user, place) = text.rsplit_once('@').ok_or_else(|| wrong("there is no user"))?;
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some("22"))),
        None if place.matches(':').count() > 1 => return Err(wrong("an IPv6 address stands in brackets")),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None if place.starts_with('[') => return Err(wrong("after the bracket comes :port, or nothing")),
        None => SSH_PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("that is no port"))?,
    };
    if host.is_empty() || !is_plain(host) || user.is_empty() || !is_plain(user) {
        return Err(wrong("user or host is empty, or has a character that neither may have"));
    }
    Ok((user.to_owned(), host.to_owned(), port))
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:%*".contains(&byte))
}

fn place(listen: PortOrWord, base: Option<u16>) -> Result<Place, String> {
    let from = base.unwrap_or(DEFAULT_BASE);
    let counted = |span: u16| match from {
        0 => Err("base must be a port".to_owned()),
        _ if from.checked_add(span - 1).is_none() => Err(format!("base: there are no {span} ports from {from} on")),
        _ => Ok(from),
    };
    let place = match listen {
        PortOrWord::Port(0) => return Err("listen: 0 is no port; for the hub's choice write \"choose\"".to_owned()),
        PortOrWord::Port(port) => Place::Port(port),
        PortOrWord::Word(word) => match word.as_str() {
            "choose" => Place::Choose,
            "from-address" => Place::FromAddress(counted(LAST_OCTETS)?),
            "from-machine" => Place::FromMachine(counted(SPAN)?),
            path if path.starts_with('/') && path.len() <= MAX_PATH && !path.chars().any(char::is_control) => {
                Place::Socket(word)
            }
            other => {
                return Err(format!(
                    "listen: {other:?} is neither a port, \"choose\", \"from-address\", \"from-machine\", nor the path \
                     of a socket, of {MAX_PATH} bytes at most"
                ));
            }
        },
    };
    match (&place, base) {
        (Place::FromAddress(_) | Place::FromMachine(_), _) | (_, None) => Ok(place),
        _ => Err("base goes with listen = \"from-address\" or \"from-machine\"".to_owned()),
    }
}

/// What is known of this machine when it dials.
pub struct Machine<'a> {
    pub name: &'a str,
    /// SHA-256 of the public host key.
    pub key: [u8; 32],
}

impl Dial {
    /// Where the hub is to listen, if it is dialled from this address.
    ///
    /// # Errors
    /// Why that can't be told, in a sentence.
    pub fn listen(&self, machine: &Machine, from: IpAddr) -> Result<Listen, String> {
        let port = |port| Ok(Listen::Port { bind: self.bind.clone(), port });
        match &self.place {
            Place::Port(fixed) => port(*fixed),
            Place::Choose => port(0),
            Place::FromMachine(base) => port(from_key(*base, &machine.key)),
            Place::FromAddress(base) => match from.to_canonical() {
                IpAddr::V4(address) => port(base + u16::from(address.octets()[3])),
                IpAddr::V6(address) => Err(format!(
                    "listen = \"from-address\" counts by an IPv4 address, and this hub is dialled from {address}; choose \
                     another way to listen, or write the hub's IPv4 address"
                )),
            },
            Place::Socket(path) => {
                let path = path.replace(MACHINE, machine.name);
                let fits = path.len() <= MAX_PATH && is_file_name(machine.name);
                if fits { Ok(Listen::Socket(path)) } else { Err(format!("{path:?} is no path for a socket")) }
            }
        }
    }

    /// `user@host:port`
    pub fn hub(&self) -> String {
        format!("{}@{}:{}", self.user, bracketed(&self.host), self.port)
    }

    /// Options of the line in the hub's authorized_keys (sshd(8)): the key is in an image that others may read, so it is good
    /// for nothing but this. Port 1 is one that nothing answers at, and that only root may listen on.
    pub fn key_options(&self, key: [u8; 32]) -> String {
        let bind = bracketed(&self.bind);
        let listen = match &self.place {
            Place::Port(port) => format!("{bind}:{port}"),
            Place::FromMachine(base) => format!("{bind}:{}", from_key(*base, &key)),
            Place::Choose | Place::FromAddress(_) => format!("{bind}:*"),
            Place::Socket(_) => "localhost:1".to_owned(),
        };
        format!("restrict,port-forwarding,permitlisten=\"{listen}\",permitopen=\"localhost:1\",command=\"/bin/false\"")
    }
}

fn from_key(base: u16, key: &[u8; 32]) -> u16 {
    let number = u32::from_be_bytes([key[0], key[1], key[2], key[3]]) % u32::from(SPAN);
    base + u16::try_from(number).expect("below the span")
}

/// A machine's name goes into a path: it must not lead elsewhere.
fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// What is wrong with these hubs together, if anything.
pub fn check(hubs: &[Dial]) -> Result<(), String> {
    if hubs.len() > MAX_HUBS {
        return Err(format!("[[dial]]: {} hubs are more than {MAX_HUBS}", hubs.len()));
    }
    for (index, hub) in hubs.iter().enumerate() {
        if hubs[..index].iter().any(|before| before.name == hub.name) {
            return Err(format!("[[dial]]: two hubs are called {}; give one of them a name", hub.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHFCfjnLANa+CMgPuptvFYrNOgYzNdPp6fLu+0YxJDDP";

    fn read(lines: &str) -> Result<Dial, String> {
        toml::from_str(&format!("host-key = \"{KEY}\"\n{lines}")).map_err(|error| error.message().to_owned())
    }

    fn machine() -> Machine<'static> {
        Machine { name: "web1", key: [7; 32] }
    }

    fn listens(lines: &str) -> Result<Listen, String> {
        read(&format!("hub = \"box@hub\"\n{lines}"))?.listen(&machine(), [192, 0, 2, 7].into())
    }

    #[test]
    fn hubs() {
        for (hub, shown, name) in [
            ("box@hub.example.com", "box@hub.example.com:22", "hub.example.com"),
            ("box@192.0.2.1:2022", "box@192.0.2.1:2022", "192.0.2.1"),
            ("box@[2001:db8::1]", "box@[2001:db8::1]:22", "2001:db8::1"),
            ("box@[2001:db8::1]:2022", "box@[2001:db8::1]:2022", "2001:db8::1"),
        ] {
            let dial = read(&format!("hub = \"{hub}\"\nlisten = 1\n")).unwrap();
            assert_eq!((dial.hub().as_str(), dial.name.as_str()), (shown, name));
        }
        for hub in
            ["hub", "@hub", "box@", "box@hub:0", "box@hub:x", "box@2001:db8::1", "box@[::1]x", "box@a b", "box@a/b"]
        {
            assert!(read(&format!("hub = \"{hub}\"\nlisten = 1\n")).unwrap_err().contains("hub: "), "{hub}");
        }
    }

    #[test]
    fn where_the_hub_listens() {
        let port = |bind: &str, port| Ok(Listen::Port { bind: bind.to_owned(), port });
        for (lines, expected) in [
            ("listen = 20022", port("localhost", 20_022)),
            ("listen = 20022\nbind = \"*\"", port("*", 20_022)),
            ("listen = \"choose\"", port("localhost", 0)),
            ("listen = \"from-address\"", port("localhost", 20_007)),
            ("listen = \"from-address\"\nbase = 3000", port("localhost", 3007)),
            ("listen = \"from-machine\"", port("localhost", 20_000 + (0x0707_0707u32 % 10_000) as u16)),
            ("listen = \"/run/hub/{machine}.sock\"", Ok(Listen::Socket("/run/hub/web1.sock".to_owned()))),
        ] {
            assert_eq!(listens(lines), expected, "{lines}");
        }
        let dial = read("hub = \"box@hub\"\nlisten = \"from-address\"").unwrap();
        assert!(dial.listen(&machine(), "2001:db8::1".parse().unwrap()).unwrap_err().contains("IPv4"));
        let dial = read("hub = \"box@hub\"\nlisten = \"/run/{machine}\"").unwrap();
        let nasty = Machine { name: "../x", key: [0; 32] };
        assert!(dial.listen(&nasty, [192, 0, 2, 7].into()).is_err());
    }

    #[test]
    fn mistakes_are_told() {
        for (lines, expected) in [
            ("listen = 0", "0 is no port"),
            ("listen = \"somewhere\"", "neither a port"),
            ("listen = 20022\nbase = 1", "base goes with"),
            ("listen = \"from-machine\"\nbase = 60000", "no 10000 ports"),
            ("listen = \"/run/x\"\nbind = \"*\"", "bind goes with"),
            ("listen = 1\nname = \"a b\"", "name: "),
            ("listen = 1\nlsten = 2", "lsten"),
            ("", "listen"),
        ] {
            let error = listens(lines).expect_err(lines);
            assert!(error.contains(expected), "{lines}: {error}");
        }
        let unpinned = toml::from_str::<Dial>("hub = \"box@hub\"\nlisten = 1\nhost-key = []\n").unwrap_err();
        assert!(unpinned.message().contains("host-key: no host key is pinned"), "{unpinned}");
    }

    #[test]
    fn a_key_is_good_for_one_thing_only() {
        for (lines, expected) in [
            ("listen = 20022", "permitlisten=\"localhost:20022\""),
            ("listen = \"choose\"", "permitlisten=\"localhost:*\""),
            ("listen = 20022\nbind = \"*\"", "permitlisten=\"*:20022\""),
            ("listen = 20022\nbind = \"::1\"", "permitlisten=\"[::1]:20022\""),
            ("listen = \"choose\"\nbind = \"2001:db8::1\"", "permitlisten=\"[2001:db8::1]:*\""),
            ("listen = \"/run/x\"", "permitlisten=\"localhost:1\""),
        ] {
            let options = read(&format!("hub = \"box@hub\"\n{lines}")).unwrap().key_options([7; 32]);
            assert!(options.starts_with("restrict,port-forwarding,") && options.contains(expected), "{options}");
        }
    }

    #[test]
    fn two_hubs_have_two_names() {
        let hub = |name: &str| read(&format!("hub = \"box@hub\"\nlisten = 1\nname = \"{name}\"\n")).unwrap();
        assert_eq!(check(&[hub("a"), hub("b")]), Ok(()));
        assert!(check(&[hub("a"), hub("a")]).unwrap_err().contains("called a"));
        assert!(check(&[(); 9].map(|()| hub("a"))).is_err());
    }
}
