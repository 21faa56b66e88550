//! The one place that runs `cryptsetup`, and what its command lines mean.
//!
//! cryptsetup(8), cryptsetup-open(8); exit statuses: 0 opened, 1 wrong parameters, 2 no permission (bad passphrase), 3
//! out of memory, 4 wrong device, 5 device already exists or busy. Tried with 2.6.1.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::secret::Secret;

/// One-letter options that take a value.
const SHORT_WITH_VALUE: &[u8] = b"IMSTbcdhilopst";
/// Long options that take a value and may stand before an `open`.
#[rustfmt::skip]
const LONG_WITH_VALUE: &[&str] = &[
    "cipher", "device-size", "external-tokens-path", "hash", "header", "integrity", "key-description", "key-file",
    "key-size", "key-slot", "keyfile-offset", "keyfile-size", "link-vk-to-keyring", "master-key-file", "offset",
    "priority", "sector-size", "size", "skip", "timeout", "token-id", "token-type", "tries", "type", "veracrypt-pim",
    "volume-key-file", "volume-key-keyring",
];

/// What a `cryptsetup` that asks for a passphrase was told to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub device: String,
    pub volume: String,
    /// `luks`, `plain`, … in lower case.
    format: String,
    /// It asks for the PIN of a token, or may do so before it asks for a passphrase.
    pub asks_for_a_pin: bool,
    /// The arguments without what is about asking.
    arguments: Vec<OsString>,
}

/// What became of a `cryptsetup` of ours.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// By its own account.
    Yes,
    /// No key slot takes this passphrase.
    WrongPassphrase,
    /// It did not come to a trial, or that can't be known. Its last words.
    Failed(String),
    /// It took longer than allowed, and was ended.
    TooLate,
}

impl Opening {
    /// `None` when these arguments (the program's name first) open nothing, or need nobody to ask.
    pub fn parse(arguments: &[OsString]) -> Option<Self> {
        let words = Words::sort(arguments.get(1..)?);
        if words.asks && !words.piped { Self::understand(words) } else { None }
    }

    /// The same of a `cryptsetup` that waits for another program to write the passphrase into its standard input
    /// (`--key-file=-`).
    pub fn parse_piped(arguments: &[OsString]) -> Option<Self> {
        let words = Words::sort(arguments.get(1..)?);
        if words.asks && words.piped { Self::understand(words) } else { None }
    }

    fn understand(Words { kept, plain, format, token, .. }: Words) -> Option<Self> {
        let [action, operands @ ..] = &plain[..] else { return None };
        let operand = |index: usize| operands.get(index).cloned();
        // What has no name for the volume only tests a passphrase.
        let (format, device, volume) = match action.as_str() {
            "open" => (format.unwrap_or_else(|| "luks".into()), operand(0)?, operand(1)?),
            "create" => ("plain".into(), operand(1)?, operand(0)?),
            other => (other.strip_suffix("Open")?.to_owned(), operand(0)?, operand(1)?),
        };
        Some(Self { device, volume, format, asks_for_a_pin: token, arguments: kept })
    }

    /// Whether the bytes of a passphrase mean the same from a pipe as from a terminal, and a wrong one is noticed. Not
    /// so for `plain` (hashed from the terminal, raw from a pipe, and everything fits), nor for TrueCrypt and loop-AES,
    /// nor for the PIN of a token, which is read from the terminal whatever the key file is.
    pub fn takes_a_pipe(&self) -> bool {
        !self.asks_for_a_pin && matches!(self.format.as_str(), "luks" | "luks1" | "luks2" | "bitlk" | "fvault2")
    }

    pub fn format(&self) -> &str {
        &self.format
    }

