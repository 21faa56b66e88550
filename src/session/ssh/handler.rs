//! The russh handler: authentication and channels, turned into commands with byte streams. It decides nothing about
//! disks or prompts and opens nothing.
//!
//! Where russh bites and what is done about it: one unread channel would freeze the connection, so data goes into a queue
//! of its own (`inbox`), and windows shrink as it fills (`backlog`); key probes never count, so they are counted here;
//! handler calls run inside the connection's loop, so whatever takes its time runs in tasks of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use russh::keys::{Certificate, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty, Sig};
use tokio::sync::watch;

use super::auth::{Admission, Policy};
use super::authorized_keys::fingerprint;
use super::forward::Listeners;
use super::request::{Prelude, Wanted};
use super::start::{Opened, name_of};
use crate::config::grants::Grants;
use crate::control::client::Client;
use crate::control::message::{Destination, Login, Request, Size, Terminal};
use crate::flow::inbox::Order;
use crate::flow::table::{MAX_SESSIONS, Table};

/// Keys that one connection may offer. An agent with more than this is rare, and each offer is work for us. russh counts
/// those that are refused (`session::AUTH_TRIES`), here they are counted all.
pub const MAX_OFFERS: u32 = 30;

/// What the session process wants to know of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub authenticated: bool,
    /// Commands that are running.
    pub commands: usize,
}

pub struct Connection {
    pub(super) client: Client,
    policy: Policy,
    pub(super) admission: Option<Admission>,
    /// Of whoever has logged in.
    pub(super) grants: Arc<Grants>,
    offers: u32,
    failed: u32,
    pub(super) table: Table,
    /// Session channels that nothing was asked of yet.
    pub(super) opened: HashMap<ChannelId, Opened>,
    pub(super) listeners: Listeners,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) leaving: watch::Receiver<bool>,
    pub(super) farewell: &'static str,
}

/// Where the session process and its connection tell each other how far they are.
pub struct Ties {
    pub table: Table,
    pub progress: watch::Sender<Progress>,
    /// True when the boot continues.
    pub leaving: watch::Receiver<bool>,
    /// Why, for users.
    pub farewell: &'static str,
}

impl Connection {
    pub fn new(client: Client, policy: Policy, ties: Ties) -> Self {
        Self {
            client,
            policy,
            admission: None,
            grants: Arc::default(),
            offers: 0,
            failed: 0,
            table: ties.table,
            opened: HashMap::new(),
            listeners: Listeners::default(),
            progress: ties.progress,
            leaving: ties.leaving,
            farewell: ties.farewell,
        }
    }

    /// Lets the daemon know who has logged in; it may still refuse.
    async fn log_in(&mut self, user: &str, decision: Result<Admission, String>) -> Auth {
        let granted = match decision {
            Ok(admission) => {
                let Admission { role, key, narrowing, .. } = admission.clone();
                self.client.granted(Request::Login(Login { role, key, narrowing })).await.map(|()| admission)
            }
            refused => refused,
        };
        match granted {
            Ok(admission) => {
                self.grants = Arc::new(admission.grants.clone());
                self.admission = Some(admission);
                Auth::Accept
            }
            Err(reason) => {
                self.report(user, reason).await;
                Auth::reject()
            }
        }
    }

    /// Tells the daemon of a failure, for the log; the first few of a connection are enough.
    async fn report(&mut self, user: &str, reason: String) {
        const REPORTED: u32 = 3;
        self.failed += 1;
        if self.failed <= REPORTED {
            let user: String = user.chars().take(64).collect();
            // Refused only when the daemon is stopping: nobody is left to log it.
            let _ = self.client.granted(Request::LoginFailed { user: Some(user), reason }).await;
        }
    }
}

fn with_key(reason: String, key: &PublicKey) -> String {
    format!("{reason}: {}", fingerprint(key))
}

