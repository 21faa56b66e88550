//! The supervisor of a chroot: one process, `vestibule chroot-supervise`, that keeps the chroot's services running.
//!
//! It writes down what it does (`record`), so that `status` asks nobody, and that one that comes after it was killed takes over
//! what lives. Its services live on without it; what they print waits in their pipes (`output`).

mod backoff;
mod exit;
mod keeper;
mod lines;
mod orders;
mod output;
mod phase;
mod programs;
mod record;
mod service;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde::Serialize;

use super::android;
use super::definition::Definition;
use super::log::Log;
use super::place::Place;
use super::processes::{self, KILL_DEADLINE, Running, Seen};
use super::state::State;
use crate::daemon::rescue::launch::default_signals;
use crate::root::Root;
use keeper::Keeper;
use orders::Orders;
use programs::Chroot;
pub use record::Condition;
use record::Kept;

/// The action that is the supervisor's life.
pub const ACTION: &str = "chroot-supervise";
/// It starts processes, and waits for none of them; on a phone that has just booted, others want to run as well.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// One that could not get ready has nothing running that would take longer.
const GIVE_UP_DEADLINE: Duration = Duration::from_secs(20);
/// For what services have left to the supervisor, and for a machine that is busy.
const STOP_MARGIN: Duration = Duration::from_secs(15);
/// What a supervisor has left that took too long is told all the same, and can write down the most important.
const LEAST_GRACE: Duration = Duration::from_secs(1);
/// The last line of what it says when it has started everything.
const READY: &str = "ready";
/// Longest that is read of what it says, in bytes.
const MAX_SAID: u64 = 64 * 1024;

/// How a chroot's services are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Supervised {
    /// The supervisor; nothing if it was killed: then services may live, but nobody starts them again.
    pub pid: Option<i32>,
    pub services: Vec<SupervisedService>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SupervisedService {
    pub name: String,
    pub state: Condition,
    pub pid: Option<i32>,
    pub restarts: u32,
    /// How it ended the last time, in words.
    pub last_exit: Option<String>,
}

impl Supervised {
    /// Whether everything runs that should.
    pub fn is_up(&self) -> bool {
        self.pid.is_some()
            && self.services.iter().all(|service| matches!(service.state, Condition::Running | Condition::Background))
    }

    /// Whether something has ended that should run. What is being prepared for its first start is only on its way.
    pub fn lacks_some(&self) -> bool {
        let lacks = |state| matches!(state, Condition::Waiting | Condition::Ending | Condition::Ended);
        self.pid.is_none() || self.services.iter().any(|service| lacks(service.state))
    }
}

/// Whether there is one that keeps the services running, and goes on doing so.
pub fn is_running(state: &State) -> anyhow::Result<bool> {
    let Some(supervisor) = record::supervisor(state)?.filter(|supervisor| supervisor.lives()) else { return Ok(false) };
    Ok(!record::is_ending(state, supervisor)?)
}

/// Starts the supervisor, and returns when it has started each service once; harmless if it runs already. One that is ending,
/// as whoever has told it so did not wait, ends first. What did not go well with services is told: the supervisor tries them
/// again. A supervisor that can't do its work is an error.
pub fn start(definition: &Definition, place: &Place, state: &State, root: &Root) -> anyhow::Result<Vec<String>> {
    if is_running(state)? {
        return Ok(Vec::new());
    }
    let before = match record::supervisor(state)?.filter(|supervisor| supervisor.lives()) {
        Some(_ending) => stop(place, state, stop_deadline(definition, state))?,
        None => Vec::new(),
    };
    let orders = Orders::new(definition, place, root).text()?;
    let mut supervisor = Command::new("/proc/self/exe")
        .arg0("vestibule")
        .arg(ACTION)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the supervisor, /proc/self/exe (is /proc mounted?)")?;
    // Before it has its orders, without which it ends: if this process is killed, the next one sees who has them.
    let written = write_down(&supervisor, state).and_then(|()| tell(&mut supervisor, &orders));
    let told = written.and_then(|said| until_ready(said, Instant::now() + START_DEADLINE));
    let told = told.map(|told| before.into_iter().chain(told).collect());
    told.or_else(|error| {
        let left = stop(place, state, GIVE_UP_DEADLINE).unwrap_or_else(|error| vec![format!("{error:#}")]);
        supervisor.kill().context("ending the supervisor, which did not get ready")?;
        supervisor.wait().context("waiting for the supervisor, which did not get ready")?;
        Err(if left.is_empty() { error } else { anyhow::anyhow!("{error:#}; while it was ended: {}", left.join("; ")) })
    })
}

