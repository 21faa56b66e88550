//! Forwarded connections (RFC 4254 section 7 and OpenSSH's PROTOCOL, section 2.4 "streamlocal"). The daemon makes and
//! accepts them, if the grants permit; here their bytes are relayed.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{ChannelOpenFailure, ChannelWriteHalf};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::grants::Grants;
use crate::control::client::{Client, Events};
use crate::control::message::{Destination, Event, Request};
use crate::flow::descriptor::Descriptor;
use crate::flow::relay;
use crate::flow::table::{MAX_LISTENERS, Served, Table};

/// The connection's loop waits for a listener, which is made at once or not at all.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);
/// SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, SSH_OPEN_CONNECT_FAILED: RFC 4254 section 5.1.
const PROHIBITED: u32 = 1;
const CONNECT_FAILED: u32 = 2;

fn failure(code: u32, reason: String) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code, reason }
}

/// A connection that the client wants to be made.
pub struct Outgoing {
    pub to: Destination,
    pub grants: Arc<Grants>,
    pub client: Client,
    pub write: ChannelWriteHalf<Msg>,
    pub served: Served,
}

impl Outgoing {
    /// From the wish to the end of the connection.
    pub async fn run(self, reply: ChannelOpenHandle) {
        let stream = match self.connect().await {
            Ok(stream) => stream,
            Err(failure) => return reply.reject(failure).await,
        };
        reply.accept().await;
        relay::stream(&stream, &self.write, &self.served.inbox).await;
    }

    async fn connect(&self) -> Result<Descriptor, ChannelOpenFailure> {
        let request = Request::Connect(self.to.clone());
        // The daemon decides; asking here as well tells what is not permitted from what can't be reached.
        self.grants.permit(&request).map_err(|why| failure(PROHIBITED, why.to_owned()))?;
        let unreachable = |reason: String| failure(CONNECT_FAILED, reason);
        let mut events = self.client.request(request);
        let answer = tokio::select! {
            answer = events.next_with_descriptors() => answer,
            () = self.served.inbox.closed() => return Err(unreachable("the connection is gone".to_owned())),
        };
        match answer {
            Ok((Event::Connected, descriptors)) => stream(descriptors).map_err(unreachable),
            Ok((Event::Refused(reason), _)) => Err(unreachable(reason)),
            Ok(_) => Err(unreachable("the daemon made no connection".to_owned())),
            Err(gone) => Err(unreachable(gone.to_string())),
        }
    }
}

fn stream(descriptors: Vec<OwnedFd>) -> Result<Descriptor, String> {
    let only = descriptors.into_iter().next().ok_or("no stream came with it")?;
    Descriptor::new(only).map_err(|error| format!("the stream can't be used: {error}"))
}

/// What listens for the client (`ssh -R`), until it is cancelled or the connection ends.
#[derive(Default)]
pub struct Listeners(HashMap<Destination, JoinHandle<()>>);

/// What a listener's connections need.
#[derive(Clone)]
pub struct Back {
    pub client: Client,
    pub handle: Handle,
    pub table: Table,
}

impl Listeners {
    /// The port that is listened on, or why nothing is.
    pub async fn listen(&mut self, on: Destination, back: Back) -> Result<u16, String> {
        self.0.retain(|_, task| !task.is_finished());
        if self.0.len() >= MAX_LISTENERS {
            return Err(format!("more than {MAX_LISTENERS} forwards"));
        }
        let mut events = back.client.request(Request::Listen(on.clone()));
        let port = match timeout(LISTEN_DEADLINE, events.next()).await {
            Ok(Ok(Event::Listening { port })) => port,
            Ok(Ok(Event::Refused(reason))) => return Err(reason),
            Ok(Ok(_)) => return Err("the daemon does not listen".to_owned()),
            Ok(Err(gone)) => return Err(gone.to_string()),
            Err(_) => return Err("the daemon did not answer".to_owned()),
        };
        // Connections are announced as coming in where the client asked for them; a port of 0 was chosen by now.
        let on = match on {
            Destination::Tcp { host, .. } => Destination::Tcp { host, port },
            unix => unix,
        };
        let task = crate::task::spawn(accept(events, on.clone(), back));
        if let Some(before) = self.0.insert(on, task) {
            before.abort();
        }
        Ok(port)
    }

    pub fn cancel(&mut self, on: &Destination) -> bool {
        match self.0.remove(on) {
            Some(task) => {
                task.abort();
                true
            }
            None => false,
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

/// Takes what is accepted at once: what waits keeps a descriptor each.
async fn accept(mut events: Events, on: Destination, back: Back) {
    while let Ok((event, descriptors)) = events.next_with_descriptors().await {
        let Event::Accepted { address, port } = event else { return };
        // Too many: closed here, which the peer sees.
        if let (Ok(stream), false) = (stream(descriptors), back.table.is_full()) {
            crate::task::spawn(incoming(stream, on.clone(), (address, port), back.clone()));
        }
    }
}

/// A connection that came in, offered to the client. This must not be dropped while the client is asked: russh ends the
/// connection when nobody is there to hear of a refusal.
async fn incoming(stream: Descriptor, on: Destination, (address, port): (String, u16), back: Back) {
    let opened = match on {
        Destination::Tcp { host, port: ours } => {
            back.handle.channel_open_forwarded_tcpip(host, ours.into(), address, port.into()).await
        }
        Destination::Unix(path) => back.handle.channel_open_forwarded_streamlocal(path).await,
    };
    let Ok(channel) = opened else { return }; // the client doesn't want it, or is gone
    let id = channel.id();
    let (_, write) = channel.split(); // as in `Handler::channel_open_session`
    match back.table.confirmed(id) {
        Some(served) => relay::stream(&stream, &write, &served.inbox).await,
        None => drop(write.close().await), // too many by now, or closed already
    }
}
