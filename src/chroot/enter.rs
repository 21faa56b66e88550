//! `vestibule chroot enter` and `exec`: a shell or a program in a chroot, for whoever is at a terminal or in a script outside.
//!
//! This process turns into the program, so the terminal, its job control, signals and the exit status need nobody in between.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::inside::Entering;
use super::{Chroot, android, mounts, tell_note};
use crate::root::Root;

/// For another that starts or stops the same chroot.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);
/// Nothing runs yet that could keep a mount busy which has just been made.
const BUSY_DEADLINE: Duration = Duration::from_secs(1);
/// The longest name of a terminal that is passed on: it becomes a part of file names inside (terminfo(5)).
const MAX_TERM: usize = 64;

/// What is to run.
pub enum Wanted {
    /// The user's login shell.
    Shell,
    /// This program, and its arguments.
    Program(Vec<OsString>),
}

/// Turns this process into it. Returns only with an error.
pub fn become_it(chroot: &mut Chroot, user: &str, wanted: Wanted, root: &Root) -> anyhow::Result<Infallible> {
    have_mounts(chroot)?;
    let network = if android::is_android(root) { android::network_groups().to_vec() } else { Vec::new() };
    let mut entering = Entering::new(&chroot.place, user, &[], &network)?
        .with_variables(&chroot.definition.environment)
        .with_variables(&terminal(std::env::var("TERM").ok()));
    let mut command = match wanted {
        Wanted::Shell => entering.login(),
        Wanted::Program(words) => {
            // Somebody else's program must not type for root, who is at the same terminal; a shell needs one.
            entering.without_terminal = entering.user.uid != 0;
            let (program, arguments) = words.split_first().context("no program is named; write it after --")?;
            entering.command(Path::new(program), arguments)
        }
    };
    Err(command.exec()).context("starting /proc/self/exe, to go into the chroot (is /proc mounted outside?)")
}

/// Those of a chroot that is not up are made and stay, as it may not be the last who enters; those of a private one go with the
/// program. In one that is up, nothing is changed.
fn have_mounts(chroot: &mut Chroot) -> anyhow::Result<()> {
    let _lock = chroot.state.lock(LOCK_DEADLINE)?;
    if chroot.join()? {
        return Ok(());
    }
    let mut notes = mounts::check_root(&chroot.place)?;
    if chroot.definition.private {
        chroot.enter_new_namespace()?;
    }
    let Chroot { definition, place, state, name } = chroot;
    let made = match mounts::make(&definition.mounts, place, state) {
        Ok(made) => made,
        Err(error) => {
            return match mounts::undo(place, state, &[], BUSY_DEADLINE) {
                Ok(_) => Err(error),
                Err(second) => Err(error.context(format!("{second:#}"))),
            };
        }
    };
    notes.extend(made.notes);
    if made.count > 0 {
        notes.push(match definition.private {
            true => format!("{name} is not up: it has its mounts for this program alone"),
            false => {
                format!("{name} was not up: its mounts are made, and stay until it is stopped (vestibule chroot stop)")
            }
        });
    }
    notes.iter().for_each(|note| tell_note(note));
    Ok(())
}

/// The terminal stays the same inside; what it is called has to be harmless there.
fn terminal(name: Option<String>) -> Vec<(String, String)> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
    let usable =
        |name: &String| !name.is_empty() && !name.starts_with('.') && name.len() <= MAX_TERM && name.chars().all(fine);
    name.filter(usable).map(|name| ("TERM".to_owned(), name)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_terminals() {
        for (name, passed_on) in [("xterm-256color", true), ("", false), ("../../x", false), ("a b", false)] {
            assert_eq!(terminal(Some(name.to_owned())).len(), usize::from(passed_on), "{name:?}");
        }
        assert_eq!(terminal(None), []);
    }
}