/// How long all services may take to end, one after the other: those of the definition, and those that run, as it may have
/// changed since. A record that can't be read ends nobody earlier; `stop` tells it.
pub fn stop_deadline(definition: &Definition, state: &State) -> Duration {
    let own = definition.services.iter().map(|service| Duration::from_secs(service.stop_seconds));
    let server = definition.ssh.iter().map(|_| keeper::SSH_STOP);
    let running = record::services(state).unwrap_or_default();
    in_turn(own.chain(server)).max(in_turn(running.iter().map(Kept::stop))) + STOP_MARGIN
}

fn in_turn(stops: impl Iterator<Item = Duration>) -> Duration {
    stops.map(|stop| stop + KILL_DEADLINE).sum()
}

/// Ends the supervisor, and with it all services: by their own deadlines, and by force at this one. Also what a supervisor that
/// was killed has left. What was out of the ordinary is told.
pub fn stop(place: &Place, state: &State, deadline: Duration) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + deadline;
    let mut told = Vec::new();
    if let Some(supervisor) = record::supervisor(state)? {
        // Before it hears of it: whoever waits for it may be ended at any time, and then somebody starts the chroot.
        if let Err(error) = record::write_ending(state, supervisor) {
            told.push(format!("{error:#}; ending the supervisor all the same"));
        }
        if !supervisor.signal(Signal::SIGTERM) {
            told.push("the supervisor had been killed; its services are ended without it".to_owned());
        } else if !supervisor.ended_by(deadline) {
            supervisor.signal(Signal::SIGKILL);
            told.push("the supervisor did not end its services in time; it and they are killed".to_owned());
            if !supervisor.ended_by(Instant::now() + KILL_DEADLINE) {
                bail!(
                    "the supervisor, process {}, stays although it was killed; it may wait for a disk",
                    supervisor.pid
                );
            }
        }
    }
    // A supervisor that has ended as it should leaves nothing written down.
    for kept in record::services(state)?.iter().rev() {
        let grace = kept.stop().min(deadline.saturating_duration_since(Instant::now())).max(LEAST_GRACE);
        for (seen, how) in processes::end(&|| left(kept, place), &[Signal::SIGTERM, Signal::SIGCONT], grace) {
            told.push(format!(
                "{}: process {} ({}) had been left: {}",
                kept.name,
                seen.running.pid,
                seen.name,
                how.text()
            ));
        }
    }
    record::remove(state)?;
    Ok(told)
}

/// What lives of a service that nobody supervises.
fn left(kept: &Kept, place: &Place) -> Vec<Seen> {
    let of_it = |seen: &Seen| {
        let of_session = kept.sessions.contains(&seen.session);
        kept.main == Some(seen.running) || of_session && processes::is_within(seen.running.pid, place)
    };
    processes::all().into_iter().filter(of_it).collect()
}

/// As it is written down; nothing if it was never started, or stopped.
pub fn status(state: &State) -> anyhow::Result<Option<Supervised>> {
    let Some(supervisor) = record::supervisor(state)? else { return Ok(None) };
    let pid = supervisor.lives().then_some(supervisor.pid);
    let services = record::services(state)?.into_iter().map(|kept| {
        let main = kept.main.filter(|main| main.lives());
        SupervisedService {
            name: kept.name,
            // Nobody would start it again.
            state: if pid.is_none() && main.is_none() { Condition::Ended } else { kept.condition },
            pid: main.map(|main| main.pid),
            restarts: kept.restarts,
            last_exit: kept.last_exit,
        }
    });
    Ok(Some(Supervised { pid, services: services.collect() }))
}

fn write_down(supervisor: &Child, state: &State) -> anyhow::Result<()> {
    let pid = supervisor.id().cast_signed();
    let running = Running::of(pid).with_context(|| format!("looking at the supervisor, process {pid}"))?;
    record::write_supervisor(state, running)
}

/// Gives it its orders. What it says can be read from what is returned.
fn tell(supervisor: &mut Child, orders: &[u8]) -> anyhow::Result<ChildStdout> {
    let mut input = supervisor.stdin.take().context("the supervisor has no standard input")?;
    input.write_all(orders).context("giving the supervisor its orders")?;
    supervisor.stdout.take().context("the supervisor has no standard output")
}

