//! The one place that runs `zfs`. zfs-load-key(8), zfsprops(7); messages and exit statuses read in `zfs_crypto_load_key()`
//! of OpenZFS 2.1.11 and 2.3.2, `lib/libzfs/libzfs_crypto.c`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::root::Root;
use crate::secret::Secret;

/// Where the program is in an initramfs.
const PLACES: [&str; 4] = ["/usr/sbin/zfs", "/sbin/zfs", "/usr/bin/zfs", "/usr/local/sbin/zfs"];
/// It finds its libraries by itself; what it runs in turn is in one of these.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Reading a property takes a few milliseconds, unless the pool hangs.
const GET_DEADLINE: Duration = Duration::from_secs(10);

/// The program, where there is one.
pub struct Tool(PathBuf);

/// What became of a `zfs load-key` of ours.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded {
    /// By its own account.
    Yes,
    WrongPassphrase,
    /// It did not come to a trial. Its last words.
    Failed(String),
    /// It took longer than allowed, and was ended.
    TooLate,
}

impl Tool {
    pub fn find(root: &Root) -> Option<Self> {
        PLACES.iter().map(|place| root.join(place)).find(|path| path.exists()).map(Self)
    }

    /// Whether the key of a dataset is loaded; `None` when that can't be told.
    pub async fn has_key(&self, dataset: &str) -> Option<bool> {
        let mut command = self.command(&["get", "-H", "-o", "value", "keystatus", dataset]);
        let output = timeout(GET_DEADLINE, command.stdin(Stdio::null()).output()).await.ok()?.ok()?;
        match output.stdout.trim_ascii() {
            b"available" => Some(true),
            b"unavailable" => Some(false),
            _ => None,
        }
    }

    /// Loads the key of an encryption root, as if typed.
    pub async fn load_key(&self, dataset: &str, secret: &Secret, limit: Duration) -> Loaded {
        // getline(3) ends at a newline, and the key is a C string.
        if secret.expose().iter().any(|byte| matches!(byte, b'\n' | 0)) {
            return Loaded::Failed("zfs takes no passphrase with a newline or NUL byte in it".into());
        }
        let mut command = self.command(&["load-key", dataset]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let run = async {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // It may end without reading, and its last words say why.
                drop(stdin.write_all(secret.expose()).await);
            }
            child.wait_with_output().await
        };
        match timeout(limit, run).await {
            Ok(Ok(output)) if output.status.success() => Loaded::Yes,
            Ok(Ok(output)) => refusal(&String::from_utf8_lossy(&output.stderr)),
            Ok(Err(error)) => Loaded::Failed(format!("{} can't be run: {error}", self.0.display())),
            Err(_) => Loaded::TooLate,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.0);
        // Its words are read: they must be in English.
        command.args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C").kill_on_drop(true);
        command
    }
}

/// What it means when no key was loaded.
fn refusal(words: &str) -> Loaded {
    const WRONG: [&str; 4] = ["Incorrect key provided", "Passphrase too ", "Hex key too ", "Invalid hex character"];
    if WRONG.iter().any(|wrong| words.contains(wrong)) {
        return Loaded::WrongPassphrase;
    }
    let last = words.lines().rev().map(str::trim).find(|line| !line.is_empty());
    Loaded::Failed(format!("zfs says: {}", last.unwrap_or("nothing")))
}

/// Whether this can be a dataset, so that it is no option of `zfs` (zfsconcepts(7), `zcommon/zfs_namecheck.c`).
pub fn is_dataset(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.: /".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() < 256 && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_wrong_passphrases_from_other_trouble() {
        for (words, wrong) in [
            ("Key load error: Incorrect key provided for 'rpool'.\n", true),
            ("Key load error: Passphrase too short (min 8).\n", true),
            ("Key load error: Hex key too long (expected 64).\n", true),
            ("Key load error: Key already loaded for 'rpool'.\n", false),
            ("cannot open 'rpool': dataset does not exist\n", false),
            ("", false),
        ] {
            assert_eq!(refusal(words) == Loaded::WrongPassphrase, wrong, "{words}");
        }
        assert_eq!(refusal("a\nb\n\n"), Loaded::Failed("zfs says: b".into()));
    }

    #[test]
    fn datasets_are_no_options() {
        for (name, good) in
            [("rpool", true), ("rpool/ROOT/debian-13_1", true), ("-a", false), ("", false), ("r\n", false)]
        {
            assert_eq!(is_dataset(name), good, "{name:?}");
        }
    }
}
