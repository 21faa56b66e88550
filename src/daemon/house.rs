//! What clients can have the daemon do: the one place where its parts come together for them.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::console::{Asked, Console};
use super::hold::Holds;
use super::lifecycle::Stopper;
use super::listener::entrance::{Arrival, Entrance};
use super::listener::incoming;
use super::once::UsedKeys;
use super::power;
use super::prompt::broker::{Broker, Wanted};
use super::prompt::hook::Hook;
use super::rescue::Rescue;
use crate::config::grants::Grants;
use crate::control::message::{Destination, Open, Outcome, Power, Question, Start, Status, Submit};
use crate::control::server::{House, Listening, Program};
use crate::session::text;

/// The parts of the daemon, as clients see them.
pub struct Rooms {
    pub broker: Broker,
    pub hook: Hook,
    pub console: Console,
    pub rescue: Arc<Rescue>,
    pub used_keys: UsedKeys,
    pub statuses: watch::Receiver<Arc<Status>>,
    pub stopper: Stopper,
    pub holds: Holds,
    pub entrance: Entrance,
}

#[async_trait]
impl House for Rooms {
    fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.statuses.clone()
    }

    fn log(&self) -> mpsc::Receiver<Vec<String>> {
        self.console.log()
    }

    fn peek(&self, follow: bool) -> mpsc::Receiver<String> {
        let statuses = self.statuses.clone();
        self.console.peek(follow, move || {
            let status = statuses.borrow();
            // What nothing asks at the console is not shown there either.
            let asked = status.questions.iter().filter(|question| !question.is_recovery());
            let asked = asked.map(|it| Asked { number: it.id.0, words: text::printable(&it.message).to_string() });
            asked.collect()
        })
    }

    fn submit(&self, submit: Submit) -> Result<mpsc::Receiver<Outcome>, String> {
        let wait = Duration::from_millis(submit.wait_ms);
        Ok(self.broker.submit(Wanted { volumes: submit.volumes, kind: submit.kind }, submit.secret, wait))
    }

    fn power(&self, power: Power) -> Result<(), String> {
        power::switch(power)
    }

    fn open(&self, open: Open) -> Result<(Question, mpsc::Receiver<Outcome>), String> {
        self.hook.open(open)
    }

    fn stop(&self) -> mpsc::Receiver<String> {
        self.stopper.stop();
        self.holds.signs_of_life()
    }

    fn start(&self, start: Start, grants: &Grants) -> Result<Program, String> {
        self.rescue.start(start, grants)
    }

    async fn connect(&self, to: Destination) -> Result<OwnedFd, String> {
        self.rescue.connect(to).await
    }

    async fn listen(&self, on: Destination, gateway_ports: bool) -> Result<Listening, String> {
        self.rescue.listen(on, gateway_ports).await
    }

    fn hold(&self, seconds: u32) -> Result<(), String> {
        self.holds.hold(seconds)
    }

    fn hold_while(&self, seconds: u32) -> Result<Box<dyn Send + Sync>, String> {
        Ok(Box::new(self.holds.hold_while(seconds)?))
    }

    fn release(&self) {
        self.holds.release();
    }

    async fn serve(&self, stream: OwnedFd, from: String) -> Result<(), String> {
        let origin = incoming::origin(&stream, &from);
        self.entrance.enter(Arrival { stream, origin }).await.map_err(|error| format!("{error:#}"))
    }

    fn use_once(&self, key: &str) -> Result<(), String> {
        self.used_keys.take(key)
    }
}