/// Lines that tell of problems, then `READY`.
fn until_ready(mut said: ChildStdout, deadline: Instant) -> anyhow::Result<Vec<String>> {
    let mut text = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut watched = [PollFd::new(said.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => bail!(
                "the supervisor was not ready within {} s; the chroot's log may say why",
                START_DEADLINE.as_secs()
            ),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the supervisor"),
        }
        let mut buffer = [0; 4096];
        let length = match said.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.context("reading what the supervisor says")?,
        };
        text.extend_from_slice(&buffer[..length]);
        let lines = String::from_utf8_lossy(&text);
        let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        if lines.last().is_some_and(|last| last == READY) {
            lines.pop();
            return Ok(lines);
        }
        if length == 0 || text.len() as u64 > MAX_SAID {
            bail!(
                "the supervisor has ended: {}",
                if lines.is_empty() { "it did not say why".to_owned() } else { lines.join("; ") }
            );
        }
    }
}

/// The supervisor's life.
pub fn main() -> anyhow::Result<()> {
    let begun = begin();
    let lines = match &begun {
        Ok((_, problems)) => problems.iter().map(|line| line.replace('\n', " ")).chain([READY.to_owned()]).collect(),
        Err(error) => vec![format!("{error:#}").replace('\n', " ")],
    };
    // Who has started it may have gone; that is no reason to let the services down.
    let _ = std::io::stdout().write_all((lines.join("\n") + "\n").as_bytes());
    let _ = std::io::stdout().flush();
    let (keeper, _) = begun?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.context("opening /dev/null")?;
    nix::unistd::dup2_stdin(&null).context("letting go of standard input")?;
    nix::unistd::dup2_stdout(&null).context("letting go of standard output")?;
    nix::unistd::dup2_stderr(&null).context("letting go of standard error")?;
    drop(null);
    keeper.keep();
    Ok(())
}

fn begin() -> anyhow::Result<(Keeper, Vec<String>)> {
    close_inherited();
    nix::unistd::setsid().context("beginning a session")?;
    // Whose SIGCHLD is ignored, as somebody may have passed it on, is not told how children end.
    default_signals(&[]);
    std::env::set_current_dir("/").context("going to /")?;
    let mut text = Vec::new();
    std::io::stdin().take(orders::MAX_LENGTH).read_to_end(&mut text).context("reading the orders")?;
    let orders = Orders::parse(&text)?;
    let root = Root::new(&orders.outside);
    let place = Place::open(&orders.root)?;
    let state = State::open(&place, &root)?;
    let before = record::services(&state)?;
    record::write_supervisor(&state, Running::this()?)?;
    let log = Log::open(&orders.log(), &orders.name, &root);
    let network = if android::is_android(&root) { android::network_groups().to_vec() } else { Vec::new() };
    let chroot = Chroot { place, environment: orders.environment().to_vec(), network };
    let mut keeper = Keeper::new(chroot, &orders, state, log, &before)?;
    let problems = keeper.begin();
    Ok((keeper, problems))
}

/// What whoever has started `vestibule` had open, such as the connection of a login, would be kept open for ever. Nothing of
/// ours may be open yet but the standard descriptors. close_range(2) is too new for phones.
pub fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // One of them was the list itself.
        let _ = nix::unistd::close(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chroot::file;
    use crate::root::tests::Fixture;

    #[test]
    fn what_runs_gets_its_time_although_it_is_no_longer_defined() {
        let fixture = Fixture::new(&[("/tree/file", b""), ("/run/file", b"")]);
        let place = Place::open(&fixture.join("/tree")).unwrap();
        let state = State::open(&place, &fixture).unwrap();
        let defined = |text: &str| file::parse(&format!("root = \"/tree\"\n{text}")).unwrap();
        let (nothing, service) =
            (defined("ssh = false"), defined("[[service]]\nname = \"a\"\ncommand = [\"/a\"]\nstop-seconds = 20"));
        let seconds = |definition| stop_deadline(definition, &state).as_secs();
        assert_eq!((seconds(&nothing), seconds(&service)), (15, 20 + 5 + 15));
        let kept = |name: &str, stop_seconds| Kept {
            name: name.to_owned(),
            condition: Condition::Running,
            main: None,
            sessions: Vec::new(),
            pipe: None,
            restarts: 0,
            last_exit: None,
            stop_seconds,
        };
        record::write_services(&state, &record::text(&[kept("a", 300), kept("b", 1)]).unwrap()).unwrap();
        assert_eq!((seconds(&nothing), seconds(&service)), (301 + 2 * 5 + 15, 301 + 2 * 5 + 15));
    }
}
