//! The process of one connection: it speaks SSH over the byte stream that it is given and asks the daemon for
//! everything else. It opens nothing itself; its crash or flood is its own, and its memory is gone when it ends.

pub mod command;
pub mod line;
mod paced;
pub mod run;
pub mod screen;
pub mod ssh;
mod stream;
pub mod text;

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use russh::keys::Certificate;
use russh::server::{Config, RunningSession, run_stream};
use russh::{Limits, MethodKind, MethodSet, SshId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::control::client::Client;
use crate::control::frame;
use crate::control::message::{Event, Phase, Request, Setup};
use crate::flow::table::Table;
use crate::hardening;
use paced::Paced;
use ssh::IDENTIFICATION;
use ssh::algorithms::{nothing_in_common, preferred};
use ssh::auth::Policy;
use ssh::authorized_keys;
use ssh::handler::{Connection, MAX_OFFERS, Progress, Ties};
use stream::Greeted;

/// The daemon sends the setup at once; without it there is nothing to do here. As long as people usually have to log in: on a
/// machine that a flood keeps busy, the owner's session must not be the one that gives up.
const SETUP_DEADLINE: Duration = Duration::from_secs(60);
/// How long running commands have at hand-over to say goodbye.
const FAREWELL: Duration = Duration::from_millis(1500);
/// How long the peer has to leave by itself, and then to read the disconnect message.
const LEAVE: Duration = Duration::from_millis(500);
/// A silent peer is asked whether it is there after this time, and again, [`KEEPALIVES`] times in all. Without a reply it
/// is given up one such time later, 48 s after its last sign of life: dead peers are gone within a minute, and an outage
/// of half a minute is survived.
const KEEPALIVE: Duration = Duration::from_secs(12);
const KEEPALIVES: usize = 3;
/// Authentication requests of one connection that may be refused, each key that is offered among them. More than the 6 of
/// MaxAuthTries (sshd_config(5)): that is for passwords, and keeps out people whose agent has seven keys.
const AUTH_TRIES: usize = MAX_OFFERS as usize;
/// New keys after so many bytes in one direction, or so much time (RFC 4253 section 9).
const REKEY_BYTES: usize = 1 << 30;
const REKEY_TIME: Duration = Duration::from_secs(3600);
/// The largest packet of data that a client may send, in bytes.
const PACKET: u32 = 64 << 10;
/// Packets of data on their way out, of all channels: written at once as far as they are there. Clients of today take
/// 32 KiB in a packet.
const OUTPUT_PACKETS: usize = 32;
/// Refusals take this long, so that their time tells nothing about why.
const REJECTION: Duration = Duration::from_millis(100);

/// Serves the connection on descriptor 0, with the daemon on descriptor 1 (see `daemon::listener`).
pub fn main() -> anyhow::Result<()> {
    // The runtime opens what it needs at once. It never starts a thread: nothing here may use tokio's for blocking work.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let refused = hardening::confine_session();
    runtime.block_on(async {
        let stream = std::net::TcpStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        stream.set_nonblocking(true)?;
        let control = std::os::unix::net::UnixStream::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        control.set_nonblocking(true).context("descriptor 1 is no control socket; this command is for the daemon")?;
        for reason in refused {
            // Where the log takes no more, people can log in all the same; `eprintln!` would end this process.
            let _ = writeln!(std::io::stderr(), "vestibule session: ignoring: {reason}");
        }
        let (stream, table) = (Greeted::new(TcpStream::from_std(stream)?, IDENTIFICATION), Table::default());
        let stream = Paced::new(stream, table.backlog());
        serve(stream, UnixStream::from_std(control)?, table).await
    })
}

/// The whole life of a session, in order.
async fn serve<S>(stream: S, mut control: UnixStream, table: Table) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let setup = receive_setup(&mut control).await?;
    let login_deadline = Duration::from_secs(setup.login_seconds);
    let (keys, _) = authorized_keys::parse(&setup.authorized_keys.0, &setup.authorized_keys.1);
    let config = Arc::new(server_config(&setup)?);
    let client = Client::start(control);
    let (progress, mut watched) = watch::channel(Progress::default());
    let (leave, leaving) = watch::channel(false);
    let farewell = setup.roles.farewell();
    let policy = Policy { keys, roles: setup.roles, address: setup.peer, built: setup.built };
    let ties = Ties { table, progress, leaving, farewell };
    let connection = Connection::new(client.clone(), policy, ties);

    let login = async {
        // The client's version line is awaited in here, so this is part of the login time.
        let mut running = match run_stream(config, stream, connection).await {
            Ok(running) => Box::pin(running),
            Err(error) => return tell(&client, &error).await,
        };
        let authenticated = tokio::select! {
            ended = &mut running => return match ended {
                Ok(()) => None,
                Err(error) => tell(&client, &error).await,
            },
            Ok(_) = watched.wait_for(|progress| progress.authenticated) => true, // an error when that has ended
        };
        authenticated.then_some(running)
    };
    // Too slow, or never logged in: that is the peer's affair, and this process ends.
    if let Ok(Some(running)) = timeout(login_deadline, login).await {
        stay(running, &client, watched, (leave, farewell)).await;
    }
    Ok(())
}

