//! Tells somebody over HTTP that the machine waits, that it has failed, that it is unlocked (`[[notify]]`).
//!
//! What is told and when follows from the status (`rules`, pure), in which words too (`message`, pure). Each recipient has a
//! task; the daemon makes the connection, and a process of its own speaks over it (`process`). Nothing waits for any of
//! this but the end of the daemon, for [`FAREWELL`].

mod message;
mod process;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::net::resolve::Resolver;
use crate::config::Recipient;
use crate::config::notify::Trust;
use crate::control::message::{Phase, Status};
use crate::control::notification::{Notification, State};
use crate::post::{Order, Proof, Tls};
use crate::session::text::printable;
pub use message::Facts;
use rules::{Event, Rules, Telling};

/// At hand-over, for the message that everything is open.
const FAREWELL: Duration = Duration::from_secs(2);
/// After that tasks end by themselves, at once; one that doesn't is ended this much later. Long enough that on a busy machine
/// they still say what was not delivered.
const GRACE: Duration = Duration::from_secs(3);
/// Longest problem that is told, in characters: a part of it may be what a server says of itself.
const MAX_PROBLEM: usize = 300;

/// The tasks of all recipients.
pub struct Notifier {
    tasks: Vec<JoinHandle<()>>,
    pub states: watch::Receiver<Vec<Notification>>,
}

impl Notifier {
    /// Follows `statuses` until `stopping`.
    pub fn start(
        recipients: Vec<Recipient>,
        facts: Facts,
        resolver: &Resolver,
        statuses: &watch::Receiver<Arc<Status>>,
        stopping: &watch::Receiver<bool>,
    ) -> Self {
        let quiet = |recipient: &Recipient| Notification {
            to: recipient.notify.url.shown(),
            state: State::Quiet,
            problem: None,
            sent: 0,
        };
        let (all, states) = watch::channel(recipients.iter().map(quiet).collect());
        let (all, facts) = (Arc::new(all), Arc::new(facts));
        let tasks = recipients.into_iter().enumerate().map(|(index, recipient)| {
            let (facts, resolver, states) = (facts.clone(), resolver.clone(), States { all: all.clone(), index });
            let teller = Teller { recipient, facts, resolver, states, started: Instant::now() };
            crate::task::spawn(teller.follow(statuses.clone(), stopping.clone()))
        });
        Self { tasks: tasks.collect(), states }
    }

    /// Once `stopping` is true: waits for the last messages, not for long.
    pub async fn end(self) {
        let deadline = Instant::now() + FAREWELL + GRACE;
        for mut task in self.tasks {
            if timeout_at(deadline, &mut task).await.is_err() {
                task.abort(); // with the process that it has started
            }
        }
    }
}

/// One of the notifications in the status.
struct States {
    all: Arc<watch::Sender<Vec<Notification>>>,
    index: usize,
}

impl States {
    fn change(&self, change: impl FnOnce(&mut Notification)) {
        self.all.send_modify(|all| change(&mut all[self.index]));
    }
}

struct Teller {
    recipient: Recipient,
    facts: Arc<Facts>,
    resolver: Resolver,
    states: States,
    started: Instant,
}

