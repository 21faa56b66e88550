//! One service: started, restarted, ended with everything that it has started.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::backoff::{Backoff, GOOD};
use super::exit::Exit;
use super::output::Output;
use super::phase::{Phase, Preparation};
use super::programs::{Chroot, Program, ROOT};
use super::record::{Condition, Kept};
use crate::chroot::log::Log;
use crate::chroot::processes::{self, KILL_DEADLINE, Running, Seen};

/// A host key on a slow board without random numbers.
const PREPARATION: Duration = Duration::from_secs(120);
/// How often it is looked after a process that isn't our child, whose end nobody tells us.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same, while it is being ended and somebody waits.
const LOOK_OFTEN: Duration = Duration::from_millis(20);
/// Who says in the log what the supervisor says.
pub const OURSELVES: &str = "supervisor";

pub struct Service {
    pub name: String,
    program: Program,
    stop: Duration,
    phase: Phase,
    /// As long as it lives, or hasn't been looked after.
    main: Option<Running>,
    /// How it ended, if it was a child of ours.
    exit: Option<Exit>,
    /// Its end is told by waitpid(2).
    ours: bool,
    sessions: Vec<i32>,
    output: Option<Output>,
    /// When the process was started, or taken over.
    began: Instant,
    /// The same, as in `Running`.
    since: u64,
    /// How long the last one ran.
    ran: Duration,
    backoff: Backoff,
    preparation: Preparation,
    /// Whether it is started again.
    wanted: bool,
    restarts: u32,
    last_exit: Option<String>,
}

/// What a step of a service needs to know of the world.
pub struct World<'a> {
    pub now: Instant,
    pub chroot: &'a Chroot,
    pub log: &'a mut Log,
    /// Sessions and processes that belong to any service.
    pub claimed: &'a [i32],
}

impl Service {
    pub fn new(name: &str, program: Program, stop: Duration, now: Instant) -> Self {
        Self {
            name: name.to_owned(),
            program,
            stop,
            phase: Phase::Waiting { until: now },
            main: None,
            exit: None,
            ours: false,
            sessions: Vec::new(),
            output: None,
            began: now,
            since: 0,
            ran: Duration::ZERO,
            backoff: Backoff::default(),
            preparation: Preparation::Wanted,
            wanted: true,
            restarts: 0,
            last_exit: None,
        }
    }

    /// Takes over what a supervisor that was killed has left of it: these processes.
    pub fn adopt(&mut self, kept: &Kept, living: &[Seen], now: Instant) {
        self.restarts = kept.restarts;
        self.last_exit.clone_from(&kept.last_exit);
        self.sessions.clone_from(&kept.sessions);
        self.began = now;
        // The main one may have closed it, or ended.
        self.output = kept.pipe.and_then(|inode| Output::of(living.iter().map(|seen| seen.running.pid), inode));
        if kept.condition == Condition::Ending {
            self.main = kept.main;
            return self.begin_to_end(now);
        }
        let Some(main) = kept.main else { return };
        self.main = Some(main);
        self.since = main.started;
        // What isn't there any more is found at the first look.
        self.phase = match kept.condition {
            Condition::Preparing => Phase::Preparing { until: now + PREPARATION },
            Condition::Background => Phase::Background,
            _ => Phase::Running,
        };
    }

    /// It is ended, and not started again.
    pub fn end(&mut self, now: Instant) {
        self.wanted = false;
        match self.phase {
            Phase::Waiting { .. } => self.phase = Phase::Ended,
            Phase::Preparing { .. } | Phase::Running | Phase::Background => self.begin_to_end(now),
            Phase::Ending { .. } | Phase::Ended => {}
        }
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// waitpid(2) has told the end of a child.
    pub fn reaped(&mut self, pid: i32, exit: Exit) {
        if self.ours && self.main.is_some_and(|main| main.pid == pid) {
            self.exit = Some(exit);
        }
    }

    /// What went wrong when it was started.
    pub fn problem(&self) -> Option<String> {
        let waits = matches!(self.phase, Phase::Waiting { .. });
        self.last_exit.as_ref().filter(|_| waits).map(|how| format!("service {} {how}", self.name))
    }

    /// What it prints.
    pub fn output(&self) -> Option<&Output> {
        self.output.as_ref()
    }

    pub fn read(&mut self, log: &mut Log) {
        if let Some(output) = &mut self.output {
            output.read(|line| log.line(&self.name, line));
        }
    }

    /// Sessions and the process that are its own.
    pub fn claims(&self) -> impl Iterator<Item = i32> {
        self.sessions.iter().copied().chain(self.main.map(|main| main.pid))
    }

    /// When it wants to be looked after, if nothing happens before.
    pub fn wakes(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Preparing { until } if self.ours => Some(until),
            Phase::Running if self.ours => None,
            Phase::Preparing { .. } | Phase::Running | Phase::Background => Some(now + LOOK_EVERY),
            Phase::Ending { .. } => Some(now + LOOK_OFTEN),
            Phase::Ended => None,
        }
    }