    /// Opens the volume with `secret`, as the one that asks would: same program, same arguments, its `PATH`.
    pub async fn open(&self, program: &Path, path: Option<OsString>, secret: &Secret, limit: Duration) -> Opened {
        let mut command = Command::new(program);
        command.args(["-T1", "--key-file=-"]).args(&self.arguments).env_clear().envs(path.map(|path| ("PATH", path)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        match timeout(limit, run(command, secret)).await {
            Ok(Ok((status, last_words))) => verdict(status, last_words),
            Ok(Err(error)) => Opened::Failed(format!("{} can't be run: {error}", program.display())),
            Err(_) => Opened::TooLate,
        }
    }
}

/// Exit status and last line on standard error.
async fn run(mut command: Command, secret: &Secret) -> io::Result<(ExitStatus, String)> {
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading, and its exit status says why.
        drop(stdin.write_all(secret.expose()).await);
    }
    let output = child.wait_with_output().await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    Ok((output.status, last.to_owned()))
}

fn verdict(status: ExitStatus, last_words: String) -> Opened {
    match status.code() {
        Some(0) => Opened::Yes,
        Some(2) => Opened::WrongPassphrase,
        _ if last_words.is_empty() => Opened::Failed(format!("cryptsetup ended with {status}")),
        _ => Opened::Failed(format!("cryptsetup says: {last_words}")),
    }
}

/// A command line, taken apart as popt does.
#[derive(Default)]
struct Words {
    /// Everything but what is about asking.
    kept: Vec<OsString>,
    /// What is no option: the action and its operands.
    plain: Vec<String>,
    format: Option<String>,
    /// To open something.
    asks: bool,
    /// A token is to be used, and its PIN asked for if it has one. Without these options a token with a PIN is passed
    /// over (`action_open_luks()` in cryptsetup's `src/cryptsetup.c`, 2.6.1).
    token: bool,
    /// Standard input is the key file, up to its end.
    piped: bool,
}

impl Words {
    fn sort(arguments: &[OsString]) -> Self {
        let mut words = Self { asks: true, ..Self::default() };
        let mut rest = arguments.iter();
        let mut options_end = false;
        while let Some(word) = rest.next() {
            let bytes = word.as_bytes();
            if options_end || bytes == b"-" || !bytes.starts_with(b"-") {
                words.plain.push(word.to_string_lossy().into_owned());
                words.kept.push(word.clone());
            } else if bytes == b"--" {
                options_end = true;
                words.kept.push(word.clone());
            } else if let Some(long) = bytes.strip_prefix(b"--") {
                words.long(word, &String::from_utf8_lossy(long), || rest.next());
            } else {
                words.short(&bytes[1..], || rest.next());
            }
        }
        words
    }

    fn long<'a>(&mut self, word: &OsStr, option: &str, next: impl FnOnce() -> Option<&'a OsString>) {
        let (name, attached) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let separate = if attached.is_none() && LONG_WITH_VALUE.contains(&name) { next() } else { None };
        let value = attached.map(str::to_owned).or_else(|| Some(separate?.to_string_lossy().into_owned()));
        match name {
            "tries" | "timeout" | "verify-passphrase" => return,
            "key-file" if value.as_deref() == Some("-") => {
                self.piped = true;
                return;
            }
            "key-file" | "master-key-file" | "volume-key-file" | "volume-key-keyring" => self.asks = false,
            "token-only" | "token-id" | "token-type" => self.token = true,
            // It opens nothing.
            "test-passphrase" => self.asks = false,
            "type" => self.format = value.map(|value| value.to_lowercase()),
            _ => {}
        }
        self.kept.push(word.to_owned());
        self.kept.extend(separate.cloned());
    }

