//! What is run for each service, anew at each start: the chroot's users may have changed since the last.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::chroot::definition::{Service, Ssh};
use crate::chroot::inside::Entering;
use crate::chroot::place::Place;
use crate::chroot::server;

/// Who makes preparations, and our own server.
pub const ROOT: u32 = 0;

/// Where it runs.
pub struct Chroot {
    pub place: Place,
    /// For every process in it.
    pub environment: Vec<(String, String)>,
    /// Groups of the host's kernel that every process is in: Android lets nobody else open sockets.
    pub network: Vec<u32>,
}

/// One service's.
pub enum Program {
    OfChroot(Service),
    /// Our own SSH server. Its sockets are bound once, and kept while it is restarted; not before it is started, as one that was
    /// taken over still has those of the supervisor before.
    Server {
        ssh: Ssh,
        sockets: Vec<OwnedFd>,
    },
    /// It is no longer defined, and only to be ended.
    Dropped,
}

impl Program {
    /// Before each start: sees to what it can't do without, and says what is missing.
    pub fn make_ready(&mut self, chroot: &Chroot) -> anyhow::Result<()> {
        let Self::Server { ssh, sockets } = self else { return Ok(()) };
        // It would end at once, and this is said better here.
        let lacking = server::lacking(&chroot.place);
        ensure!(lacking.is_none(), "{}", lacking.unwrap_or_default());
        if sockets.is_empty() {
            *sockets = server::listen(ssh)?;
        }
        Ok(())
    }

    /// What is to be run and to end before the first start, if anything is.
    pub fn preparation(&self, chroot: &Chroot) -> anyhow::Result<Option<Command>> {
        match self {
            Self::OfChroot(service) => server::sshd_preparation(&chroot.place, service, &chroot.environment),
            Self::Server { ssh, .. } => server::preparation(&chroot.place, ssh, &chroot.environment).map(Some),
            Self::Dropped => Ok(None),
        }
    }

    /// Whether it alone is told to end, as it says goodbye to those that it serves: `KillMode=mixed` of systemd.kill(5).
    pub fn ends_what_it_started(&self) -> bool {
        matches!(self, Self::Server { .. })
    }

    /// What becomes the service, in a session of its own, and the user that it runs as.
    pub fn command(&self, chroot: &Chroot) -> anyhow::Result<(Command, u32)> {
        match self {
            Self::OfChroot(service) => of_chroot(service, chroot),
            Self::Server { sockets, .. } => {
                let command = server::command(&chroot.place, sockets, &chroot.network, &chroot.environment)?;
                Ok((command, ROOT))
            }
            Self::Dropped => bail!("it is no longer defined"),
        }
    }
}

fn of_chroot(service: &Service, chroot: &Chroot) -> anyhow::Result<(Command, u32)> {
    let (program, arguments) = service.command.split_first().context("its command is empty; name a program")?;
    let mut entering = Entering::new(&chroot.place, &service.user, &service.groups, &chroot.network)?
        .with_variables(&chroot.environment)
        .with_variables(&service.environment);
    entering.new_session = true;
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    Ok((entering.command(Path::new(program), &arguments), entering.user.uid))
}
