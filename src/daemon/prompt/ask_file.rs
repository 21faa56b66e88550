//! `ask.*` files, as systemd's password agents read them. Pure.
//!
//! Format: `docs/PASSWORD_AGENTS.md` and `ask_password_agent()` in `src/shared/ask-password-api.c` of systemd 252 and
//! 257. Whoever writes below `/run/systemd/ask-password` is root, but root's files can be stale, half-written or from
//! another program, so nothing in them is trusted to be well-formed.

use std::fmt;
use std::path::PathBuf;

/// Longest `ask.*` file that is read, in bytes. Real ones have about 300.
pub const MAX_LEN: usize = 16 * 1024;
/// `sun_path` holds 108 bytes, the final NUL included (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// One question, as its asker wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub pid: i32,
    /// Absolute; a datagram socket.
    pub socket: PathBuf,
    /// Whether an answer from the kernel keyring would be taken. systemd-cryptsetup sets it for its first question only.
    pub accept_cached: bool,
    /// When the asker stops waiting, in µs of CLOCK_MONOTONIC.
    pub not_after: Option<u64>,
    /// Control characters are replaced.
    pub message: String,
    pub id: Option<String>,
}

/// Why a file is not a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    TooLong,
    Missing(&'static str),
    Unusable(&'static str),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it has more than {MAX_LEN} bytes"),
            Self::Missing(key) => write!(f, "section [Ask] has no {key}="),
            Self::Unusable(key) => write!(f, "the value of {key}= can't be used"),
        }
    }
}

impl Ask {
    /// Reads a whole file. Unknown keys and sections are ignored, as the format demands.
    pub fn parse(content: &[u8]) -> Result<Self, AskError> {
        if content.len() > MAX_LEN {
            return Err(AskError::TooLong);
        }
        let content = String::from_utf8_lossy(content);
        let value = |wanted: &str| entries(&content).filter(|(key, _)| *key == wanted).map(|(_, value)| value).last();
        let pid: i32 = number("PID", value("PID").ok_or(AskError::Missing("PID"))?)?;
        let socket = value("Socket").ok_or(AskError::Missing("Socket"))?;
        if pid < 1 {
            return Err(AskError::Unusable("PID"));
        }
        if !socket.starts_with('/') || socket.len() > MAX_SOCKET_PATH || socket.contains('\0') {
            return Err(AskError::Unusable("Socket"));
        }
        let not_after = value("NotAfter").map(|text| number::<u64>("NotAfter", text)).transpose()?;
        Ok(Self {
            pid,
            socket: socket.into(),
            accept_cached: value("AcceptCached").is_some_and(|text| matches!(text, "1" | "yes" | "true" | "on")),
            not_after: not_after.filter(|&time| time != 0),
            message: value("Message").unwrap_or_default().chars().map(printable).collect(),
            id: value("Id").filter(|id| !id.is_empty()).map(str::to_owned),
        })
    }

    /// What systemd-cryptsetup asks the passphrase of a volume for: the device. `None` for every other question, so
    /// also for PINs, which have no `Id=` or that of a token.
    pub fn disk(&self) -> Option<Disk> {
        let id = self.id.as_deref()?;
        let (escaped, verification) =
            match (id.strip_prefix("cryptsetup:"), id.strip_prefix("cryptsetup-verification:")) {
                (Some(device), _) => (device, false),
                (None, Some(device)) => (device, true),
                (None, None) => return None,
            };
        Some(Disk { device: unescape(escaped), verification })
    }
}

/// The device that a passphrase is wanted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// As crypttab names it.
    pub device: String,
    /// The passphrase is wanted a second time (crypttab's `verify`).
    pub verification: bool,
}

fn entries(content: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut inside = false;
    content.lines().map(str::trim).filter_map(move |line| {
        if line.starts_with('[') {
            inside = line == "[Ask]";
        }
        let (key, value) = line.split_once('=').filter(|_| inside && !line.starts_with(['#', ';', '[']))?;
        Some((key.trim_end(), value.trim_start()))
    })
}

fn number<T: std::str::FromStr>(key: &'static str, text: &str) -> Result<T, AskError> {
    text.parse().map_err(|_| AskError::Unusable(key))
}

fn printable(c: char) -> char {
    if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
}

