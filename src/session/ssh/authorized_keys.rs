//! The authorized_keys file, as in sshd(8) "AUTHORIZED_KEYS FILE FORMAT". Pure.
//!
//! A line that can't be understood, or that asks for something that can't be honoured, admits nobody: it is a
//! [`Problem`] with its file, line and reason. So a restriction is never silently lost.

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, HashAlg, PublicKey};

use crate::config::grants::Narrowing;

/// Shortest RSA key that is accepted, in bits (NIST SP 800-131A; OpenSSH's `RequiredRSASize` asks for less).
const MIN_RSA_BITS: usize = 2048;

/// A key that may log in, and what its line takes away.
#[derive(Clone, Debug)]
pub struct AuthorizedKey {
    pub key: PublicKey,
    pub comment: String,
    pub narrowing: Narrowing,
}

/// A line that admits nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// From 1.
    pub line: usize,
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}:{}: {}; this line admits nobody", self.file, self.line, self.reason)
    }
}

/// All keys of a file, and all lines that are none. `file` is only for messages.
pub fn parse(file: &str, text: &str) -> (Vec<AuthorizedKey>, Vec<Problem>) {
    let (mut keys, mut problems) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
            Ok(key) => keys.push(key),
            Err(reason) => problems.push(Problem { file: file.to_owned(), line: index + 1, reason }),
        }
    }
    (keys, problems)
}

/// `SHA256:…` of a key, as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn parse_line(line: &str) -> Result<AuthorizedKey, String> {
    let (first, rest) = split_field(line)?;
    let (options, key_type, rest) = if is_key_type(first) {
        ("", first, rest)
    } else {
        let (key_type, rest) = split_field(rest)?;
        (first, key_type, rest)
    };
    if !is_key_type(key_type) {
        return Err(match key_type {
            "" => "this is no public key line (\"ssh-ed25519 AAAA… comment\")".to_owned(),
            other => format!("{other:?} is no key type that is supported"),
        });
    }
    let (base64, comment) = split_field(rest)?;
    if base64.is_empty() {
        return Err("the key is missing after its type".to_owned());
    }
    let key = PublicKey::from_openssh(&format!("{key_type} {base64}"))
        .map_err(|error| format!("the key can't be read ({error})"))?;
    check_strength(&key)?;
    let mut narrowing = Narrowing::default();
    for option in split_options(options)? {
        apply(&option, &mut narrowing)?;
    }
    Ok(AuthorizedKey { key, comment: comment.to_owned(), narrowing })
}

/// What one option means here.
fn apply(option: &str, narrowing: &mut Narrowing) -> Result<(), String> {
    match option.to_ascii_lowercase().as_str() {
        "restrict" => (narrowing.no_pty, narrowing.no_forwarding) = (true, true),
        "no-pty" => narrowing.no_pty = true,
        "pty" => narrowing.no_pty = false,
        "no-port-forwarding" => narrowing.no_forwarding = true,
        "no-agent-forwarding" | "no-x11-forwarding" | "no-user-rc" | "no-touch-required" => {}
        _ => {
            let name = option.split('=').next().unwrap_or(option);
            return Err(format!("the option {name:?} is not supported"));
        }
    }
    Ok(())
}

fn check_strength(key: &PublicKey) -> Result<(), String> {
    match key.key_data() {
        KeyData::Rsa(rsa) => {
            let bits = rsa.n().as_positive_bytes().map_or(0, |n| n.len() * 8);
            if bits < MIN_RSA_BITS {
                return Err(format!("an RSA key of {bits} bits is too weak, at least {MIN_RSA_BITS} are needed"));
            }
            Ok(())
        }
        KeyData::Dsa(_) => Err("DSA keys are too weak".to_owned()),
        _ => Ok(()),
    }
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

/// Splits at the first white space that is not inside double quotes.
fn split_field(line: &str) -> Result<(&str, &str), String> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            '\\' if quoted && !escaped => {
                escaped = true;
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return Ok((&line[..at], line[at..].trim_start_matches([' ', '\t']))),
            _ => {}
        }
        escaped = false;
    }
    if quoted {
        return Err("a double quote is not closed".to_owned());
    }
    Ok((line, ""))
}