    fn short<'a>(&mut self, letters: &[u8], next: impl FnOnce() -> Option<&'a OsString>) {
        let with_value = letters.iter().position(|letter| SHORT_WITH_VALUE.contains(letter));
        let flags = &letters[..with_value.unwrap_or(letters.len())];
        for &flag in flags.iter().filter(|&&flag| flag != b'y') {
            self.kept.push(OsString::from_vec(vec![b'-', flag]));
        }
        let Some(at) = with_value else { return };
        let attached = &letters[at + 1..];
        let value = if attached.is_empty() { next().cloned() } else { Some(OsStr::from_bytes(attached).to_owned()) };
        match letters[at] {
            b'T' | b't' => return,
            b'd' if value.as_ref().is_some_and(|value| value == "-") => {
                self.piped = true;
                return;
            }
            b'd' => self.asks = false,
            b'M' => self.format = value.as_ref().map(|value| value.to_string_lossy().to_lowercase()),
            _ => {}
        }
        self.kept.push(OsString::from_vec(vec![b'-', letters[at]]));
        self.kept.extend(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Opening> {
        Opening::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    /// Rows: command line; device, volume, format and what is kept of it.
    #[test]
    fn understands_what_asks() {
        #[rustfmt::skip]
        let cases = [
            // dracut 059, cryptroot-ask.sh
            ("/sbin/cryptsetup --allow-discards luksOpen -T5 -t 0 /dev/vda2 luks-1", "/dev/vda2", "luks-1", "luks", "--allow-discards luksOpen /dev/vda2 luks-1"),
            ("cryptsetup --header=/h luksOpen -T1 /dev/vda2 luks-1", "/dev/vda2", "luks-1", "luks", "--header=/h luksOpen /dev/vda2 luks-1"),
            // mkinitcpio's encrypt
            ("cryptsetup open --type luks /dev/sda cryptroot --allow-discards", "/dev/sda", "cryptroot", "luks", "open --type luks /dev/sda cryptroot --allow-discards"),
            ("cryptsetup open /dev/sda root", "/dev/sda", "root", "luks", "open /dev/sda root"),
            ("cryptsetup -qvT 5 --timeout 60 --tries=2 -M LUKS2 open -- /dev/sda root", "/dev/sda", "root", "luks2", "-q -v -M LUKS2 open -- /dev/sda root"),
            ("cryptsetup --header /h -yS1 open /dev/sda root", "/dev/sda", "root", "luks", "--header /h -S 1 open /dev/sda root"),
            ("cryptsetup create swap /dev/sdb", "/dev/sdb", "swap", "plain", "create swap /dev/sdb"),
            ("cryptsetup tcryptOpen /dev/sdb t", "/dev/sdb", "t", "tcrypt", "tcryptOpen /dev/sdb t"),
        ];
        for (line, device, volume, format, kept) in cases {
            let opening = parse(line).expect(line);
            let found = (&*opening.device, &*opening.volume, opening.format());
            assert_eq!(found, (device, volume, format), "{line}");
            assert_eq!(opening.arguments.join(OsStr::new(" ")), kept, "{line}");
        }
    }

    #[test]
    fn passes_over_what_asks_for_nothing_to_open() {
        for line in [
            "",
            "cryptsetup",
            "cryptsetup luksOpen",
            "cryptsetup luksDump /dev/sda",
            "cryptsetup luksFormat /dev/sda",
            "cryptsetup -d - luksOpen /dev/sda root",
            "cryptsetup -d/key luksOpen /dev/sda root",
            "cryptsetup open --key-file=- /dev/sda root",
            "cryptsetup open --key-file /key /dev/sda root",
            "cryptsetup open --test-passphrase /dev/sda root",
            "cryptsetup open --test-passphrase /dev/sda",
            "cryptsetup open /dev/sda",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_token_may_ask_for_its_pin() {
        for (line, pin) in [
            ("cryptsetup open /dev/sda root", false),
            ("cryptsetup -T1 open --token-only /dev/sda root", true),
            ("cryptsetup open --token-id 0 /dev/sda root", true),
            ("cryptsetup open --token-id=0 /dev/sda root", true),
            ("cryptsetup open --token-type systemd-tpm2 /dev/sda root", true),
        ] {
            let opening = parse(line).unwrap();
            let found = (&*opening.device, &*opening.volume, opening.asks_for_a_pin, opening.takes_a_pipe());
            assert_eq!(found, ("/dev/sda", "root", pin, !pin), "{line}");
        }
    }

    #[test]
    fn understands_what_waits_for_a_pipe() {
        let parse = |line: &str| Opening::parse_piped(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        // unlock_mapping() in debian/functions of cryptsetup 2.6.1
        let opening =
            parse("/sbin/cryptsetup -T1 --allow-discards --type=luks --key-file=- open -- /dev/vda root").unwrap();
        assert_eq!((&*opening.device, &*opening.volume, opening.format()), ("/dev/vda", "root", "luks"));
        assert_eq!(opening.arguments.join(OsStr::new(" ")), "--allow-discards --type=luks open -- /dev/vda root");
        assert!(parse("cryptsetup -d - luksOpen /dev/vda root").is_some());
        for line in [
            "cryptsetup open /dev/vda root",
            "cryptsetup --key-file=/key open /dev/vda root",
            "cryptsetup --key-file=-",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_pipe_is_no_terminal_for_every_format() {
        for (line, pipe) in [
            ("cryptsetup open /dev/sda root", true),
            ("cryptsetup open --type=bitlk /dev/sda root", true),
            ("cryptsetup open --type plain /dev/sda root", false),
            ("cryptsetup plainOpen /dev/sda root", false),
            ("cryptsetup tcryptOpen /dev/sda root", false),
        ] {
            assert_eq!(parse(line).unwrap().takes_a_pipe(), pipe, "{line}");
        }
    }
}
