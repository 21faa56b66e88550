//! Hubs: other SSH servers, through which this machine is reached. Each is kept dialled by a task, and each connection is a
//! confined process (`vestibule dial-session`): the daemon resolves and connects, the process speaks SSH. What comes in there
//! goes to the listener as what comes to our port does, over a socket pair.

mod hub;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::listener::entrance::Entrance;
use super::net::resolve::Resolver;
use crate::config::dial::{Dial, Machine};
use crate::config::{Config, DIAL_KEY};
use crate::control::dial::{Hub, HubState};
use crate::control::message::Link;
use crate::dial::Listen;
use crate::image::keys;
use crate::secret::Secret;

/// How long hubs may take to be told goodbye. Longer than `hub::END`, after which a process is killed.
const GOODBYE: Duration = Duration::from_secs(5);

/// All hubs, as long as they are dialled.
pub struct Dials {
    states: watch::Receiver<Vec<Hub>>,
    leave: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What dialling needs of the rest of the daemon.
pub struct Around {
    pub resolver: Resolver,
    /// None where somebody else brings the network up.
    pub links: Option<watch::Receiver<Arc<[Link]>>>,
    pub entrance: Entrance,
    /// True from the moment of hand-over.
    pub stopping: watch::Receiver<bool>,
}

/// Who this machine is.
struct Identity {
    /// To log in with, in OpenSSH's format.
    key: Secret,
    name: String,
    number: [u8; 32],
}

impl Identity {
    fn of(config: &Config) -> Result<Self, String> {
        let missing = |path: &str| format!("{path} is missing or unreadable in this image; build it anew");
        let key = config.dial_key.as_ref().ok_or_else(|| missing(DIAL_KEY))?;
        keys::parse(key.expose()).map_err(|error| format!("{DIAL_KEY}: {error:#}"))?;
        let host = config.host_key.as_ref().and_then(|key| keys::parse(key.expose()).ok());
        let number = host.map(|key| keys::machine_number(key.public_key())).ok_or("there is no usable host key")?;
        Ok(Self { key: key.duplicate(), name: config.host.clone(), number })
    }

    fn listen(&self, dial: &Dial, from: IpAddr) -> Result<Listen, String> {
        dial.listen(&Machine { name: &self.name, key: self.number }, from)
    }
}

impl Dials {
    /// Dials what the configuration names, from now on. Never fails: what goes wrong is logged and shown.
    pub fn start(config: &Config, around: Around) -> Self {
        let (leave, leaving) = watch::channel(false);
        let mut tasks = JoinSet::new();
        if !config.settings.dialling || config.settings.hubs.is_empty() {
            return Self { states: watch::channel(Vec::new()).1, leave, tasks };
        }
        let identity = Identity::of(config);
        let problem = identity.as_ref().err().cloned();
        if let Some(problem) = &problem {
            log::error!("no hub is dialled: {problem}");
        }
        let hubs = config.settings.hubs.iter().map(|dial| Hub {
            name: dial.name.clone(),
            hub: dial.hub(),
            state: HubState::Waiting,
            listening: None,
            problem: problem.clone(),
        });
        let (shown, states) = watch::channel(hubs.collect());
        if let Ok(identity) = identity.map(Arc::new) {
            let (around, shown) = (Arc::new(around), Arc::new(shown));
            for (index, dial) in config.settings.hubs.iter().enumerate() {
                let (around, identity, shown) = (around.clone(), identity.clone(), shown.clone());
                let task = hub::Task { dial: dial.clone(), index, identity, around, shown, leaving: leaving.clone() };
                drop(tasks.spawn(task.keep_dialled()));
            }
        }
        Self { states, leave, tasks }
    }

    /// How each of them does, at each change.
    pub fn states(&self) -> watch::Receiver<Vec<Hub>> {
        self.states.clone()
    }

    /// Says goodbye to all of them. What still passes through them is cut.
    pub async fn leave(mut self) {
        self.leave.send_replace(true);
        if timeout(GOODBYE, async { while self.tasks.join_next().await.is_some() {} }).await.is_err() {
            log::warn!("{} hubs were not told goodbye in time", self.tasks.len());
        }
        self.tasks.shutdown().await;
    }
}