/// Says in the log what the owner of the client can mend. Anything else is the peer's affair.
async fn tell<T>(client: &Client, error: &russh::Error) -> Option<T> {
    if let Some(reason) = nothing_in_common(error) {
        // Refused only when the daemon is stopping: nobody is left to log it.
        let _ = client.granted(Request::LoginFailed { user: None, reason }).await;
    }
    None
}

async fn receive_setup(control: &mut UnixStream) -> anyhow::Result<Setup> {
    match timeout(SETUP_DEADLINE, frame::read::<(u32, Event)>(control)).await.context("the daemon sent no setup")?? {
        Some((_, Event::Setup(setup))) => Ok(setup),
        _ => bail!("the daemon sent something else than a setup"),
    }
}

pub(crate) fn server_config(setup: &Setup) -> anyhow::Result<Config> {
    let key = russh::keys::PrivateKey::from_openssh(setup.host_key.expose()).context("reading the host key")?;
    let certificate = setup.host_certificate.as_deref().map(Certificate::from_openssh).transpose();
    let certificates = certificate.context("reading the host certificate")?.into_iter().collect();
    Ok(Config {
        server_id: SshId::Standard(IDENTIFICATION.trim_end().into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REJECTION,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        certificates,
        preferred: preferred(setup.post_quantum_only),
        max_auth_attempts: AUTH_TRIES,
        inactivity_timeout: None, // idle screens may wait for days; dead peers are found by keep-alive
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES,
        limits: Limits::new(REKEY_BYTES, REKEY_BYTES, REKEY_TIME),
        window_size: crate::flow::backlog::WINDOW, // no channel is opened before the login
        maximum_packet_size: PACKET,
        channel_buffer_size: 16,
        event_buffer_size: OUTPUT_PACKETS,
        ..Config::default()
    })
}

/// After the login: until the peer leaves or the boot continues.
async fn stay(
    mut running: std::pin::Pin<Box<RunningSession<Connection>>>,
    client: &Client,
    mut progress: watch::Receiver<Progress>,
    (leave, farewell): (watch::Sender<bool>, &str),
) {
    tokio::select! {
        _ = &mut running => return, // the peer's affair, whatever it was
        () = hand_over(client) => {}
    }
    leave.send_replace(true);
    // Commands see the hand-over themselves, say so to their users and end; then clients leave by themselves, with the
    // exit status. Only a client that has nothing running, or stays, is disconnected.
    if timeout(FAREWELL, progress.wait_for(|progress| progress.commands == 0)).await.is_ok()
        && timeout(LEAVE, &mut running).await.is_ok()
    {
        return;
    }
    let handle = running.handle();
    let goodbye = handle.disconnect(russh::Disconnect::ByApplication, farewell.into(), "".into());
    if timeout(LEAVE, goodbye).await.is_ok_and(|sent| sent.is_ok()) {
        let _ = timeout(LEAVE, running).await; // the message goes out; whether it is read is the peer's affair
    }
}

/// Until the daemon says that the real system takes over, or is gone.
async fn hand_over(client: &Client) {
    let mut watch = client.request(Request::Watch { log: false });
    loop {
        match watch.next().await {
            Ok(Event::Status(status)) if status.phase != Phase::HandOver => {}
            _ => return,
        }
    }
}
