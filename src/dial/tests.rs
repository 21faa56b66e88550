//! Against russh's own server, as a hub that behaves and as one that doesn't. OpenSSH's: tests/dial.

use std::sync::Arc;
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{self, Auth, Msg, RunningSession, Session};
use russh::{Channel, ChannelMsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn key(seed: u8) -> PrivateKey {
    Ed25519Keypair::from_seed(&[seed; 32]).into()
}

fn pins(seed: u8) -> Pins {
    Pins::parse(&[key(seed).public_key().to_openssh().unwrap()]).unwrap()
}

/// A connection to port 2 was asked for; it may be answered; its channel is closed. For one test.
static ASKED: Notify = Notify::const_new();
static ANSWER: Notify = Notify::const_new();
static CLOSED: Notify = Notify::const_new();

/// Lets our key in, and listens wherever it is asked to, but on port 1. Connects, but not to port 1, and late to port 2.
struct Server;

impl server::Handler for Server {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, offered: server::VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(if offered.public_key.key_data() == key(1).public_key().key_data() { Auth::Accept } else { Auth::reject() })
    }

    async fn tcpip_forward(&mut self, _: &str, port: &mut u32, _: &mut Session) -> Result<bool, Self::Error> {
        if *port == 0 {
            *port = 40_000;
        }
        Ok(*port != 1)
    }

    async fn streamlocal_forward(&mut self, _: &str, _: &mut Session) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: server::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if port == 1 {
            reply.reject(russh::ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        }
        if port == 2 {
            tokio::spawn(async move {
                ASKED.notify_one();
                ANSWER.notified().await;
                reply.accept().await;
                until_closed(channel).await;
                CLOSED.notify_one();
            });
            return Ok(());
        }
        reply.accept().await;
        tokio::spawn(async move {
            let mut stream = channel.into_stream();
            let mut text = Vec::new();
            stream.read_to_end(&mut text).await.unwrap();
            text.reverse();
            stream.write_all(&text).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        Ok(())
    }
}

/// What comes until the other side has closed it.
async fn until_closed(channel: Channel<Msg>) -> Vec<u8> {
    let (mut read, _write) = channel.split();
    let mut text = Vec::new();
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => text.extend_from_slice(&data),
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    text
}

async fn serve(stream: UnixStream) -> RunningSession<Server> {
    let config = server::Config { keys: vec![key(2)], auth_rejection_time: Duration::ZERO, ..Default::default() };
    server::run_stream(Arc::new(config), stream, Server).await.unwrap()
}

async fn log_in_with(
    (ours, pinned): (u8, u8),
    patience: Patience,
) -> (Result<(Hub, Receiver<Incoming>), Error>, Option<server::Handle>) {
    let (near, far) = UnixStream::pair().unwrap();
    let login = Login { user: "box".to_owned(), key: key(ours), pins: pins(pinned) };
    let (hub, served) = tokio::join!(connect_with(near, login, patience), async {
        let running = serve(far).await;
        let handle = running.handle();
        tokio::spawn(running);
        handle
    });
    (hub, Some(served))
}

pub async fn logged_in(patience: Patience) -> (Hub, Receiver<Incoming>, server::Handle) {
    let (hub, server) = log_in_with((1, 2), patience).await;
    let (hub, incoming) = hub.unwrap_or_else(|error| panic!("{error}"));
    (hub, incoming, server.unwrap())
}

pub fn port(port: u16) -> Listen {
    Listen::Port { bind: "localhost".to_owned(), port }
}

#[tokio::test]
async fn a_hub_with_another_key_gets_nothing_and_a_key_that_is_refused_is_told() {
    let (refused, _) = log_in_with((1, 3), Patience::READERS).await;
    assert!(matches!(refused, Err(Error::KeyChanged { .. })));
    let (refused, _) = log_in_with((4, 2), Patience::READERS).await;
    let Err(Error::KeyRefused { user, fingerprint }) = refused else { panic!("this key is let in nowhere") };
    assert_eq!((user.as_str(), fingerprint), ("box", pin::fingerprint(key(4).public_key())));
}

#[tokio::test]
async fn what_is_no_ssh_server_is_called_that() {
    for text in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(text).await.unwrap();
        far.shutdown().await.unwrap();
        let login = Login { user: "box".to_owned(), key: key(1), pins: pins(2) };
        let Err(error) = connect(near, login).await else { panic!("{text:?}") };
        assert!(matches!(error, Error::NoServer(_)), "{error}");
    }
}

#[tokio::test]
async fn streams_come_in_where_it_was_asked_to_listen_and_nothing_else_is_accepted() {
    let (hub, mut incoming, server) = logged_in(Patience::READERS).await;
    assert!(matches!(hub.listen(&port(1)).await, Err(Error::ListenRefused(_))));
    let chosen = hub.listen(&port(0)).await.unwrap();
    assert_eq!(chosen.to_string(), "localhost:40000");
    let path = Listen::Socket("/run/box".to_owned());
    hub.listen(&path).await.unwrap();
    for (to, ours) in [(40_000, true), (40_001, false), (1, false)] {
        let opened = server.channel_open_forwarded_tcpip("localhost", to, "192.0.2.1", 4711).await;
        assert_eq!(opened.is_ok(), ours, "port {to}");
    }
    let first = incoming.recv().await.unwrap();
    assert_eq!((first.originator, first.port), (Some(([192, 0, 2, 1].into(), 4711)), Some(40_000)));
    assert!(server.channel_open_session().await.is_err());
    assert!(server.channel_open_agent().await.is_err());
    assert!(server.channel_open_x11("192.0.2.1", 1).await.is_err());
    assert!(server.channel_open_direct_tcpip("localhost", 22, "192.0.2.1", 1).await.is_err());
    assert!(server.channel_open_forwarded_streamlocal("/run/other").await.is_err());

    // Both ways, with a half-close in between.
    let there = server.channel_open_forwarded_streamlocal("/run/box").await.unwrap();
    let came = incoming.recv().await.unwrap();
    assert_eq!((came.originator, came.port), (None, None));
    let (near, mut far) = UnixStream::pair().unwrap();
    let relay = tokio::spawn(came.stream.relay(near.into_std().unwrap().into()));
    let (mut read, write) = there.split();
    write.data_bytes(b"question".to_vec()).await.unwrap();
    write.eof().await.unwrap();
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    far.write_all(b"answer").await.unwrap();
    drop(far);
    let mut text = Vec::new();
    while let Some(message) = read.wait().await {
        if let ChannelMsg::Data { data } = message {
            text.extend_from_slice(&data);
        }
    }
    assert_eq!(text, b"answer");
    timeout(PATIENCE, relay).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_hub_connects_for_us() {
    let (hub, _incoming, _server) = logged_in(Patience::READERS).await;
    let Err(error) = hub.open("inside", 1).await else { panic!("nothing answers there") };
    assert!(error.to_string().contains("inside:1"), "{error}");
    let stream = hub.open("inside", 80).await.unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    tokio::spawn(stream.relay(near.into_std().unwrap().into()));
    let sent: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    far.write_all(&sent).await.unwrap();
    far.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(PATIENCE, far.read_to_end(&mut back)).await.unwrap().unwrap();
    back.reverse();
    assert!(back == sent, "{} bytes of {}", back.len(), sent.len());
    let closed = hub.closed();
    hub.goodbye("test").await;
    timeout(PATIENCE, closed).await.unwrap();
}

/// A stranger who connects to the hub's port and then says nothing must not keep one of our channels for ever.
#[tokio::test]
async fn a_channel_ends_with_whoever_served_it() {
    let (hub, mut incoming, server) = logged_in(Patience::SESSIONS).await;
    hub.listen(&port(2000)).await.unwrap();
    let there = server.channel_open_forwarded_tcpip("localhost", 2000, "192.0.2.1", 1).await.unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let relay = tokio::spawn(incoming.recv().await.unwrap().stream.relay(near.into_std().unwrap().into()));
    far.write_all(b"too late").await.unwrap();
    drop(far);
    assert_eq!(timeout(PATIENCE, until_closed(there)).await.unwrap(), b"too late");
    timeout(PATIENCE, relay).await.unwrap().unwrap().unwrap();
    assert!(hub.table.is_empty());
}

#[tokio::test]
async fn a_channel_that_is_opened_too_late_is_closed_again() {
    let (hub, _incoming, _server) = logged_in(Patience::READERS).await;
    tokio::select! {
        _ = hub.open("inside", 2) => panic!("nobody has answered yet"),
        asked = timeout(PATIENCE, ASKED.notified()) => asked.unwrap(),
    }
    ANSWER.notify_one();
    timeout(PATIENCE, CLOSED.notified()).await.unwrap();
    assert!(hub.table.is_empty());
}

/// What nobody takes must neither fill the memory nor hold up the others for ever.
#[tokio::test]
async fn a_stream_that_nobody_takes_is_closed_and_the_others_go_on() {
    let (hub, mut incoming, server) = logged_in(Patience::READERS).await;
    hub.listen(&port(2000)).await.unwrap();
    // Only what is written to is kept: russh would wait for somebody to read the rest.
    let open = async || server.channel_open_forwarded_tcpip("localhost", 2000, "192.0.2.1", 1).await.unwrap().split().1;
    let (stuck, other) = (open().await, open().await);
    let (near, _nobody_reads) = UnixStream::pair().unwrap();
    tokio::spawn(incoming.recv().await.unwrap().stream.relay(near.into_std().unwrap().into()));
    let (near, mut far) = UnixStream::pair().unwrap();
    tokio::spawn(incoming.recv().await.unwrap().stream.relay(near.into_std().unwrap().into()));
    // A russh server whose channel is closed with data that doesn't fit any more sends nothing on others either, so this one
    // stops in time.
    let (stop, stopping) = watch::channel(false);
    let flood =
        tokio::spawn(async move { while !*stopping.borrow() && stuck.data_bytes(vec![0; 32 << 10]).await.is_ok() {} });
    // Until the queue is full; then the hub is held up, and with it what comes here.
    let full = async {
        while hub.table.fullest().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, full).await.unwrap();
    stop.send_replace(true);
    assert!(hub.table.fullest().unwrap().1 < 4 << 20);
    let late = tokio::spawn(async move { other.data_bytes(b"goes on".to_vec()).await.is_ok() });
    let mut text = [0; 7];
    timeout(PATIENCE, far.read_exact(&mut text)).await.unwrap().unwrap();
    assert_eq!(&text, b"goes on");
    assert!(hub.table.fullest().is_none() && late.await.unwrap());
    timeout(PATIENCE, flood).await.unwrap().unwrap();
}

/// A stranger, who sends much before a session reads it, holds up nobody, and is closed long before a queue is full.
#[tokio::test]
async fn a_session_that_reads_nothing_is_closed_soon() {
    let (hub, mut incoming, server) = logged_in(Patience::SESSIONS).await;
    hub.listen(&port(2000)).await.unwrap();
    let open = async || server.channel_open_forwarded_tcpip("localhost", 2000, "192.0.2.1", 1).await.unwrap().split().1;
    let (stuck, other) = (open().await, open().await);
    let (near, _nobody_reads) = UnixStream::pair().unwrap();
    nix::sys::socket::setsockopt(&near, nix::sys::socket::sockopt::SndBuf, &(64 << 10)).unwrap(); // whatever the default is
    let relay = tokio::spawn(incoming.recv().await.unwrap().stream.relay(near.into_std().unwrap().into()));
    let (near, mut far) = UnixStream::pair().unwrap();
    tokio::spawn(incoming.recv().await.unwrap().stream.relay(near.into_std().unwrap().into()));
    stuck.data_bytes(vec![0; 1 << 20]).await.unwrap();
    // Each of these is read while the other one waits, and has it looked at.
    let mut text = [0; 7];
    let closed = async {
        while !relay.is_finished() {
            other.data_bytes(b"goes on".to_vec()).await.unwrap();
            far.read_exact(&mut text).await.unwrap();
            assert!(hub.table.fullest().is_none());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, closed).await.unwrap();
    other.data_bytes(b"goes on".to_vec()).await.unwrap();
    timeout(PATIENCE, far.read_exact(&mut text)).await.unwrap().unwrap();
    assert_eq!(&text, b"goes on");
}
