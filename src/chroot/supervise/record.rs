//! What the supervisor writes down about itself and its services: for `status`, and for the one after it.

use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::chroot::processes::Running;
use crate::chroot::state::State;

/// Names in the state: the supervisor's process (`PID START`), and its services (JSON).
const SUPERVISOR: &str = "supervisor";
const SERVICES: &str = "services";
/// The supervisor that was told to end, as in `SUPERVISOR`.
const ENDING: &str = "ending";

/// As long as a definition can say (`stop-seconds`).
const MAX_STOP_SECONDS: u64 = 600;

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// What must be done before its first start (host keys).
    Preparing,
    Running,
    /// Its command has ended well and left processes, which are taken for it.
    Background,
    /// It has ended, and is started again later.
    Waiting,
    /// It was told to end, or what it left was.
    Ending,
    Ended,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub name: String,
    pub condition: Condition,
    /// The process that was started for it.
    pub main: Option<Running>,
    /// Those in which its processes are, by number: setsid(2).
    pub sessions: Vec<i32>,
    /// The pipe that it prints to.
    pub pipe: Option<u64>,
    pub restarts: u32,
    pub last_exit: Option<String>,
    pub stop_seconds: u64,
}

impl Kept {
    /// How long it gets to end.
    pub fn stop(&self) -> Duration {
        Duration::from_secs(self.stop_seconds.min(MAX_STOP_SECONDS))
    }
}

/// The supervisor, if one was started since the boot and not stopped; it may have been killed.
pub fn supervisor(state: &State) -> anyhow::Result<Option<Running>> {
    process(state, SUPERVISOR)
}

/// Whether it was told to end, which may take it some time.
pub fn is_ending(state: &State, supervisor: Running) -> anyhow::Result<bool> {
    Ok(process(state, ENDING)? == Some(supervisor))
}

fn process(state: &State, name: &str) -> anyhow::Result<Option<Running>> {
    let Some(text) = state.read(name)? else { return Ok(None) };
    let (pid, started) = text.trim().split_once(' ').unwrap_or_default();
    let running = pid.parse().and_then(|pid| Ok(Running { pid, started: started.parse()? }));
    running.map(Some).with_context(|| format!("the chroot's state has {text:?} for its supervisor's number and start"))
}

pub fn write_supervisor(state: &State, Running { pid, started }: Running) -> anyhow::Result<()> {
    state.write(SUPERVISOR, &format!("{pid} {started}\n"))
}

/// It is told to end, or was.
pub fn write_ending(state: &State, Running { pid, started }: Running) -> anyhow::Result<()> {
    state.write(ENDING, &format!("{pid} {started}\n"))
}

/// None if nothing is written down.
pub fn services(state: &State) -> anyhow::Result<Vec<Kept>> {
    let Some(text) = state.read(SERVICES)? else { return Ok(Vec::new()) };
    serde_json::from_str(&text).context("the chroot's state has something else than a list of services")
}

/// As it is written.
pub fn text(services: &[Kept]) -> anyhow::Result<String> {
    serde_json::to_string_pretty(services).map(|text| text + "\n").context("writing the list of services")
}

pub fn write_services(state: &State, text: &str) -> anyhow::Result<()> {
    state.write(SERVICES, text)
}

/// Nothing runs any more.
pub fn remove(state: &State) -> anyhow::Result<()> {
    let removed = [SERVICES, SUPERVISOR, ENDING].map(|name| state.remove(name));
    removed.into_iter().collect()
}
