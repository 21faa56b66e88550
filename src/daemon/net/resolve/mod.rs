//! Names that we dial: a stub resolver, and connections that try all addresses of a name.
//!
//! Why not the C library's: static musl hides what went wrong (`io::Error` has a text), blocks a thread, which the runtime
//! waits for at its end, and knows only `/etc/resolv.conf`, which may be somebody's dangling link.
//!
//! Files are read at each try, so that what DHCP says later is heard. A file of somebody else's in `/etc` counts as well as
//! what we know ourselves, and first.

mod connect;
mod files;
mod message;

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use nix::net::if_::if_nametoindex;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use self::message::{Answer, Kind};
pub use self::{connect::ConnectError, files::Names};
use crate::root::Root;

/// For all of a look-up. Long enough for a name server behind a link that has just come up, short enough for a person.
const DEADLINE: Duration = Duration::from_secs(10);
/// For the answers of one server; then the next is asked. Servers that recurse need up to a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// From one round over all servers to the next, at least: one that is not there fails at once.
const ROUND: Duration = Duration::from_millis(500);
/// Where servers listen (RFC 1035 section 4.2.1).
const PORT: u16 = 53;
/// Without EDNS an answer is no longer (RFC 1035 section 4.2.1); more does no harm.
const LONGEST: usize = 1500;

/// Looks names up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    root: Root,
    ours: watch::Receiver<Names>,
    port: u16,
}

/// Why there is no address.
#[derive(Debug, PartialEq, Eq)]
pub enum ResolveError {
    NoName(String),
    /// Name, and the server that says so.
    Unknown(String, IpAddr),
    /// It exists, and has no address.
    NoAddress(String),
    NoServer(String),
    /// Name, and the servers with what each did.
    NoAnswer(String, Vec<(IpAddr, String)>),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let seconds = DEADLINE.as_secs();
        match self {
            Self::NoName(host) => write!(f, "“{host}” is neither a host name nor an address"),
            Self::Unknown(host, server) => {
                write!(f, "{host}: name server {server} knows no such name; check the spelling, or give an address")
            }
            Self::NoAddress(host) => write!(f, "{host}: there is such a name, but it has no address"),
            Self::NoServer(host) => write!(
                f,
                "{host}: no name server is known after {seconds} s; give an address, or a server with nameserver="
            ),
            Self::NoAnswer(host, servers) => {
                write!(f, "{host}: no answer from a name server within {seconds} s (")?;
                for (number, (server, did)) in servers.iter().enumerate() {
                    write!(f, "{}{server}: {did}", if number == 0 { "" } else { ", " })?;
                }
                f.write_str("); give an address, or another server with nameserver=")
            }
        }
    }
}

impl std::error::Error for ResolveError {}

impl Resolver {
    /// `ours` is what the network has told us; of a sender that is gone, the last.
    pub fn new(root: &Root, ours: watch::Receiver<Names>) -> Self {
        Self { root: root.clone(), ours, port: PORT }
    }

    /// One that knows only what files say.
    pub fn alone(root: &Root) -> Self {
        Self::new(root, watch::channel(Names::default()).1)
    }