/// The options of a line, split at commas outside quotes.
fn split_options(options: &str) -> Result<Vec<String>, String> {
    let mut split = Vec::new();
    let (mut option, mut quoted, mut escaped) = (String::new(), false, false);
    for c in options.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ',' if !quoted => {
                split.push(std::mem::take(&mut option));
                continue;
            }
            _ => {}
        }
        escaped = c == '\\' && quoted && !escaped;
        option.push(c);
    }
    if !options.is_empty() {
        split.push(option);
    }
    match split.iter().any(String::is_empty) {
        true => Err("an option is empty (two commas, or one at the end)".to_owned()),
        false => Ok(split),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const RSA_1024: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDGcrRSzfi9PHRgNMD/jCQ5EIp2ZcS3ZqbTFr2AVgmVgVk9lS8JC9WkHYJyvX6xDXt0G7tn/HnCxCXYPsnr6oQbkdJaNJVj2JCd9P2vyPGXVEz2cJ+n0Ho6EYO5MgHHoXGdoDsZDDEmAmtoN8cX4+ayQr0wkUZ3FzqQNNhk6s7Pnw==";

    fn one(line: &str) -> Result<AuthorizedKey, String> {
        let (mut keys, mut problems) = parse("f", line);
        assert_eq!(keys.len() + problems.len(), 1, "{line}");
        keys.pop().ok_or_else(|| problems.pop().unwrap().reason)
    }

    #[test]
    fn lines_that_people_have() {
        for (line, comment, pty) in [
            (ED.to_owned(), "", true),
            (format!("  {ED} me@home  \r"), "me@home", true),
            (format!("{ED}\tme at home # two"), "me at home # two", true),
            (format!("no-port-forwarding,no-X11-forwarding {ED} x"), "x", true),
            (format!("restrict {ED} x"), "x", false),
            (format!("restrict,pty\t {ED} x"), "x", true),
        ] {
            let key = one(&line).unwrap_or_else(|reason| panic!("{line}: {reason}"));
            assert_eq!((key.comment.as_str(), !key.narrowing.no_pty), (comment, pty), "{line}");
        }
        assert!(parse("f", "# only\n\n   \t\n#comments").0.is_empty());
    }

    #[test]
    fn lines_that_admit_nobody_say_why() {
        for (line, why) in [
            ("hello", "no public key line"),
            ("ssh-ed25519", "missing"),
            ("ssh-ed25519 AAAA", "can't be read"),
            ("ssh-dss AAAAB3NzaC1kc3MAAACBAA==", "can't be read"),
            (&format!("command=\"echo \\\"hi\\\" there\" {ED}"), "option \"command\" is not supported"),
            (&format!("from=\"10.0.0.0/8,192.168.*\" {ED}"), "option \"from\""),
            (&format!("restrict,,pty {ED}"), "empty"),
            (&format!("no-such-thing {ED}"), "no-such-thing"),
            (&format!("command=\"never closed {ED}"), "not closed"),
            (&format!("ssh-rsa {}", &ED[12..]), "can't be read"),
            (RSA_1024, "too weak"),
        ] {
            let reason = one(line).expect_err(line);
            assert!(reason.contains(why), "{line}: {reason}");
        }
    }

    #[test]
    fn a_problem_names_its_line_and_the_rest_still_counts() {
        let (keys, problems) = parse("/etc/x", &format!("# c\n\nbroken line here\n{ED} ok\n"));
        assert_eq!(keys.len(), 1);
        assert!(problems[0].to_string().starts_with("/etc/x:3: "), "{}", problems[0]);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_admits_an_option_it_does_not_know(text in "[ -~\t\n\"\\\\,=]{0,120}") {
            let (keys, _) = parse("f", &text);
            prop_assert!(keys.is_empty());
        }

        #[test]
        fn unknown_options_admit_nobody(option in "[a-z-]{1,12}(=\"[ -!#-~]{0,9}\")?") {
            prop_assume!(!["restrict", "pty", "no-pty"].contains(&option.as_str()));
            let line = format!("{option} {ED}");
            prop_assert!(one(&line).is_err());
        }
    }
}
