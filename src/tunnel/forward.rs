//! What `-L` and `-R` say: `[bind:]port:host:hostport`, as ssh(1) has it. Pure.

use std::fmt;
use std::str::FromStr;

/// Where somebody listens, and where who connects there is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// `None`: loopback.
    pub bind: Option<String>,
    /// 0: whoever listens chooses.
    pub port: u16,
    pub host: String,
    pub host_port: u16,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{why}; write [bind:]port:host:hostport, IPv6 addresses in brackets");
        let parts = split(text).ok_or_else(|| wrong("a bracket is missing, or not where an address begins"))?;
        let (bind, [port, host, host_port]) = match parts[..] {
            [port, host, host_port] => (None, [port, host, host_port]),
            [bind, port, host, host_port] => (Some(bind), [port, host, host_port]),
            _ => return Err(wrong("these are not three or four words between colons")),
        };
        if bind.is_some_and(str::is_empty) || host.is_empty() || text.contains(|c: char| c.is_control() || c == ' ') {
            return Err(wrong("there is no address where one should be"));
        }
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_: &u16| digits).ok_or_else(|| wrong(&format!("{text:?} is no port")))
        };
        let (port, host_port) = (number(port)?, number(host_port)?);
        if host_port == 0 {
            return Err(wrong("nobody can be connected to port 0"));
        }
        Ok(Self { bind: bind.map(str::to_owned), port, host: host.to_owned(), host_port })
    }
}

/// The words between the colons; those in brackets may contain colons, and lose the brackets.
fn split(text: &str) -> Option<Vec<&str>> {
    let (mut words, mut rest) = (Vec::new(), text);
    loop {
        let word;
        (word, rest) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']')?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        if word.contains(['[', ']']) {
            return None;
        }
        words.push(word);
        match rest.strip_prefix(':') {
            Some(next) => rest = next,
            None => return rest.is_empty().then_some(words),
        }
    }
}

impl Forward {
    /// The target, for messages.
    pub fn target(&self) -> String {
        address(&self.host, self.host_port)
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let bind = self.bind.as_deref().unwrap_or("localhost");
        write!(f, "{} to {}", address(bind, self.port), self.target())
    }
}

/// `host:port`, or `[address]:port` for IPv6.
pub fn address(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// `user@host`: who logs in where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub user: String,
    pub host: String,
}

impl FromStr for Destination {
    type Err = String;

    /// Both also become a part of the name of a file (the lock), so they have neither slashes nor leading dots or dashes.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} does not say who logs in where; write USER@HOST");
        let (user, host) = text.rsplit_once('@').ok_or_else(wrong)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let fits = |word: &str, also: &[u8]| {
            let begins = !word.starts_with(['-', '.']);
            let rest = |byte: u8| byte.is_ascii_alphanumeric() || also.contains(&byte);
            begins && !word.is_empty() && word.len() <= MAX_WORD && word.bytes().all(rest)
        };
        match fits(user, b"._-") && fits(host, b"._-:%") {
            true => Ok(Self { user: user.to_owned(), host: host.to_owned() }),
            false => Err(wrong()),
        }
    }
}

/// Longest user's name and host name: less than a file's name may have (255), of which they become a part.
const MAX_WORD: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(bind: Option<&str>, port: u16, host: &str, host_port: u16) -> Forward {
        Forward { bind: bind.map(str::to_owned), port, host: host.to_owned(), host_port }
    }

    #[test]
    fn as_ssh_writes_them() {
        for (text, expected, shown) in [
            ("8080:localhost:80", forward(None, 8080, "localhost", 80), "localhost:8080 to localhost:80"),
            ("0:db:5432", forward(None, 0, "db", 5432), "localhost:0 to db:5432"),
            ("*:80:10.0.0.1:81", forward(Some("*"), 80, "10.0.0.1", 81), "*:80 to 10.0.0.1:81"),
            ("[::1]:80:[2001:db8::1]:81", forward(Some("::1"), 80, "2001:db8::1", 81), "[::1]:80 to [2001:db8::1]:81"),
        ] {
            let parsed: Forward = text.parse().unwrap();
            assert_eq!((&parsed, parsed.to_string().as_str()), (&expected, shown), "{text}");
        }
    }

    #[test]
    fn mistakes() {
        for (text, why) in [
            ("", "three or four"),
            ("80", "three or four"),
            ("80:host", "three or four"),
            ("80:::1:22", "three or four"),
            ("80:host:22:", "no port"),
            ("80::22", "no address"),
            (":80:host:22", "no address"),
            ("80:ho st:22", "no address"),
            ("80:host:0", "port 0"),
            ("+80:host:22", "no port"),
            ("65536:host:22", "no port"),
            ("80:[::1:22", "bracket"),
            ("80:[::1]x:22", "bracket"),
            ("80:a[::1]:22", "bracket"),
        ] {
            let error = text.parse::<Forward>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn who_logs_in_where() {
        let ok = |text: &str| text.parse::<Destination>().map(|to| (to.user, to.host)).ok();
        assert_eq!(ok("me@hub.example"), Some(("me".into(), "hub.example".into())));
        assert_eq!(ok("me@[2001:db8::1]"), Some(("me".into(), "2001:db8::1".into())));
        for text in ["", "hub", "@hub", "me@", "me@../x", "me@a/b", "-me@hub", "me@-hub", "me@.", "m e@hub"] {
            assert_eq!(ok(text), None, "{text}");
        }
    }
}
