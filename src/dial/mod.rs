//! The client side of SSH: a connection to another server (the *hub*) that is asked to listen for us, or to connect for
//! us (RFC 4254 section 7 and OpenSSH's PROTOCOL, section 2.4). It knows neither the daemon nor files: whoever dials has
//! the stream, the key and the hub's host key, which is pinned.
//!
//! Where russh bites: a client's channels get their whole windows back as soon as data has come, whoever reads it. So what
//! comes is queued for each channel, and when one queue is full nothing more is read from the hub (`gate`), for some
//! seconds; a channel whose bytes nobody takes for so long is closed.

pub mod backoff;
mod command;
pub mod error;
mod gate;
mod handler;
pub mod pin;
mod stream;
#[cfg(test)]
pub mod tests;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{AuthResult, Config, Handle, Msg, connect_stream};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg};
use russh::{Channel, Disconnect, Limits, SshId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::flow::backlog::WINDOW;
use crate::flow::table::{MAX_CHANNELS, Table};
use crate::session::ssh::algorithms;
pub use error::Error;
use gate::Gate;
pub use gate::Patience;
use handler::{Asked, Listening};
pub use pin::Pins;
pub use stream::{Incoming, Stream};

/// From the hub's first byte to the login. A hub on a slow board takes some seconds for its part.
const LOGIN_DEADLINE: Duration = Duration::from_secs(20);
/// An answer to a request. A hub that has to resolve a name, or to connect somewhere, may take its time.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// How long the goodbye may take on its way out.
const LEAVE: Duration = Duration::from_millis(500);
/// A silent hub is asked whether it is there after this time, and again, [`KEEPALIVES`] times in all, and is given up one
/// such time later: 28 s after its last sign of life.
const KEEPALIVE: Duration = Duration::from_secs(7);
const KEEPALIVES: usize = 3;
/// For the socket below (tcp(7), TCP_USER_TIMEOUT), in milliseconds: data that is not acknowledged for so long means that the
/// hub is gone, also when it can't even be asked.
pub const USER_TIMEOUT_MS: u32 = 25_000;
/// New keys after so many bytes in one direction, or so much time (RFC 4253 section 9).
const REKEY_BYTES: usize = 1 << 30;
const REKEY_TIME: Duration = Duration::from_secs(3600);
/// The largest packet of data that the hub may send, in bytes.
const PACKET: u32 = 32 << 10;

/// Who logs in, and at which server.
pub struct Login {
    pub user: String,
    pub key: PrivateKey,
    pub pins: Pins,
}

/// Where a hub is to listen.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Listen {
    /// `bind` as in `ssh -R` ("localhost"); the hub chooses a port in the place of 0.
    Port { bind: String, port: u16 },
    /// A UNIX socket's path.
    Socket(String),
}

/// Where a hub listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    Port { bind: String, port: u16 },
    Socket(String),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Port { bind, port } => write!(f, "{}:{port}", bracketed(bind)),
            Self::Socket(path) => f.write_str(path),
        }
    }
}

/// An address as it stands before a colon and a port: one of IPv6 in brackets, also for sshd's `permitlisten`.
pub fn bracketed(address: &str) -> std::borrow::Cow<'_, str> {
    if address.contains(':') { format!("[{address}]").into() } else { address.into() }
}

/// A hub that has let us in. Dropping it ends the connection.
pub struct Hub {
    handle: Arc<Handle<handler::Client>>,
    table: Table,
    listening: Listening,
    closed: watch::Receiver<Option<Error>>,
    /// Channels that are being opened.
    openings: Mutex<JoinSet<()>>,
}

/// Logs in over a stream that is connected to the hub. What comes in where the hub listens is received from the second.
pub async fn connect<S>(stream: S, login: Login) -> Result<(Hub, mpsc::Receiver<Incoming>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    connect_with(stream, login, Patience::READERS).await
}

/// The same, with another patience with those who don't take what comes.
pub async fn connect_with<S>(
    stream: S,
    login: Login,
    patience: Patience,
) -> Result<(Hub, mpsc::Receiver<Incoming>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let login = log_in(stream, login, patience);
    timeout(LOGIN_DEADLINE, login).await.map_err(|_| Error::TimedOut("logging in"))?
}

async fn log_in<S>(stream: S, login: Login, patience: Patience) -> Result<(Hub, mpsc::Receiver<Incoming>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Login { user, key, pins } = login;
    if key.algorithm().is_rsa() || key.is_encrypted() {
        return Err(Error::UnfitKey);
    }
    let config = Arc::new(config(&pins));
    let table = Table::default();
    let listening = Listening::default();
    let (incoming, received) = mpsc::channel(MAX_CHANNELS);
    let (ended, closed) = watch::channel(None);
    let client = handler::Client { pins, table: table.clone(), listening: listening.clone(), incoming, ended };
    let connected = connect_stream(config, Gate::new(stream, table.clone(), patience), client).await;
    let mut handle = connected.map_err(|error| match error {
        Error::Lost(why) => Error::NoServer(format!("{why}, before the key exchange was done; is the hub busy?")),
        other => other,
    })?;
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    let fingerprint = pin::fingerprint(key.public_key());
    match handle.authenticate_publickey(&user, key).await {
        Ok(AuthResult::Success) => {
            let hub = Hub { handle: Arc::new(handle), table, listening, closed, openings: Mutex::default() };
            Ok((hub, received))
        }
        Ok(AuthResult::Failure { partial_success: true, .. }) => Err(Error::KeyNotEnough),
        // russh reports a connection that was closed like a refusal.
        Ok(AuthResult::Failure { .. }) if handle.is_closed() => Err(reason(&closed)),
        Ok(AuthResult::Failure { .. }) => Err(Error::KeyRefused { user, fingerprint }),
        Err(_) => Err(reason(&closed)),
    }
}