/// Undoes systemd's `cescape()` (`src/basic/escape.c`); device mapper's `\xNN` is a part of it. A sequence that is none
/// stays as it is.
pub fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        match (first == b'\\').then(|| escaped(tail)).flatten() {
            Some((byte, length)) => {
                bytes.push(byte);
                rest = &tail[length..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The byte behind a backslash, and how many characters stand for it.
fn escaped(text: &[u8]) -> Option<(u8, usize)> {
    let byte = match *text.first()? {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b's' => b' ',
        same @ (b'\\' | b'"' | b'\'') => same,
        b'x' => return Some((digits(text.get(1..3)?, 16)?, 3)),
        b'0'..=b'3' => return Some((digits(text.get(..3)?, 8)?, 3)),
        _ => return None,
    };
    Some((byte, 1))
}

fn digits(text: &[u8], radix: u32) -> Option<u8> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?;
    u8::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REAL: &str = "[Ask]\nPID=412\nSocket=/run/systemd/ask-password/sck.1f\nAcceptCached=1\nEcho=0\n\
        NotAfter=0\nSilent=0\nMessage=Please enter passphrase for disk QEMU (root):\nIcon=drive-harddisk\n\
        Id=cryptsetup:/dev/disk/by-uuid/7\\x2d\\141b\n";

    #[test]
    fn reads_what_systemd_writes() {
        let ask = Ask::parse(REAL.as_bytes()).unwrap();
        assert_eq!((ask.pid, ask.accept_cached, ask.not_after), (412, true, None));
        assert_eq!(ask.socket, PathBuf::from("/run/systemd/ask-password/sck.1f"));
        assert_eq!(ask.message, "Please enter passphrase for disk QEMU (root):");
        assert_eq!(ask.disk(), Some(Disk { device: "/dev/disk/by-uuid/7-ab".into(), verification: false }));
    }

    #[test]
    fn only_an_id_of_cryptsetup_makes_a_disk() {
        let with = |id: &str| Ask::parse(format!("[Ask]\nPID=1\nSocket=/s\n{id}\n").as_bytes()).unwrap().disk();
        assert_eq!(with(""), None);
        assert_eq!(with("Id="), None);
        assert_eq!(with("Id=pkcs11:token=x"), None);
        assert_eq!(with("Id=cryptsetupper:/dev/sda"), None);
        assert!(with("Id=cryptsetup-verification:/dev/sda").unwrap().verification);
    }

    #[test]
    fn says_what_is_wrong() {
        let cases = [
            ("", AskError::Missing("PID")),
            ("PID=1\nSocket=/s\n", AskError::Missing("PID")),
            ("[Other]\nPID=1\nSocket=/s\n", AskError::Missing("PID")),
            ("[Ask]\nPID=1\n", AskError::Missing("Socket")),
            ("[Ask]\n#PID=1\nSocket=/s\n", AskError::Missing("PID")),
            ("[Ask]\nPID=one\nSocket=/s\n", AskError::Unusable("PID")),
            ("[Ask]\nPID=0\nSocket=/s\n", AskError::Unusable("PID")),
            ("[Ask]\nPID=-1\nSocket=/s\n", AskError::Unusable("PID")),
            ("[Ask]\nPID=99999999999\nSocket=/s\n", AskError::Unusable("PID")),
            ("[Ask]\nPID=1\nSocket=s\n", AskError::Unusable("Socket")),
            ("[Ask]\nPID=1\nSocket=/s\0x\n", AskError::Unusable("Socket")),
            ("[Ask]\nPID=1\nSocket=/s\nNotAfter=soon\n", AskError::Unusable("NotAfter")),
        ];
        for (content, error) in cases {
            assert_eq!(Ask::parse(content.as_bytes()), Err(error), "{content:?}");
        }
        assert_eq!(Ask::parse(&vec![b'x'; MAX_LEN + 1]), Err(AskError::TooLong));
        let long = format!("[Ask]\nPID=1\nSocket=/{}\n", "s".repeat(MAX_SOCKET_PATH));
        assert_eq!(Ask::parse(long.as_bytes()), Err(AskError::Unusable("Socket")));
    }

    #[test]
    fn a_message_steers_no_terminal() {
        let ask = Ask::parse(b"[Ask]\nPID=1\nSocket=/s\nMessage=a\x1b[2J\xff\n").unwrap();
        assert_eq!(ask.message, "a\u{fffd}[2J\u{fffd}");
    }

    #[test]
    fn unescape_leaves_what_is_no_sequence() {
        for (text, plain) in
            [("\\", "\\"), ("\\x4", "\\x4"), ("\\q", "\\q"), ("\\400", "\\400"), ("a\\sb", "a b"), ("\\x+1", "\\x+1")]
        {
            assert_eq!(unescape(text), plain);
        }
    }

    fn escape(text: &str) -> String {
        let escape = |byte: u8| match byte {
            b'\\' => "\\\\".to_owned(),
            b' '..=b'~' => (byte as char).to_string(),
            _ => format!("\\{byte:03o}"),
        };
        text.bytes().map(escape).collect()
    }

    proptest! {
        #[test]
        fn never_panics(content: Vec<u8>) {
            let _ = Ask::parse(&content);
        }

        #[test]
        fn never_panics_on_damaged_files(at in 0..REAL.len(), byte: u8, cut in 0..REAL.len()) {
            let mut content = REAL.as_bytes().to_vec();
            content[at] = byte;
            content.truncate(cut);
            let _ = Ask::parse(&content).map(|ask| ask.disk());
        }

        #[test]
        fn unescape_undoes_escape(text: String) {
            prop_assert_eq!(unescape(&escape(&text)), text);
        }
    }
}
