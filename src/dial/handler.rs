//! The russh handler: the host key, the channels that the hub opens, and what comes on them. It never waits.

use std::sync::{Arc, Mutex, MutexGuard};

use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelId, ChannelOpenFailure};
use tokio::sync::{mpsc, watch};

use super::Listen;
use super::error::Error;
use super::pin::Pins;
use super::stream::{Incoming, Stream};
use crate::control::dial::readable;
use crate::flow::table::Table;

pub struct Client {
    pub pins: Pins,
    pub table: Table,
    pub listening: Listening,
    pub incoming: mpsc::Sender<Incoming>,
    pub ended: watch::Sender<Option<Error>>,
}

/// What the hub was asked to listen on: it may open channels for these and for nothing else.
#[derive(Clone, Default)]
pub struct Listening(Arc<Mutex<Vec<Asked>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Port(u16),
    /// The hub has not said yet which one it chooses.
    AnyPort,
    Socket(String),
}

impl From<&Listen> for Asked {
    fn from(on: &Listen) -> Self {
        match on {
            Listen::Port { port: 0, .. } => Self::AnyPort,
            Listen::Port { port, .. } => Self::Port(*port),
            Listen::Socket(path) => Self::Socket(path.clone()),
        }
    }
}

/// A request that was not answered yet: what comes for it is expected already, and no more when it was in vain.
pub struct Pending<'a> {
    listening: &'a Listening,
    asked: Asked,
    granted: Option<Asked>,
}

impl Listening {
    pub fn ask(&self, asked: Asked) -> Pending<'_> {
        self.list().push(asked.clone());
        Pending { listening: self, asked, granted: None }
    }

    fn expects_port(&self, port: u32) -> bool {
        self.list().iter().any(|asked| match asked {
            Asked::Port(ours) => u32::from(*ours) == port,
            Asked::AnyPort => true,
            Asked::Socket(_) => false,
        })
    }

    fn expects_socket(&self, path: &str) -> bool {
        self.list().iter().any(|asked| matches!(asked, Asked::Socket(ours) if ours == path))
    }

    fn list(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.0.lock().expect("no panic while held")
    }
}

impl Pending<'_> {
    pub fn granted(mut self, as_what: Asked) {
        self.granted = Some(as_what);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut list = self.listening.list();
        if let Some(index) = list.iter().position(|asked| *asked == self.asked) {
            list.remove(index);
        }
        list.extend(self.granted.take());
    }
}

/// Why the hub opens no channel. It has sent a text too, which russh keeps to itself.
pub fn explain(why: &ChannelOpenFailure) -> String {
    match why {
        ChannelOpenFailure::AdministrativelyProhibited => {
            "not permitted (AllowTcpForwarding and PermitOpen of its sshd_config, permitopen in authorized_keys)"
                .to_owned()
        }
        ChannelOpenFailure::ConnectFailed => "nothing answers there".to_owned(),
        other => format!("{other:?}"),
    }
}

impl Client {
    /// Takes a channel in, if there is room for it.
    async fn take(
        &self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        (originator, port): (Option<(std::net::IpAddr, u16)>, Option<u16>),
    ) {
        let Ok(place) = self.incoming.try_reserve() else {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        };
        // Entered first: it is closed again when this is dropped.
        let Some(served) = self.table.enter(channel.id()) else {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        };
        reply.accept().await;
        place.send(Incoming { stream: Stream::of(channel, served), originator, port });
    }
}

impl Handler for Client {
    type Error = Error;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Error> {
        match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.pins.check(key).map(|()| true),
            PublicKeyOrCertificate::Certificate(_) => Ok(false), // none was asked for
        }
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _address: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        if !self.listening.expects_port(port) {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        let originator = originator.parse().ok().zip(u16::try_from(originator_port).ok());
        self.take(channel, reply, (originator, u16::try_from(port).ok())).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        match self.listening.expects_socket(path) {
            true => self.take(channel, reply, (None, None)).await,
            false => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }

    // What a server has no business to open; russh would accept each of these.

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        refuse(reply).await
    }

    /// A channel that we have asked for: data may come before anybody serves it.
    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _packet: u32,
        _window: u32,
        _: &mut Session,
    ) -> Result<(), Error> {
        self.table.confirm(id);
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Error> {
        if let Some(Err(_too_much)) = self.table.find(id).map(|inbox| inbox.push(data)) {
            // The gate holds a hub up long before, unless it sends more than its window allows.
            self.table.close(id);
            session.close(id)?;
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Error> {
        if let Some(inbox) = self.table.find(id) {
            inbox.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Error> {
        self.table.close(id);
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Error>) -> Result<(), Error> {
        let why = match reason {
            DisconnectReason::ReceivedDisconnect(told) => {
                Error::Lost(format!("the hub says {:?}", readable(&told.message)))
            }
            DisconnectReason::Error(error) => error,
        };
        self.ended.send_replace(Some(why));
        Ok(())
    }
}

async fn refuse(reply: ChannelOpenHandle) -> Result<(), Error> {
    reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    Ok(())
}

impl Drop for Client {
    fn drop(&mut self) {
        self.table.close_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_expected() {
        let listening = Listening::default();
        assert!(!listening.expects_port(22) && !listening.expects_socket("/run/a"));
        let pending = listening.ask(Asked::AnyPort);
        assert!(listening.expects_port(40_000), "the hub may have chosen it already");
        pending.granted(Asked::Port(40_001));
        assert!(listening.expects_port(40_001) && !listening.expects_port(40_000));
        drop(listening.ask(Asked::Socket("/run/a".to_owned())));
        assert!(!listening.expects_socket("/run/a"), "that was refused");
        listening.ask(Asked::Socket("/run/a".to_owned())).granted(Asked::Socket("/run/a".to_owned()));
        assert!(listening.expects_socket("/run/a") && !listening.expects_socket("/run/b"));
    }
}
