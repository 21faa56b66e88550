//! `vestibule post`: one HTTP request over a connection that is there already. A process of its own, since it parses what
//! strangers send: confined as a session is, before it reads the first byte, with two descriptors and nothing else.
//!
//! The connection is descriptor 0. On descriptor 1 the daemon writes an [`Order`] and closes its half; an [`Answer`] comes
//! back. Both are postcard.

pub mod response;
#[cfg(feature = "tls")]
mod tls;

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::Context;
use nix::unistd::alarm;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::notify::DIGEST;
use crate::hardening;
use crate::secret::Secret;
use response::{MAX_HEAD, Parsed};

/// The longest order, in bytes: the largest bundle of authorities that is read, and a request, fit.
const MAX_ORDER: u64 = 2 << 20;
/// The process ends itself after this, in seconds: the daemon, which ends it sooner, may have been killed. SIGALRM's
/// default is the end (signal(7)).
const LIFETIME: u32 = 60;

/// Longest reason, in characters: a certificate may have hundreds of names, and the daemon reads 4096 bytes.
const MAX_REASON: usize = 1000;

#[derive(Serialize, Deserialize)]
pub struct Order {
    /// Head and body, as they are sent.
    pub request: Secret,
    pub tls: Option<Tls>,
}

#[derive(Serialize, Deserialize)]
pub struct Tls {
    /// The server's name, or its address without brackets.
    pub host: String,
    pub proof: Proof,
}

/// How the server shows that it is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// A certificate for its name by one of these authorities (PEM).
    Authorities(String),
    /// This certificate or public key, by its SHA-256, whatever the name, the time and who has signed it.
    Pinned([u8; DIGEST]),
}

/// The status code of the answer; or what went wrong, for a person.
pub type Answer = Result<u16, String>;

/// Sends the order's request on descriptor 0, and tells descriptor 1 what was answered.
pub fn main() -> anyhow::Result<()> {
    alarm::set(LIFETIME);
    let refused = hardening::confine_session();
    let stream = TcpStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(false).context("descriptor 0 is no connection; this command is for the daemon")?;
    let mut daemon = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    daemon.set_nonblocking(false).context("descriptor 1 is no socket; this command is for the daemon")?;
    for reason in refused {
        eprintln!("vestibule post: ignoring: {reason}");
    }
    let mut bytes = Zeroizing::new(Vec::new());
    (&mut daemon).take(MAX_ORDER).read_to_end(&mut bytes).context("reading the order")?;
    let order: Order = postcard::from_bytes(&bytes).context("the daemon sent no order")?;
    let answer = carry_out(stream, &order).map_err(|why| why.chars().take(MAX_REASON).collect::<String>());
    daemon.write_all(&postcard::to_allocvec(&answer)?).context("telling the daemon")
}

#[cfg(feature = "tls")]
fn carry_out(mut stream: TcpStream, order: &Order) -> Answer {
    match &order.tls {
        None => exchange(&mut stream, &order.request),
        Some(tls) => exchange(&mut tls::connect(stream, tls)?, &order.request),
    }
}

#[cfg(not(feature = "tls"))]
fn carry_out(mut stream: TcpStream, order: &Order) -> Answer {
    match &order.tls {
        None => exchange(&mut stream, &order.request),
        Some(_) => Err("this vestibule was built without TLS".to_owned()), // `check` has said so
    }
}

fn exchange(stream: &mut (impl Read + Write), request: &Secret) -> Answer {
    stream
        .write_all(request.expose())
        .and_then(|()| stream.flush())
        .map_err(|error| format!("sending the message failed: {error}"))?;
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the server closed the connection without an answer".to_owned()),
            Ok(length) => seen.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("reading the answer failed: {error}")),
        }
        seen.truncate(MAX_HEAD);
        match response::parse(&seen) {
            Parsed::More => {}
            Parsed::Code(code) => return Ok(code),
            Parsed::Bad(why) => return Err(format!("what the server sends is no answer of HTTP: {why}")),
        }
    }
}
