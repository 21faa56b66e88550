//! One connection to the hub: dialled, all of `-R` had, and what comes carried to its target, until it ends.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use russh::keys::PrivateKey;
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::forward::{Forward, address};
use super::local::descriptor;
use crate::daemon::net::resolve::Resolver;
use crate::dial::{self, Bound, Error, Hub, Incoming, Listen, Login, Pins, USER_TIMEOUT_MS};
use crate::task;

/// Whom to dial, and as whom.
pub struct To {
    pub user: String,
    pub host: String,
    pub port: u16,
    pub key: PrivateKey,
    pub pins: Pins,
}

pub struct Link {
    hub: Arc<Hub>,
    incoming: mpsc::Receiver<Incoming>,
    /// The port on the hub, and what belongs to it.
    bound: Vec<(u16, Forward)>,
}

/// Why a connection that was there is over.
pub enum Ended {
    Lost(String),
    /// Nobody has needed it for a while.
    Idle,
}

impl Link {
    /// Dials, and has the hub listen for all of `remote`. Each step has its own deadline.
    pub async fn make(to: &To, remote: &[Forward], resolver: &Resolver) -> Result<Self, String> {
        let stream = resolver.connect(&to.host, to.port).await.map_err(|error| error.to_string())?;
        prepare(&stream).map_err(|error| format!("the connection can't be prepared: {error}"))?;
        let login = Login { user: to.user.clone(), key: to.key.clone(), pins: to.pins.clone() };
        let told = |error| format!("{}: {}", to.hub(), explained(error));
        let (hub, incoming) = dial::connect(stream, login).await.map_err(told)?;
        let mut bound = Vec::new();
        for forward in remote {
            let bind = forward.bind.clone().unwrap_or_else(|| "localhost".to_owned());
            let port = match hub.listen(&Listen::Port { bind, port: forward.port }).await.map_err(told)? {
                Bound::Port { port, .. } => port,
                Bound::Socket(_) => return Err(format!("{}: it listens on a socket instead of a port", to.hub())),
            };
            bound.push((port, Forward { port, ..forward.clone() }));
        }
        Ok(Self { hub: Arc::new(hub), incoming, bound })
    }

    /// For the log.
    pub fn described(&self, to: &To) -> String {
        let forwards: Vec<String> = self.bound.iter().map(|(_, forward)| forward.to_string()).collect();
        match forwards.is_empty() {
            true => format!("connected to {}", to.hub()),
            false => format!("connected to {}, which listens: {}", to.hub(), forwards.join(", ")),
        }
    }

    /// Connects whatever comes to its target, until the connection is lost, or `idle` is over.
    pub async fn carry(&mut self, resolver: &Resolver, idle: impl Future<Output = ()>) -> Ended {
        let lost = self.hub.closed();
        tokio::pin!(lost, idle);
        loop {
            select! {
                why = &mut lost => return Ended::Lost(why.to_string()),
                () = &mut idle => return Ended::Idle,
                // The end of this queue is the end of the connection.
                Some(incoming) = self.incoming.recv() => self.pass_on(incoming, resolver),
            }
        }
    }

    fn pass_on(&self, incoming: Incoming, resolver: &Resolver) {
        let target = self.bound.iter().find(|(port, _)| Some(*port) == incoming.port);
        let target = target.map(|(_, forward)| forward.clone());
        let resolver = resolver.clone();
        task::spawn(async move {
            // Only what was asked for gets this far; better refused twice.
            let Some(forward) = target else { return incoming.stream.refuse().await };
            let connected = resolver.connect(&forward.host, forward.host_port).await.map_err(|error| error.to_string());
            match connected.and_then(|stream| descriptor(stream).map_err(|error| error.to_string())) {
                Ok(stream) => {
                    if let Err(error) = incoming.stream.relay(stream).await {
                        log::warn!("-R {forward}: a connection was closed: {error}");
                    }
                }
                Err(why) => {
                    log::warn!("-R {forward}: a connection was closed: {why}");
                    incoming.stream.refuse().await;
                }
            }
        });
    }

    /// Says goodbye, if it can.
    pub async fn leave(self) {
        // Whoever is about to open something there still has it; dropped, it ends all the same.
        if let Some(hub) = Arc::into_inner(self.hub) {
            hub.goodbye("the tunnel ends").await;
        }
    }
}

impl To {
    fn hub(&self) -> String {
        format!("{}@{}", self.user, address(&self.host, self.port))
    }
}

/// Small packets go out at once, and a peer that is gone is noticed though nothing comes back.
pub fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    Ok(setsockopt(stream, TcpUserTimeout, &USER_TIMEOUT_MS)?)
}

fn explained(error: Error) -> String {
    match error {
        Error::KeyRefused { user, fingerprint } => format!(
            "the hub does not accept our key {fingerprint} for {user}: put its public half (the .pub file) into that \
             account's authorized_keys"
        ),
        other => other.to_string(),
    }
}

/// The hub that there is now, for those who wait for it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hubs(Arc<watch::Sender<Option<Arc<Hub>>>>);

/// While it is here, others get the hub.
pub struct Offered(Hubs);

impl Hubs {
    pub fn offer(&self, link: &Link) -> Offered {
        self.0.send_replace(Some(link.hub.clone()));
        Offered(self.clone())
    }

    /// The hub, as soon as there is one; `None` after that time.
    pub async fn get(&self, patience: Duration) -> Option<Arc<Hub>> {
        let mut hubs = self.0.subscribe();
        let there = timeout(patience, hubs.wait_for(Option::is_some)).await;
        there.ok()?.ok()?.clone()
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.0.0.send_replace(None);
    }
}
