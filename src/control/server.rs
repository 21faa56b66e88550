//! The daemon's end: one task per connection, one per open request, all ended together.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::message::{
    Destination, Event, Exit, Login, Open, Outcome, Power, Question, Request, Setup, Size, Start, Status, Submit,
};
use super::{frame, stream};
use crate::config::grants::Grants;
use crate::config::role::Roles;

/// Requests that one client may have open. A session has a handful of channels, each with two or three.
const MAX_OPEN: usize = 64;
/// Events on their way to one client.
const QUEUE: usize = 64;

/// What the daemon can do for a client. Implementations check nothing: that is done here, once, for all of them.
#[async_trait]
pub trait House: Send + Sync + 'static {
    fn status(&self) -> watch::Receiver<Arc<Status>>;
    /// New kernel log lines, the last few first.
    fn log(&self) -> mpsc::Receiver<Vec<String>>;
    fn peek(&self, follow: bool) -> mpsc::Receiver<String>;
    fn submit(&self, submit: Submit) -> Result<mpsc::Receiver<Outcome>, String>;
    fn power(&self, power: Power) -> Result<(), String>;
    /// The question, and what comes of each answer.
    fn open(&self, open: Open) -> Result<(Question, mpsc::Receiver<Outcome>), String>;
    /// What the end has to wait for, said every few seconds until it does no longer.
    fn stop(&self) -> mpsc::Receiver<String>;
    /// Starts a program; `grants` say below which directory files are served, and what its environment is.
    fn start(&self, start: Start, grants: &Grants) -> Result<Program, String>;
    /// The stream.
    async fn connect(&self, to: Destination) -> Result<OwnedFd, String>;
    /// `gateway_ports`: whether a listener may be reached from other machines.
    async fn listen(&self, on: Destination, gateway_ports: bool) -> Result<Listening, String>;
    /// Has the boot wait at hand-over, for so many seconds at most.
    fn hold(&self, seconds: u32) -> Result<(), String>;
    /// The same, until what is returned is dropped.
    fn hold_while(&self, seconds: u32) -> Result<Box<dyn Send + Sync>, String>;
    fn release(&self);
    /// Serves SSH on a stream socket, which comes from there if it has no address.
    async fn serve(&self, stream: OwnedFd, from: String) -> Result<(), String>;
    /// Notes that a key which is good for a single login is used now, by its fingerprint; an error if it has been before.
    fn use_once(&self, key: &str) -> Result<(), String>;
}

/// A program that runs for a client.
pub struct Program {
    /// For the client; see [`Event::Started`].
    pub descriptors: Vec<OwnedFd>,
    /// When this is dropped, the program is hung up on, and killed if it stays.
    pub orders: mpsc::Sender<Order>,
    pub exit: oneshot::Receiver<Exit>,
}

pub enum Order {
    Size(Size),
    /// By its name without `SIG`.
    Signal(String),
}

/// Something that listens for a client, until it is dropped.
pub struct Listening {
    /// 0 where there are no ports.
    pub port: u16,
    pub accepted: mpsc::Receiver<Accepted>,
}

/// A connection that came in, and from where.
pub struct Accepted {
    pub stream: OwnedFd,
    pub address: String,
    pub port: u16,
}

/// Who is at the other end, and what it may do.
#[allow(clippy::large_enum_variant)] // one for each connection, and moved once
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
    /// Where only one session may log in: whether one has.
    pub taken: Option<watch::Sender<bool>>,
}

pub enum Report {
    LoggedIn(Login),
    LoginFailed {
        user: Option<String>,
        reason: String,
    },
    /// A key that would get in was offered.
    KeyKnown,
}

