//! Keys that are good for a single login (`once` in authorized_keys), and have been used.
//!
//! They stand in a file as well, so that a daemon which is started again knows them. It goes with the rest of
//! `/run/vestibule` at the end.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::root::Root;

/// A fingerprint per line.
const FILE: &str = "/run/vestibule/used-keys";

pub struct UsedKeys(PathBuf);

impl UsedKeys {
    pub fn new(root: &Root) -> Self {
        Self(root.join(FILE))
    }

    /// Notes that a key is used now; an error if it has been before, or if that can't be noted. Doesn't wait in between,
    /// so of two logins at the same time one is refused.
    pub fn take(&self, fingerprint: &str) -> Result<(), String> {
        let unknown = |error| format!("whether the key was used before can't be told or noted: {error}");
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.0);
        let mut file = file.map_err(unknown)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(unknown)?;
        if text.lines().any(|line| line == fingerprint) {
            return Err("the key is good for a single login, and was used".to_owned());
        }
        // A line that was cut off by a crash stays apart.
        let start = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        file.write_all(format!("{start}{fingerprint}\n").as_bytes()).map_err(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;

    #[test]
    fn each_key_once_also_after_a_restart() {
        let root = Fixture::new(&[("run/vestibule/x", b"")]);
        let used = UsedKeys::new(&root);
        assert_eq!((used.take("SHA256:a"), used.take("SHA256:b")), (Ok(()), Ok(())));
        for used in [used, UsedKeys::new(&root)] {
            assert!(used.take("SHA256:a").unwrap_err().contains("was used"));
            assert!(used.take("SHA256:b").is_err());
        }
        assert_eq!(UsedKeys::new(&root).take("SHA256:ab"), Ok(()));
    }

    #[test]
    fn what_can_not_be_noted_is_refused() {
        let root = Fixture::new(&[]);
        let refused = UsedKeys::new(&root).take("SHA256:a").unwrap_err();
        assert!(refused.contains("can't be told or noted"), "{refused}");
    }
}
