//! A `plymouth ask-for-password --command=…` that waits: dracut without systemd, with plymouth.
//!
//! plymouth's daemon has no request that tells or answers the question of another client, so it is answered below it: we
//! run the command of the client with the passphrase on a pipe, as the client would (`answer_via_command` in plymouth's
//! `src/client/plymouth.c`), and end the client. dracut 059's `ask_for_password` (`90crypt/crypt-lib.sh`) calls that a
//! wrong password, which its caller `cryptroot-ask` ignores; dracut goes on as the volume's device is there. plymouth's
//! daemon keeps the question of the dead client on its screen until it quits, or somebody presses Enter: it forgets
//! questions only when they are answered at its keyboard (`src/main.c` of 22.02 and 24.004).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::Question;
use super::cryptsetup::Opening;
use super::process::{self, Process};
use super::recipe::Recipe;
use crate::root::Root;

/// Where the client sleeps while its daemon asks (epoll_wait(2)); while it waits for its command, it is elsewhere.
const ASKING: [&str; 3] = ["ep_poll", "do_epoll_wait", "epoll_wait"];

/// The program of the client and what it is to open; `None` when these arguments (the client's name first) ask for something else.
pub fn parse(arguments: &[OsString]) -> Option<(OsString, Opening)> {
    let command = command(arguments)?;
    let opening = Opening::parse(&command)?;
    Some((command.into_iter().next()?, opening))
}

/// The words of `--command`: separated by blanks, without quoting (`split_string` in the client).
fn command(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let mut rest = arguments.iter().skip(1);
    rest.find(|word| *word == "ask-for-password" || *word == "--ask-for-password")?;
    while let Some(word) = rest.next() {
        let command = match word.as_bytes().strip_prefix(b"--command") {
            Some(b"") => rest.next()?.as_bytes(),
            Some([b'=', attached @ ..]) => attached,
            _ => continue,
        };
        let words = command.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        return Some(words.map(|word| OsString::from_vec(word.to_vec())).collect());
    }
    None
}

/// The question, in the words that dracut gives to plymouth's screen.
pub fn question(recipe: &Recipe) -> Question {
    let asked = recipe.question("plymouth");
    let message = format!("Password ({})", asked.device.as_deref().unwrap_or_default());
    Question { message: message.replace(char::is_control, "\u{fffd}"), ..asked }
}

/// Whether the client's question is open. When plymouth's daemon can't ask, the client lets its command do so on the
/// terminal, and then that is the one to look at.
pub fn waits(root: &Root, client: &Process) -> bool {
    match process::sleeps_in(root, client.pid) {
        Some(function) => ASKING.iter().any(|name| function.starts_with(name)),
        None => process::sleeps(root, client.pid), // the kernel doesn't tell more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn understands_the_client_of_dracut() {
        // dracut 059, crypt-lib.sh and cryptroot-ask.sh
        let asks = "--command=/sbin/cryptsetup  luksOpen -T1 /dev/vda2 luks-1";
        let line =
            words(&["plymouth", "ask-for-password", "--prompt", "Password (/dev/vda2)", "--number-of-tries=5", asks]);
        let (program, opening) = parse(&line).unwrap();
        assert_eq!(program, "/sbin/cryptsetup");
        assert_eq!((&*opening.device, &*opening.volume), ("/dev/vda2", "luks-1"));
        let line = words(&["/bin/plymouth", "ask-for-password", "--command", "cryptsetup open /dev/a b"]);
        assert_eq!(parse(&line).unwrap().1.volume, "b");
    }

    #[test]
    fn passes_over_other_clients() {
        for line in [
            &["plymouth", "--ping"][..],
            &["plymouth", "show-splash", "--command=cryptsetup open /dev/a b"],
            &["plymouth", "ask-for-password", "--prompt=x"],
            &["plymouth", "ask-for-password", "--command"],
            &["plymouth", "ask-for-password", "--command="],
            &["plymouth", "ask-for-password", "--command=zfs load-key pool"],
            &["plymouth", "ask-for-password", "--command=cryptsetup open --key-file=/k /dev/a b"],
            &[],
        ] {
            assert!(parse(&words(line)).is_none(), "{line:?}");
        }
    }
}
