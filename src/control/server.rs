//! The daemon's end: one task per connection, one per open request, all ended together.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::frame;
use super::message::{Event, Login, Open, Outcome, Power, Question, Request, Setup, Status, Submit};
use crate::config::role::Role;

/// Requests that one client may have open. A session has a handful of channels, each with two or three.
const MAX_OPEN: usize = 64;
/// Events on their way to one client.
const QUEUE: usize = 64;

/// What the daemon can do for a client. Implementations check nothing: that is done here, once, for all of them.
pub trait House: Send + Sync + 'static {
    fn status(&self) -> watch::Receiver<Arc<Status>>;
    /// New kernel log lines, the last few first.
    fn log(&self) -> mpsc::Receiver<Vec<String>>;
    fn peek(&self, follow: bool) -> mpsc::Receiver<String>;
    fn submit(&self, submit: Submit) -> mpsc::Receiver<Outcome>;
    fn power(&self, power: Power) -> Result<(), String>;
    /// The question, and what comes of each answer.
    fn open(&self, open: Open) -> Result<(Question, mpsc::Receiver<Outcome>), String>;
    fn stop(&self);
}

/// Who is at the other end, and what it may do.
pub enum Access {
    /// Root on this machine, over the control socket: everything.
    Local,
    /// A session process: nothing until it has logged in.
    Session(SessionAccess),
}

/// What the listener wants to hear from a session.
pub struct SessionAccess {
    pub setup: Setup,
    pub reports: mpsc::Sender<Report>,
}

pub enum Report {
    LoggedIn(Login),
    LoginFailed { user: String, reason: String },
}

/// Serves one client until it closes the stream or breaks the protocol; the error says how.
pub async fn serve(stream: UnixStream, access: Access, house: Arc<dyn House>) -> std::io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let (events, mut queue) = mpsc::channel::<(u32, Event)>(QUEUE);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(event) = queue.recv().await {
            if frame::write(&mut writer, &event).await.is_err() {
                break; // the reader sees the end of the stream
            }
        }
    });
    let mut gate = Gate::Open;
    if let Access::Session(SessionAccess { setup, reports }) = access {
        let _ = events.send((0, Event::Setup(setup))).await; // a session that has died is noticed below
        gate = Gate::Session { reports, role: None };
    }
    let mut open = HashMap::new();
    while let Some((number, request)) = next_request(&mut reader).await? {
        if matches!(request, Request::Cancel) {
            if let Some(task) = open.remove(&number) {
                tokio::task::AbortHandle::abort(&task);
            }
            continue;
        }
        open.retain(|_, task: &mut tokio::task::AbortHandle| !task.is_finished());
        while tasks.try_join_next().is_some() {}
        let verdict = match gate.check(&request) {
            Ok(()) if tasks.len() > MAX_OPEN => Err(format!("more than {MAX_OPEN} requests at once")),
            Ok(()) if open.contains_key(&number) => Err(format!("request {number} is still open")),
            verdict => verdict,
        };
        match verdict {
            Err(reason) => drop(events.send((number, Event::Refused(reason))).await),
            Ok(()) => {
                let answer = Answer { number, events: events.clone() };
                let house = house.clone();
                open.insert(number, tasks.spawn(answer.give(request, house)));
            }
        }
    }
    Ok(())
}

/// A client that leaves without reading all its events resets the connection; that is an end like another.
async fn next_request(reader: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<(u32, Request)>> {
    match frame::read(reader).await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
        result => result,
    }
}

enum Gate {
    Open,
    Session { reports: mpsc::Sender<Report>, role: Option<Role> },
}

impl Gate {
    fn check(&mut self, request: &Request) -> Result<(), String> {
        let Self::Session { reports, role } = self else { return Ok(()) };
        match (request, *role) {
            (Request::Login(login), None) => {
                *role = Some(login.role);
                reports.try_send(Report::LoggedIn(login.clone())).map_err(|_| "the daemon is stopping".to_owned())
            }
            (Request::LoginFailed { user, reason }, None) => {
                // A flood of failures may overflow the queue: then some go unlogged, which is wanted.
                let _ = reports.try_send(Report::LoginFailed { user: user.clone(), reason: reason.clone() });
                Ok(())
            }
            (request, Some(role)) if role.may(request) => Ok(()),
            (_, Some(role)) => Err(format!("the role {} may not do that", role.name())),
            (_, None) => Err("not logged in".to_owned()),
        }
    }
}

struct Answer {
    number: u32,
    events: mpsc::Sender<(u32, Event)>,
}

impl Answer {
    async fn give(self, request: Request, house: Arc<dyn House>) {
        let last = match request {
            Request::Status => {
                let status = house.status().borrow().clone();
                self.send(Event::Status(Box::new((*status).clone()))).await
            }
            Request::Watch { log } => self.watch(house.status(), log.then(|| house.log())).await,
            Request::Submit(submit) => self.relay(house.submit(submit), Event::Outcome).await,
            Request::Peek { follow } => self.relay(house.peek(follow), Event::Text).await,
            Request::Power(power) => match house.power(power) {
                Ok(()) => Ok(()),
                Err(reason) => return drop(self.send(Event::Refused(reason)).await),
            },
            Request::Stop => {
                house.stop();
                Ok(())
            }
            Request::Open(open) => match house.open(open) {
                Ok((question, outcomes)) => {
                    drop(self.send(Event::Asked(Box::new(question))).await); // a client that has gone is noticed with the next one
                    self.relay(outcomes, Event::Outcome).await
                }
                Err(reason) => return drop(self.send(Event::Refused(reason)).await),
            },
            Request::Login(_) | Request::LoginFailed { .. } | Request::Cancel => Ok(()),
        };
        if last.is_ok() {
            drop(self.send(Event::Done).await);
        }
    }

    async fn watch(&self, mut status: watch::Receiver<Arc<Status>>, log: Option<mpsc::Receiver<Vec<String>>>) -> Sent {
        let mut log = log.unwrap_or_else(|| mpsc::channel(1).1);
        status.mark_changed();
        loop {
            tokio::select! {
                changed = status.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let now = status.borrow_and_update().clone();
                    self.send(Event::Status(Box::new((*now).clone()))).await?;
                }
                Some(lines) = log.recv() => self.send(Event::Log(lines)).await?,
            }
        }
    }

    async fn relay<T>(&self, mut from: mpsc::Receiver<T>, event: impl Fn(T) -> Event) -> Sent {
        while let Some(item) = from.recv().await {
            self.send(event(item)).await?;
        }
        Ok(())
    }

    async fn send(&self, event: Event) -> Sent {
        self.events.send((self.number, event)).await.map_err(|_| Closed)
    }
}

/// The client is gone; there is nobody to tell.
struct Closed;
type Sent = Result<(), Closed>;