/// Seconds since 1970 by the machine's clock, which may be wrong; see [`Policy::built`].
fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs())
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        self.offers += 1;
        if self.offers > MAX_OFFERS {
            self.report(user, format!("more than {MAX_OFFERS} keys offered")).await;
            return Err(russh::Error::Disconnect);
        }
        match self.policy.offer(user, (offer.public_key, offer.algorithm), now()) {
            Ok(()) => {
                // So the daemon lets others go first if it has to. A daemon that is stopping refuses it: no matter.
                let _ = self.client.granted(Request::KeyKnown).await;
                Ok(Auth::Accept)
            }
            Err(reason) => {
                self.report(user, with_key(reason, offer.public_key)).await;
                Ok(Auth::reject())
            }
        }
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let decision = self.policy.key(user, (key.public_key, key.algorithm), now());
        Ok(self.log_in(user, decision.map_err(|reason| with_key(reason, key.public_key))).await)
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Self::Error> {
        let decision = self.policy.certificate(user, certificate, now());
        Ok(self.log_in(user, decision).await)
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), Self::Error> {
        self.progress.send_modify(|progress| progress.authenticated = true);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let id = channel.id();
        let sessions = self.opened.len() + self.progress.borrow().commands;
        let (_, write) = channel.split(); // the read half is dropped: data comes through `Handler::data`
        match self.table.enter(id) {
            Some(served) if self.admission.is_some() && sessions < MAX_SESSIONS => {
                self.opened.insert(id, Opened { write, served, prelude: Prelude::default() });
                reply.accept().await;
            }
            _ => reply.reject(ChannelOpenFailure::ResourceShortage).await,
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        match u16::try_from(port) {
            Ok(port) => self.connect(channel, Destination::Tcp { host: host.to_owned(), port }, reply).await,
            Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.connect(channel, Destination::Unix(path.to_owned()), reply).await;
        Ok(())
    }

    /// A channel that was opened from here, for a connection that came in.
    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _packet: u32,
        _window: u32,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.table.confirm(id);
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let Ok(asked) = u16::try_from(*port) else { return Ok(false) };
        let on = Destination::Tcp { host: address.to_owned(), port: asked };
        let listening = self.listen(on, session).await?;
        *port = listening.map_or(*port, u32::from);
        Ok(listening.is_some())
    }

    async fn cancel_tcpip_forward(&mut self, address: &str, port: u32, _: &mut Session) -> Result<bool, Self::Error> {
        let port = u16::try_from(port).ok();
        Ok(port.is_some_and(|port| self.listeners.cancel(&Destination::Tcp { host: address.to_owned(), port })))
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, Self::Error> {
        Ok(self.listen(Destination::Unix(path.to_owned()), session).await?.is_some())
    }

    async fn cancel_streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Self::Error> {
        Ok(self.listeners.cancel(&Destination::Unix(path.to_owned())))
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.opened.get_mut(&id) {
            Some(opened) if self.grants.pty => {
                let modes = modes.iter().map(|(mode, value)| (*mode as u8, *value)).collect();
                let size = Size { columns, rows, width, height };
                opened.prelude.terminal = Some(Terminal { name: term.to_owned(), size, modes });
                session.channel_success(id)
            }
            _ => session.channel_failure(id),
        }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Wanted::Login, session)
    }

    async fn exec_request(&mut self, id: ChannelId, line: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Wanted::Line(line), session)
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        match name {
            "sftp" if self.grants.sftp.is_some() || self.grants.command.is_some() => {
                self.start(id, Wanted::Sftp, session)
            }
            _ => session.channel_failure(id),
        }
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.opened.get_mut(&id).is_some_and(|opened| opened.prelude.set(name, value)) {
            true => session.channel_success(id),
            false => session.channel_failure(id),
        }
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let size = Size { columns, rows, width, height };
        if let Some(terminal) = self.opened.get_mut(&id).and_then(|opened| opened.prelude.terminal.as_mut()) {
            terminal.size = size;
        } else if let Some(inbox) = self.table.find(id) {
            inbox.order(Order::Size(size));
        }
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(inbox) = self.table.find(id) {
            inbox.order(Order::Signal(name_of(signal)));
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        match self.table.find(id).map(|inbox| inbox.push(data)) {
            Some(Err(_too_much)) => self.overflow(id, session),
            _ => Ok(()),
        }
    }

    fn adjust_window(&mut self, id: ChannelId, _current: u32) -> u32 {
        self.table.window(id)
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(inbox) = self.table.find(id) {
            inbox.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.opened.remove(&id);
        self.table.close(id);
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.table.close_all();
    }
}
