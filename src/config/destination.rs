//! How the destinations of forwards are written: `permitopen=` and `permitlisten=` of a key's line (sshd(8),
//! "AUTHORIZED_KEYS FILE FORMAT"), `forward-to` and `listen-on` of a role. Pure.
//!
//! As `handle_permit()` in OpenSSH's auth-options.c reads them, without its names of services (an initramfs has no
//! /etc/services) and with the paths of UNIX sockets, which it has not.

use super::grants::Pattern;

/// Longest path of a UNIX socket: `sun_path` holds 108 bytes, the final NUL included (unix(7)).
const MAX_PATH: usize = 107;
/// Longest host name (RFC 1035 section 3.1).
const MAX_HOST: usize = 253;

/// `HOST:PORT`, `[ADDRESS]:PORT` or `/PATH`; host and port may be `*`.
pub fn open(text: &str) -> Result<Pattern, String> {
    match text.starts_with('/') {
        true => unix(text),
        false => tcp(text),
    }
}

/// The same; a port alone is that port on every address.
pub fn listen(text: &str) -> Result<Pattern, String> {
    match text.contains([':', '/']) {
        true => open(text),
        false => Ok(Pattern::Tcp { host: None, port: port(text)? }),
    }
}

fn unix(path: &str) -> Result<Pattern, String> {
    let up = path.split('/').any(|part| part == "..");
    match path.len() <= MAX_PATH && !up && !path.contains(char::is_control) {
        true => Ok(Pattern::Unix(path.to_owned())),
        false => Err(format!("{path:?} is no path of a socket (at most {MAX_PATH} bytes, no \"..\")")),
    }
}

fn tcp(text: &str) -> Result<Pattern, String> {
    let wrong = || format!("{text:?} is no destination; write HOST:PORT, [IPV6-ADDRESS]:PORT or /PATH");
    let (host, number) = match text.strip_prefix('[') {
        Some(inside) => {
            let (host, after) = inside.split_once(']').ok_or_else(wrong)?;
            (host, after.strip_prefix(':').ok_or_else(wrong)?)
        }
        None => text.split_once(':').ok_or_else(wrong)?,
    };
    if number.contains(':') {
        return Err(format!("{text:?} is no destination; an IPv6 address stands in brackets: [2001:db8::1]:22"));
    }
    Ok(Pattern::Tcp { host: self::host(host, text)?, port: port(number)? })
}

fn host(host: &str, text: &str) -> Result<Option<String>, String> {
    match host {
        "*" => Ok(None),
        host if host.contains(['*', '?']) => {
            Err(format!("{text:?}: a wildcard can't be a part of a host, only \"*\" for all of it"))
        }
        host if !host.is_empty() && host.len() <= MAX_HOST && host.bytes().all(is_hosts) => Ok(Some(host.to_owned())),
        _ => Err(format!("{text:?} has no host")),
    }
}

/// What names and addresses are made of, with an IPv6 zone.
fn is_hosts(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte)
}

fn port(text: &str) -> Result<Option<u16>, String> {
    if text == "*" {
        return Ok(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|port: &u16| digits && *port != 0);
    number.map(Some).ok_or_else(|| format!("{text:?} is no port; write a number from 1 to 65535, or *"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Pattern {
        Pattern::Tcp { host: (host != "*").then(|| host.to_owned()), port: (port != 0).then_some(port) }
    }

    #[test]
    fn as_the_manual_writes_them() {
        for (text, expected) in [
            ("192.0.2.1:80", tcp("192.0.2.1", 80)),
            ("localhost:8080", tcp("localhost", 8080)),
            ("[::1]:22000", tcp("::1", 22000)),
            ("[host]:1", tcp("host", 1)),
            ("host:*", tcp("host", 0)),
            ("*:443", tcp("*", 443)),
            ("*:*", tcp("*", 0)),
            ("/run/x.sock", Pattern::Unix("/run/x.sock".to_owned())),
        ] {
            assert_eq!(open(text), Ok(expected.clone()), "{text}");
            assert_eq!(listen(text), Ok(expected), "{text}");
        }
        assert_eq!(listen("8080"), Ok(tcp("*", 8080)));
        assert_eq!(listen("*"), Ok(tcp("*", 0)));
        assert!(open("8080").is_err());
    }

    #[test]
    fn mistakes() {
        for (text, why) in [
            ("", "no destination"),
            ("host", "no destination"),
            (":22", "no host"),
            ("[]:22", "no host"),
            ("[::1]22", "no destination"),
            ("[::1", "no destination"),
            ("2001:db8::1:22", "in brackets"),
            ("host:0", "no port"),
            ("host:65536", "no port"),
            ("host:+22", "no port"),
            ("host:ssh", "no port"),
            ("host:", "no port"),
            ("*.example.com:22", "wildcard"),
            ("a b:22", "no host"),
            ("]:22", "no host"),
            ("a/b:22", "no host"),
            ("/run/../etc/x", "no path"),
            (&format!("/{}", "x".repeat(107)), "no path"),
        ] {
            let error = open(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        for text in ["", "0", "http", "70000"] {
            assert!(listen(text).is_err(), "{text}");
        }
    }
}
