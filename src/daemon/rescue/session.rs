//! What a program has started: the processes of its session (setsid(2)), which is one of its own from its start.

use std::io;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, timeout_at};

use crate::daemon::prompt::process::{self, Process};
use crate::root::Root;

/// Processes that are looked at in one go: each takes a descriptor.
const AT_ONCE: usize = 64;
/// What a hang-up gives them to end by themselves: a shell writes its history.
const HANG_UP_GRACE: Duration = Duration::from_secs(1);
/// What was killed is gone at once, but for processes that wait for a disk.
const KILL_DEADLINE: Duration = Duration::from_secs(1);

/// Named by its leader, who is a child that is not waited for as long as this is in use: so the number is not given to
/// another.
#[derive(Clone, Copy)]
pub struct Session(pub i32);

impl Session {
    /// Some of its living processes, if it has any.
    pub fn members(self) -> Vec<Process> {
        // Programs run where the daemon runs, whatever it takes for its root.
        let root = Root::default();
        let all = process::all(&root).unwrap_or_default().into_iter();
        // The leader is not yet in it right after its start.
        let of_it = |pid: &i32| *pid == self.0 || process::session(&root, *pid) == Some(self.0);
        let opened = all.filter(of_it).filter_map(|pid| Process::open(pid).ok().flatten());
        // Seen again, since the number may have gone to another in between.
        opened.filter(|process| of_it(&process.pid) && !process.has_ended()).take(AT_ONCE).collect()
    }

    /// Waits until it has none any more.
    pub async fn empty(self) {
        loop {
            let members = self.members();
            if members.is_empty() {
                return;
            }
            for process in members {
                process.ended().await;
            }
        }
    }

    /// Ends all of them: first as when a terminal is closed, then by force.
    pub async fn end(self) -> io::Result<()> {
        let now = Instant::now();
        self.signal_until(now + HANG_UP_GRACE, &[Signal::HUP, Signal::CONT]).await;
        self.signal_until(now + HANG_UP_GRACE + KILL_DEADLINE, &[Signal::KILL]).await;
        match self.members().len() {
            0 => Ok(()),
            left => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{left} processes stay when they are killed"))),
        }
    }

    /// Each process gets them once, those as well that come while others end.
    async fn signal_until(self, deadline: Instant, signals: &[Signal]) {
        loop {
            let members = self.members();
            if members.is_empty() || Instant::now() >= deadline {
                return;
            }
            for process in &members {
                for signal in signals {
                    // It may have ended by now, which is what is wanted.
                    let _ = process.signal(*signal);
                }
            }
            let ended = async {
                for process in &members {
                    process.ended().await;
                }
            };
            let _ = timeout_at(deadline, ended).await;
        }
    }
}
