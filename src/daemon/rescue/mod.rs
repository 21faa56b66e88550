//! What sessions may have started or opened for them: programs, connections, listeners. Only descriptors go to the
//! session, which relays.

mod account;
mod environment;
mod forward;
pub mod launch;
mod listen;
mod modes;
mod program;
mod pty;
mod running;
mod session;
mod shell;
mod signals;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::config::grants::Grants;
use crate::config::role::farewell;
use crate::control::message::{Destination, Start};
use crate::control::server::{Listening, Program};
use crate::daemon::net::resolve::Resolver;
use crate::root::Root;
use running::Running;

/// Programs at once, of all sessions. Each is a process or more and some descriptors of the daemon's.
const MAX_PROGRAMS: usize = 64;
/// Sizes and signals on their way to a program.
const ORDERS: usize = 16;
/// All programs have ended by then: their farewell, the time after a hang-up, that after they were killed (a second each),
/// and as much again for a machine that is busy.
const END: Duration = Duration::from_secs(6);

pub struct Rescue {
    root: Root,
    resolver: Resolver,
    /// How many programs there are.
    programs: Arc<watch::Sender<usize>>,
    ending: watch::Sender<bool>,
}

impl Rescue {
    pub fn new(root: Root, resolver: Resolver) -> Self {
        Self { root, resolver, programs: Arc::new(watch::Sender::new(0)), ending: watch::Sender::new(false) }
    }

    /// Starts a program. The error is for a person.
    pub fn start(&self, start: Start, grants: &Grants) -> Result<Program, String> {
        if *self.ending.borrow() {
            return Err(farewell(grants.system).to_owned());
        }
        let place = Place::take(&self.programs)?;
        let mut started = program::start(&self.root, &start, grants)?;
        let descriptors = std::mem::take(&mut started.descriptors);
        let (orders, taken) = mpsc::channel(ORDERS);
        let (report, exit) = oneshot::channel();
        let running = Running::new(started, (taken, report), self.ending.subscribe(), farewell(grants.system))?;
        crate::task::spawn(async move {
            running.run().await;
            drop(place);
        });
        Ok(Program { descriptors, orders, exit })
    }

    /// Ends all programs: their users are told, and have a moment. Returns when nothing is left of them.
    pub async fn end(&self) {
        self.ending.send_replace(true);
        let mut programs = self.programs.subscribe();
        if timeout(END, programs.wait_for(|count| *count == 0)).await.is_err() {
            log::warn!("{} programs of sessions did not end in time", *self.programs.borrow());
        }
    }

    /// The stream. The error is for a person.
    pub async fn connect(&self, to: Destination) -> Result<OwnedFd, String> {
        forward::connect(&self.root, &self.resolver, &to).await
    }

    /// `gateway_ports`: whether a listener may be reached from other machines. The error is for a person.
    pub async fn listen(&self, on: Destination, gateway_ports: bool) -> Result<Listening, String> {
        listen::listen(&self.root, &on, gateway_ports).await
    }
}

/// One of the programs that there may be; given back on drop.
struct Place(Arc<watch::Sender<usize>>);

impl Place {
    fn take(programs: &Arc<watch::Sender<usize>>) -> Result<Self, String> {
        let taken = programs.send_if_modified(|count| {
            let free = *count < MAX_PROGRAMS;
            *count += usize::from(free);
            free
        });
        taken.then(|| Self(programs.clone())).ok_or_else(|| format!("{MAX_PROGRAMS} programs are running already"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
