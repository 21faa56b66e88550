//! What the environment of an `askpass` says, and what the end of its `cryptsetup` means. Pure.
//!
//! cryptsetup 2.6.1 and 2.8 in Debian: `setup_mapping()` in `initramfs/scripts/local-top/cryptroot`, `run_keyscript()`
//! in `debian/functions`, and the keyscripts in `debian/scripts`.

use super::super::{Kind, Question, Stage, Verdict, next_id};

/// `tries=` when crypttab doesn't say (`setup_mapping()`).
const DEFAULT_TRIES: u32 = 3;

/// One `askpass`, as its environment describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `CRYPTTAB_NAME`
    pub volume: String,
    /// `CRYPTTAB_SOURCE`, resolved to a device by the script.
    device: Option<String>,
    /// `CRYPTTAB_TRIED`: how many answers were refused in this round.
    tried: u32,
    /// `CRYPTTAB_OPTION_tries`; `None` when it asks for ever.
    tries: Option<u32>,
    kind: Kind,
    message: String,
}

impl Asked {
    /// `variable` reads the environment, `prompt` is the one argument. `None` when this is not about a volume.
    pub fn new(variable: impl Fn(&str) -> Option<String>, prompt: Option<String>) -> Option<Self> {
        let volume = variable("CRYPTTAB_NAME").filter(|name| !name.is_empty())?;
        let number = |name| variable(name).and_then(|text| text.parse::<u32>().ok());
        let tries = match variable("CRYPTTAB_OPTION_tries").map(|text| text.parse::<i64>()) {
            // The script counts up to it, and `-le 0` is no limit.
            Some(Ok(tries)) => u32::try_from(tries).ok().filter(|&tries| tries > 0),
            _ => Some(DEFAULT_TRIES),
        };
        let message = prompt.unwrap_or_else(|| format!("Please unlock disk {volume}:"));
        Some(Self {
            device: variable("CRYPTTAB_SOURCE"),
            tried: number("CRYPTTAB_TRIED").unwrap_or(0),
            tries,
            kind: kind(variable("CRYPTTAB_OPTION_keyscript").as_deref()),
            message: message.trim().replace(char::is_control, "\u{fffd}"),
            volume,
        })
    }

    pub fn question(&self) -> Question {
        Question {
            id: next_id(),
            kind: self.kind,
            stage: Stage::Asking,
            volume: Some(self.volume.clone()),
            device: self.device.clone(),
            message: self.message.clone(),
            tries_used: self.tried,
            tries_left: self.left(self.tried),
            source: "askpass".into(),
        }
    }

    /// What it means that `cryptsetup` ended without a volume. The script asks again after a second, or gives up; then
    /// initramfs-tools runs it anew (`local-block`) while it waits for the root, and the question comes back.
    pub fn refused(&self) -> Verdict {
        match self.left(self.tried.saturating_add(1)) {
            Some(0) => Verdict::GaveUp,
            tries_left => Verdict::Wrong { tries_left },
        }
    }

    fn left(&self, used: u32) -> Option<u32> {
        Some(self.tries?.saturating_sub(used))
    }
}

/// What is asked for. A keyscript that asks by `askpass` wants what opens its own key, and may be a smart card, which
/// locks itself after some wrong PINs: that is answered only when it is named. `decrypt_keyctl` only keeps the
/// passphrase of the volume for others.
fn kind(keyscript: Option<&str>) -> Kind {
    match keyscript.map(|script| script.rsplit('/').next().unwrap_or(script)) {
        None | Some("" | "askpass" | "decrypt_keyctl") => Kind::Passphrase,
        Some(_) => Kind::Pin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(environment: &str) -> Option<Asked> {
        let variable = |name: &str| {
            environment.split(' ').find_map(|word| Some(word.strip_prefix(&format!("{name}="))?.to_owned()))
        };
        Asked::new(variable, Some("Please unlock disk x: ".into()))
    }

    #[test]
    fn tries_are_counted_as_the_script_does() {
        for (environment, used, left, refused) in [
            ("CRYPTTAB_NAME=x", 0, Some(3), Verdict::Wrong { tries_left: Some(2) }),
            ("CRYPTTAB_NAME=x CRYPTTAB_TRIED=1", 1, Some(2), Verdict::Wrong { tries_left: Some(1) }),
            ("CRYPTTAB_NAME=x CRYPTTAB_TRIED=2", 2, Some(1), Verdict::GaveUp),
            ("CRYPTTAB_NAME=x CRYPTTAB_TRIED=0 CRYPTTAB_OPTION_tries=1", 0, Some(1), Verdict::GaveUp),
            ("CRYPTTAB_NAME=x CRYPTTAB_TRIED=9 CRYPTTAB_OPTION_tries=0", 9, None, Verdict::Wrong { tries_left: None }),
            ("CRYPTTAB_NAME=x CRYPTTAB_TRIED=9 CRYPTTAB_OPTION_tries=-1", 9, None, Verdict::Wrong { tries_left: None }),
        ] {
            let asked = asked(environment).expect(environment);
            let question = asked.question();
            assert_eq!((question.tries_used, question.tries_left), (used, left), "{environment}");
            assert_eq!(asked.refused(), refused, "{environment}");
        }
    }

    #[test]
    fn what_is_asked_for() {
        for (environment, kind) in [
            ("CRYPTTAB_NAME=x", Kind::Passphrase),
            ("CRYPTTAB_NAME=x CRYPTTAB_OPTION_keyscript=/lib/cryptsetup/askpass", Kind::Passphrase),
            ("CRYPTTAB_NAME=x CRYPTTAB_OPTION_keyscript=/lib/cryptsetup/scripts/decrypt_keyctl", Kind::Passphrase),
            ("CRYPTTAB_NAME=x CRYPTTAB_OPTION_keyscript=/lib/cryptsetup/scripts/decrypt_opensc", Kind::Pin),
            ("CRYPTTAB_NAME=x CRYPTTAB_OPTION_keyscript=/lib/cryptsetup/scripts/decrypt_gnupg", Kind::Pin),
        ] {
            assert_eq!(asked(environment).unwrap().question().kind, kind, "{environment}");
        }
        assert_eq!(asked("CRYPTTAB_SOURCE=/dev/vda"), None);
        let question = asked("CRYPTTAB_NAME=x CRYPTTAB_SOURCE=/dev/vda2").unwrap().question();
        assert_eq!((question.device.as_deref(), &*question.message), (Some("/dev/vda2"), "Please unlock disk x:"));
    }
}
