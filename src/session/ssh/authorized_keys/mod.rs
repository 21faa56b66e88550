//! The authorized_keys file, as in sshd(8) "AUTHORIZED_KEYS FILE FORMAT". Pure.
//!
//! A line that can't be understood, or that asks for something that can't be honoured, admits nobody: it is a
//! [`Problem`] with its file, line and reason. So a restriction is never silently lost.

mod from;
mod options;
mod time;
#[cfg(test)]
pub mod written;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, HashAlg, PublicKey};

use crate::config::grants::Narrowing;
pub use from::Sources;
use options::Options;

/// Shortest RSA key that is accepted, in bits (NIST SP 800-131A; OpenSSH's `RequiredRSASize` asks for less).
const MIN_RSA_BITS: usize = 2048;

/// A key that may log in, or sign certificates, and what its line takes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizedKey {
    pub key: PublicKey,
    pub comment: String,
    pub narrowing: Narrowing,
    /// `None`: from everywhere.
    pub from: Option<Sources>,
    /// Seconds since 1970 after which it counts no more.
    pub expires: Option<u64>,
    /// The login names that it is for (`roles=`, an option of our own); `None`: all.
    pub roles: Option<Vec<String>>,
    /// The key of an authority, which itself admits nobody.
    pub authority: Option<Authority>,
    /// Its line in the file, from 1.
    pub line: usize,
}

/// Whose certificates are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// A certificate must name one of these; `None`: the login name.
    pub principals: Option<Vec<String>>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// From 1.
    pub line: usize,
    pub reason: String,
    /// The line as a whole admits nobody. If not, only a part of it is without effect.
    pub admits_nobody: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let end = if self.admits_nobody { "; this line admits nobody" } else { "" };
        write!(f, "{}:{}: {}{end}", self.file, self.line, self.reason)
    }
}

/// All keys of a file, and what is wrong in it. `file` is only for messages.
pub fn parse(file: &str, text: &str) -> (Vec<AuthorizedKey>, Vec<Problem>) {
    let (mut keys, mut problems) = (Vec::new(), Vec::new());
    for (index, text) in text.lines().enumerate() {
        let text = text.trim_matches([' ', '\t', '\r']);
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let line = index + 1;
        let problem = |reason, admits_nobody| Problem { file: file.to_owned(), line, reason, admits_nobody };
        match parse_line(text) {
            Ok((key, without_effect)) => {
                keys.push(AuthorizedKey { line, ..key });
                problems.extend(without_effect.into_iter().map(|reason| problem(reason, false)));
            }
            Err(reason) => problems.push(problem(reason, true)),
        }
    }
    (keys, problems)
}

/// `SHA256:…` of a key, as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The key, and what on its line has no effect.
fn parse_line(line: &str) -> Result<(AuthorizedKey, Vec<String>), String> {
    if line.contains(|c: char| c.is_control() && c != '\t') {
        return Err("there is a control character".to_owned());
    }
    let (first, rest) = options::split_off(line)?;
    let (options, key_type, rest) = if is_key_type(first) {
        ("", first, rest)
    } else {
        let (key_type, rest) = word(rest);
        (first, key_type, rest)
    };
    if !is_key_type(key_type) {
        return Err(match key_type {
            "" => "this is no public key line (\"ssh-ed25519 AAAA… comment\")".to_owned(),
            other => format!("{other:?} is no key type that is supported"),
        });
    }
    let (base64, comment) = word(rest);
    if base64.is_empty() {
        return Err("the key is missing after its type".to_owned());
    }
    let key = PublicKey::from_openssh(&format!("{key_type} {base64}"))
        .map_err(|error| format!("the key can't be read ({error})"))?;
    check_strength(key.key_data())?;
    let Options { narrowing, from, expires, authority, principals, roles, without_effect } = Options::parse(options)?;
    let authority = authority.then_some(Authority { principals });
    let key = AuthorizedKey { key, comment: comment.to_owned(), narrowing, from, expires, roles, authority, line: 0 };
    Ok((key, without_effect))
}

/// Whether a key is one that can be trusted, be it a user's or an authority's; if not, why.
pub fn check_strength(key: &KeyData) -> Result<(), String> {
    match key {
        KeyData::Rsa(rsa) => {
            let bits = rsa.n().as_positive_bytes().map_or(0, |n| n.len() * 8 - first_zeros(n));
            if bits < MIN_RSA_BITS {
                return Err(format!("an RSA key of {bits} bits is too weak, at least {MIN_RSA_BITS} are needed"));
            }
            Ok(())
        }
        KeyData::Dsa(_) => Err("DSA keys are too weak".to_owned()),
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        _ => Err("this kind of key is not supported".to_owned()),
    }
}

fn first_zeros(number: &[u8]) -> usize {
    number.first().map_or(0, |byte| byte.leading_zeros() as usize)
}

fn is_key_type(word: &str) -> bool {
    matches!(
        Algorithm::new(word),
        Ok(Algorithm::Ed25519
            | Algorithm::Ecdsa { .. }
            | Algorithm::Rsa { .. }
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
            | Algorithm::Dsa)
    )
}

/// The first word, and what follows.
fn word(text: &str) -> (&str, &str) {
    match text.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start_matches([' ', '\t'])),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests;
