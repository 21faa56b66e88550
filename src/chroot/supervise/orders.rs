//! What the supervisor is told when it is started, on its standard input: JSON, since there may be no file that it could read
//! (`--root DIR`), and a file may have changed since its mounts were made.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::chroot::definition::{Definition, LogTo, Service, Ssh};
use crate::chroot::place::Place;
use crate::root::Root;

/// Longest, in bytes: a definition is written by hand.
pub const MAX_LENGTH: u64 = 1 << 20;

/// What of a definition is about processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Of the log.
    pub name: String,
    /// The directory that stands for `/` outside.
    pub outside: PathBuf,
    pub root: PathBuf,
    services: Vec<Ordered>,
    ssh: Option<(u16, Vec<IpAddr>)>,
    environment: Variables,
    log: Option<(PathBuf, u64)>,
}

type Variables = Vec<(String, String)>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ordered {
    name: String,
    command: Vec<String>,
    user: String,
    groups: Vec<String>,
    environment: Variables,
    stop_seconds: u64,
}

impl Orders {
    pub fn new(definition: &Definition, place: &Place, outside: &Root) -> Self {
        let name = place.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            name,
            outside: outside.join("/"),
            root: place.path().to_owned(),
            services: definition.services.iter().cloned().map(Ordered::from).collect(),
            ssh: definition.ssh.as_ref().map(|Ssh { port, listen }| (*port, listen.clone())),
            environment: definition.environment.clone(),
            log: match &definition.log {
                LogTo::System => None,
                LogTo::File { path, rotate_at } => Some((path.clone(), *rotate_at)),
            },
        }
    }

    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(text)
            .context("the supervisor of a chroot is started by “vestibule chroot start”, and got no orders")
    }

    pub fn text(&self) -> anyhow::Result<Vec<u8>> {
        serde_json::to_vec(self).context("writing the orders for the supervisor")
    }

    pub fn services(&self) -> Vec<Service> {
        self.services.iter().cloned().map(Service::from).collect()
    }

    pub fn ssh(&self) -> Option<Ssh> {
        self.ssh.clone().map(|(port, listen)| Ssh { port, listen })
    }

    /// For every process in the chroot.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    pub fn log(&self) -> LogTo {
        self.log.clone().map_or(LogTo::System, |(path, rotate_at)| LogTo::File { path, rotate_at })
    }
}

impl From<Service> for Ordered {
    fn from(Service { name, command, user, groups, environment, stop_seconds }: Service) -> Self {
        Self { name, command, user, groups, environment, stop_seconds }
    }
}

impl From<Ordered> for Service {
    fn from(Ordered { name, command, user, groups, environment, stop_seconds }: Ordered) -> Self {
        Self { name, command, user, groups, environment, stop_seconds }
    }
}
