//! Lines of public keys → machines, each with a port of its own on the hub. Pure.

use std::collections::BTreeSet;

use crate::config::grants::{Narrowing, Pattern};
use crate::session::ssh::authorized_keys::{self, AuthorizedKey};

/// What `vestibule keys` permits a machine that listens at a UNIX socket: OpenSSH has no way to say "no port", and this one only
/// root can take.
pub const NO_PORT: u16 = 1;

/// A machine that dials the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// For people: the key's comment.
    pub name: String,
    /// Where the hub listens for it, on its loopback; [`NO_PORT`] if it is at a UNIX socket.
    pub port: u16,
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub key: String,
}

/// The machines of all files (name, text), in their order. Those without a port get one from `base` on; without a base they
/// are an error. So is a key that would not get its machine in: on the hub, nobody would be told.
pub fn machines(files: &[(String, String)], base: Option<u16>) -> Result<Vec<Machine>, String> {
    let mut keys = Vec::new();
    for (file, text) in files {
        let (found, problems) = authorized_keys::parse(file, text);
        if let Some(problem) = problems.first() {
            return Err(format!("{}:{}: {}", problem.file, problem.line, problem.reason));
        }
        if found.is_empty() {
            return Err(format!("{file}: there is no public key in it (\"ssh-ed25519 AAAA… NAME\")"));
        }
        for key in found {
            let port = port(&key).map_err(|why| format!("{file}:{}: {why}", key.line))?;
            keys.push((format!("{file}:{}", key.line), key, port));
        }
    }
    let mut taken = BTreeSet::new();
    for (place, _, port) in &keys {
        if let Some(port) = port.filter(|port| *port != NO_PORT && !taken.insert(*port)) {
            return Err(format!("{place}: port {port} is another machine's already"));
        }
    }
    let mut seen = BTreeSet::new();
    let mut machines = Vec::new();
    for (place, key, given) in keys {
        let text = key.key.to_openssh().map_err(|error| format!("{place}: the key can't be written ({error})"))?;
        if !seen.insert(text.clone()) {
            return Err(format!("{place}: another machine has this key; give each one its own"));
        }
        let port = match given {
            Some(port) => port,
            None => {
                let base = base.ok_or_else(|| format!("{place}: there is no permitlisten=\"localhost:PORT\""))?;
                let free = (base..=u16::MAX).find(|port| !taken.contains(port));
                free.ok_or_else(|| format!("{place}: there is no port left from {base} on; choose a lower --base"))?
            }
        };
        taken.insert(port);
        machines.push(Machine { name: name(&key.comment, port), port, key: text });
    }
    Ok(machines)
}

/// The port that a line gives its machine, if it gives one. Options that would get lost are an error; commands and
/// destinations are not lost, as the hub permits none at all.
fn port(key: &AuthorizedKey) -> Result<Option<u16>, String> {
    let Narrowing { listen, environment, once, command: _, open: _, no_pty: _, no_forwarding: _ } = &key.narrowing;
    let more = key.from.is_some() || key.expires.is_some() || key.authority.is_some() || key.roles.is_some();
    if more || !environment.is_empty() || *once {
        return Err(
            "of its options only permitlisten counts; leave out from, expiry-time, environment, cert-authority and \
             our own ones, and add what is needed to the line on the hub"
                .to_owned(),
        );
    }
    match listen.as_deref() {
        None => Ok(None),
        Some([Pattern::Tcp { host, port: Some(port) }]) if loopback(host.as_deref()) => match *port {
            NO_PORT | 1024.. => Ok(Some(*port)),
            _ => Err(format!("port {port} is for root alone to listen on; take one from 1024 on")),
        },
        Some(_) => Err("write one permitlisten=\"localhost:PORT\", or none to have the port chosen".to_owned()),
    }
}

/// Without a host, any address may be asked for; the line for the hub permits loopback only.
fn loopback(host: Option<&str>) -> bool {
    matches!(host, None | Some("localhost" | "127.0.0.1" | "::1"))
}

/// A comment is free text; ssh-keygen makes it `user@host`. A name without one is better than none.
fn name(comment: &str, port: u16) -> String {
    let word = comment.split_whitespace().next().unwrap_or_default();
    match word.rsplit('@').next() {
        None | Some("") => format!("machine-{port}"),
        Some(host) => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 3] = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEBBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5f",
    ];

    fn of(lines: &[String]) -> Result<Vec<Machine>, String> {
        machines(&[("keys".to_owned(), lines.join("\n"))], Some(20_001))
    }

    #[test]
    fn given_ports_stay_and_the_others_are_counted() {
        let [a, b, c] = KEYS;
        let machines = of(&[
            format!("{a} root@web1"),
            format!(
                "restrict,port-forwarding,permitlisten=\"localhost:20001\",permitopen=\"localhost:1\",command=\"/bin/false\" \
                 {b} db in the cellar"
            ),
            format!("# a comment\n\n{c}"),
        ])
        .unwrap();
        let found: Vec<_> = machines.iter().map(|machine| (machine.name.as_str(), machine.port)).collect();
        assert_eq!(found, [("web1", 20_002), ("db", 20_001), ("machine-20003", 20_003)]);
        assert_eq!(machines[1].key, b);
    }

    #[test]
    fn mistakes() {
        let [a, b, _] = KEYS;
        for (lines, why) in [
            (vec![String::new()], "no public key"),
            (vec!["garbage".to_owned()], "keys:1: "),
            (vec![format!("{a} one"), format!("{a} two")], "keys:2: another machine has this key"),
            (vec![format!("permitlisten=\"1025\" {a}"), format!("permitlisten=\"1025\" {b}")], "keys:2: port 1025"),
            (vec![format!("permitlisten=\"localhost:80\" {a}")], "for root alone"),
            (vec![format!("permitlisten=\"192.0.2.1:2000\" {a}")], "localhost:PORT"),
            (vec![format!("permitlisten=\"localhost:*\" {a}")], "localhost:PORT"),
            (vec![format!("permitlisten=\"2001\",permitlisten=\"2002\" {a}")], "localhost:PORT"),
            (vec![format!("expiry-time=\"20300101\" {a}")], "only permitlisten counts"),
            (vec![format!("from=\"192.0.2.1\" {a}")], "only permitlisten counts"),
        ] {
            let error = of(&lines).expect_err(why);
            assert!(error.contains(why), "{lines:?}: {error}");
        }
        let last = machines(&[("keys".to_owned(), KEYS[..2].join("\n"))], Some(u16::MAX));
        assert!(last.unwrap_err().contains("no port left"));
        let none = machines(&[("keys".to_owned(), KEYS[0].to_owned())], None);
        assert!(none.unwrap_err().contains("permitlisten"));
    }
}
