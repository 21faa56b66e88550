//! The supervisor's life: services are started in order and kept running until it is told to end (SIGTERM), then ended in
//! reverse order. One thread, which waits in poll(2) and nowhere else; it doesn't end because a log or a state can't be written.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{WaitOptions, wait};

use super::exit::Exit;
use super::orders::Orders;
use super::programs::{Chroot, Program};
use super::record::{self, Kept};
use super::service::{OURSELVES, Service, World};
use crate::chroot::definition::SSH;
use crate::chroot::log::Log;
use crate::chroot::place::Place;
use crate::chroot::processes::{self, Running, Seen};
use crate::chroot::state::State;

/// Daemons that have left their service's session get this long, once all services have ended.
const STRAYS_GRACE: Duration = Duration::from_secs(2);
/// A disk that is full has room again some time.
const WRITE_AGAIN: Duration = Duration::from_secs(5);
/// The kernel may be short of memory for a moment; ending would leave services to nobody.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// Our own server says goodbye to those who are logged in, and ends what they have started: 6 s at most (`rescue::END`).
pub const SSH_STOP: Duration = Duration::from_secs(10);

/// All of the supervisor: its services, and how it hears of them.
pub struct Keeper {
    chroot: Chroot,
    state: State,
    log: Log,
    services: Vec<Service>,
    signals: SignalFd,
    /// The list as it was written last.
    written: String,
    /// It could not be written, which has been said.
    unwritten: bool,
    ending: bool,
}

impl Keeper {
    /// Takes over what lives of `before`.
    pub fn new(chroot: Chroot, orders: &Orders, state: State, mut log: Log, before: &[Kept]) -> anyhow::Result<Self> {
        let signals = signals()?;
        // What daemonizes itself is left to us, and not to init.
        match nix::sys::prctl::set_child_subreaper(true) {
            // Before Linux 3.4, and in qemu-user. It is found by its root all the same when the chroot is stopped.
            Err(Errno::EINVAL) => {
                log.line(OURSELVES, b"what daemonizes itself is left to init: the kernel knows no subreaper")
            }
            result => result.context("becoming the parent of what services leave")?,
        }
        let now = Instant::now();
        let mut services = services(orders, now);
        for kept in before {
            let living = super::left(kept, &chroot.place);
            match services.iter_mut().find(|service| service.name == kept.name) {
                Some(service) => service.adopt(kept, &living, now),
                None => services.push(dropped(kept, &living, now)),
            }
            if let Some(main) = kept.main.filter(|main| main.lives()) {
                let told = format!("{}: process {} of an earlier supervisor is taken over", kept.name, main.pid);
                log.line(OURSELVES, told.as_bytes());
            }
        }
        Ok(Self { chroot, state, log, services, signals, written: String::new(), unwritten: false, ending: false })
    }

    /// Each service has been started once, or it was tried. What there is to say about that.
    pub fn begin(&mut self) -> Vec<String> {
        self.step();
        self.services.iter().filter_map(Service::problem).collect()
    }

    /// Returns when it was told to end, and all have ended.
    pub fn keep(mut self) {
        loop {
            if let Err(error) = self.wait() {
                self.log.line(OURSELVES, format!("waiting for something to do fails ({error:#}); going on").as_bytes());
                std::thread::sleep(AFTER_ERROR);
            }
            self.reap();
            self.step();
            if self.ending && self.services.iter().all(Service::has_ended) {
                break;
            }
        }
        let strays = || strays(&self.chroot.place);
        for (seen, how) in processes::end(&strays, &[Signal::SIGTERM, Signal::SIGCONT], STRAYS_GRACE) {
            let told = format!("process {} ({}) had left its service: {}", seen.running.pid, seen.name, how.text());
            self.log.line(OURSELVES, told.as_bytes());
        }
        self.log.line(OURSELVES, b"all services have ended, and so does this");
        if let Err(error) = record::remove(&self.state) {
            self.log.line(OURSELVES, format!("{error:#}; ignoring that").as_bytes());
        }
    }

