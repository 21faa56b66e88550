//! A whole conversation before the login, by somebody who has no key: whatever is said, nobody is logged in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::client::KeyboardInteractiveAuthResponse;
use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{SendError, client, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::role::Roles;
use crate::control::client::Client;
use crate::control::frame;
use crate::control::message::{Event, Request, Setup};
use crate::flow::table::Table;
use crate::secret::Secret;
use crate::session::ssh::auth::Policy;
use crate::session::ssh::authorized_keys::parse;
use crate::session::ssh::handler::{Connection, Progress, Ties};

/// A server that doesn't answer to what can't be said before the login.
const PATIENCE: Duration = Duration::from_millis(500);
/// More attempts would only repeat themselves.
const MOST: usize = 8;
const USERS: [&str; 6] = ["root", "unlock", "peek", "sftp", "", "nobody\n\u{1b}[2J"];
const NOW: u64 = 1_800_000_000;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

/// Of these keys, the client has only those whose line doesn't count for it, and one that stands nowhere.
const LISTED: u8 = 1;
const ELSEWHERE: u8 = 2;
const EXPIRED: u8 = 3;
const AUTHORITY: u8 = 4;
const STRANGER: u8 = 5;

fn policy() -> Policy {
    let lines = [
        ("", LISTED),
        ("from=\"10.0.0.0/8\"", ELSEWHERE),
        ("expiry-time=\"20200101\"", EXPIRED),
        ("cert-authority", AUTHORITY),
        ("verify-required", STRANGER),
    ];
    let line = |(options, seed): &(&str, u8)| format!("{options} {}\n", key(*seed).public_key().to_openssh().unwrap());
    let (keys, problems) = parse("file", &lines.iter().map(line).collect::<String>());
    assert_eq!((keys.len(), problems.len()), (4, 1));
    Policy { keys, roles: Roles::default(), address: "192.0.2.7".parse().ok(), built: NOW }
}

/// The first byte says whether the rest are bytes as they are (0), or attempts: each a byte for its kind, one for the user
/// and one more.
pub fn before_login(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (progress, watched) = watch::channel(Progress::default());
        let (control, daemon) = UnixStream::pair().unwrap();
        let asked_in = Arc::new(AtomicBool::new(false));
        tokio::spawn(willing_daemon(daemon, asked_in.clone()));
        let (_staying, leaving) = watch::channel(false);
        let ties = Ties { table: Table::default(), progress, leaving, farewell: "" };
        let connection = Connection::new(Client::start(control), policy(), ties);
        let config = server::Config { auth_rejection_time: Duration::ZERO, ..server_config() };
        let serving = tokio::spawn(async move {
            if let Ok(session) = server::run_stream(Arc::new(config), theirs, connection).await {
                let _ = session.await; // however it ends
            }
        });
        match input {
            [0, raw @ ..] => raw_bytes(ours, raw).await,
            attempts => tell_attempts(ours, attempts).await,
        }
        let _ = timeout(PATIENCE, serving).await;
        assert!(!watched.borrow().authenticated, "logged in without a key");
        assert!(!asked_in.load(Ordering::Relaxed), "the daemon was asked for a login");
    });
}

fn server_config() -> server::Config {
    let text = key(9).to_openssh(Default::default()).unwrap();
    let setup = Setup {
        host: "host".to_owned(),
        peer: Some([192, 0, 2, 7].into()),
        built: NOW,
        host_key: Secret::new(text.as_bytes().to_vec()),
        host_certificate: None,
        authorized_keys: Default::default(),
        roles: Roles::default(),
        post_quantum_only: false,
        login_seconds: 60,
    };
    crate::session::server_config(&setup).unwrap()
}

/// Grants everything, so that nothing but the session stands in between.
async fn willing_daemon(mut stream: UnixStream, asked_in: Arc<AtomicBool>) {
    while let Ok(Some((number, request))) = frame::read::<(u32, Request)>(&mut stream).await {
        if matches!(request, Request::Login(_)) {
            asked_in.store(true, Ordering::Relaxed);
        }
        if frame::write(&mut stream, &(number, Event::Done)).await.is_err() {
            return;
        }
    }
}

async fn raw_bytes(mut stream: DuplexStream, bytes: &[u8]) {
    // A server that has seen enough closes.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
}

struct Anybody;

impl client::Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

