//! The host keys that a hub may have. Pure. There is no way to accept any.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use russh::Preferred;
use russh::keys::{Algorithm, HashAlg, PublicKey};

use super::Error;
use crate::session::ssh::algorithms;

/// Host keys of one hub: a moment of change has two. More are a mistake.
const MAX_PINS: usize = 8;

/// One or more host keys, one of which the hub must prove to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins(Vec<Pin>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// As in known_hosts: `ssh-ed25519 AAAA…`.
    Key(Box<PublicKey>),
    /// As `ssh-keygen -l` prints it: `SHA256:…`.
    Fingerprint(String),
}

impl FromStr for Pin {
    type Err = String;

    /// A key as known_hosts has it after the names, a whole line of known_hosts or of `ssh-keyscan`, or a fingerprint.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is no host key: {why}; write \"ssh-ed25519 AAAA…\" or \"SHA256:…\"");
        let text = text.trim();
        if let Some(hash) = text.strip_prefix("SHA256:") {
            let fits =
                hash.len() == 43 && hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
            return if fits { Ok(Self::Fingerprint(text.to_owned())) } else { Err(wrong("SHA256: and 43 characters")) };
        }
        if text.starts_with('@') {
            return Err(wrong("certificate authorities are not supported"));
        }
        let mut words: Vec<&str> = text.split_whitespace().collect();
        if words.len() > 2 && !is_kind(words[0]) && is_kind(words[1]) {
            words.remove(0); // the names of a line of known_hosts
        }
        let [kind, key, ..] = words[..] else { return Err(wrong("two words are needed")) };
        let mut key = PublicKey::from_openssh(&format!("{kind} {key}")).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(key.algorithm(), Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. }) {
            return Err(wrong("this kind of key is not supported"));
        }
        key.set_comment("");
        Ok(Self::Key(Box::new(key)))
    }
}

fn is_kind(word: &str) -> bool {
    word.starts_with("ssh-") || word.starts_with("ecdsa-sha2-")
}

impl Pin {
    fn is(&self, key: &PublicKey) -> bool {
        match self {
            Self::Key(pinned) => pinned.key_data() == key.key_data(),
            Self::Fingerprint(pinned) => *pinned == sha256(key),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(&fingerprint(key)),
            Self::Fingerprint(text) => f.write_str(text),
        }
    }
}

impl Pins {
    /// Of texts as [`Pin`] reads them.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, String> {
        if texts.is_empty() {
            return Err("no host key is pinned; write the hub's: ssh-keyscan HUB, compared at the hub".to_owned());
        }
        if texts.len() > MAX_PINS {
            return Err(format!("more than {MAX_PINS} host keys are pinned"));
        }
        texts.iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// As [`Pins::parse`] reads them.
    pub fn texts(&self) -> Vec<String> {
        let text = |pin: &Pin| match pin {
            Pin::Key(key) => key.to_openssh().expect("a key that was read can be written"),
            Pin::Fingerprint(text) => text.clone(),
        };
        self.0.iter().map(text).collect()
    }

    /// Whether the hub's key is one of them.
    pub fn check(&self, offered: &PublicKey) -> Result<(), Error> {
        if self.0.iter().any(|pin| pin.is(offered)) {
            return Ok(());
        }
        let pinned = self.0.iter().map(Pin::to_string).collect();
        Err(Error::KeyChanged { offered: fingerprint(offered), pinned })
    }

    /// Our server's lists, with the kinds of keys that are pinned before the others: a hub has several and shows one. The
    /// others stay, so that a key that has changed is told from a server that has none. RSA keys by SHA-2 only.
    pub fn preferred(&self) -> Preferred {
        let lists = algorithms::preferred();
        let mut kinds: Vec<Algorithm> = lists.key.iter().filter(|kind| !is_token(kind)).cloned().collect();
        kinds.sort_by_key(|kind| !self.0.iter().any(|pin| matches!(pin, Pin::Key(key) if same_kind(key, kind))));
        Preferred { kex: Cow::Borrowed(algorithms::CLIENT_KEX), key: Cow::Owned(kinds), ..lists }
    }
}

/// Host keys are never in tokens that want to be touched.
fn is_token(kind: &Algorithm) -> bool {
    matches!(kind, Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)
}

fn same_kind(key: &PublicKey, kind: &Algorithm) -> bool {
    key.algorithm() == *kind || matches!((key.algorithm(), kind), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }))
}

fn sha256(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// With the kind, as a person compares it: `ssh-ed25519 SHA256:…`.
pub fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), sha256(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHFCfjnLANa+CMgPuptvFYrNOgYzNdPp6fLu+0YxJDDP";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEtnE4DMIyMLjXnO36Y09NKMZ7kVCZiJ0eEfdvP6ogKc";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    #[test]
    fn what_is_pinned_is_accepted_and_nothing_else() {
        let fingerprint = key(KEY).fingerprint(HashAlg::Sha256).to_string();
        for text in [KEY, &format!("{KEY} a comment"), &format!("hub.example,192.0.2.7 {KEY}"), &fingerprint] {
            let pins = Pins::parse(&[text]).unwrap();
            assert_eq!(pins.check(&key(KEY)), Ok(()), "{text}");
            let refused = pins.check(&key(OTHER)).unwrap_err().to_string();
            assert!(refused.contains(&fingerprint), "{refused}");
            assert!(refused.contains(&sha256(&key(OTHER))), "{refused}");
        }
        let both = Pins::parse(&[OTHER, KEY]).unwrap();
        assert_eq!(Pins::parse(&both.texts()), Ok(both.clone()));
        assert!(both.check(&key(KEY)).is_ok() && both.check(&key(OTHER)).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in
            ["", "*", "any", "SHA256:short", "ssh-ed25519", "ssh-ed25519 AAAA", "@cert-authority * ssh-ed25519 AAAA"]
        {
            assert!(text.parse::<Pin>().is_err(), "{text}");
        }
        assert!(Pins::parse::<&str>(&[]).is_err());
    }

    #[test]
    fn the_pinned_kind_comes_first_and_sha1_never() {
        let list = Pins::parse(&[KEY]).unwrap().preferred().key;
        assert_eq!(list[0], Algorithm::Ed25519);
        assert!(list.len() > 1 && !list.contains(&Algorithm::Rsa { hash: None }));
        let p256 = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5\
                    YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";
        let list = Pins::parse(&[p256]).unwrap().preferred().key;
        assert!(matches!(list[0], Algorithm::Ecdsa { .. }), "{list:?}");
    }
}
