//! `systemd-cryptsetup attach NAME DEVICE [KEY-FILE] [OPTIONS]`, and how often it asks. Pure.
//!
//! Read in `src/cryptsetup/cryptsetup.c` of systemd 252.39 and 257.13.

use std::ffi::OsString;
use std::path::Path;

/// `arg_tries` when crypttab has no `tries=`.
const DEFAULT_TRIES: u32 = 3;
/// The first version whose first wrong passphrase is checked twice and counts as two tries: it takes the failure for
/// that of a key file that it looked for and didn't find (systemd issue 38495; unlock paths are dropped one by one since
/// 256, pull request 33197).
const FIRST_DOUBLING: u32 = 256;
/// The first version without that (pull request 42102). A stable series that has it backported takes one passphrase
/// more than we say, never fewer.
const FIRST_FIXED: u32 = 261;
/// Version 255 counts in a way that depends on its point release.
const UNCERTAIN: u32 = 255;

/// What one systemd-cryptsetup was started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    pub volume: String,
    pub device: String,
    /// Something is tried before anybody is asked, and may cost a try: a key file, a token, the empty passphrase.
    tries_other_ways: bool,
    /// 0: no limit. `None`: can't be read.
    tries: Option<u32>,
}

impl Attach {
    /// `None` when the arguments are not those of `systemd-cryptsetup attach`.
    pub fn parse(arguments: &[OsString]) -> Option<Self> {
        let (program, rest) = arguments.split_first()?;
        if Path::new(program).file_name()? != "systemd-cryptsetup" {
            return None;
        }
        let words: Vec<_> = rest.iter().map(|word| word.to_string_lossy()).collect();
        let at = words.iter().position(|word| word == "attach")?;
        let [volume, device, rest @ ..] = &words[at + 1..] else { return None };
        // Both may be left out by "", "-" or "none" (mangle_none()).
        let given = |index: usize| rest.get(index).filter(|word| !matches!(word.as_ref(), "" | "-" | "none"));
        let options: Vec<_> = given(1).map(|options| options.split(',').collect()).unwrap_or_default();
        let tries = options.iter().rev().find_map(|option| option.strip_prefix("tries="));
        let token = ["tpm2-device=", "fido2-device=", "pkcs11-uri=", "try-empty-password", "empty-password"];
        Some(Self {
            volume: volume.to_string(),
            device: device.to_string(),
            tries_other_ways: given(0).is_some()
                || options.iter().any(|option| token.iter().any(|name| option.starts_with(name))),
            tries: tries.map_or(Some(DEFAULT_TRIES), |tries| tries.parse().ok()),
        })
    }

    /// Where systemd-cryptsetup looks for a key file when it was given none: what it finds there is tried first, and costs
    /// a try (`find_key_file()`).
    pub fn key_files(&self) -> [String; 2] {
        ["/etc", "/run"].map(|directory| format!("{directory}/cryptsetup-keys.d/{}.key", self.volume))
    }

    /// A key file was found by itself.
    pub fn found_a_key(mut self) -> Self {
        self.tries_other_ways = true;
        self
    }

    /// How many passphrases it still takes, this question's included; `None` where there is no limit or it can't be
    /// known. `asked` counts its questions, this one included; `from_the_start` says that its first question was seen,
    /// and that no passphrase had been tried before it.
    pub fn tries_left(&self, version: Option<u32>, from_the_start: bool, asked: u32) -> Option<u32> {
        let version = version.filter(|&version| version != UNCERTAIN)?;
        let tries = self.tries.filter(|&tries| tries > 0)?;
        if self.tries_other_ways || !from_the_start {
            return None;
        }
        let questions = match version {
            FIRST_DOUBLING..FIRST_FIXED => tries.saturating_sub(1).max(1),
            _ => tries,
        };
        // Asked more often than we can explain: say nothing rather than something wrong.
        questions.checked_sub(asked.saturating_sub(1)).filter(|&left| left > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attach(line: &str) -> Option<Attach> {
        Attach::parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn knows_the_volume_and_the_device() {
        let cases = [
            ("/lib/systemd/systemd-cryptsetup attach root /dev/sda2", Some(("root", "/dev/sda2"))),
            ("/usr/bin/systemd-cryptsetup attach root /dev/sda2 none luks,tries=5", Some(("root", "/dev/sda2"))),
            ("systemd-cryptsetup attach root /dev/sda2  luks", Some(("root", "/dev/sda2"))),
            ("systemd-cryptsetup attach root", None),
            ("systemd-cryptsetup detach root /dev/sda2", None),
            ("systemd-ask-password attach root /dev/sda2", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let found = attach(line);
            assert_eq!(found.as_ref().map(|a| (a.volume.as_str(), a.device.as_str())), expected, "{line}");
        }
    }

    /// Rows: version, arguments after the device, whether seen from the start; then what is left at each question.
    #[test]
    fn counts_as_systemd_does() {
        #[rustfmt::skip]
        let cases = [
            (Some(252), "",                  true,  [Some(3), Some(2), Some(1), None]),
            (Some(252), "none tries=1",      true,  [Some(1), None, None, None]),
            (Some(252), "none luks,tries=5", true,  [Some(5), Some(4), Some(3), Some(2)]),
            (Some(252), "none tries=0",      true,  [None; 4]),
            (Some(252), "none tries=x",      true,  [None; 4]),
            (Some(252), "",                  false, [None; 4]),
            (Some(252), "/key",              true,  [None; 4]),
            (Some(252), "none tpm2-device=auto", true, [None; 4]),
            (Some(255), "",                  true,  [None; 4]),
            (Some(257), "",                  true,  [Some(2), Some(1), None, None]),
            (Some(257), "none tries=1",      true,  [Some(1), None, None, None]),
            (Some(257), "none tries=2",      true,  [Some(1), None, None, None]),
            (Some(261), "",                  true,  [Some(3), Some(2), Some(1), None]),
            (None,      "",                  true,  [None; 4]),
        ];
        for (version, arguments, from_the_start, expected) in cases {
            let attach = attach(format!("systemd-cryptsetup attach root /dev/sda2 {arguments}").trim_end()).unwrap();
            let left = [1, 2, 3, 4].map(|asked| attach.tries_left(version, from_the_start, asked));
            assert_eq!(left, expected, "{version:?} {arguments}");
        }
    }
}