async fn tell_attempts(stream: DuplexStream, attempts: &[u8]) {
    let config = Arc::new(client::Config::default());
    let Ok(mut client) = client::connect_stream(config, stream, Anybody).await else { return };
    for attempt in attempts.chunks_exact(3).take(MOST) {
        let &[kind, user, more] = attempt else { unreachable!("three bytes") };
        let user = USERS[usize::from(user) % USERS.len()];
        // Some of what can't be said yet is never answered; there may be more to say.
        let _ = timeout(PATIENCE, one_attempt(&mut client, kind % 11, user, more)).await;
        if client.is_closed() {
            return;
        }
    }
}

async fn one_attempt(client: &mut client::Handle<Anybody>, kind: u8, user: &str, more: u8) {
    let with = |seed| PrivateKeyWithHashAlg::new(Arc::new(key(seed)), None);
    // None of these is expected to succeed, and how they fail is the server's affair.
    match kind {
        0 => drop(client.authenticate_none(user).await),
        1 => drop(client.authenticate_password(user, "x".repeat(more.into())).await),
        2 => {
            let asked = client.authenticate_keyboard_interactive_start(user, None).await;
            if matches!(asked, Ok(KeyboardInteractiveAuthResponse::InfoRequest { .. })) {
                drop(client.authenticate_keyboard_interactive_respond(vec!["x".into(); more.into()]).await);
            }
        }
        3 => {
            drop(client.authenticate_publickey(user, with([STRANGER, ELSEWHERE, EXPIRED][usize::from(more) % 3])).await)
        }
        4 => {
            let listed = key([LISTED, AUTHORITY][usize::from(more) % 2]).public_key().clone();
            drop(client.authenticate_publickey_with(user, listed, None, &mut Forger(more)).await);
        }
        5 => drop(client.authenticate_openssh_cert(user, Arc::new(key(STRANGER)), certificate(STRANGER, more)).await),
        6 => {
            let certificate = tampered(more);
            drop(client.authenticate_openssh_cert(user, Arc::new(key(STRANGER)), certificate).await);
        }
        // One that was given to somebody else.
        7 => drop(client.authenticate_openssh_cert(user, Arc::new(key(STRANGER)), certificate(AUTHORITY, 0)).await),
        8 => {
            if let Ok(channel) = client.channel_open_session().await {
                drop(channel.exec(true, "status").await);
            }
        }
        9 => drop(client.channel_open_direct_tcpip("localhost", u32::from(more), "localhost", 1).await),
        _ => drop(client.tcpip_forward("localhost", u32::from(more)).await),
    }
}

/// By `authority`, for [`LISTED`] if it is the real one, else for the client's own key.
fn certificate(authority: u8, more: u8) -> Certificate {
    let holder = if authority == AUTHORITY { LISTED } else { STRANGER };
    let (from, to) = if more % 2 == 0 { (0, u64::MAX - 1) } else { (NOW - 9, NOW + 9) };
    let mut builder = Builder::new([more; 16], key(holder).public_key().key_data().clone(), from, to).unwrap();
    builder.cert_type(CertType::User).unwrap();
    USERS[..4].iter().for_each(|user| drop(builder.valid_principal(*user)));
    builder.sign(&key(authority)).unwrap()
}

/// A real one, changed into one for the client's key.
fn tampered(more: u8) -> Certificate {
    let real = certificate(AUTHORITY, more);
    let mut bytes = real.to_bytes().unwrap();
    let of = |seed| key(seed).public_key().key_data().ed25519().unwrap().0;
    let at = bytes.windows(32).position(|window| window == of(LISTED)).unwrap();
    bytes[at..at + 32].copy_from_slice(&of(STRANGER));
    Certificate::from_bytes(&bytes).unwrap()
}

/// Signs by another key, or with nothing.
struct Forger(u8);

impl russh::Signer for Forger {
    type Error = Failed;

    async fn auth_sign(&mut self, _: &AgentIdentity, _: Option<HashAlg>, message: Vec<u8>) -> Result<Vec<u8>, Failed> {
        let mut signature = Vec::new();
        let length = if self.0 < 128 { 64 } else { usize::from(self.0) };
        for part in [&b"ssh-ed25519"[..], &vec![self.0; length]] {
            signature.extend((part.len() as u32).to_be_bytes());
            signature.extend(part);
        }
        Ok([message, (signature.len() as u32).to_be_bytes().to_vec(), signature].concat())
    }
}

#[derive(Debug)]
struct Failed;

impl From<SendError> for Failed {
    fn from(_: SendError) -> Self {
        Self
    }
}