    pub fn kept(&self) -> Kept {
        Kept {
            name: self.name.clone(),
            condition: self.phase.condition(),
            main: self.main,
            sessions: self.sessions.clone(),
            pipe: self.output.as_ref().and_then(Output::inode),
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
            stop_seconds: self.stop.as_secs(),
        }
    }

    /// Does what is to be done now.
    pub fn step(&mut self, world: &mut World) {
        let ended = self.take_end(world);
        match &self.phase {
            Phase::Waiting { until } if world.now >= *until => self.start(world),
            Phase::Preparing { .. } if ended == Some(true) => {
                self.preparation = Preparation::Done;
                self.run(world);
            }
            Phase::Preparing { .. } if ended.is_some() => {
                self.say(world, "what prepares its start did not end well; it is done again before the next one");
                self.run(world);
            }
            Phase::Preparing { until } if world.now >= *until => {
                self.preparation = Preparation::LeftOut;
                self.say(world, "what prepares its start takes too long, and is ended; the next one goes without");
                self.begin_to_end(world.now);
            }
            Phase::Running | Phase::Background if ended.is_some() => self.after(ended == Some(true), world),
            Phase::Background => self.follow(),
            Phase::Ending { .. } => self.go_on_ending(world),
            Phase::Waiting { .. } | Phase::Preparing { .. } | Phase::Running | Phase::Ended => {}
        }
    }

    /// Whether its process has ended, and if so, whether well. Its last words are logged, and how it ended.
    fn take_end(&mut self, world: &mut World) -> Option<bool> {
        let main = self.main?;
        let exit = match self.exit.take() {
            Some(exit) => exit,
            None if self.ours || main.lives() => return None,
            None => Exit::Unknown,
        };
        let well = exit.is_well() || exit == Exit::Unknown && matches!(self.phase, Phase::Background);
        self.main = None;
        if let Some(output) = &mut self.output {
            output.finish(|line| world.log.line(&self.name, line));
        }
        self.ran = world.now.saturating_duration_since(self.began);
        self.say(world, &format!("process {} {}, after {} s", main.pid, exit.text(), self.ran.as_secs()));
        self.last_exit = Some(exit.text());
        Some(well)
    }

    /// Its process has ended, and nobody wanted that.
    fn after(&mut self, well: bool, world: &mut World) {
        let young = self.ran < GOOD;
        let in_background = matches!(self.phase, Phase::Background);
        if well
            && (young || in_background)
            && let Some(left) = self.left(in_background, world).into_iter().min_by_key(|seen| seen.running.started)
        {
            let told =
                format!("it left process {} ({}), and counts as running while that lives", left.running.pid, left.name);
            self.say(world, &told);
            self.main = Some(left.running);
            self.ours = false;
            self.phase = Phase::Background;
            self.follow();
        } else if self.members(world.chroot).is_empty() {
            self.again(world);
        } else {
            self.say(world, "what it left is ended before it is started again");
            self.begin_to_end(world.now);
        }
    }

    /// A daemon begins a session of its own, perhaps only after the command has ended that it was started by.
    fn follow(&mut self) {
        let session = self.main.and_then(|main| Seen::read(main.pid).filter(|seen| seen.running == main));
        if let Some(Seen { session, .. }) = session
            && session > 0 // that of one outside of our process namespace
            && !self.sessions.contains(&session)
        {
            self.sessions.push(session);
        }
    }

    /// What a program that puts itself into the background leaves: processes of its session, and those that have one of their
    /// own and were left to us (PR_SET_CHILD_SUBREAPER), unless they are older, or somebody inside has started them outside. Those
    /// that were left to us only when the command itself has just ended: later they are anybody's.
    fn left(&self, in_background: bool, world: &World) -> Vec<Seen> {
        let us = std::process::id().cast_signed();
        let stray = |seen: &Seen| {
            let claimed = world.claimed.contains(&seen.session) || world.claimed.contains(&seen.running.pid);
            let new = seen.parent == us && !claimed && seen.running.started >= self.since;
            new && processes::is_within(seen.running.pid, &world.chroot.place)
        };
        let mut left = self.members(world.chroot);
        if !in_background {
            left.extend(processes::all().into_iter().filter(stray));
        }
        left
    }

    /// Its living processes: of its sessions, and in the chroot, as the number of a session may have gone to another since.
    fn members(&self, chroot: &Chroot) -> Vec<Seen> {
        let of_it = |seen: &Seen| {
            let of_session = self.sessions.contains(&seen.session);
            Some(seen.running) == self.main || of_session && processes::is_within(seen.running.pid, &chroot.place)
        };
        processes::all().into_iter().filter(of_it).collect()
    }

