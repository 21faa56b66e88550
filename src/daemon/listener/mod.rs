//! Accepts SSH connections, greets them, and gives each one that answers a session process of its own. Most come to our
//! port; others are brought (`entrance`), and nothing that follows tells them apart.
//!
//! A flood costs little and keeps nobody out: who says nothing has no process; who has one and does not log in in time makes
//! room for others (`crowd`); who comes again and again in vain is held back for some seconds (`penalty`). Nobody is refused
//! for what others do.

mod capacity;
mod census;
mod crowd;
pub mod entrance;
mod greeting;
pub mod origin;
mod penalty;
mod process;
mod quiet;
mod socket;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::control::message::Setup;
use crate::control::server::House;
use crate::daemon::lifecycle::Stopper;
use capacity::Capacity;
use census::{Census, Full, Place};
use entrance::Arrival;
use origin::Origin;
use process::{Session, Surroundings};
use socket::Port;

/// Sessions say goodbye within this time at hand-over; then they are killed. Longer than their own deadlines.
const GOODBYE: Duration = Duration::from_secs(4);
/// A port that is taken may become free; a full descriptor table too.
const RETRY: Duration = Duration::from_secs(2);

/// What a session is told, by the peer's address, if the network knows it.
pub type MakeSetup = Box<dyn Fn(Option<IpAddr>) -> Setup + Send + Sync>;

/// What a listener needs to know. The setup is the same for every session but for the peer.
pub struct Listener {
    /// Our own, if there is to be one.
    pub port: Option<u16>,
    /// Streams from elsewhere.
    pub arrivals: mpsc::Receiver<Arrival>,
    pub setup: MakeSetup,
    /// Time that a client has to log in.
    pub login: Duration,
    pub house: Arc<dyn House>,
    /// True from the moment of hand-over.
    pub stopping: watch::Receiver<bool>,
    /// For a server that serves one session: stops the daemon after it.
    pub once: Option<Stopper>,
}

impl Listener {
    /// Listens until hand-over, then sees the sessions off. Never fails: trouble is logged and tried again.
    pub async fn run(self) {
        let (capacity, raised) = Capacity::here();
        if let Err(reason) = raised {
            log::warn!("ignoring: {reason}");
        }
        let (mut stopping, once) = (self.stopping.clone(), self.once.clone());
        let (taken, mut seen_taken) = watch::channel(false);
        let door = Arc::new(Door {
            census: Census::new(capacity),
            setup: self.setup,
            login: self.login,
            house: self.house,
            stopping: self.stopping,
            taken: once.is_some().then_some(taken),
        });
        let mut sessions = JoinSet::new();
        let somebody_came = tokio::select! {
            () = accept(self.port, self.arrivals, &door, &mut sessions) => false,
            _ = stopping.wait_for(|stopping| *stopping) => false,
            Ok(_) = seen_taken.wait_for(|taken| *taken) => true, // never where more than one may come
        };
        if let Some(stopper) = once.filter(|_| somebody_came) {
            // Nobody else comes in any more, and when this session is over, so is the daemon.
            door.census.close();
            tokio::select! {
                () = all_left(&mut sessions) => stopper.served(),
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
        if timeout(GOODBYE, all_left(&mut sessions)).await.is_err() {
            log::warn!("{} SSH sessions did not end in time and are killed", sessions.len());
        }
        sessions.shutdown().await;
    }
}

async fn all_left(sessions: &mut JoinSet<()>) {
    while sessions.join_next().await.is_some() {}
}

/// Only returns by being dropped.
async fn accept(
    port: Option<u16>,
    mut arrivals: mpsc::Receiver<Arrival>,
    door: &Arc<Door>,
    sessions: &mut JoinSet<()>,
) {
    let mut port = port.map(Port::new);
    loop {
        let (stream, origin) = tokio::select! {
            came = next(&mut port) => came,
            Some(Arrival { stream, origin }) = arrivals.recv() => match socket::stream(stream) {
                Ok(stream) => (stream, origin),
                Err(error) => {
                    log::warn!("a stream from {origin} can't be used: {error}");
                    continue;
                }
            },
        };
        while sessions.try_join_next().is_some() {}
        let place = door.census.enter(origin.source());
        drop(sessions.spawn(door.clone().admit(stream, origin, place)));
    }
}

/// The next connection to our port; never, where there is none.
async fn next(port: &mut Option<Port>) -> (TcpStream, Origin) {
    match port {
        Some(port) => port.next().await,
        None => std::future::pending().await,
    }
}

/// What each connection comes through.
struct Door {
    census: Census,
    setup: MakeSetup,
    login: Duration,
    house: Arc<dyn House>,
    stopping: watch::Receiver<bool>,
    taken: Option<watch::Sender<bool>>,
}

impl Door {
    /// The whole life of a connection, in order.
    async fn admit(self: Arc<Self>, mut stream: TcpStream, origin: Origin, place: Place) {
        let deadline = Instant::now() + self.login;
        let (sent_away, mut stopping) = (place.sent_away(), self.stopping.clone());
        let ready = tokio::select! {
            ready = self.prepare(&mut stream, &place, deadline) => ready,
            () = sent_away => return,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        match ready {
            Ok(()) => {}
            Err(Unfit::Wrong(reason)) => return place.warn(|| format!("closed the connection of {origin}: {reason}")),
            Err(Unfit::Gone) => return, // nothing has happened
        }
        let session = match Session::start(stream).await {
            Ok(session) => session,
            Err(error) => return place.warn(|| format!("an SSH session for {origin} could not be started: {error}")),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let setup = Setup { login_seconds: left.as_secs().max(1), ..(self.setup)(origin.address()) };
        let around =
            Surroundings { house: self.house.clone(), stopping: self.stopping.clone(), taken: self.taken.clone() };
        // On the heap: most connections of a flood never come so far.
        Box::pin(session.run(setup, place, origin, around)).await;
    }

    /// Until the peer may have a process.
    async fn prepare(&self, stream: &mut TcpStream, place: &Place, deadline: Instant) -> Result<(), Unfit> {
        socket::set_options(stream)?;
        let exchanged = timeout_at(deadline.min(Instant::now() + greeting::DEADLINE), greeting::exchange(stream));
        exchanged.await.map_err(|_| Unfit::Gone)??;
        sleep(place.hold()).await;
        while Instant::now() < deadline && !greeting::has_left(stream).await {
            match place.start() {
                Ok(None) => return Ok(()),
                Ok(Some(wait)) => sleep(wait).await,
                Err(Full(sessions)) => return Err(Unfit::Wrong(format!("{sessions} SSH sessions are open"))),
            }
        }
        Err(Unfit::Gone)
    }
}

/// Why a connection gets no process.
enum Unfit {
    /// It left, or said nothing.
    Gone,
    /// What is wrong, for the log.
    Wrong(String),
}

impl From<std::io::Error> for Unfit {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::InvalidData { Self::Wrong(error.to_string()) } else { Self::Gone }
    }
}