fn config(pins: &Pins) -> Config {
    Config {
        client_id: SshId::Standard(algorithms::CLIENT_IDENTIFICATION.into()),
        preferred: pins.preferred(),
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: 16,
        inactivity_timeout: None, // a machine may wait for days
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES,
        limits: Limits::new(REKEY_BYTES, REKEY_BYTES, REKEY_TIME),
        ..Config::default()
    }
}

/// Why the connection has ended.
fn reason(closed: &watch::Receiver<Option<Error>>) -> Error {
    closed.borrow().clone().unwrap_or(Error::Lost("the hub has closed it".to_owned()))
}

impl Hub {
    /// Asks the hub to listen. OpenSSH's answer has no reason in it.
    pub async fn listen(&self, on: &Listen) -> Result<Bound, Error> {
        let asked = self.listening.ask(Asked::from(on));
        let answer = async {
            match on {
                Listen::Port { bind, port } => self.handle.tcpip_forward(bind, u32::from(*port)).await,
                Listen::Socket(path) => self.handle.streamlocal_forward(path).await.map(|()| 0),
            }
        };
        let answer = timeout(ANSWER_DEADLINE, answer).await.map_err(|_| Error::TimedOut("asking it to listen"))?;
        let chosen = match answer {
            Ok(chosen) => chosen,
            Err(russh::Error::RequestDenied) => return Err(Error::ListenRefused(on.clone())),
            Err(_) => return Err(self.lost().await),
        };
        Ok(match on {
            Listen::Socket(path) => {
                asked.granted(Asked::Socket(path.clone()));
                Bound::Socket(path.clone())
            }
            Listen::Port { bind, port } => {
                // The chosen one is only told for a port of 0.
                let chosen = u16::try_from(chosen).ok().filter(|chosen| *chosen != 0 && *port == 0);
                let port = chosen.unwrap_or(*port);
                if port == 0 {
                    return Err(Error::ListenRefused(on.clone()));
                }
                asked.granted(Asked::Port(port));
                Bound::Port { bind: bind.clone(), port }
            }
        })
    }

    /// Has the hub connect to a port, as `ssh -L` does.
    pub async fn open(&self, host: &str, port: u16) -> Result<Stream, Error> {
        if self.table.is_full() {
            return Err(Error::TooManyChannels);
        }
        let to = || format!("{host}:{port}");
        let (handle, there) = (self.handle.clone(), host.to_owned());
        let opening = async move { handle.channel_open_direct_tcpip(there, u32::from(port), "127.0.0.1", 0).await };
        match self.opened(opening, "having it connect").await? {
            Ok(channel) => Stream::new(channel, &self.table).ok_or(Error::Unreachable(to(), "closed again".to_owned())),
            Err(russh::Error::ChannelOpenFailure(why)) => Err(Error::Unreachable(to(), handler::explain(&why))),
            Err(_) => Err(self.lost().await),
        }
    }

    /// The answer to a request for a channel. Who asks may go before it comes, and the answer may come late: then the channel is
    /// closed again, which would have its place in the table for ever.
    async fn opened(
        &self,
        opening: impl Future<Output = Result<Channel<Msg>, russh::Error>> + Send + 'static,
        what: &'static str,
    ) -> Result<Result<Channel<Msg>, russh::Error>, Error> {
        let (tell, told) = oneshot::channel();
        let table = self.table.clone();
        {
            let mut openings = self.openings.lock().expect("no panic while held");
            while openings.try_join_next().is_some() {} // those that are done
            openings.spawn(async move {
                if let Err(Ok(late)) = tell.send(opening.await) {
                    table.close(late.id());
                    let _ = late.close().await; // fails only when the connection is gone
                }
            });
        }
        match timeout(ANSWER_DEADLINE, told).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(_)) => Err(self.lost().await),
            Err(_) => Err(Error::TimedOut(what)),
        }
    }

    /// Until the connection has ended, and why. Does not need the hub.
    pub fn closed(&self) -> impl Future<Output = Error> + Send + 'static {
        let mut closed = self.closed.clone();
        async move {
            // The handler says why, or is gone without a word.
            let _ = closed.wait_for(Option::is_some).await;
            reason(&closed)
        }
    }

    async fn lost(&self) -> Error {
        timeout(LEAVE, self.closed()).await.unwrap_or(Error::Lost("it does not answer".to_owned()))
    }

    /// Ends the connection in order. Lasts a second at most.
    pub async fn goodbye(self, why: &str) {
        let leaving = self.handle.disconnect(Disconnect::ByApplication, why, "");
        if timeout(LEAVE, leaving).await.is_ok_and(|sent| sent.is_ok()) {
            let _ = timeout(LEAVE, self.closed()).await; // it goes out; what the hub makes of it is its affair
        }
    }
}
