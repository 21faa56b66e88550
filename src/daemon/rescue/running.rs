//! One program, from its start until nothing is left of it.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use rustix::termios::tcgetpgrp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::program::Started;
use super::session::Session;
use super::{pty, signals};
use crate::control::message::Exit;
use crate::control::server::Order;
use crate::daemon::prompt::process::Process;

/// What somebody at a terminal has at hand-over to see that it ends, and why. Below what sessions have to say goodbye
/// (`FAREWELL` in session/mod.rs), so that they can still tell how it ended.
const FAREWELL: Duration = Duration::from_secs(1);

pub struct Running {
    child: Child,
    leader: Process,
    session: Session,
    /// The terminal's master.
    master: Option<OwnedFd>,
    orders: mpsc::Receiver<Order>,
    exit: Option<oneshot::Sender<Exit>>,
    /// True from the moment of hand-over.
    ending: watch::Receiver<bool>,
    /// Why, for whoever is at the terminal.
    farewell: &'static str,
}

/// Why a program is not waited for any longer.
enum Turn {
    Ended,
    /// Its user is gone.
    HungUp,
    HandOver,
}

impl Running {
    pub fn new(
        Started { mut child, master, .. }: Started,
        (orders, exit): (mpsc::Receiver<Order>, oneshot::Sender<Exit>),
        ending: watch::Receiver<bool>,
        farewell: &'static str,
    ) -> Result<Self, String> {
        let pid = i32::try_from(child.id()).expect("the kernel's own type");
        let leader = Process::open(pid).and_then(|process| process.ok_or(io::ErrorKind::NotFound.into()));
        let leader = match leader {
            Ok(leader) => leader,
            Err(error) => {
                let killed = child.kill().and_then(|()| child.wait().map(drop));
                let left = killed.err().map(|error| format!("; and ending it: {error}"));
                return Err(format!("a program can't be watched: {error}{}", left.unwrap_or_default()));
            }
        };
        Ok(Self { child, leader, session: Session(pid), master, orders, exit: Some(exit), ending, farewell })
    }

    /// The whole life of a program.
    pub async fn run(mut self) {
        match self.follow().await {
            Turn::Ended => {}
            Turn::HungUp => self.end().await,
            Turn::HandOver => {
                self.say_farewell().await;
                self.end().await;
            }
        }
        self.report();
        // As after a login elsewhere: jobs in the background may go on when their shell was left, until the hand-over.
        self.master = None;
        let mut ending = self.ending.clone();
        let left = tokio::select! {
            () = self.session.empty() => false,
            _ = ending.wait_for(|ending| *ending) => true,
        };
        if left {
            self.end().await;
        }
        self.reap();
    }

    async fn follow(&mut self) -> Turn {
        let exit = self.exit.as_mut().expect("not reported yet");
        loop {
            tokio::select! {
                () = self.leader.ended() => return Turn::Ended,
                () = exit.closed() => return Turn::HungUp,
                _ = self.ending.wait_for(|ending| *ending) => return Turn::HandOver,
                order = self.orders.recv() => match order {
                    Some(order) => obey(&order, self.session, self.master.as_ref()),
                    None => return Turn::HungUp,
                },
            }
        }
    }

    async fn say_farewell(&mut self) {
        if let Some(master) = &self.master {
            let text = format!("{}; this ends in {} s", self.farewell, FAREWELL.as_secs());
            if let Err(error) = pty::tell(master, &text) {
                log::debug!("a terminal takes no farewell: {error}");
            }
        }
        let _ = timeout(FAREWELL, self.leader.ended()).await;
    }

    async fn end(&self) {
        if let Err(error) = self.session.end().await {
            log::warn!("ending what a session has started: {error}");
        }
    }

    /// Tells how it ended. It is not reaped yet: its number stands for its session.
    fn report(&mut self) {
        let Some(exit) = self.exit.take() else { return };
        match how_it_ended(self.session.0) {
            // Somebody who has gone does not want to know.
            Ok(how) => drop(exit.send(how)),
            Err(error) => log::warn!("how a program ended is not known: {error}"),
        }
    }

    fn reap(mut self) {
        match self.child.try_wait() {
            Ok(Some(_)) => {}
            Ok(None) => log::warn!("process {} is still there when it is killed", self.session.0),
            Err(error) => log::warn!("waiting for process {}: {error}", self.session.0),
        }
    }
}

/// A program that is just ending takes none; that is no error.
fn obey(order: &Order, session: Session, master: Option<&OwnedFd>) {
    let done = match (order, master) {
        (Order::Size(size), Some(master)) => pty::resize(master, *size),
        (Order::Size(_), None) => Ok(()),
        (Order::Signal(name), _) => match signals::named(name) {
            Some(signal) => send(session, master, signal),
            None => Ok(()), // RFC 4254 section 6.9: a system without it ignores it
        },
    };
    if let Err(error) = done {
        log::debug!("an order for process {}: {error}", session.0);
    }
}

/// To what is in the foreground, as if it were typed; without a terminal, to the program and what it waits for.
fn send(session: Session, master: Option<&OwnedFd>, signal: Signal) -> io::Result<()> {
    let leader = Pid::from_raw(session.0).ok_or(io::ErrorKind::InvalidInput)?;
    let foreground = master.and_then(|master| tcgetpgrp(master).ok()).unwrap_or(leader);
    match kill_process_group(foreground, signal) {
        // It leads no group yet right after its start.
        Err(rustix::io::Errno::SRCH) => Ok(kill_process(leader, signal)?),
        result => Ok(result?),
    }
}

fn how_it_ended(pid: i32) -> io::Result<Exit> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let status = waitid(WaitId::Pid(pid), options)?.ok_or(io::ErrorKind::WouldBlock)?;
    match status.terminating_signal() {
        Some(signal) => Ok(Exit::Signal { name: signals::name(signal), core_dumped: status.dumped() }),
        None => Ok(Exit::Status(status.exit_status().map_or(u8::MAX, |status| status as u8))),
    }
}
