//! `[[notify]]` of the configuration: who is told over HTTP that the machine waits, and what became of it. Pure.
//!
//! An entry with a mistake tells nobody; all others are as they were.

use super::network::entry::{self, Entry};
use crate::secret::Secret;

/// Longer than somebody at the console needs to type a passphrase, so that they aren't told what they see.
pub const DEFAULT_AFTER_SECONDS: u64 = 60;
/// A day: nobody who is told later than that is told in time.
const MAX_AFTER_SECONDS: u64 = 86_400;
/// Each has its own task and, at times, a process.
const MAX_ENTRIES: usize = 8;
/// Longest URL, in bytes. Servers take about 8000 in a request line (RFC 9112 section 3).
const MAX_URL: usize = 2000;
/// Longest token or set of headers, in bytes; servers take about 8000 in all headers.
const MAX_HEADERS: usize = 4096;
/// Headers that we write ourselves, or that would change what the body is taken for.
const OURS: [&str; 9] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "trailer", "content-type"];
/// Bytes of a SHA-256.
pub const DIGEST: usize = 32;

/// Where bundles of the usual authorities are: Debian and Arch, Fedora. The first that exists counts.
pub const BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Where it stands, for a person.
    pub place: String,
    pub url: Url,
    pub kind: Kind,
    /// Content: one token. See [`Notify::headers`] for how it is sent.
    pub token_file: Option<String>,
    /// Content: more headers, one in a line.
    pub headers_file: Option<String>,
    /// How long a question has to be open, in seconds.
    pub after: u64,
    pub on: Events,
    pub trust: Trust,
}

/// What the body looks like, and how a token is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Text, with title and priority in headers (<https://docs.ntfy.sh/publish/>).
    Ntfy,
    /// JSON of Gotify's (<https://gotify.net/docs/pushmsg>).
    Gotify,
    /// JSON of ours; see docs/notify.md.
    #[default]
    Webhook,
}

/// What somebody is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    pub waiting: bool,
    pub failed: bool,
    pub unlocked: bool,
}

/// How the server of an https URL proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By a certificate of an authority in this file (PEM); `None`: in the first of [`BUNDLES`].
    Authorities(Option<String>),
    /// By this certificate, or this public key (its SubjectPublicKeyInfo): the SHA-256 of its DER encoding.
    Pinned([u8; DIGEST]),
}

/// `http://HOST[:PORT]/PATH[?QUERY]`. The path may be as good as a password, and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    pub tls: bool,
    /// A name or an address; of IPv6 in brackets.
    pub host: String,
    pub port: u16,
    /// Path and query, with the leading slash.
    pub target: String,
}

impl Url {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            _ => return Err("this begins with neither http:// nor https://".to_owned()),
        };
        if text.len() > MAX_URL {
            return Err(format!("it is longer than {MAX_URL} bytes"));
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') {
            return Err("there is a space, a #, or a letter outside of ASCII in it; write these as %XX".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("it has a user or password; put what the server wants into headers-file".to_owned());
        }
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0).ok_or("its port is no port")?),
            None => (authority, if tls { 443 } else { 80 }),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            }
        };
        if !is_host {
            return Err("its host is neither a name nor an address (IPv6 in brackets)".to_owned());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { tls, host: host.to_owned(), port, target: format!("{slash}{path}") })
    }

    /// Scheme and host, which is all of it that may be shown.
    pub fn shown(&self) -> String {
        format!("{}://{}", self.scheme(), self.host)
    }

    /// For the header `Host` (RFC 9110 section 7.2).
    pub fn host_and_port(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}/…", self.shown())
    }
}

impl Notify {
    /// The lines of the request's head that nobody else may see, from the content of the two files.
    pub fn headers(&self, token: Option<&Secret>, headers: Option<&Secret>) -> Result<Secret, String> {
        let mut lines = Vec::new();
        if let Some(token) = token {
            let token = text(token, "token-file")?.trim();
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err("token-file: there is no token in it, or more than one".to_owned());
            }
            let before = if self.kind == Kind::Gotify { "X-Gotify-Key: " } else { "Authorization: Bearer " };
            lines.extend([before.as_bytes(), token.as_bytes(), b"\r\n"].concat());
        }
        if let Some(headers) = headers {
            let headers = text(headers, "headers-file")?;
            for (number, line) in headers.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                header(line).map_err(|reason| format!("headers-file: line {}: {reason}", number + 1))?;
                lines.extend([line.trim_end().as_bytes(), b"\r\n"].concat());
            }
        }
        Ok(Secret::new(lines))
    }

    /// What has no effect, or an effect that nobody wants, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let path = self.url.target.split('?').next().unwrap_or_default();
        let topic = path.trim_matches('/');
        let secret = self.token_file.is_some() || self.headers_file.is_some();
        let loopback = ["localhost", "[::1]"].contains(&self.url.host.as_str()) || self.url.host.starts_with("127.");
        let found = [
            (self.on == Events { waiting: false, failed: false, unlocked: false }, "\"on\" is empty: nothing is sent"),
            (loopback, "the server is the machine itself, where nothing runs but the initramfs"),
            (self.kind == Kind::Ntfy && topic.is_empty(), "the URL of ntfy has no topic; write https://HOST/TOPIC"),
            (
                self.kind == Kind::Gotify && !path.ends_with("/message"),
                "Gotify takes messages at https://HOST/message, and at nothing else",
            ),
            (self.kind == Kind::Gotify && !secret && !self.url.target.contains("token="), "Gotify wants a token-file"),
            (secret && !self.url.tls, "what the files hold is sent over http, readable by everybody on the way"),
        ];
        let found = found.into_iter().filter(|(wrong, _)| *wrong);
        found.map(|(_, what)| format!("{} ({}): {what}", self.place, self.url.shown())).collect()
    }
}