    /// Until a signal, something printed, or a time at which a service wants to be looked after.
    fn wait(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let again = self.unwritten.then(|| now + WRITE_AGAIN);
        let wakes = self.services.iter().filter_map(|service| service.wakes(now)).chain(again).min();
        let timeout = match wakes {
            // Rounded up: woken just before the time, it would spin until then.
            Some(at) => PollTimeout::try_from(at.saturating_duration_since(now) + Duration::from_millis(1))
                .unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let outputs = self.services.iter().enumerate().filter_map(|(index, service)| Some((index, service.output()?)));
        let (indices, outputs): (Vec<_>, Vec<_>) = outputs.unzip();
        let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        watched.extend(outputs.iter().map(|output| PollFd::new(output.as_fd(), PollFlags::POLLIN)));
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll(2)"),
        }
        let ready: Vec<bool> = watched.iter().map(|fd| fd.any().unwrap_or_default()).collect();
        for (index, _) in indices.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            self.services[*index].read(&mut self.log);
        }
        while let Some(signal) = self.signals.read_signal().context("reading which signal came")? {
            self.told(signal.ssi_signo);
        }
        Ok(())
    }

    fn told(&mut self, signal: u32) {
        let end = [Signal::SIGTERM, Signal::SIGINT].iter().any(|known| *known as u32 == signal);
        // SIGHUP is for those whose terminal goes, SIGPIPE an error as well; SIGCHLD has done what it is for: poll returned.
        if end && !std::mem::replace(&mut self.ending, true) {
            self.log.line(OURSELVES, b"told to end: services are ended, the last first");
            // Not all who tell it write that down themselves.
            if let Err(error) = Running::this().and_then(|this| record::write_ending(&self.state, this)) {
                self.log.line(OURSELVES, format!("{error:#}; going on").as_bytes());
            }
        }
    }

    /// Children of ours that have ended: services, and what others have left to us.
    fn reap(&mut self) {
        loop {
            // Not nix's: that fails for a child that was ended by a real-time signal, which then is reaped all the same.
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let exit = Exit::from(status);
                    self.services.iter_mut().for_each(|service| service.reaped(pid.as_raw_pid(), exit));
                }
                Ok(None) | Err(rustix::io::Errno::CHILD) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    let told = format!("waiting for children fails ({error}); going on");
                    return self.log.line(OURSELVES, told.as_bytes());
                }
            }
        }
    }

    fn step(&mut self) {
        loop {
            for index in 0..self.services.len() {
                let claimed: Vec<i32> = self.services.iter().flat_map(Service::claims).collect();
                let (now, chroot, log) = (Instant::now(), &self.chroot, &mut self.log);
                self.services[index].step(&mut World { now, chroot, log, claimed: &claimed });
                self.write();
            }
            // One after the other, the last first.
            match self.services.iter_mut().rfind(|service| !service.has_ended()).filter(|_| self.ending) {
                Some(last) if last.is_wanted() => last.end(Instant::now()),
                _ => break,
            }
        }
        // Those of an earlier definition.
        self.services.retain(|service| self.ending || service.is_wanted() || !service.has_ended());
        self.write();
    }

    /// At each change, so that `status`, and whoever comes after a supervisor that was killed, knows.
    fn write(&mut self) {
        let kept: Vec<Kept> = self.services.iter().map(Service::kept).collect();
        let text = record::text(&kept);
        if text.as_ref().is_ok_and(|text| *text == self.written) {
            return;
        }
        match text.and_then(|text| record::write_services(&self.state, &text).map(|()| text)) {
            Ok(text) => (self.written, self.unwritten) = (text, false),
            Err(error) if !std::mem::replace(&mut self.unwritten, true) => {
                let told = format!("{error:#}; going on, but a supervisor after this would not know its services");
                self.log.line(OURSELVES, told.as_bytes());
            }
            Err(_said) => {}
        }
    }
}

/// Those of the definition, in the order in which they are started: our own server last, so that whoever logs in finds the rest.
fn services(orders: &Orders, now: Instant) -> Vec<Service> {
    let of_chroot = orders.services().into_iter().map(|service| {
        let (name, stop) = (service.name.clone(), Duration::from_secs(service.stop_seconds));
        Service::new(&name, Program::OfChroot(service), stop, now)
    });
    let server = |ssh| Service::new(SSH, Program::Server { ssh, sockets: Vec::new() }, SSH_STOP, now);
    of_chroot.chain(orders.ssh().map(server)).collect()
}

/// Runs, but is no longer defined.
fn dropped(kept: &Kept, living: &[Seen], now: Instant) -> Service {
    let mut service = Service::new(&kept.name, Program::Dropped, kept.stop(), now);
    service.adopt(kept, living, now);
    service.end(now);
    service
}

/// Signals are read from a descriptor, and interrupt nothing. What is started unblocks them (`chroot-launch`).
fn signals() -> anyhow::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGPIPE] {
        set.add(signal);
    }
    set.thread_block().context("blocking signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("making a descriptor for signals")
}

/// What services have left to us. Not what somebody inside has started outside (`chroot /proc/1/root`).
fn strays(place: &Place) -> Vec<Seen> {
    let us = std::process::id().cast_signed();
    let ours = |seen: &Seen| seen.parent == us && processes::is_within(seen.running.pid, place);
    processes::all().into_iter().filter(ours).collect()
}
