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

    /// Whether it is the machine's own, and no fixture.
    pub fn is_systems(&self) -> bool {
        self.0 == Path::new("/")
    }
}

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::ops::Deref;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A root of a test's own, with these files; removed when the test is done with it.
    pub struct Fixture(Root);

    impl Fixture {
        pub fn new(files: &[(&str, &[u8])]) -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let directory = std::env::temp_dir().join(format!("vestibule-unit-{}-{number}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            let fixture = Self(Root::new(directory));
            for (path, content) in files {
                fixture.put(path, content);
            }
            fixture
        }

        pub fn put(&self, path: &str, content: &[u8]) {
            let path = self.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }

    impl Deref for Fixture {
        type Target = Root;

        fn deref(&self) -> &Root {
            &self.0
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            std::fs::remove_dir_all(self.join("/")).unwrap();
        }
    }

    #[test]
    fn paths_stay_below() {
        let root = Root::new("/fixture");
        assert_eq!(root.join("/etc/x"), Path::new("/fixture/etc/x"));
        assert_eq!(root.join("etc/x"), Path::new("/fixture/etc/x"));
        assert_eq!(Root::default().join("/etc/x"), Path::new("/etc/x"));
        assert!(Root::default().is_systems() && !root.is_systems());
    }
}
