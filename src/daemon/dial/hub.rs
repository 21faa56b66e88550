//! One hub: dialled, listened through, lost, dialled again.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{Around, Identity};
use crate::config::dial::Dial;
use crate::control::dial::{self as message, Hub, HubState, Order, Report};
use crate::control::message::Link;
use crate::control::{frame, stream};
use crate::daemon::confined::{self, Child};
use crate::daemon::listener::entrance::Arrival;
use crate::daemon::listener::origin::Origin;
use crate::dial::USER_TIMEOUT_MS;
use crate::dial::backoff::Backoff;

/// From the look-up of the hub's name to where the hub listens. The parts have their own deadlines, which add up to less: 10 s
/// each for the name and the connection, 5 s to tell the process, 20 s each for the login and its answer where to listen, and
/// 1 s for its goodbye.
const START: Duration = Duration::from_secs(75);
/// How long the process may take to end. Its own deadlines add up to 1.5 s: half a second for the last bytes, and twice for its
/// goodbye. More only costs where a process hangs.
const END: Duration = Duration::from_secs(4);
/// Routers come right after addresses; a hub that is dialled in between can't be reached.
const ROUTER: Duration = Duration::from_secs(2);
/// What an address begins with that reaches nobody but neighbours.
const LINK_LOCAL: &str = "fe80:";

/// Keeps one hub dialled.
pub struct Task {
    pub dial: Dial,
    /// Its place among those that are shown.
    pub index: usize,
    pub identity: Arc<Identity>,
    pub around: Arc<Around>,
    pub shown: Arc<watch::Sender<Vec<Hub>>>,
    /// True when it is time to say goodbye.
    pub leaving: watch::Receiver<bool>,
}

/// Why there is no connection any more.
struct Over {
    why: String,
    /// Somebody may be listening in between.
    loud: bool,
    /// How long the hub has listened.
    listened: Duration,
}

impl Over {
    fn in_vain(why: String) -> Self {
        Self { why, loud: false, listened: Duration::ZERO }
    }
}

