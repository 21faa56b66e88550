//! Pinned host keys from a known_hosts file (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").

use std::path::Path;

use anyhow::{Context, bail};
use russh::keys::known_hosts::known_host_keys_path;
use russh::keys::{Algorithm, PublicKey};

use crate::dial::Pins;

/// The keys that are given as text, and those that the file has for the first of `names` (host and port) that it knows, hashed
/// ones included. At least one: without any, nobody could be told from the hub. A key that the file calls revoked is none.
pub fn pins(texts: &[String], file: Option<&Path>, names: &[(&str, u16)]) -> anyhow::Result<Pins> {
    let mut keys = texts.to_vec();
    if let Some(file) = file {
        let found = find(file, names).with_context(|| format!("reading the host keys in {}", file.display()))?;
        if found.is_empty() {
            let names: Vec<String> = names.iter().map(|(host, port)| as_written(host, *port)).collect();
            bail!("{} has no host key for {}; an unknown one is never accepted", file.display(), names.join(" or "));
        }
        keys.extend(found);
    }
    Pins::parse(&keys).map_err(anyhow::Error::msg)
}

fn find(file: &Path, names: &[(&str, u16)]) -> anyhow::Result<Vec<String>> {
    // Read here as well, because the reader below takes a file that isn't there for an empty one.
    let text = std::fs::read_to_string(file)?;
    let revoked: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("@revoked")).collect();
    let mut found: Vec<String> = Vec::new();
    for (host, port) in names {
        if !found.is_empty() {
            break;
        }
        for (_, key) in known_host_keys_path(host, *port, file)? {
            let written = written(&key)?;
            let base64 = written.split(' ').nth(1).unwrap_or_default();
            if usable(&key) && !found.contains(&written) && !revoked.iter().any(|line| line.contains(base64)) {
                found.push(written);
            }
        }
    }
    Ok(found)
}

fn written(key: &PublicKey) -> anyhow::Result<String> {
    PublicKey::from(key.key_data().clone()).to_openssh().context("writing a key")
}

/// Those that a server can have, and we check.
fn usable(key: &PublicKey) -> bool {
    matches!(key.algorithm(), Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. })
}

fn as_written(host: &str, port: u16) -> String {
    match port {
        22 => host.to_owned(),
        port => format!("[{host}]:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHFCfjnLANa+CMgPuptvFYrNOgYzNdPp6fLu+0YxJDDP";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEtnE4DMIyMLjXnO36Y09NKMZ7kVCZiJ0eEfdvP6ogKc";

    fn of(text: &str, names: &[(&str, u16)]) -> Result<Pins, String> {
        let root = Fixture::new(&[("/known_hosts", text.as_bytes())]);
        pins(&[], Some(&root.join("/known_hosts")), names).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn only_the_host_and_port_that_is_named() {
        let text = format!("# comment\n[hub]:2222,10.0.0.1 {KEY} comment\nhub {OTHER}\n");
        assert_eq!(of(&text, &[("hub", 2222)]), Pins::parse(&[KEY]));
        assert_eq!(of(&text, &[("10.0.0.1", 22)]), Pins::parse(&[KEY]));
        assert_eq!(of(&text, &[("hub", 22)]), Pins::parse(&[OTHER]));
        // The first name that is known, and not the others.
        assert_eq!(of(&text, &[("unknown", 22), ("hub", 22), ("10.0.0.1", 22)]), Pins::parse(&[OTHER]));
        assert!(of(&text, &[("hub", 2223)]).unwrap_err().contains("no host key for [hub]:2223"));
    }

    /// As `ssh-keygen -H` writes it.
    #[test]
    fn hashed_names() {
        let text = format!("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= {KEY}\n");
        assert_eq!(of(&text, &[("192.168.1.61", 22)]), Pins::parse(&[KEY]));
        assert!(of(&text, &[("192.168.1.62", 22)]).is_err());
    }

    #[test]
    fn what_is_revoked_or_an_authority_admits_nobody() {
        for text in [
            format!("hub {KEY}\n@revoked * {KEY}\n"),
            format!("hub {KEY}\n \t@revoked * {KEY}\n"),
            format!("@cert-authority hub {KEY}\n"),
            String::new(),
        ] {
            assert!(of(&text, &[("hub", 22)]).unwrap_err().contains("no host key"), "{text}");
        }
        assert!(pins(&[], Some(Path::new("/nonexistent")), &[("hub", 22)]).is_err());
    }
}
