//! Accepts SSH connections and gives each one a session process of its own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::control::message::Setup;
use crate::control::server::{self, Access, House, Report, SessionAccess};

/// Connections that have not logged in: each is a process of about 3 MiB. Beyond this, new ones are turned away.
const MAX_UNAUTHENTICATED: usize = 16;
/// Of these, from one address (or one IPv6 /64), so that one peer can't take all.
const MAX_UNAUTHENTICATED_PER_SOURCE: usize = 6;
/// All connections. More people than this never unlock one machine.
const MAX_CONNECTIONS: usize = 48;
/// Unacknowledged data for this long means that the peer is gone (tcp(7), TCP_USER_TIMEOUT), in milliseconds.
const USER_TIMEOUT_MS: u32 = 60_000;
/// Sessions say goodbye within this time at hand-over; then they are killed. Longer than their own deadlines.
const GOODBYE: Duration = Duration::from_secs(4);
/// A port that is taken may become free; a full descriptor table too.
const RETRY: Duration = Duration::from_secs(2);
/// One log line about turned-away connections in this time.
const QUIET: Duration = Duration::from_secs(10);

/// What a listener needs to know. The setup is the same for every session but for the peer.
pub struct Listener {
    pub port: u16,
    pub setup: Box<dyn Fn(&str) -> Setup + Send + Sync>,
    pub house: Arc<dyn House>,
    /// True from the moment of hand-over.
    pub stopping: watch::Receiver<bool>,
}

impl Listener {
    /// Listens until hand-over, then sees the sessions off. Never fails: trouble is logged and tried again.
    pub async fn run(self) {
        let mut stopping = self.stopping.clone();
        let census = Census::default();
        let mut sessions = JoinSet::new();
        tokio::select! {
            () = self.accept(&census, &mut sessions) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        let all_left = async { while sessions.join_next().await.is_some() {} };
        if timeout(GOODBYE, all_left).await.is_err() {
            log::warn!("{} SSH sessions did not end in time and are killed", sessions.len());
        }
        sessions.shutdown().await;
    }

    async fn accept(&self, census: &Census, sessions: &mut JoinSet<()>) {
        let listener = bind(self.port).await;
        let mut turned_away = Quiet::default();
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::warn!("accepting an SSH connection failed: {error}; trying again");
                    sleep(RETRY).await;
                    continue;
                }
            };
            while sessions.try_join_next().is_some() {}
            let Some(place) = census.enter(peer.ip()) else {
                turned_away.warn(|| format!("too many SSH connections, turned away {}", peer.ip()));
                continue; // dropping the stream closes it
            };
            match self.start(stream, peer) {
                Ok(session) => drop(sessions.spawn(session.run(place, self.house.clone(), self.stopping.clone()))),
                Err(error) => log::error!("an SSH session for {peer} could not be started: {error}"),
            }
        }
    }

    /// The session process: the connection is its descriptor 0, the daemon its descriptor 1, and it has nothing else.
    fn start(&self, stream: TcpStream, peer: SocketAddr) -> std::io::Result<Session> {
        stream.set_nodelay(true)?;
        setsockopt(&stream, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new("/proc/self/exe")
            .arg("session")
            .env_clear()
            .stdin(std::os::fd::OwnedFd::from(stream.into_std()?))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let address = canonical(peer.ip());
        let setup = (self.setup)(&address.to_string());
        Ok(Session { child, control: UnixStream::from_std(ours)?, setup, address })
    }
}

