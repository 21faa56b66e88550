//! Getting a program into a chroot, as one of its users, with nothing of outside but what it is given.

pub mod launch;

use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use rustix::fs::fstat;

use super::accounts::{Account, Accounts};
use super::place::Place;

/// Where programs are looked for inside, unless the definition says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// For those who have no terminal that would say what it is, such as services.
const TERM: &str = "linux";
/// What `SHELL` says where passwd names none. Who logs in is told the one that there is.
const SHELL: &str = "/bin/sh";
/// passwd and group of large sites, read into memory whole, in bytes.
const MAX_ACCOUNTS: usize = 4 << 20;

/// How to go in.
pub struct Entering<'a> {
    /// Has to live until the command is started.
    pub place: &'a Place,
    pub user: Account,
    /// All of them, the user's own as well.
    pub groups: Vec<u32>,
    /// The whole environment; see [`environment`].
    pub environment: Vec<(OsString, OsString)>,
    /// Inside. Where it can't be used, it is `/`.
    pub directory: PathBuf,
    /// Its own, without a terminal, as services have it.
    pub new_session: bool,
    /// The terminal isn't its own, though its input and output may be there.
    pub without_terminal: bool,
}

impl<'a> Entering<'a> {
    /// As `user` (a name or number inside), in that user's home and groups.
    ///
    /// `groups` come in addition, names or numbers inside; and `network`, numbers that the host's kernel knows (Android lets
    /// nobody else open sockets).
    pub fn new(place: &'a Place, user: &str, groups: &[String], network: &[u32]) -> anyhow::Result<Self> {
        let accounts = accounts(place)?;
        let user = accounts.user(user).map_err(anyhow::Error::msg)?;
        let named: Result<Vec<u32>, String> = groups.iter().map(|group| accounts.group(group)).collect();
        let mut all = accounts.groups_of(&user);
        for group in named.map_err(anyhow::Error::msg)?.iter().chain(network) {
            if !all.contains(group) {
                all.push(*group);
            }
        }
        let environment = environment(&user, &[], &[]);
        let directory = user.home.clone();
        Ok(Self { place, user, groups: all, environment, directory, new_session: false, without_terminal: false })
    }

    /// With these as well, in place of those of the same name.
    pub fn with_variables(mut self, variables: &[(String, String)]) -> Self {
        variables.iter().for_each(|(name, value)| set(&mut self.environment, name, value));
        self
    }

    /// What becomes `program` inside: a path, or a name that is looked for in the environment's `PATH`.
    pub fn command(&self, program: &Path, arguments: &[OsString]) -> Command {
        let mut command = self.launch();
        command.arg("--").arg(program).args(arguments);
        command
    }

    /// What becomes the user's login shell; without one in passwd, or if that is missing, the best that there is.
    pub fn login(&self) -> Command {
        let mut command = self.launch();
        command.arg("--login").arg("--").arg(self.user.shell.as_deref().unwrap_or("".as_ref()));
        command
    }

    /// The same, for a program that finds these sockets by `LISTEN_FDS` (sd_listen_fds(3)). They have to be inheritable.
    pub fn listening_command(&self, sockets: &[impl AsRawFd], program: &Path, arguments: &[OsString]) -> Command {
        let mut command = self.launch();
        command.args(sockets.iter().map(|socket| number("--listening", socket.as_raw_fd())));
        command.arg("--").arg(program).args(arguments);
        command
    }

    fn launch(&self) -> Command {
        let root = self.place.root();
        let mut command = Command::new("/proc/self/exe");
        command.arg("chroot-launch").env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Looked up after the fork, where the descriptor still is what it is here; and what is found is compared.
        command.current_dir(format!("/proc/self/fd/{}", root.as_raw_fd()));
        let found = fstat(root).map_or_else(|_| String::new(), |found| format!("{}:{}", found.st_dev, found.st_ino));
        command.arg(format!("--root-is={found}"));
        command.arg(format!("--uid={}", self.user.uid)).arg(format!("--gid={}", self.user.gid));
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        command.arg(format!("--groups={}", groups.join(",")));
        let mut directory = OsString::from("--directory=");
        directory.push(&self.directory);
        command.arg(directory);
        command.args(self.new_session.then_some("--new-session"));
        command.args(self.without_terminal.then_some("--without-terminal"));
        command
    }
}

fn number(option: &str, number: RawFd) -> String {
    format!("{option}={number}")
}

/// The users and groups of the chroot.
pub fn accounts(place: &Place) -> anyhow::Result<Accounts> {
    let read = |path: &str| {
        let content = place.read(path.as_ref(), MAX_ACCOUNTS);
        content.map(Option::unwrap_or_default).with_context(|| format!("reading the chroot's {path}"))
    };
    Ok(Accounts::parse(&read("/etc/passwd")?, &read("/etc/group")?))
}

/// All that a program finds in its environment, as after a login; then what the definition says, and what is said besides.
pub fn environment(
    account: &Account,
    definition: &[(String, String)],
    extra: &[(String, String)],
) -> Vec<(OsString, OsString)> {
    let shell = account.shell.clone().unwrap_or_else(|| SHELL.into());
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("TERM".into(), TERM.into()),
        ("HOME".into(), account.home.clone().into()),
        ("SHELL".into(), shell.into()),
        ("PATH".into(), PATH.into()),
        ("USER".into(), account.name.clone().into()),
        ("LOGNAME".into(), account.name.clone().into()),
    ];
    definition.iter().chain(extra).for_each(|(name, value)| set(&mut variables, name, value));
    variables
}

fn set(variables: &mut Vec<(OsString, OsString)>, name: &str, value: &str) {
    variables.retain(|(other, _)| other != name);
    variables.push((name.into(), value.into()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_variable_counts() {
        let account = Accounts::default().user("root").unwrap();
        let said = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let all = environment(&account, &[said("LANG", "C"), said("TERM", "dumb")], &[said("TERM", "xterm")]);
        let text: Vec<String> =
            all.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
        let expected = [
            "HOME=/root",
            "SHELL=/bin/sh",
            &format!("PATH={PATH}"),
            "USER=root",
            "LOGNAME=root",
            "LANG=C",
            "TERM=xterm",
        ];
        assert_eq!(text, expected);
    }
}