/// All entries of a machine with this `config.toml`, and a sentence for each mistake. `tls`: whether this program has it.
pub fn read(text: &str, tls: bool) -> (Vec<Notify>, Vec<String>) {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    let Some(file) = entry::parse(text) else {
        return (all, problems); // that the file is no TOML is told by whoever reads the settings
    };
    for table in Entry::sections(&file, "notify", text) {
        let mut entry = match table {
            Ok(entry) => entry,
            Err(reason) => {
                problems.push(reason);
                continue;
            }
        };
        if all.len() == MAX_ENTRIES {
            entry.problem("url", &format!("there are more than {MAX_ENTRIES} entries; remove some"));
        }
        let notify = read_entry(&mut entry, tls);
        let wrong = entry.finish();
        all.extend(notify.filter(|_| wrong.is_empty()));
        problems.extend(wrong.into_iter().map(|reason| format!("{reason}; nobody is told by this entry")));
    }
    (all, problems)
}

fn read_entry(entry: &mut Entry, tls: bool) -> Option<Notify> {
    let place = entry.place();
    let url = entry.required("url", Url::parse);
    if url.as_ref().is_some_and(|url| url.tls) && !tls {
        let what = "this vestibule was built without TLS; build it with FEATURES=tls make build, or write http://";
        entry.problem("url", what);
    }
    let kind = entry.one("kind", |text| match text {
        "ntfy" => Ok(Kind::Ntfy),
        "gotify" => Ok(Kind::Gotify),
        "webhook" => Ok(Kind::Webhook),
        _ => Err(format!("“{text}” is not known; write ntfy, gotify or webhook")),
    });
    let (token_file, headers_file) = (entry.one("token-file", path), entry.one("headers-file", path));
    let after = entry.one("after", |text| {
        let seconds = text.parse().ok().filter(|seconds| *seconds <= MAX_AFTER_SECONDS);
        seconds.ok_or_else(|| format!("“{text}” is no number of seconds up to {MAX_AFTER_SECONDS}"))
    });
    let on = entry.has("on").then(|| events(&entry.list("on", event)));
    let (pin, ca) = (entry.one("pin", pin), entry.one("ca", path));
    for key in ["pin", "ca"] {
        if entry.has(key) && url.as_ref().is_some_and(|url| !url.tls) {
            entry.problem(key, "this is for https:// only");
        }
    }
    if pin.is_some() && ca.is_some() {
        entry.problem("ca", "what is pinned needs no authority; remove pin or ca");
    }
    Some(Notify {
        place,
        url: url?,
        kind: kind.unwrap_or_default(),
        token_file,
        headers_file,
        after: after.unwrap_or(DEFAULT_AFTER_SECONDS),
        on: on.unwrap_or(Events { waiting: true, failed: true, unlocked: true }),
        trust: pin.map_or(Trust::Authorities(ca), Trust::Pinned),
    })
}

fn event(text: &str) -> Result<String, String> {
    match text {
        "waiting" | "failed" | "unlocked" => Ok(text.to_owned()),
        _ => Err(format!("“{text}” is not known; there are waiting, failed and unlocked")),
    }
}

fn events(names: &[String]) -> Events {
    let has = |name: &str| names.iter().any(|it| it == name);
    Events { waiting: has("waiting"), failed: has("failed"), unlocked: has("unlocked") }
}

/// 64 hexadecimal digits, with or without colons, as openssl(1) prints a fingerprint.
fn pin(text: &str) -> Result<[u8; DIGEST], String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        "this is no SHA-256 in hexadecimal, as \"openssl x509 -noout -fingerprint -sha256\" prints it".to_owned()
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// What is mounted over in an initramfs.
const HIDDEN: [&str; 5] = ["/run/", "/tmp/", "/dev/", "/proc/", "/sys/"];

/// It is copied into the image, to the same place. Tabs and line ends would break the list of what is. The reason doesn't
/// repeat the text: it may be the token itself, by mistake.
fn path(text: &str) -> Result<String, String> {
    if HIDDEN.iter().any(|directory| text.starts_with(directory)) {
        return Err("that directory is another one in the initramfs; put the file below /etc".to_owned());
    }
    match text.starts_with('/') && !text.contains(char::is_control) && text.split('/').all(|part| part != "..") {
        true => Ok(text.to_owned()),
        false => Err("that is no path from / on without \"..\"".to_owned()),
    }
}

fn text<'a>(secret: &'a Secret, what: &str) -> Result<&'a str, String> {
    match std::str::from_utf8(secret.expose()) {
        _ if secret.len() > MAX_HEADERS => Err(format!("{what}: it is longer than {MAX_HEADERS} bytes")),
        Ok(text) => Ok(text),
        Err(_) => Err(format!("{what}: it is no text")),
    }
}

/// `Name: value`; RFC 9110 sections 5.1 and 5.5. The reason tells nothing of the value.
fn header(line: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let visible = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    match line.split_once(':') {
        Some((name, _)) if OURS.contains(&name.to_ascii_lowercase().as_str()) => {
            Err(format!("the header {name} is not yours to set"))
        }
        Some((name, value)) if !name.is_empty() && name.bytes().all(token) && value.bytes().all(visible) => Ok(()),
        _ => Err("this is no header; write Name: value".to_owned()),
    }
}

#[cfg(test)]
mod tests;
