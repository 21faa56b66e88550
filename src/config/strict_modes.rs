//! On a running system others have accounts: who can write to the file that says who may log in, or put another in its place,
//! is as good as root. So it counts only if it and the directories above it are the administrator's alone, as `StrictModes` of
//! sshd_config(5) has it. In an image there is nobody else.

use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::{AUTHORIZED_KEYS, MAX_FILE, first_of, read_opened};
use crate::root::Root;

/// Of the group and of all others (inode(7)).
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Path and content of the file that counts now. One that others could have changed admits nobody, and `problems` says what
/// to do.
pub fn authorized_keys(root: &Root, problems: &mut Vec<String>) -> (String, String) {
    first_of(&AUTHORIZED_KEYS, problems, |path| read(root, path))
}

/// Whom else the file, or a directory above it, depends on, and what to do; nothing if it is the administrator's alone.
///
/// It may also belong to whom this process runs as, who can change what this process does anyway.
pub fn fault(path: &Path, owner: u32, mode: u32) -> Option<String> {
    let plain: PathBuf = path.components().collect(); // no slash at its end
    let shown = plain.display();
    if ![0, geteuid().as_raw()].contains(&owner) {
        return Some(format!(
            "{shown} belongs to user {owner}, who could let anybody in by it, so nobody can log in: chown 0:0 {shown}"
        ));
    }
    (mode & WRITABLE_BY_OTHERS != 0).then(|| {
        format!(
            "others than its owner can write to {shown} (its mode is {:04o}) and could let anybody in by it, so nobody can \
             log in: chmod go-w {shown}",
            mode & 0o7777
        )
    })
}

/// The text, or nothing if there is no such file.
fn read(root: &Root, path: &str) -> Result<Option<String>, String> {
    let failed = |error: Error| format!("{path} can't be read: {error}");
    let written = root.join(path);
    // Where links lead is what counts, and who could change the last one.
    let real = match written.canonicalize() {
        Ok(real) => real,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let top = root.join("/");
    check_above(&written, &top)?;
    check_above(&real, &top.canonicalize().map_err(failed)?)?;
    let file = File::open(&real).map_err(failed)?;
    check(&real, file.metadata())?;
    read_opened(file, MAX_FILE).map(Some).map_err(failed)
}

/// Each directory up to `top`; if a link leads elsewhere, up to `/`.
fn check_above(path: &Path, top: &Path) -> Result<(), String> {
    for directory in path.ancestors().skip(1) {
        check(directory, directory.metadata())?;
        if directory == top {
            break;
        }
    }
    Ok(())
}

fn check(path: &Path, found: Result<Metadata, Error>) -> Result<(), String> {
    let found = found.map_err(|error| format!("{} can't be looked at: {error}", path.display()))?;
    fault(path, found.uid(), found.mode()).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn set(root: &Root, path: &str, mode: u32) {
        set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_can_write_to_admits_nobody() {
        let file = "/root/.ssh/authorized_keys";
        let root = Fixture::new(&[(file, b"key"), ("/elsewhere/keys", b"other")]);
        ["/", "/root", "/root/.ssh", file, "/elsewhere", "/elsewhere/keys"]
            .iter()
            .for_each(|path| set(&root, path, 0o755));
        let read = || {
            let mut problems = Vec::new();
            (authorized_keys(&root, &mut problems).1, problems)
        };
        assert_eq!(read(), ("key".to_owned(), vec![]));
        for (path, mode) in [("/", 0o777), ("/root", 0o1777), ("/root/.ssh", 0o775), (file, 0o666)] {
            set(&root, path, mode);
            let (text, problems) = read();
            let advice = format!("chmod go-w {}", root.join(path).display().to_string().trim_end_matches('/'));
            assert!(text.is_empty() && problems.len() == 1 && problems[0].ends_with(&advice), "{problems:?}");
            set(&root, path, 0o755);
        }

        std::fs::remove_file(root.join(file)).unwrap();
        symlink("../../elsewhere/keys", root.join(file)).unwrap();
        assert_eq!(read(), ("other".to_owned(), vec![]));
        for path in ["/root/.ssh", "/elsewhere", "/elsewhere/keys"] {
            set(&root, path, 0o757);
            assert_eq!(read().0, "", "{path}");
            set(&root, path, 0o755);
        }
    }

    #[test]
    fn it_is_nobody_elses() {
        let ours = geteuid().as_raw();
        assert!(fault(Path::new("/x"), 0, 0o100600).is_none() && fault(Path::new("/x"), ours, 0o40755).is_none());
        let said = fault(Path::new("/x"), ours + 1, 0o100600).unwrap();
        assert!(said.contains(&format!("user {}", ours + 1)) && said.ends_with("chown 0:0 /x"), "{said}");
    }
}
