//! Whose programs run. In an image there are no accounts: root it is, and the shell that the image has. In a system root's
//! home and login shell are what its passwd(5) says.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use super::shell::{self, Shell};
use crate::chroot::accounts::{Account, Accounts};
use crate::root::Root;

/// Of the server's own environment, what is about itself, and not about whoever logs in.
const OF_THE_SERVER: [&str; 7] = ["TERM", "HOME", "SHELL", "USER", "LOGNAME", "LISTEN_FDS", "LISTEN_PID"];

/// Root, here.
pub struct Owner {
    account: Option<Account>,
    root: Root,
}

impl Owner {
    /// Read anew for each program: in a system, people change such things.
    pub fn find(root: &Root, system: bool) -> Self {
        let account = system.then(|| {
            let read = |path: &str| fs::read(root.join(path)).unwrap_or_default();
            Accounts::parse(&read("/etc/passwd"), &read("/etc/group")).user("root").expect("root always exists")
        });
        Self { account, root: root.clone() }
    }

    pub fn home(&self) -> PathBuf {
        let home = self.account.as_ref().map_or("/root".into(), |account| account.home.clone());
        Some(self.root.join(home)).filter(|home| home.is_dir()).unwrap_or_else(|| PathBuf::from("/"))
    }

    /// For a person.
    pub fn interactive(&self) -> Result<Shell, String> {
        self.login_shell().map_or_else(|| shell::interactive(&self.root), Ok)
    }

    /// For command lines. sshd(8) has the login shell run them.
    pub fn plain(&self) -> Result<Shell, String> {
        self.login_shell().map_or_else(|| shell::plain(&self.root), Ok)
    }

    /// What is set for every process of the system.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let own = self.account.iter().flat_map(|_| std::env::vars_os());
        own.filter(|(name, _)| !OF_THE_SERVER.iter().any(|other| name == other)).collect()
    }

    fn login_shell(&self) -> Option<Shell> {
        shell::at(&self.root, self.account.as_ref()?.shell.as_deref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_system_says_who_root_is() {
        let passwd = b"root:x:0:0::/home/admin:/usr/bin/zsh\n";
        let root = Fixture::new(&[("/etc/passwd", passwd), ("/usr/bin/zsh", b""), ("/bin/sh", b""), ("/root/x", b"")]);
        let executable = |path: &str| {
            std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        executable("/bin/sh");
        let shells = |system| {
            let owner = Owner::find(&root, system);
            (owner.interactive().unwrap().name, owner.plain().unwrap().name, owner.home())
        };
        let in_image = ("sh".to_owned(), "sh".to_owned(), root.join("/root"));
        assert_eq!(shells(false), in_image, "passwd is not asked");
        assert_eq!(shells(true), ("sh".to_owned(), "sh".to_owned(), "/".into()), "neither shell nor home is there");
        executable("/usr/bin/zsh");
        root.put("/home/admin/x", b"");
        assert_eq!(shells(true), ("zsh".to_owned(), "zsh".to_owned(), root.join("/home/admin")));
        assert_eq!(shells(false), in_image);
    }
}
