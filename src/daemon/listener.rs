//! Accepts SSH connections and gives each one a session process of its own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::role::Roles;
use crate::control::message::Setup;
use crate::control::server::{self, Access, House, Report, SessionAccess};

/// Connections that have not logged in: each is a process of about 3 MiB. One more, and the oldest of the source that
/// has most of them makes room: so a few silent peers keep nobody out, and a flood from one address only itself.
const MAX_UNAUTHENTICATED: usize = 16;
/// All connections. More people than this never unlock one machine.
const MAX_CONNECTIONS: usize = 48;
/// Unacknowledged data for this long means that the peer is gone (tcp(7), TCP_USER_TIMEOUT), in milliseconds.
const USER_TIMEOUT_MS: u32 = 60_000;
/// Sessions say goodbye within this time at hand-over; then they are killed. Longer than their own deadlines.
const GOODBYE: Duration = Duration::from_secs(4);
/// A port that is taken may become free; a full descriptor table too.
const RETRY: Duration = Duration::from_secs(2);
/// Connections that the kernel holds until we accept them.
const BACKLOG: u32 = 64;
/// A session ends itself when nobody logs in in time; one that doesn't is ended this much later.
const LOGIN_GRACE: Duration = Duration::from_secs(5);
/// Log lines that strangers can cause: so many in so much time. A console must stay readable, and a serial one is slow.
const STRANGERS_LINES: u32 = 6;
const STRANGERS_TIME: Duration = Duration::from_secs(10);
/// Longest line that a stranger's words are part of.
const STRANGERS_LENGTH: usize = 200;

/// What a listener needs to know. The setup is the same for every session but for the peer.
pub struct Listener {
    pub port: u16,
    pub setup: Box<dyn Fn(&str) -> Setup + Send + Sync>,
    pub roles: Arc<Roles>,
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
                census.warn(|| format!("{MAX_CONNECTIONS} SSH connections are open, turned away {}", peer.ip()));
                continue; // dropping the stream closes it
            };
            match self.start(stream, peer) {
                Ok(session) => drop(sessions.spawn(session.run(place, self.house.clone(), self.stopping.clone()))),
                Err(error) => census.warn(|| format!("an SSH session for {peer} could not be started: {error}")),
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
        Ok(Session { child, control: UnixStream::from_std(ours)?, setup, roles: self.roles.clone(), address })
    }
}

