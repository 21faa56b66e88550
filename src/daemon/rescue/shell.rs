//! Which shell there is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::root::Root;

/// A program that is a shell when it is called by this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    pub path: PathBuf,
    /// A multi-call binary goes by it.
    pub name: String,
}

/// What `sh` is in images without a file of that name.
const PLAIN: [(&str, &str); 9] = [
    ("/bin/sh", "sh"),
    ("/usr/bin/sh", "sh"),
    ("/bin/dash", "dash"),
    ("/usr/bin/dash", "dash"),
    ("/bin/ash", "ash"),
    ("/usr/bin/ash", "ash"),
    ("/bin/busybox", "sh"),
    ("/usr/bin/busybox", "sh"),
    ("/sbin/busybox", "sh"),
];
const BASH: [(&str, &str); 2] = [("/bin/bash", "bash"), ("/usr/bin/bash", "bash")];

/// For a person: bash, which edits lines best, else what there is.
pub fn interactive(root: &Root) -> Result<Shell, String> {
    first(root, BASH.iter().chain(&PLAIN))
}

/// For command lines.
pub fn plain(root: &Root) -> Result<Shell, String> {
    first(root, PLAIN.iter().chain(&BASH))
}

/// The one at this path, if it is a program.
pub fn at(root: &Root, path: &Path) -> Option<Shell> {
    let name = path.file_name()?.to_str()?.to_owned();
    let path = root.join(path);
    let executable = std::fs::metadata(&path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    executable.then_some(Shell { path, name })
}

fn first<'a>(root: &Root, mut places: impl Iterator<Item = &'a (&'static str, &'static str)>) -> Result<Shell, String> {
    let found = places.find_map(|&(path, name)| Some(Shell { name: name.to_owned(), ..at(root, path.as_ref())? }));
    found.ok_or_else(|| {
        "this image has no shell: none of sh, bash, dash, ash and busybox is in /bin, /usr/bin or /sbin".to_owned()
    })
}