    /// The addresses of a host, at least one, the likelier first; ten seconds at most. `host` is a name, with or without a
    /// domain, or an address, with or without brackets.
    ///
    /// # Errors
    /// Why there is none, for a person.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Some(address) = numeric(host, port) {
            return Ok(vec![address]);
        }
        if message::question(0, host.strip_suffix('.').unwrap_or(host), Kind::V4).is_none() {
            return Err(ResolveError::NoName(host.to_owned()));
        }
        let mut found = files::hosts(&self.read("/etc/hosts"), host);
        if found.is_empty() && host.eq_ignore_ascii_case("localhost") {
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]; // RFC 6761 section 6.3
        }
        if found.is_empty() {
            found = self.look_up(host).await?;
        }
        Ok(found.into_iter().map(|address| (address, port).into()).collect())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default() // what is not there says nothing
    }

    fn names(&self) -> Names {
        let mut names = Names::default();
        names.add(&self.read("/etc/resolv.conf"));
        names.extend(&self.ours.borrow());
        names
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let deadline = Instant::now() + DEADLINE;
        let mut did: Vec<(IpAddr, String)> = Vec::new();
        while Instant::now() < deadline {
            let next = (Instant::now() + ROUND).min(deadline);
            let names = self.names();
            for server in &names.servers {
                let patience = (Instant::now() + PATIENCE).min(deadline);
                let failed = match self.ask_all(*server, host, &names, patience).await {
                    Ok(found) => return found,
                    Err(error) => error.to_string(),
                };
                // What was cut short by the deadline says less than what was there before.
                if Instant::now() < deadline || did.iter().all(|(it, _)| it != server) {
                    did.retain(|(it, _)| it != server);
                    did.push((*server, failed));
                }
            }
            sleep_until(next).await; // no event tells of a server that begins to answer
        }
        Err(match did.is_empty() {
            true => ResolveError::NoServer(host.to_owned()),
            false => ResolveError::NoAnswer(host.to_owned(), did),
        })
    }

    /// Asks one server for all that may be meant, one by one. An error if it can't say.
    async fn ask_all(
        &self,
        server: IpAddr,
        host: &str,
        names: &Names,
        patience: Instant,
    ) -> io::Result<Result<Vec<IpAddr>, ResolveError>> {
        let mut exists = false;
        for name in names.candidates(host) {
            match timeout_at(patience, self.ask(server, &name)).await {
                Ok(Ok(Some(found))) if !found.is_empty() => return Ok(Ok(found)),
                Ok(Ok(found)) => exists |= found.is_some(),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::Error::other("it does not answer")),
            }
        }
        Ok(Err(match exists {
            true => ResolveError::NoAddress(host.to_owned()),
            false => ResolveError::Unknown(host.to_owned(), server),
        }))
    }

    /// `None` if the server knows no such name.
    async fn ask(&self, server: IpAddr, name: &str) -> io::Result<Option<Vec<IpAddr>>> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect((server, self.port)).await?; // none but the server's own answers come in
        let id = random()?;
        let questions = [(id, Kind::V6), (!id, Kind::V4)].map(|(id, kind)| message::question(id, name, kind));
        let questions = questions.map(Option::unwrap_or_default); // a domain that is none: nobody answers
        for question in &questions {
            socket.send(question).await?;
        }
        let mut answers = [None, None];
        let mut buffer = [0; LONGEST];
        while answers.iter().any(Option::is_none) {
            let length = socket.recv(&mut buffer).await?;
            for (question, answer) in questions.iter().zip(&mut answers) {
                *answer = answer.take().or_else(|| message::answer(question, &buffer[..length]));
            }
        }
        verdict(answers.into_iter().flatten())
    }
}

/// What the answers for both kinds of addresses come to. IPv6 first; where there is no way, that shows at once.
fn verdict(answers: impl Iterator<Item = Answer>) -> io::Result<Option<Vec<IpAddr>>> {
    let (mut found, mut exists, mut refused) = (Vec::new(), false, None);
    for answer in answers {
        match answer {
            Answer::Addresses(addresses) => {
                exists = true;
                found.extend(addresses);
            }
            Answer::NoSuchName => {}
            Answer::Refused(code) => refused = Some(code),
        }
    }
    match refused {
        // Some servers have nothing but this to say about IPv6.
        Some(code) if found.is_empty() => Err(io::Error::other(format!("it refuses to say (code {code})"))),
        _ => Ok(exists.then_some(found)),
    }
}

/// Whoever guesses it may answer in the server's place.
fn random() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}

/// An address as text: also in brackets, and of IPv6 also with the interface that it is on (`fe80::1%eth0`).
fn numeric(host: &str, port: u16) -> Option<SocketAddr> {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some((address, port).into());
    }
    let (address, interface) = bare.split_once('%')?;
    let scope = if_nametoindex(interface).ok().or_else(|| interface.parse().ok())?;
    Some(SocketAddrV6::new(address.parse().ok()?, port, 0, scope).into())
}

#[cfg(test)]
mod tests;