impl Teller {
    async fn follow(self, mut statuses: watch::Receiver<Arc<Status>>, mut stopping: watch::Receiver<bool>) {
        let mut rules = Rules::new(Duration::from_secs(self.recipient.notify.after), self.recipient.notify.on);
        while !*stopping.borrow_and_update() {
            let status = statuses.borrow_and_update().clone();
            rules.observe(&status, self.started.elapsed());
            if let Some(telling) = rules.due(self.started.elapsed()) {
                let mut told = std::pin::pin!(self.tell(&telling, &status));
                let result = tokio::select! {
                    result = &mut told => Some(result),
                    _ = stopping.wait_for(|stopping| *stopping) => None,
                };
                match (result, telling.event) {
                    (Some(result), _) => self.settle(&mut rules, &telling, result),
                    (None, Event::Unlocked) => {
                        let result = farewell(told, Instant::now() + FAREWELL).await;
                        return self.settle(&mut rules, &telling, result);
                    }
                    (None, Event::Waiting | Event::Failed) => {} // what is over by now
                }
                continue;
            }
            let next = rules.next();
            tokio::select! {
                changed = statuses.changed() => if changed.is_err() { return }, // the daemon is gone
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = sleep_until(self.started + next.unwrap_or_default()), if next.is_some() => {}
            }
        }
        // What was open when the end came is in the last status.
        let deadline = Instant::now() + FAREWELL;
        let last = timeout_at(deadline, statuses.wait_for(|status| status.phase == Phase::HandOver)).await;
        let Ok(Ok(status)) = last.map(|status| status.map(|status| status.clone())) else { return };
        rules.observe(&status, self.started.elapsed());
        if let Some(telling) = rules.last(self.started.elapsed()) {
            let result = farewell(self.tell(&telling, &status), deadline).await;
            self.settle(&mut rules, &telling, result);
        }
    }

    /// The request, on its way and back.
    async fn tell(&self, telling: &Telling, status: &Status) -> Result<(), String> {
        self.states.change(|notification| notification.state = State::Sending);
        let url = &self.recipient.notify.url;
        let stream = self.resolver.connect(&url.host, url.port).await.map_err(|error| error.to_string())?;
        let request = message::request(&self.recipient, telling.event, status, &self.facts);
        let tls = url.tls.then(|| Tls { host: url.host.trim_matches(['[', ']']).to_owned(), proof: self.proof() });
        judge(process::post(stream, &Order { request, tls }).await?)
    }

    fn proof(&self) -> Proof {
        match &self.recipient.notify.trust {
            Trust::Pinned(digest) => Proof::Pinned(*digest),
            Trust::Authorities(_) => Proof::Authorities(self.recipient.authorities.clone().unwrap_or_default()),
        }
    }

    fn settle(&self, rules: &mut Rules, telling: &Telling, result: Result<(), String>) {
        let to = self.recipient.notify.url.shown();
        match result {
            Ok(()) => {
                rules.sent(telling);
                log::info!("told {to}: {:?}", telling.event);
                self.states.change(|notification| {
                    (notification.state, notification.problem) = (State::Sent, None);
                    notification.sent += 1;
                });
            }
            Err(problem) => {
                rules.not_sent(self.started.elapsed(), random());
                let problem: String = printable(&problem).chars().take(MAX_PROBLEM).collect();
                log::warn!("{to} could not be told ({:?}): {problem}", telling.event);
                self.states.change(|notification| {
                    (notification.state, notification.problem) = (State::Failed, Some(problem));
                });
            }
        }
    }
}

async fn farewell(told: impl Future<Output = Result<(), String>>, deadline: Instant) -> Result<(), String> {
    let late = |_| Err(format!("it has not taken the last message within {} s", FAREWELL.as_secs()));
    timeout_at(deadline, told).await.unwrap_or_else(late)
}

/// Whether an answer with this status code means that the message was taken (RFC 9110 section 15).
fn judge(code: u16) -> Result<(), String> {
    match code {
        200..=299 => Ok(()),
        300..=399 => Err(format!(
            "the server answers {code}, a redirect, which is not followed: write the address that it leads to into \
             the configuration"
        )),
        401 | 403 => Err(format!("the server answers {code}: look at the token, and at what it is allowed")),
        404 => Err(format!("the server answers {code}: look at the path of the URL")),
        429 => Err(format!("the server answers {code}: it has had too many messages")),
        _ => Err(format!("the server answers {code}")),
    }
}

/// Without random numbers all machines come back at once, which is no reason not to come back.
fn random() -> u8 {
    let mut byte = [0];
    let _ = getrandom(&mut byte, GetRandomFlags::NONBLOCK);
    byte[0]
}
