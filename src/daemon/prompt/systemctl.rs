//! The one place that runs `systemctl`: to start a volume's unit again. Talking to systemd's bus ourselves would cost
//! the image a D-Bus library for one call; dracut's and mkinitcpio's systemd images have the program.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::root::Root;

/// Where it is in images with and without a merged /usr.
const PROGRAM: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];

/// Its exit status when the unit was started and failed. Others are for what comes before (5: there is no such unit);
/// systemctl(1), `start_unit_one()` and `bus_wait_for_jobs()` of systemd 252.
const JOB_FAILED: i32 = 1;

/// The unit that systemd-cryptsetup-generator(8) makes for a volume.
pub fn unit(volume: &str) -> String {
    format!("systemd-cryptsetup@{}.service", escape(volume))
}

/// systemd-escape(1), `unit_name_escape()` in `src/basic/unit-name.c` of systemd 252: `/` becomes `-`; letters, digits,
/// `:`, `_` and a `.` that is not the first stay; every other byte becomes `\xNN`.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for (place, byte) in name.bytes().enumerate() {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if place == 0 => escaped.push_str("\\x2e"),
            b':' | b'_' | b'.' => escaped.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => escaped.push(byte.into()),
            _ => write!(escaped, "\\x{byte:02x}").expect("a String takes everything"),
        }
    }
    escaped
}

/// What came of starting a unit. The reasons are for a person.
pub enum Started {
    Yes,
    /// It ran, and failed. It may not do so again.
    Failed(String),
    /// It can't be started.
    No(String),
}

/// Starts a unit and waits until that is done. The unit's own questions are left to the agents that are there: ours, and
/// the console's.
pub async fn start(root: &Root, unit: &str, limit: Duration) -> Started {
    let Some(program) = program(root) else {
        return Started::No("this image has no systemctl, which would start the volume's unit again".into());
    };
    let mut command = Command::new(program);
    command.args(["--no-ask-password", "--quiet", "start", unit]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match timeout(limit, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Started::No(format!("systemctl can't be run: {error}")),
        Err(_) => return Started::No(format!("{unit} did not start within {limit:?}")),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it says nothing more");
    let reason = format!("systemctl could not start {unit}: {first}");
    match output.status.code() {
        Some(0) => Started::Yes,
        Some(JOB_FAILED) => Started::Failed(reason),
        _ => Started::No(reason),
    }
}

fn program(root: &Root) -> Option<PathBuf> {
    PROGRAM.iter().map(|path| root.join(path)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::daemon::prompt::ask_file::unescape;

    /// What `systemd-escape --template=systemd-cryptsetup@.service NAME` of version 252 prints.
    #[test]
    fn names_units_as_systemd_does() {
        for (volume, expected) in [
            ("root", "root"),
            ("luks-10000000-0000", "luks\\x2d10000000\\x2d0000"),
            ("my root", "my\\x20root"),
            (".hidden.x", "\\x2ehidden.x"),
            ("a/b", "a-b"),
            ("a:b_c.d", "a:b_c.d"),
            ("a\\x", "a\\x5cx"),
            ("größe", "gr\\xc3\\xb6\\xc3\\x9fe"),
            ("a@b%c+d~", "a\\x40b\\x25c\\x2bd\\x7e"),
        ] {
            assert_eq!(unit(volume), format!("systemd-cryptsetup@{expected}.service"));
        }
    }

    proptest! {
        /// `VALID_CHARS` of `src/basic/unit-name.c`, and nothing of the name is lost.
        #[test]
        fn any_name_gives_a_valid_unit_that_stands_for_it(volume in "\\PC{1,40}") {
            let escaped = escape(&volume);
            let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\".contains(c);
            prop_assert!(escaped.chars().all(valid) && !escaped.starts_with('.'), "{escaped}");
            prop_assert_eq!(unescape(&escaped.replace('-', "/")), volume);
        }
    }
}
