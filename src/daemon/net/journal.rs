//! The ledger in a file, so that a daemon that was killed does not leave its network behind: the next one of the same
//! boot takes it back. `/run` is a tmpfs, so the file never outlives the boot that it is about.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::ledger::Ledger;
use crate::root::Root;

/// Beside the control socket. The daemon removes the directory at its end, and this file before.
const LEDGER: &str = "/run/vestibule/ledger";

#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
    /// What is being written, until it takes the place of the old one: a reader sees all of one ledger.
    new: PathBuf,
}

impl Journal {
    pub fn new(root: &Root) -> Self {
        Self { path: root.join(LEDGER), new: root.join(format!("{LEDGER}.new")) }
    }

    /// What a daemon before this one has not undone, if there is such a thing.
    ///
    /// # Errors
    /// When it can't be read or is no ledger.
    pub fn load(&self) -> Result<Option<Ledger>> {
        let path = self.path.display();
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(postcard::from_bytes(&bytes).with_context(|| format!("{path} is no ledger"))?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {path}")),
        }
    }

    /// Keeps it; an empty one is no file. Not synchronised with any disk: there is none.
    ///
    /// # Errors
    /// The file system's.
    pub fn keep(&self, ledger: &Ledger) -> Result<()> {
        if ledger.is_empty() {
            return self.remove();
        }
        self.write(&postcard::to_allocvec(ledger)?).with_context(|| format!("writing {}", self.path.display()))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.new)?;
        file.write_all(bytes)?;
        fs::rename(&self.new, &self.path)
    }

    /// # Errors
    /// The file system's; that there is none is no error.
    pub fn remove(&self) -> Result<()> {
        let removed = [&self.new, &self.path].map(|path| remove(path));
        removed.into_iter().collect()
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{daemon::net::ledger::Entry, root::tests::Fixture};

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.record(Entry::Up(2));
        ledger.record(Entry::File { path: "/etc/resolv.conf".into(), contents: "a".into(), empty: true });
        ledger
    }

    #[test]
    fn what_is_kept_is_found_and_nobody_else_reads_it() {
        let root = Fixture::new(&[]);
        let journal = Journal::new(&root);
        assert_eq!(journal.load().unwrap(), None);
        journal.keep(&ledger()).unwrap();
        assert_eq!(journal.load().unwrap(), Some(ledger()));
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("run/vestibule"), mode(LEDGER)), (0o700, 0o600));
        assert_eq!(fs::read_dir(root.join("run/vestibule")).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_no_file() {
        let root = Fixture::new(&[]);
        let journal = Journal::new(&root);
        journal.keep(&Ledger::default()).unwrap();
        assert!(!root.join("run").exists());
        journal.keep(&ledger()).unwrap();
        root.put("run/vestibule/ledger.new", b"half of"); // killed while it wrote
        journal.keep(&Ledger::default()).unwrap();
        assert_eq!(fs::read_dir(root.join("run/vestibule")).unwrap().count(), 0);
    }

    #[test]
    fn nonsense_is_an_error() {
        let root = Fixture::new(&[(LEDGER, b"nonsense")]);
        let error = Journal::new(&root).load().unwrap_err();
        assert!(format!("{error:#}").contains("run/vestibule/ledger is no ledger"), "{error:#}");
    }
}
