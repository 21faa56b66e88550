//! The directory that stands for `/`: the real one, or a fixture tree in tests.

use std::path::{Path, PathBuf};

/// Every absolute path that vestibule reads or writes is joined to this.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// `path` below this root. `path` is written as it is on a real system, with its leading slash.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}
