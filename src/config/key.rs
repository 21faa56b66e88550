//! `[[key]]` of the configuration: a volume whose key file is fed (`ssh HOST feed VOLUME < keyfile`). Pure.

use std::path::PathBuf;

use serde::Deserialize;

/// Long enough for a client that tries every minute to find the machine on the network; short enough for a person who
/// stands at the console and waits for the prompt that comes then.
pub const DEFAULT_WAIT_SECONDS: u64 = 120;
/// A day: somebody who wants the console to wait longer than that wants no console.
const MAX_WAIT_SECONDS: u64 = 86_400;
/// Longest volume name, in bytes: systemd-cryptsetup binds its end to the abstract address `HEX/cryptsetup/NAME`, of at
/// most 108 bytes with the leading NUL and up to 16 digits (`make_bindname()` in its `src/cryptsetup/cryptsetup.c`).
const MAX_NAME: usize = 108 - 1 - 16 - "/cryptsetup/".len();
/// `sun_path` holds 108 bytes, the final NUL included (unix(7)).
const MAX_PATH: usize = 107;

/// A place where the key of a volume is awaited.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyPlace {
    /// The name that the volume will have below `/dev/mapper`.
    pub volume: String,
    /// What crypttab(5) names as key file; see [`KeyPlace::path`].
    path: Option<PathBuf>,
    #[serde(default)]
    pub kind: PlaceKind,
    /// How long an asker is held, in seconds. Until then the console does not ask for this volume's passphrase.
    #[serde(default = "default_wait")]
    pub wait_seconds: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaceKind {
    /// An AF_UNIX socket; systemd-cryptsetup reads its key from one (crypttab(5), "AF_UNIX KEY FILES").
    #[default]
    Socket,
    /// A FIFO, for everything else that reads a key file.
    Fifo,
}

impl KeyPlace {
    /// Where the key is read. By default where systemd-cryptsetup looks by itself when crypttab names no key file.
    pub fn path(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| format!("/run/cryptsetup-keys.d/{}.key", self.volume).into())
    }
}

fn default_wait() -> u64 {
    DEFAULT_WAIT_SECONDS
}

/// What is wrong with these places, if anything.
pub fn check(places: &[KeyPlace]) -> Result<(), String> {
    for (index, place) in places.iter().enumerate() {
        let KeyPlace { volume, wait_seconds, .. } = place;
        let path = place.path();
        if volume.is_empty() || volume.starts_with('.') || volume.contains('/') || volume.chars().any(char::is_control)
        {
            return Err(format!("key: {volume:?} is no name of a volume"));
        }
        if volume.len() > MAX_NAME {
            return Err(format!("key: the volume name {volume:?} is longer than {MAX_NAME} bytes"));
        }
        // Everything in /run is gone when the machine is off, and vestibule removes nothing elsewhere.
        if !path.starts_with("/run") || path.components().any(|part| part.as_os_str() == "..") {
            return Err(format!("key: the path {} must be below /run", path.display()));
        }
        if path.as_os_str().len() > MAX_PATH {
            return Err(format!("key: the path {} is longer than {MAX_PATH} bytes", path.display()));
        }
        if !(1..=MAX_WAIT_SECONDS).contains(wait_seconds) {
            return Err(format!("key: wait-seconds must be from 1 to {MAX_WAIT_SECONDS}"));
        }
        if places[..index].iter().any(|other| other.volume == *volume || other.path() == path) {
            return Err(format!("key: the volume {volume} or its path stands there twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;

    #[test]
    fn the_shortest_form_needs_no_crypttab() {
        let keys = parse("[[key]]\nvolume = \"data\"\n").unwrap().0.keys;
        assert_eq!(keys[0].path(), PathBuf::from("/run/cryptsetup-keys.d/data.key"));
        assert_eq!((keys[0].kind, keys[0].wait_seconds), (PlaceKind::Socket, DEFAULT_WAIT_SECONDS));
    }

    #[test]
    fn everything_can_be_said() {
        let text = "[[key]]\nvolume = \"a\"\npath = \"/run/vestibule/keys/a\"\nkind = \"fifo\"\nwait-seconds = 5\n\
                    [[key]]\nvolume = \"b\"\n";
        let keys = parse(text).unwrap().0.keys;
        assert_eq!(
            (keys[0].path(), keys[0].kind, keys[0].wait_seconds, keys.len()),
            (PathBuf::from("/run/vestibule/keys/a"), PlaceKind::Fifo, 5, 2)
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (lines, expected) in [
            ("", "missing field `volume`"),
            ("volume = \"\"", "no name of a volume"),
            ("volume = \"../x\"", "no name of a volume"),
            (&format!("volume = \"{}\"", "x".repeat(80)), "longer than 79"),
            ("volume = \"a\"\npath = \"keys/a\"", "must be below /run"),
            ("volume = \"a\"\npath = \"/etc/key\"", "must be below /run"),
            ("volume = \"a\"\npath = \"/run/../etc/key\"", "must be below /run"),
            (&format!("volume = \"a\"\npath = \"/run/{}\"", "x".repeat(103)), "longer than 107"),
            ("volume = \"a\"\nkind = \"pipe\"", "pipe"),
            ("volume = \"a\"\nwait-seconds = 0", "from 1 to 86400"),
            ("volume = \"a\"\nwait = 3", "unknown field"),
            ("volume = \"a\"\n[[key]]\nvolume = \"a\"", "stands there twice"),
            ("volume = \"a\"\npath = \"/run/x\"\n[[key]]\nvolume = \"b\"\npath = \"/run/x\"", "stands there twice"),
        ] {
            let error = parse(&format!("[[key]]\n{lines}\n")).expect_err(lines);
            assert!(error.contains(expected), "{lines}: {error}");
        }
    }
}