impl Task {
    /// Until the boot continues.
    pub async fn keep_dialled(self) {
        let mut backoff = Backoff::default();
        let mut told = String::new();
        let mut stopping = self.around.stopping.clone();
        loop {
            tokio::select! {
                () = self.network() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            self.show(|hub| hub.state = HubState::Dialling);
            let Some(over) = self.once().await else { return };
            let Over { why, loud, listened } = over;
            // Once for each state, not for each try.
            if listened > Duration::ZERO || why != told {
                let level = if loud { log::Level::Error } else { log::Level::Warn };
                log::log!(level, "hub {}: {why}; it is dialled again and again", self.dial.name);
                told.clone_from(&why);
            }
            self.show(|hub| {
                (hub.state, hub.listening, hub.problem) = (HubState::Waiting, None, Some(why));
            });
            tokio::select! {
                () = sleep(backoff.wait(listened, random())) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    /// Waits until there may be a way to the hub.
    async fn network(&self) {
        let Some(mut links) = self.around.links.clone() else { return };
        let reaches = |address: &String| !address.starts_with(LINK_LOCAL);
        let is_up = |links: &Arc<[Link]>| links.iter().any(|link| link.addresses.iter().any(reaches));
        let has_router = |links: &Arc<[Link]>| links.iter().any(|link| link.gateway.is_some());
        if !is_up(&links.borrow()) {
            self.show(|hub| hub.problem = Some("there is no network".to_owned()));
        }
        // Nobody brings the network up any more: then it is tried as it is. A hub may also need no router.
        let _ = links.wait_for(is_up).await;
        let _ = timeout(ROUTER, links.wait_for(has_router)).await;
    }

    /// One connection, from the look-up of the name to its end; `None` when the boot continues.
    async fn once(&self) -> Option<Over> {
        let mut stopping = self.around.stopping.clone();
        let started = tokio::select! {
            started = timeout(START, self.start()) => started.unwrap_or_else(|_| Err(Over::in_vain("it does not answer in time".to_owned()))),
            _ = stopping.wait_for(|stopping| *stopping) => return None, // the process is killed
        };
        let mut connection = match started {
            Ok(connection) => connection,
            Err(over) => return Some(over),
        };
        let since = Instant::now();
        let mut leaving = self.leaving.clone();
        let over = tokio::select! {
            over = connection.serve(self) => Some(over),
            _ = leaving.wait_for(|leaving| *leaving) => None,
        };
        let Some(over) = over else {
            connection.leave().await;
            return None;
        };
        Some(Over { listened: since.elapsed().max(Duration::from_millis(1)), ..over })
    }

    async fn start(&self) -> Result<Connection, Over> {
        let failed = |error: std::io::Error| Over::in_vain(format!("it can't be dialled: {error}"));
        let to_hub = self.around.resolver.connect(&self.dial.host, self.dial.port).await;
        let to_hub = to_hub.map_err(|error| Over::in_vain(error.to_string()))?;
        let from = to_hub.local_addr().map_err(failed)?.ip();
        let listen = self.identity.listen(&self.dial, from).map_err(Over::in_vain)?;
        let stream = prepared(to_hub).map_err(failed)?;
        let (child, control) = confined::start("dial-session", stream).await.map_err(failed)?;
        let (reports, orders) = stream::split(control);
        let mut connection = Connection { child, reports, orders };
        let (key, pins) = (self.identity.key.duplicate(), self.dial.pins.texts());
        let order = message::Dial { user: self.dial.user.clone(), key, pins, listen };
        connection.order(&Order::Dial(order)).await?;
        match connection.report().await? {
            Report::Listening(place) => {
                log::info!("hub {}: this machine is reached at {place} of {}", self.dial.name, self.dial.hub());
                self.show(|hub| {
                    (hub.state, hub.listening, hub.problem) = (HubState::Listening, Some(place), None);
                });
                Ok(connection)
            }
            Report::Over { why, loud } => Err(Over { why, loud, listened: Duration::ZERO }),
            Report::Incoming { .. } => Err(connection.broken("a stream came before its listener").await),
        }
    }

    fn show(&self, change: impl FnOnce(&mut Hub)) {
        self.shown.send_modify(|hubs| change(&mut hubs[self.index]));
    }
}

/// A process that speaks with the hub. Dropping it kills it.
struct Connection {
    child: Child,
    reports: stream::Reader,
    orders: stream::Writer,
}

impl Connection {
    /// Until it is over, and why.
    async fn serve(&mut self, task: &Task) -> Over {
        loop {
            let served = match self.report().await {
                Ok(Report::Incoming { number, address }) => self.take(task, number, address).await,
                Ok(Report::Over { why, loud }) => return Over { why, loud, listened: Duration::ZERO },
                Ok(Report::Listening(_)) => return self.broken("it listens twice").await,
                Err(over) => return over,
            };
            if let Err(over) = served {
                return over;
            }
        }
    }

    /// A stream has come: one end of a pair of sockets for the process, the other for the listener.
    async fn take(&mut self, task: &Task, number: u32, address: Option<std::net::IpAddr>) -> Result<(), Over> {
        let origin = Origin::Hub { name: task.dial.name.clone(), address };
        let entered = match UnixStream::pair() {
            Ok((near, far)) => {
                let arrival = Arrival { stream: OwnedFd::from(near), origin };
                task.around.entrance.enter(arrival).await.map(|()| OwnedFd::from(far))
            }
            Err(error) => Err(error.into()),
        };
        match entered {
            Ok(far) => {
                self.orders.attach(vec![far]);
                self.order(&Order::Take(number)).await
            }
            Err(error) => {
                // Whoever reaches the hub could fill the log with this; why nobody is served stands there already.
                log::debug!("hub {}: a connection is refused: {error:#}", task.dial.name);
                self.order(&Order::Refuse(number)).await
            }
        }
    }

    async fn order(&mut self, order: &Order) -> Result<(), Over> {
        match frame::write(&mut self.orders, order).await {
            Ok(()) => Ok(()),
            // It has ended; it may have said why, after the last streams that came.
            Err(_) => loop {
                match self.report().await {
                    Ok(Report::Incoming { .. }) => {}
                    Ok(Report::Over { why, loud }) => return Err(Over { why, loud, listened: Duration::ZERO }),
                    Ok(Report::Listening(_)) => return Err(self.broken("it hears nothing").await),
                    Err(over) => return Err(over),
                }
            },
        }
    }

    async fn report(&mut self) -> Result<Report, Over> {
        match frame::read(&mut self.reports).await {
            Ok(Some(Report::Over { why, loud })) => Ok(Report::Over { why: message::readable(&why), loud }),
            Ok(Some(Report::Listening(place))) => Ok(Report::Listening(message::readable(&place))),
            Ok(Some(report)) => Ok(report),
            Ok(None) => Err(self.broken("it has ended").await),
            Err(error) => Err(self.broken(&error.to_string()).await),
        }
    }

    /// The process did what it should not.
    async fn broken(&mut self, what: &str) -> Over {
        let status = match timeout(END, self.child.wait()).await {
            Ok(Ok(status)) => format!(" ({status})"),
            _ => String::new(), // it is killed
        };
        Over::in_vain(format!("the process of the connection failed: {what}{status}"))
    }

    /// The hub is told goodbye.
    async fn leave(mut self) {
        if frame::write(&mut self.orders, &Order::Leave).await.is_ok() {
            let _ = timeout(END, self.child.wait()).await; // then it is killed
        }
    }
}

/// A dead hub is noticed (tcp(7)), and small packets don't wait.
fn prepared(stream: TcpStream) -> std::io::Result<OwnedFd> {
    stream.set_nodelay(true)?;
    setsockopt(&stream, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?;
    Ok(stream.into_std()?.into())
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness there is only less of a spread.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_has_ended_is_heard_out() {
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let (reports, orders) = stream::split(near);
        let child = tokio::process::Command::new("true").spawn().unwrap();
        let mut connection = Connection { child, reports, orders };
        let (unread, mut tell) = stream::split(far);
        for number in 1..=3 {
            frame::write(&mut tell, &Report::Incoming { number, address: None }).await.unwrap();
        }
        frame::write(&mut tell, &Report::Over { why: "the reason".to_owned(), loud: true }).await.unwrap();
        drop((unread, tell));
        // A program that another test starts may still have a copy of the far end, until it has become itself.
        let refused = async {
            loop {
                match connection.order(&Order::Refuse(1)).await {
                    Ok(()) => sleep(Duration::from_millis(10)).await,
                    Err(over) => return over,
                }
            }
        };
        let over = timeout(START, refused).await.expect("the end is noticed");
        assert_eq!((over.why.as_str(), over.loud), ("the reason", true));
    }
}
