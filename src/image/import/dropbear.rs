//! What dropbear's configuration means here. Pure.
//!
//! dropbear(8) and `svr-runopts.c` 2022.83 to 2025.89; dropbear-initramfs' `dropbear.conf`, its `hooks/dropbear` and
//! `scripts/init-*/dropbear`; host keys: `buf_put_ed25519_priv_key()` in `ed25519.c`.

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

/// What dropbear listens on when it isn't told.
const DROPBEAR_PORT: u16 = 22;
/// Options that take a value.
const WITH_VALUE: &str = "bcdrDpPGWKITAl";

/// What becomes of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// As it stands in the file.
    pub setting: String,
    pub here: Here,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Here {
    /// Written into config.toml, as this line.
    Taken(String),
    /// So without any setting, or by another way.
    Already(&'static str),
    /// Why there is nothing like it.
    Nothing(&'static str),
}

/// dropbear.conf, understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    pub port: u16,
    /// Files named by `-r`.
    pub host_keys: Vec<String>,
    pub rows: Vec<Row>,
}

/// Reads `dropbear.conf`, or `config` of releases before Debian 12: shell assignments.
pub fn settings(text: &str) -> Settings {
    let mut settings = Settings { port: DROPBEAR_PORT, host_keys: Vec::new(), rows: Vec::new() };
    let mut ported = false;
    for (name, value) in assignments(text) {
        match name {
            "DROPBEAR_OPTIONS" => options(&value, &mut settings, &mut ported),
            _ => settings.rows.push(Row { here: variable(name, &value), setting: format!("{name}={value}") }),
        }
    }
    if !ported {
        let here = Here::Taken(format!("port = {DROPBEAR_PORT}"));
        settings.rows.insert(0, Row { setting: "(no -p: port 22)".into(), here });
    }
    settings
}

/// `NAME=value` lines, the last one of a name.
fn assignments(text: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.trim_start_matches("export ").split_once('=') else { continue };
        let value = value.trim();
        let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''));
        let bare = match quote {
            Some(quote) => value[1..].split(quote).next().unwrap_or_default(),
            None => value.split([' ', '\t', '#']).next().unwrap_or_default(),
        };
        found.retain(|(other, _)| *other != name);
        found.push((name, bare.to_owned()));
    }
    found
}

fn variable(name: &str, value: &str) -> Here {
    match (name, value) {
        ("IFDOWN", "none") => {
            Here::Nothing("what vestibule has set up is undone; set network = false if initramfs-tools configures it")
        }
        ("IFDOWN", _) => Here::Already("what vestibule has set up is undone at the hand-over, and nothing else"),
        ("DROPBEAR_SHUTDOWN_TIMEOUT", _) => Here::Already("stopping takes a moment, and is ended after 20 s"),
        _ => Here::Nothing("vestibule doesn't know this variable"),
    }
}

fn options(text: &str, settings: &mut Settings, ported: &mut bool) {
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            settings.rows.push(Row { setting: word.into(), here: Here::Nothing("this is no option of dropbear") });
            continue;
        };
        for (at, letter) in letters.char_indices() {
            let rest = &letters[at + letter.len_utf8()..];
            if !WITH_VALUE.contains(letter) {
                settings.rows.push(Row { setting: format!("-{letter}"), here: flag(letter) });
                continue;
            }
            let value = if rest.is_empty() { words.next().unwrap_or_default() } else { rest };
            let here = match letter {
                'p' => port(value, settings, ported),
                'r' => {
                    settings.host_keys.push(value.to_owned());
                    Here::Already("see the host key below")
                }
                other => valued(other, value),
            };
            settings.rows.push(Row { setting: format!("-{letter} {value}"), here });
            break;
        }
    }
}

fn port(value: &str, settings: &mut Settings, ported: &mut bool) -> Here {
    let (address, number) = value.rsplit_once(':').unwrap_or(("", value));
    match number.parse() {
        Ok(number @ 1..) if !*ported => {
            (settings.port, *ported) = (number, true);
            match address {
                "" => Here::Taken(format!("port = {number}")),
                _ => Here::Taken(format!("port = {number}   # on every address, not on {address} alone")),
            }
        }
        Ok(_) if *ported => Here::Nothing("one port is listened on, the first"),
        _ => Here::Nothing("this is no port"),
    }
}

fn flag(letter: char) -> Here {
    match letter {
        's' | 'g' => Here::Already("nobody logs in by password"),
        'j' | 'k' => Here::Already("nothing is forwarded but what a role or a key's line lists"),
        'F' | 'E' | 'm' | 'R' | 'z' => Here::Already("so without an option"),
        'e' => Here::Nothing(
            "programs get an environment of their own; a role or a key's line can add to it (environment)",
        ),
        'a' => Here::Nothing("set gateway-ports and listen-on for a role in config.toml"),
        'w' => Here::Nothing("the login name is a role, not an account; log in as unlock, peek or root"),
        'B' | 't' => Here::Nothing("nobody logs in by password"),
        'i' => Here::Nothing("vestibule listens by itself"),
        '2' | 'u' | 'v' => Here::Nothing("what happens stands in the kernel log"),
        _ => Here::Nothing("vestibule doesn't know this option"),
    }
}