/// Serves one client until it closes the stream or breaks the protocol; the error says how.
pub async fn serve(stream: UnixStream, access: Access, house: Arc<dyn House>) -> std::io::Result<()> {
    let (mut reader, mut writer) = stream::split(stream);
    let (events, mut queue) = mpsc::channel::<(u32, Event, Vec<OwnedFd>)>(QUEUE);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some((number, event, descriptors)) = queue.recv().await {
            writer.attach(descriptors);
            let event = (number, event);
            if frame::write(&mut writer, &event).await.is_err() {
                break; // the reader sees the end of the stream
            }
        }
    });
    let mut gate = Gate::Open;
    if let Access::Session(SessionAccess { setup, reports, taken }) = access {
        let roles = setup.roles.clone();
        let _ = events.send((0, Event::Setup(setup), vec![])).await; // a session that has died is noticed below
        gate = Gate::Session { reports, taken, roles, bound: None };
    }
    let mut open = HashMap::new();
    let programs = Programs::default();
    while let Some((number, request)) = next_request(&mut reader).await? {
        let carried = reader.take(usize::from(matches!(request, Request::Serve { .. })))?;
        if matches!(request, Request::Cancel) {
            if let Some(task) = open.remove(&number) {
                tokio::task::AbortHandle::abort(&task);
            }
            continue;
        }
        open.retain(|_, task: &mut tokio::task::AbortHandle| !task.is_finished());
        while tasks.try_join_next().is_some() {}
        let verdict = match gate.check(&request, &*house) {
            Ok(()) if tasks.len() > MAX_OPEN => Err(format!("more than {MAX_OPEN} requests at once")),
            Ok(()) if open.contains_key(&number) => Err(format!("request {number} is still open")),
            verdict => verdict,
        };
        match verdict {
            Err(reason) => drop(events.send((number, Event::Refused(reason), vec![])).await),
            Ok(()) => {
                let (events, programs) = (events.clone(), programs.clone());
                let answer = Answer { number, events, programs, grants: gate.grants(), carried };
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
    Session {
        reports: mpsc::Sender<Report>,
        taken: Option<watch::Sender<bool>>,
        roles: Roles,
        /// The role's name, and what is left of it for the key that was used.
        bound: Option<(String, Arc<Grants>)>,
    },
}

impl Gate {
    fn check(&mut self, request: &Request, house: &dyn House) -> Result<(), String> {
        let Self::Session { reports, taken, roles, bound } = self else { return Ok(()) };
        match (request, &bound) {
            (Request::Login(_), None) if taken.as_ref().is_some_and(|taken| *taken.borrow()) => {
                Err("this server serves one session, and another has logged in".to_owned())
            }
            (Request::Login(login), None) => {
                let role = roles.find(&login.role).ok_or_else(|| format!("no role is called {:?}", login.role))?;
                if login.narrowing.once {
                    // The comment after the fingerprint could differ from line to line.
                    house.use_once(login.key.split(' ').next().unwrap_or_default())?;
                }
                *bound = Some((role.name.clone(), Arc::new(role.grants.clone().narrowed_by(&login.narrowing))));
                reports.try_send(Report::LoggedIn(login.clone())).map_err(|_| "the daemon is stopping".to_owned())?;
                if let Some(taken) = taken {
                    taken.send_replace(true);
                }
                Ok(())
            }
            (Request::LoginFailed { user, reason }, None) => {
                // A flood of failures may overflow the queue: then some go unlogged, which is wanted.
                let _ = reports.try_send(Report::LoginFailed { user: user.clone(), reason: reason.clone() });
                Ok(())
            }
            (Request::KeyKnown, None) => {
                let _ = reports.try_send(Report::KeyKnown); // as above; and it says nothing new the second time
                Ok(())
            }
            (request, Some((role, grants))) => grants.permit(request).map_err(|why| format!("the role {role} {why}")),
            (_, None) => Err("not logged in".to_owned()),
        }
    }

    /// What the client may do; local ones are root on this machine.
    fn grants(&self) -> Arc<Grants> {
        match self {
            Self::Session { bound: Some((_, grants)), .. } => grants.clone(),
            _ => Arc::default(),
        }
    }
}

/// Where the orders for a client's programs go, by the number of their request.
type Programs = Arc<Mutex<HashMap<u32, mpsc::Sender<Order>>>>;

struct Answer {
    number: u32,
    events: mpsc::Sender<(u32, Event, Vec<OwnedFd>)>,
    programs: Programs,
    grants: Arc<Grants>,
    /// Descriptors that came with the request.
    carried: Vec<OwnedFd>,
}

impl Answer {
    async fn give(mut self, request: Request, house: Arc<dyn House>) {
        let last = match request {
            Request::Status => {
                let status = house.status().borrow().clone();
                self.send(Event::Status(Box::new((*status).clone()))).await
            }
            Request::Watch { log } => self.watch(house.status(), log.then(|| house.log())).await,
            Request::Submit(submit) => match house.submit(submit) {
                Ok(outcomes) => self.relay(outcomes, Event::Outcome).await,
                Err(reason) => return self.granted(Err(reason)).await,
            },
            Request::Peek { follow } => self.relay(house.peek(follow), Event::Text).await,
            Request::Power(power) => return self.granted(house.power(power)).await,
            Request::Hold { seconds } => return self.granted(house.hold(seconds)).await,
            Request::Release => {
                house.release();
                Ok(())
            }
            Request::Window { start, size } => self.order(start, Order::Size(size)),
            Request::Signal { start, name } => self.order(start, Order::Signal(name)),
            Request::Start(start) => match house.start(start, &self.grants) {
                Ok(program) => self.accompany(program).await,
                Err(reason) => return self.granted(Err(reason)).await,
            },
            Request::Connect(to) => match house.connect(to).await {
                Ok(stream) => self.send_with(Event::Connected, vec![stream]).await,
                Err(reason) => return self.granted(Err(reason)).await,
            },
            Request::Listen(on) => match house.listen(on, self.grants.gateway_ports).await {
                Ok(listening) => self.pass_on(listening).await,
                Err(reason) => return self.granted(Err(reason)).await,
            },
            Request::HoldWhile { seconds } => match house.hold_while(seconds) {
                Ok(_held) => {
                    drop(self.send(Event::Holding).await); // a client that has gone is noticed, and this task ended
                    std::future::pending().await
                }
                Err(reason) => return self.granted(Err(reason)).await,
            },
            Request::Serve { from } => {
                let stream = self.carried.pop().expect("it was taken with the request");
                return self.granted(house.serve(stream, from).await).await;
            }
            Request::Stop => self.relay(house.stop(), Event::Text).await,
            Request::Open(open) => match house.open(open) {
                Ok((question, outcomes)) => {
                    drop(self.send(Event::Asked(Box::new(question))).await); // a client that has gone is noticed with the next one
                    self.relay(outcomes, Event::Outcome).await
                }
                Err(reason) => return drop(self.send(Event::Refused(reason)).await),
            },
            Request::Login(_) | Request::LoginFailed { .. } | Request::KeyKnown | Request::Cancel => Ok(()),
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

    /// A program, from its start to its end.
    async fn accompany(&self, program: Program) -> Sent {
        let Program { descriptors, orders, exit } = program;
        let _known = Known::new(&self.programs, self.number, orders);
        let count = u8::try_from(descriptors.len()).expect("a handful");
        self.send_with(Event::Started { descriptors: count }, descriptors).await?;
        match exit.await {
            Ok(exit) => self.send(Event::Exited(exit)).await,
            Err(_) => Err(Closed), // the daemon is ending
        }
    }

    async fn pass_on(&self, mut listening: Listening) -> Sent {
        self.send(Event::Listening { port: listening.port }).await?;
        while let Some(Accepted { stream, address, port }) = listening.accepted.recv().await {
            self.send_with(Event::Accepted { address, port }, vec![stream]).await?;
        }
        Ok(())
    }

    /// Orders for a program that has ended go nowhere.
    fn order(&self, program: u32, order: Order) -> Sent {
        if let Some(orders) = self.programs.lock().expect("no panic while held").get(&program) {
            let _ = orders.try_send(order); // of a flood of sizes and signals some may get lost
        }
        Ok(())
    }

    async fn granted(self, result: Result<(), String>) {
        let event = match result {
            Ok(()) => Event::Done,
            Err(reason) => Event::Refused(reason),
        };
        drop(self.send(event).await);
    }

    async fn send(&self, event: Event) -> Sent {
        self.send_with(event, vec![]).await
    }

    async fn send_with(&self, event: Event, descriptors: Vec<OwnedFd>) -> Sent {
        self.events.send((self.number, event, descriptors)).await.map_err(|_| Closed)
    }
}

/// A program that takes orders, until this is dropped.
struct Known {
    programs: Programs,
    number: u32,
}

impl Known {
    fn new(programs: &Programs, number: u32, orders: mpsc::Sender<Order>) -> Self {
        programs.lock().expect("no panic while held").insert(number, orders);
        Self { programs: programs.clone(), number }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.programs.lock().expect("no panic while held").remove(&self.number);
    }
}

/// The client is gone; there is nobody to tell.
struct Closed;
type Sent = Result<(), Closed>;
