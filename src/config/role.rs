//! Roles: what a login name may do. There are no accounts; the name that somebody logs in with *is* the role.

use serde::{Deserialize, Serialize};

use super::grants::{Access, Files, Granted, Grants, Permitted};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub name: String,
    pub grants: Grants,
}

/// All roles of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    roles: Vec<Role>,
    /// Those that are configured and couldn't be understood: nobody has them.
    refused: Vec<String>,
    /// See [`Roles::in_a_system`].
    system: bool,
}

impl Default for Roles {
    /// Those that are built in.
    fn default() -> Self {
        Self { roles: vec![root(), unlock(), peek(), sftp()], refused: Vec::new(), system: false }
    }
}

impl Roles {
    /// The role that a login name stands for.
    pub fn find(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// Why [`Roles::find`] finds nothing, for a person.
    pub fn refusal(&self, name: &str) -> String {
        match self.refused.iter().any(|refused| refused == name) {
            true => {
                "this role has a mistake in the configuration (see: vestibule status), and admits nobody".to_owned()
            }
            false => format!("no such role; the login name is one of {}", self.names()),
        }
    }

    /// Adds a role, or puts it in the place of the one of that name.
    pub fn put(&mut self, role: Role) {
        match self.roles.iter_mut().find(|other| other.name == role.name) {
            Some(place) => *place = role,
            None => self.roles.push(role),
        }
    }

    /// Nobody has this role.
    pub fn refuse(&mut self, name: &str) {
        self.roles.retain(|role| role.name != name);
        self.refused.push(name.to_owned());
    }

    /// The same where nothing boots, but a system runs: without commands of ours, and without roles for which nothing is left.
    pub fn in_a_system(mut self) -> Self {
        for role in &mut self.roles {
            role.grants.commands.clear();
            role.grants.system = true;
        }
        self.roles.retain(|role| !role.grants.is_nothing());
        Self { system: true, ..self }
    }

    /// Why sessions end together, for their users.
    pub fn farewell(&self) -> &'static str {
        farewell(self.system)
    }

    /// `root, unlock, peek`, for messages.
    pub fn names(&self) -> String {
        self.roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Why everybody's sessions end, in a system or before one.
pub fn farewell(system: bool) -> &'static str {
    if system { "the SSH server ends" } else { "the boot continues" }
}

/// Everything. Forwarding only where the key's line lists destinations.
fn root() -> Role {
    use Granted::{Feed, Hold, Peek, Poweroff, Reboot, Status, Unlock};
    let grants = Grants {
        commands: vec![Unlock, Feed, Peek, Status, Reboot, Poweroff, Hold],
        shell: true,
        exec: true,
        pty: true,
        sftp: Some(Files { root: "/".to_owned(), shown_as: None, access: Access::ReadWrite }),
        ..Grants::default()
    };
    Role { name: "root".to_owned(), grants }
}

fn unlock() -> Role {
    use Granted::{Feed, Peek, Status, Unlock};
    narrow("unlock", &[Unlock, Feed, Peek, Status])
}

fn peek() -> Role {
    narrow("peek", &[Granted::Peek, Granted::Status])
}

/// Files below one directory, which the configuration has to name.
fn sftp() -> Role {
    Role { grants: Grants { pty: false, ..narrow("sftp", &[]).grants }, ..narrow("sftp", &[]) }
}

fn narrow(name: &str, commands: &[Granted]) -> Role {
    let (open, listen) = (Permitted::nothing(), Permitted::nothing());
    Role {
        name: name.to_owned(),
        grants: Grants { commands: commands.to_vec(), pty: true, open, listen, ..Grants::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::{Open, Power, Request, Start, Submit, What};
    use crate::secret::Secret;

    #[test]
    fn what_each_role_may_do() {
        let submit =
            || Request::Submit(Submit { volumes: vec![], kind: None, secret: Secret::new(vec![]), wait_ms: 0 });
        let start = |what| Request::Start(Start { what, terminal: None, environment: vec![] });
        let table = [
            (Request::Status, [true, true, true, true]),
            (Request::Peek { follow: true }, [true, true, true, false]),
            (submit(), [true, true, false, false]),
            (Request::Power(Power::Reboot), [true, false, false, false]),
            (Request::Hold { seconds: 1 }, [true, false, false, false]),
            (Request::HoldWhile { seconds: 1 }, [true, false, false, false]),
            (Request::Release, [true, false, false, false]),
            (start(What::Shell), [true, false, false, false]),
            (start(What::Exec(b"id".to_vec())), [true, false, false, false]),
            (start(What::Sftp), [true, false, false, false]),
            (Request::Stop, [false, false, false, false]),
            (Request::Open(Open { arguments: vec![], path: None }), [false, false, false, false]),
        ];
        let roles = Roles::default();
        for (request, expected) in table {
            let may = ["root", "unlock", "peek", "sftp"]
                .map(|name| roles.find(name).unwrap().grants.permit(&request).is_ok());
            assert_eq!(may, expected);
        }
    }

    #[test]
    fn in_a_system_nobody_unlocks() {
        let roles = Roles::default().in_a_system();
        assert_eq!((roles.names().as_str(), roles.farewell()), ("root", "the SSH server ends"));
        let grants = &roles.find("root").unwrap().grants;
        let start = |what| Request::Start(Start { what, terminal: None, environment: vec![] });
        for permitted in [Request::Status, start(What::Shell), start(What::Exec(b"id".to_vec())), start(What::Sftp)] {
            assert!(grants.permit(&permitted).is_ok());
        }
        for denied in [Request::Power(Power::Off), Request::Hold { seconds: 1 }, Request::Peek { follow: true }] {
            assert!(grants.permit(&denied).is_err());
        }
    }

    #[test]
    fn unknown_names_are_no_role() {
        for name in ["", "Root", "admin", "root\0", " root"] {
            assert_eq!(Roles::default().find(name), None, "{name:?}");
        }
    }
}