fn valued(letter: char, value: &str) -> Here {
    match letter {
        'c' if value.contains("cryptroot-unlock") => Here::Already(
            "a login is the unlock screen, and cryptroot-unlock works as a command; status, peek and reboot do as well",
        ),
        'c' => Here::Nothing("set command for a role in config.toml, or on a key's line"),
        'I' => Here::Nothing("a session may wait as long as the machine does"),
        'K' => Here::Nothing("set ServerAliveInterval in your ~/.ssh/config"),
        'T' => Here::Already("tries to log in are limited (login-seconds, and a count)"),
        'W' => Here::Already("the window is chosen by vestibule"),
        'b' => Here::Nothing("there is no banner before the login"),
        'd' => Here::Nothing("DSA keys are too weak"),
        'D' => Here::Nothing("authorized_keys is taken from where dropbear-initramfs has it"),
        'G' => Here::Nothing("there are no groups; log in as unlock, peek or root"),
        'l' => Here::Nothing("every interface is listened on"),
        'A' => Here::Nothing("there are no plug-ins"),
        _ => Here::Already("so without an option"),
    }
}

/// An ed25519 host key in dropbear's own format.
pub fn ed25519(file: &[u8]) -> Option<PrivateKey> {
    let rest = file.strip_prefix(b"\0\0\0\x0bssh-ed25519\0\0\0\x40")?;
    let (seed, public) = rest.split_first_chunk::<32>()?;
    let pair = Ed25519Keypair::from_seed(seed);
    // A file that was cut or mixed up would be another key than the one that clients know.
    (pair.public.0[..] == *public).then_some(())?;
    PrivateKey::new(KeypairData::Ed25519(pair), "dropbear").ok()
}

/// Whether a line of `authorized_keys` has the same key as one of `others`: the same long word of base64.
pub fn has_key(line: &str, others: &str) -> bool {
    let key = |line: &str| line.split([' ', '\t']).find(|word| word.starts_with("AAAA")).map(str::to_owned);
    let wanted = key(line);
    wanted.is_some()
        && others.lines().filter(|line| !line.trim_start().starts_with('#')).any(|line| key(line) == wanted)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As Debian 12 ships it, with the settings that people make.
    const CONF: &str = "#\n# Configuration options for the dropbear-initramfs boot scripts.\n\n# Command line options to pass to dropbear(8)\n\
        #\nDROPBEAR_OPTIONS=\"-I 180 -j -k -p 2222 -s -c cryptroot-unlock\"\n\n#IFDOWN=\"*\"\nDROPBEAR_SHUTDOWN_TIMEOUT=60\n";

    fn found(text: &str) -> Vec<String> {
        let kind = |here: &Here| match here {
            Here::Taken(line) => format!("= {line}"),
            Here::Already(_) => "already".into(),
            Here::Nothing(_) => "nothing".into(),
        };
        settings(text).rows.iter().map(|row| format!("{}: {}", row.setting, kind(&row.here))).collect()
    }

    #[test]
    fn what_people_have() {
        assert_eq!(
            found(CONF),
            [
                "-I 180: nothing",
                "-j: already",
                "-k: already",
                "-p 2222: = port = 2222",
                "-s: already",
                "-c cryptroot-unlock: already",
                "DROPBEAR_SHUTDOWN_TIMEOUT=60: already",
            ]
        );
        assert_eq!(settings(CONF).port, 2222);
    }

    #[test]
    fn spellings() {
        for (text, expected) in [
            ("", &["(no -p: port 22): = port = 22"][..]),
            ("DROPBEAR_OPTIONS='-sjkp4747'", &["-s: already", "-j: already", "-k: already", "-p 4747: = port = 4747"]),
            (
                "DROPBEAR_OPTIONS=\"-p 192.0.2.7:22 -p 23\"",
                &["-p 192.0.2.7:22: = port = 22   # on every address, not on 192.0.2.7 alone", "-p 23: nothing"],
            ),
            ("DROPBEAR_OPTIONS=-p70000", &["(no -p: port 22): = port = 22", "-p 70000: nothing"]),
            ("DROPBEAR_OPTIONS=\"-s\"\nDROPBEAR_OPTIONS=\"-p 1\"", &["-p 1: = port = 1"]),
            ("IFDOWN=none\nOTHER=1", &["(no -p: port 22): = port = 22", "IFDOWN=none: nothing", "OTHER=1: nothing"]),
            ("DROPBEAR_OPTIONS=\"-p 1 stray -\"", &["-p 1: = port = 1", "stray: nothing", "-: nothing"]),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
        assert_eq!(settings("DROPBEAR_OPTIONS=\"-r /k1 -r/k2\"").host_keys, ["/k1", "/k2"]);
    }

    /// `dropbearkey -t ed25519` 2022.83, and what `dropbearkey -y` says about it.
    const HOST_KEY: &str = "0000000b7373682d656432353531390000004011bbb60671de71e606ee5af9361c6b2b1eb4ca008aec190affab7c43e31e827ed06448fde9d1ae6afeb1f7d625a3e001948aa8358492e2bb90ffb8282c263c16";
    const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINBkSP3p0a5q/rH31iWj4AGUiqg1hJLiu5D/uCgsJjwW";

    pub fn host_key() -> Vec<u8> {
        (0..HOST_KEY.len()).step_by(2).map(|at| u8::from_str_radix(&HOST_KEY[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn host_keys_of_dropbear() {
        let bytes = host_key();
        let key = ed25519(&bytes).unwrap();
        assert_eq!(key.public_key().key_data(), russh::keys::PublicKey::from_openssh(PUBLIC).unwrap().key_data());
        for damaged in [&bytes[..bytes.len() - 1], &bytes[1..], &[&bytes[..82], b"x"].concat(), b""] {
            assert!(ed25519(damaged).is_none());
        }
    }

    #[test]
    fn the_same_key_again() {
        let have = "# ssh-ed25519 AAAAcommented\nrestrict ssh-ed25519 AAAAone me\n";
        for (line, expected) in [
            ("ssh-ed25519 AAAAone other", true),
            ("ssh-ed25519 AAAAtwo me", false),
            ("ssh-ed25519 AAAAcommented", false),
            ("", false),
        ] {
            assert_eq!(has_key(line, have), expected, "{line}");
        }
    }
}
