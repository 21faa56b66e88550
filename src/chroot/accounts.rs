//! Who is who in a chroot: its passwd(5) and group(5). Pure.
//!
//! Lines that make no sense are skipped, as the C library does it, and so are those of NIS (`+`, `-`).

use std::path::PathBuf;

/// Where a user's home is when nothing says where.
const ROOTS_HOME: &str = "/root";
/// A user whom no file names has no home.
const NO_HOME: &str = "/";
/// (uid_t) -1: chown(2) and setresuid(2) take it for "leave it as it is".
const NOBODY_AT_ALL: u32 = u32::MAX;
/// What the kernel of an Android phone, or any other, takes in one setgroups(2) is far more (65536); nobody is in so many.
const MAX_GROUPS: usize = 256;

/// A user of the chroot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    /// The login shell, if passwd names one.
    pub shell: Option<PathBuf>,
}

/// The chroot's users and groups. Without the files there is root, and every number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: Vec<Account>,
    groups: Vec<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Accounts {
    /// From what `/etc/passwd` and `/etc/group` say; empty where they are missing.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        let (passwd, group) = (String::from_utf8_lossy(passwd), String::from_utf8_lossy(group));
        Self {
            users: passwd.lines().filter_map(user).collect(),
            groups: group.lines().filter_map(self::group).collect(),
        }
    }

    /// By name or number. A number that passwd lacks is a user of the group with that number; `root` always exists.
    pub fn user(&self, asked: &str) -> Result<Account, String> {
        if let Some(account) = self.users.iter().find(|user| user.name == asked) {
            return Ok(account.clone());
        }
        let uid = number(asked).or_else(|| (asked == "root").then_some(0)).ok_or_else(|| {
            format!("the chroot has no user {asked:?} in its /etc/passwd; name one that is there, or give a number")
        })?;
        Ok(self.users.iter().find(|user| user.uid == uid).cloned().unwrap_or_else(|| stranger(uid)))
    }

    /// A group's number, by name or number.
    pub fn group(&self, asked: &str) -> Result<u32, String> {
        let named = self.groups.iter().find(|group| group.name == asked).map(|group| group.gid);
        named.or_else(|| number(asked)).ok_or_else(|| {
            format!("the chroot has no group {asked:?} in its /etc/group; name one that is there, or give a number")
        })
    }

    /// The supplementary groups of a user (initgroups(3)): those that list the name, and the user's own, which comes first.
    pub fn groups_of(&self, account: &Account) -> Vec<u32> {
        let mut groups = vec![account.gid];
        for group in self.groups.iter().filter(|group| group.members.contains(&account.name)) {
            if !groups.contains(&group.gid) && groups.len() < MAX_GROUPS {
                groups.push(group.gid);
            }
        }
        groups
    }
}

fn stranger(uid: u32) -> Account {
    let (name, home) = match uid {
        0 => ("root".to_owned(), ROOTS_HOME),
        uid => (uid.to_string(), NO_HOME),
    };
    Account { name, uid, gid: uid, home: home.into(), shell: None }
}

/// `name:password:uid:gid:gecos:home:shell`
fn user(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
    let absolute = |path: &str| path.starts_with('/').then(|| PathBuf::from(path));
    Some(Account {
        name: self::name(name)?,
        uid: number(uid)?,
        gid: number(gid)?,
        home: absolute(home).unwrap_or_else(|| NO_HOME.into()),
        shell: absolute(shell),
    })
}

/// `name:password:gid:member,member`
fn group(line: &str) -> Option<Group> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, gid, members] = fields[..] else { return None };
    let members = members.split(',').map(str::trim).filter(|member| !member.is_empty()).map(str::to_owned);
    Some(Group { name: self::name(name)?, gid: number(gid)?, members: members.collect() })
}

fn name(text: &str) -> Option<String> {
    let fine = !text.is_empty() && !text.starts_with(['+', '-', '#']) && !text.contains('\0');
    fine.then(|| text.to_owned())
}

/// Decimal, without a sign, which `parse` would take.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&number| digits && number != NOBODY_AT_ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/ash\n\
        daemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
        # a comment\n\
        +nis::::::\n\
        broken:x:1000\n\
        minus:x:-1:0::/:/bin/sh\n\
        everybody:x:4294967295:0::/:/bin/sh\n\
        anna:x:1000:100:Anna \xff:/home/anna:\n\
        1000:x:7:7::relative:bin/sh\n";
    const GROUP: &[u8] =
        b"root:x:0:\nusers:x:100:anna\nwheel:x:10:root,anna\ninet:x:3003: anna ,\nnet:x:10:anna\nbad:x\n";

    #[test]
    fn users_by_name_and_number() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        let root = accounts.user("root").unwrap();
        assert_eq!((root.uid, root.home.to_str(), root.shell), (0, Some("/root"), Some("/bin/ash".into())));
        assert_eq!(accounts.user("0").unwrap().name, "root");
        let anna = accounts.user("anna").unwrap();
        assert_eq!((anna.uid, anna.gid, anna.shell.clone()), (1000, 100, None));
        assert_eq!(accounts.groups_of(&anna), [100, 10, 3003]);
        let numeric = accounts.user("1000").unwrap();
        assert_eq!(
            (numeric.uid, numeric.home.to_str(), numeric.shell),
            (7, Some("/"), None),
            "a name goes before a number"
        );
        let stranger = accounts.user("2000").unwrap();
        assert_eq!((stranger.uid, stranger.gid, stranger.home.to_str()), (2000, 2000, Some("/")));
        assert_eq!(accounts.groups_of(&stranger), [2000]);
        for nobody in ["", "broken", "minus", "everybody", "-1", "+5", "4294967295", "4294967296", "+nis"] {
            assert!(accounts.user(nobody).unwrap_err().contains("has no user"), "{nobody}");
        }
    }

    #[test]
    fn groups_by_name_and_number() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        assert_eq!(accounts.group("inet"), Ok(3003));
        assert_eq!(accounts.group("3004"), Ok(3004));
        assert!(accounts.group("bad").unwrap_err().contains("has no group \"bad\""));
    }

    #[test]
    fn without_files_there_is_root() {
        let accounts = Accounts::default();
        let root = accounts.user("root").unwrap();
        assert_eq!((root.uid, root.gid, root.home.to_str(), root.shell), (0, 0, Some("/root"), None));
        assert!(accounts.user("anna").is_err());
    }
}