    fn start(&mut self, world: &mut World) {
        self.restarts += u32::from(self.last_exit.is_some());
        if let Err(error) = self.program.make_ready(world.chroot) {
            return self.fail(&error, world);
        }
        match self.preparation {
            Preparation::Done => {}
            Preparation::LeftOut => self.preparation = Preparation::Wanted,
            Preparation::Wanted => match self.prepare(world) {
                Ok(true) => return self.phase = Phase::Preparing { until: world.now + PREPARATION },
                Ok(false) => {}
                Err(error) => self.say(world, &format!("what prepares its start can't be done: {error:#}")),
            },
        }
        self.run(world);
    }

    /// Whether there is anything to wait for.
    fn prepare(&mut self, world: &mut World) -> anyhow::Result<bool> {
        let command = self.program.preparation(world.chroot)?;
        Ok(command.map(|command| self.spawn(command, ROOT, world)).transpose()?.is_some())
    }

    fn run(&mut self, world: &mut World) {
        let ready = self.program.make_ready(world.chroot);
        let command = ready.and_then(|()| self.program.command(world.chroot));
        match command.and_then(|(command, uid)| self.spawn(command, uid, world)) {
            Ok(()) => self.phase = Phase::Running,
            Err(error) => self.fail(&error, world),
        }
    }

    fn fail(&mut self, error: &anyhow::Error, world: &mut World) {
        let how = format!("can't be started: {error:#}");
        self.say(world, &how);
        (self.last_exit, self.ran) = (Some(how), Duration::ZERO);
        self.again(world);
    }

    /// Starts a process for it, which becomes this user and prints to its log.
    fn spawn(&mut self, mut command: Command, uid: u32, world: &mut World) -> anyhow::Result<()> {
        if self.output.is_none() {
            self.output = Some(Output::new().context("making a pipe for what it prints")?);
        }
        if let Some(output) = &self.output {
            let (out, err) = output.ends(uid).context("giving it a pipe for what it prints")?;
            command.stdin(Stdio::null()).stdout(out).stderr(err);
        }
        let mut child = command.spawn().context("starting a process")?;
        let pid = child.id().cast_signed();
        // Also if it has ended already: it is waited for only after this.
        let Some(main) = Running::of(pid) else {
            child.kill().and_then(|()| child.wait()).with_context(|| format!("ending process {pid}, just started"))?;
            bail!("process {pid} was started and can't be looked at in /proc, so nobody would know it; it is killed");
        };
        (self.main, self.ours, self.exit) = (Some(main), true, None);
        (self.began, self.since) = (world.now, main.started);
        self.sessions.push(pid);
        self.say(world, &format!("started as process {pid}"));
        Ok(())
    }

    fn begin_to_end(&mut self, now: Instant) {
        self.phase = Phase::Ending { kill_at: now + self.stop, told: Vec::new(), killed: Vec::new() };
    }

    /// Tells each of its processes once, those as well that come while others end; then kills them.
    fn go_on_ending(&mut self, world: &mut World) {
        let members = self.members(world.chroot);
        let first = self.main.filter(|main| self.program.ends_what_it_started() && main.lives());
        let Phase::Ending { kill_at, told, killed } = &mut self.phase else { return };
        let (force, give_up) = (world.now >= *kill_at, world.now >= *kill_at + KILL_DEADLINE);
        let mut lines = Vec::new();
        for Seen { running, name, .. } in &members {
            if give_up {
                lines.push(format!("process {} ({name}) stays although it was killed", running.pid));
            } else if force && running.signal(Signal::SIGKILL) && !killed.contains(running) {
                killed.push(*running);
                let seconds = self.stop.as_secs();
                lines.push(format!("process {} ({name}) did not end within {seconds} s, and is killed", running.pid));
            } else if !force && !told.contains(running) && first.is_none_or(|main| main == *running) {
                told.push(*running);
                running.signal(Signal::SIGTERM);
                running.signal(Signal::SIGCONT); // one that is stopped would not hear it
            }
        }
        lines.iter().for_each(|line| self.say(world, line));
        // One that has just ended is no member any more; how it ended, and its last words, come when it is waited for.
        let is_waited_for = !self.ours || self.main.is_none();
        if members.is_empty() && is_waited_for || give_up {
            self.again(world);
        }
    }

    /// Nothing of it lives any more.
    fn again(&mut self, world: &mut World) {
        self.sessions.clear();
        self.main = None;
        if !self.wanted {
            return self.phase = Phase::Ended;
        }
        let wait = self.backoff.wait(self.ran);
        self.say(world, &format!("is started again in {} s", wait.as_secs()));
        self.phase = Phase::Waiting { until: world.now + wait };
    }

    fn say(&self, world: &mut World, text: &str) {
        world.log.line(OURSELVES, format!("{}: {text}", self.name).as_bytes());
    }
}