/// Wildcard, IPv6 and IPv4 on one socket; IPv4 alone where the kernel has no IPv6.
async fn bind(port: u16) -> TcpListener {
    let mut told = false;
    loop {
        let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        let addresses = any.map(|address| SocketAddr::new(address, port));
        match TcpListener::bind(&addresses[..]).await {
            Ok(listener) => {
                log::info!("listening for SSH on port {port}");
                return listener;
            }
            Err(error) if !told => {
                log::error!("can't listen on TCP port {port}: {error}; trying again every {} s", RETRY.as_secs());
                told = true;
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

struct Session {
    child: Child,
    control: UnixStream,
    setup: Setup,
    address: IpAddr,
}

impl Session {
    async fn run(mut self, mut place: Place, house: Arc<dyn House>, mut stopping: watch::Receiver<bool>) {
        let (reports, mut reported) = mpsc::channel(16);
        let access = Access::Session(SessionAccess { setup: self.setup, reports });
        let mut serving = std::pin::pin!(server::serve(self.control, access, house));
        let mut authenticated = false;
        loop {
            tokio::select! {
                served = &mut serving => {
                    if let Err(error) = served {
                        log::warn!("the SSH session of {} broke the control protocol: {error}", self.address);
                    }
                    break;
                }
                Some(report) = reported.recv() => match report {
                    Report::LoggedIn(login) => {
                        authenticated = true;
                        place.authenticated();
                        log::info!("{} logged in from {} with {}", login.role.name(), self.address, login.key);
                    }
                    Report::LoginFailed { user, reason } => {
                        log::warn!("login as {user:?} from {} refused: {reason}", self.address);
                    }
                },
                _ = stopping.wait_for(|stopping| *stopping), if !authenticated => break,
            }
        }
        // The process has closed its control socket, or has no business any more. Its relays are its own group.
        if let Err(error) = self.child.start_kill() {
            log::debug!("the session of {} had ended: {error}", self.address);
        }
        if let Err(error) = self.child.wait().await {
            log::warn!("waiting for the SSH session of {}: {error}", self.address);
        }
        if authenticated {
            log::info!("the SSH session of {} has ended", self.address);
        }
    }
}

/// Who is connected, for the limits.
#[derive(Clone, Default)]
struct Census(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    all: usize,
    unauthenticated: HashMap<IpAddr, usize>,
}

/// One connection's place in the census; given back on drop.
struct Place {
    census: Census,
    source: IpAddr,
    authenticated: bool,
}

impl Census {
    fn enter(&self, peer: IpAddr) -> Option<Place> {
        let source = source(peer);
        let mut counts = self.0.lock().expect("no panic while held");
        let waiting: usize = counts.unauthenticated.values().sum();
        let of_this = counts.unauthenticated.get(&source).copied().unwrap_or(0);
        let full = counts.all >= MAX_CONNECTIONS || waiting >= MAX_UNAUTHENTICATED;
        if full || of_this >= MAX_UNAUTHENTICATED_PER_SOURCE {
            return None;
        }
        counts.all += 1;
        *counts.unauthenticated.entry(source).or_default() += 1;
        Some(Place { census: self.clone(), source, authenticated: false })
    }
}

impl Place {
    fn authenticated(&mut self) {
        if !std::mem::replace(&mut self.authenticated, true) {
            self.no_longer_waiting();
        }
    }

    fn no_longer_waiting(&self) {
        let mut counts = self.census.0.lock().expect("no panic while held");
        if let Some(count) = counts.unauthenticated.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.unauthenticated.remove(&self.source);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.authenticated {
            self.no_longer_waiting();
        }
        self.census.0.lock().expect("no panic while held").all -= 1;
    }
}

/// An IPv4 address that came in on the IPv6 socket, as IPv4.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What counts as one source: an IPv4 address, or a /64, which is what one IPv6 host gets (RFC 6177).
fn source(peer: IpAddr) -> IpAddr {
    match canonical(peer) {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// A warning that can come often and is logged seldom.
#[derive(Default)]
struct Quiet {
    last: Option<Instant>,
    skipped: u32,
}

impl Quiet {
    fn warn(&mut self, text: impl FnOnce() -> String) {
        if self.last.is_some_and(|last| last.elapsed() < QUIET) {
            self.skipped += 1;
            return;
        }
        let more = if self.skipped > 0 { format!(" ({} more before)", self.skipped) } else { String::new() };
        log::warn!("{}{more}", text());
        *self = Self { last: Some(Instant::now()), skipped: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_per_source_and_in_all() {
        let census = Census::default();
        let from = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut one: Vec<_> = (0..MAX_UNAUTHENTICATED_PER_SOURCE).map(|_| census.enter(from(1)).unwrap()).collect();
        assert!(census.enter(from(1)).is_none(), "the source's share is used up");
        assert!(census.enter("::ffff:192.0.2.1".parse().unwrap()).is_none(), "also by way of IPv6");
        one[0].authenticated();
        let again = census.enter(from(1)).expect("a login gives its place back");
        let others: Vec<_> = (2..).map_while(|n| census.enter(from(n))).collect();
        assert_eq!(others.len(), MAX_UNAUTHENTICATED - MAX_UNAUTHENTICATED_PER_SOURCE);
        drop((one, again));
        assert!(census.enter(from(1)).is_some());
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let a: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        let b: IpAddr = "2001:db8:1:2:ffff::9".parse().unwrap();
        let c: IpAddr = "2001:db8:1:3::4".parse().unwrap();
        assert!(source(a) == source(b) && source(a) != source(c));
    }
}