/// Wildcard, IPv6 and IPv4 on one socket; IPv4 alone where the kernel has no IPv6.
async fn bind(port: u16) -> TcpListener {
    let mut told = false;
    loop {
        match bind_now(port) {
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

fn bind_now(port: u16) -> std::io::Result<TcpListener> {
    let (socket, address) = match TcpSocket::new_v6() {
        Ok(socket) => {
            setsockopt(&socket, sockopt::Ipv6V6Only, &false)?; // whatever net.ipv6.bindv6only says
            (socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        }
        Err(_) => (TcpSocket::new_v4()?, IpAddr::V4(Ipv4Addr::UNSPECIFIED)), // no IPv6 in this kernel
    };
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, port))?;
    socket.listen(BACKLOG)
}

struct Session {
    child: Child,
    control: UnixStream,
    setup: Setup,
    roles: Arc<Roles>,
    address: IpAddr,
}

impl Session {
    async fn run(mut self, mut place: Place, house: Arc<dyn House>, mut stopping: watch::Receiver<bool>) {
        let (reports, mut reported) = mpsc::channel(16);
        let too_late = Instant::now() + Duration::from_secs(self.setup.login_seconds) + LOGIN_GRACE;
        let access = Access::Session(SessionAccess { setup: self.setup, roles: self.roles, reports });
        let mut serving = std::pin::pin!(server::serve(self.control, access, house));
        let address = self.address;
        loop {
            tokio::select! {
                biased;
                Some(report) = reported.recv() => place.take(report, address),
                served = &mut serving => {
                    if let Err(error) = served {
                        log::warn!("the SSH session of {address} broke the control protocol: {error}");
                    }
                    break;
                }
                () = place.evicted(), if place.waits() => break,
                () = sleep_until(too_late), if place.waits() => break,
                _ = stopping.wait_for(|stopping| *stopping), if place.waits() => break,
            }
        }
        while let Ok(report) = reported.try_recv() {
            place.take(report, address); // a session that logged in and ended at once
        }
        // The process has closed its control socket, or has no business any more.
        if let Err(error) = self.child.start_kill() {
            log::debug!("the session of {address} had ended: {error}");
        }
        if let Err(error) = self.child.wait().await {
            log::warn!("waiting for the SSH session of {address}: {error}");
        }
        if !place.waits() {
            log::info!("the SSH session of {address} has ended");
        }
    }
}

/// Who is connected, for the limits.
#[derive(Clone, Default)]
struct Census(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    all: usize,
    /// Those that have not logged in, oldest first.
    waiting: Vec<Waiting>,
    quiet: Quiet,
}

struct Waiting {
    source: IpAddr,
    evict: Arc<Notify>,
}

/// One connection's place in the census; given back on drop.
struct Place {
    census: Census,
    /// Names it among those that wait, and tells it to go.
    evict: Arc<Notify>,
    waits: bool,
}

impl Census {
    fn enter(&self, peer: IpAddr) -> Option<Place> {
        let mut counts = self.lock();
        if counts.all >= MAX_CONNECTIONS {
            return None;
        }
        counts.all += 1;
        if counts.waiting.len() >= MAX_UNAUTHENTICATED {
            counts.evict_one();
        }
        let evict = Arc::new(Notify::new());
        counts.waiting.push(Waiting { source: source(peer), evict: evict.clone() });
        Some(Place { census: self.clone(), evict, waits: true })
    }

    /// A warning that strangers can cause as often as they like.
    fn warn(&self, text: impl FnOnce() -> String) {
        if let Some(skipped) = self.lock().quiet.may_speak(Instant::now()) {
            let mut text = text();
            text.truncate(text.floor_char_boundary(STRANGERS_LENGTH));
            let more = if skipped > 0 { format!(" ({skipped} lines like it were left out)") } else { String::new() };
            log::warn!("{text}{more}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("no panic while held")
    }
}

impl Counts {
    fn evict_one(&mut self) {
        let mut of_source = HashMap::<IpAddr, usize>::new();
        for waiting in &self.waiting {
            *of_source.entry(waiting.source).or_default() += 1;
        }
        let most = of_source.values().max().copied().unwrap_or(0);
        if let Some(oldest) = self.waiting.iter().position(|waiting| of_source[&waiting.source] == most) {
            self.waiting.remove(oldest).evict.notify_one();
        }
    }
}

impl Place {
    fn take(&mut self, report: Report, address: IpAddr) {
        match report {
            Report::LoggedIn(login) => {
                self.waits = false;
                self.no_longer_waiting();
                log::info!("{} logged in from {address} with {}", login.role, login.key);
            }
            Report::LoginFailed { user, reason } => {
                self.census.warn(|| format!("login from {address} refused: {reason}, as {user:?}"));
            }
        }
    }

    /// Whether nobody has logged in yet.
    fn waits(&self) -> bool {
        self.waits
    }

    async fn evicted(&self) {
        self.evict.notified().await;
    }

    fn no_longer_waiting(&self) {
        self.census.lock().waiting.retain(|waiting| !Arc::ptr_eq(&waiting.evict, &self.evict));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.no_longer_waiting();
        self.census.lock().all -= 1;
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

/// So many lines in so much time.
#[derive(Default)]
struct Quiet {
    since: Option<Instant>,
    spoken: u32,
    skipped: u32,
}

impl Quiet {
    /// How many were left out since the last line, if a line may be written now.
    fn may_speak(&mut self, now: Instant) -> Option<u32> {
        if self.since.is_none_or(|since| now.duration_since(since) >= STRANGERS_TIME) {
            (self.since, self.spoken) = (Some(now), 0);
        }
        if self.spoken >= STRANGERS_LINES {
            self.skipped += 1;
            return None;
        }
        self.spoken += 1;
        Some(std::mem::take(&mut self.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::grants::Narrowing;
    use crate::control::message::Login;
    use futures::FutureExt;

    fn from(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn evicted(place: &Place) -> bool {
        place.evicted().now_or_never().is_some()
    }

    #[test]
    fn a_flood_makes_room_at_its_own_cost() {
        let census = Census::default();
        let owner = census.enter(from(1)).unwrap();
        let flood: Vec<_> = (0..MAX_UNAUTHENTICATED + 5).map(|_| census.enter(from(9)).unwrap()).collect();
        assert!(!evicted(&owner), "the owner came first and stays");
        let gone = flood.iter().filter(|place| evicted(place)).count();
        assert_eq!(gone, 6, "the oldest of the flood went");
        assert!(!evicted(flood.last().unwrap()));
    }

    #[test]
    fn logins_give_their_place_back_and_all_are_limited() {
        let census = Census::default();
        let mut places: Vec<_> = (0..MAX_CONNECTIONS).map(|_| census.enter(from(1)).unwrap()).collect();
        assert!(census.enter(from(2)).is_none(), "more than all");
        let (login, last) =
            (Login { role: "peek".to_owned(), key: String::new(), narrowing: Narrowing::default() }, places.len() - 1);
        places[last].take(Report::LoggedIn(login), from(1));
        assert_eq!(census.lock().waiting.len(), MAX_UNAUTHENTICATED - 1);
        places.clear();
        assert!(census.enter(from(2)).is_some() && census.lock().all == 0 && census.lock().waiting.is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let a: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        let b: IpAddr = "2001:db8:1:2:ffff::9".parse().unwrap();
        let c: IpAddr = "2001:db8:1:3::4".parse().unwrap();
        assert!(source(a) == source(b) && source(a) != source(c));
        assert_eq!(source("::ffff:192.0.2.1".parse().unwrap()), from(1));
    }

    #[test]
    fn strangers_cannot_fill_the_log() {
        let (mut quiet, now) = (Quiet::default(), Instant::now());
        let spoken = (0..100).filter(|_| quiet.may_speak(now).is_some()).count();
        assert_eq!(spoken as u32, STRANGERS_LINES);
        assert_eq!(quiet.may_speak(now + STRANGERS_TIME), Some(100 - STRANGERS_LINES), "and it says how many");
    }
}
