//! The session process of one connection: started, listened to, ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::census::Place;
use super::origin::Origin;
use super::penalty::Offence;
use crate::control::message::Setup;
use crate::control::server::{self, Access, House, Report, SessionAccess};
use crate::daemon::confined::{self, Child};

/// A session ends itself when nobody logs in in time; one that doesn't is ended this much later.
const LOGIN_GRACE: Duration = Duration::from_secs(5);
/// Reports that wait: some refused keys, and the login.
const REPORTS: usize = 16;

pub struct Session {
    child: Child,
    control: UnixStream,
}

/// What the daemon's end of a session needs.
pub struct Surroundings {
    pub house: Arc<dyn House>,
    pub stopping: watch::Receiver<bool>,
    /// Where only one session may log in: whether one has.
    pub taken: Option<watch::Sender<bool>>,
}

impl Session {
    /// The session process, for a stream socket of any family.
    pub async fn start(stream: TcpStream) -> std::io::Result<Self> {
        let (child, control) = confined::start("session", stream.into_std()?.into()).await?;
        Ok(Self { child, control })
    }

    /// Until the process has ended, has no business any more, or has to make room. `setup.login_seconds` are what is
    /// left of the time to log in.
    pub async fn run(mut self, setup: Setup, mut place: Place, origin: Origin, around: Surroundings) {
        let (reports, mut reported) = mpsc::channel(REPORTS);
        let Surroundings { house, mut stopping, taken } = around;
        let in_time = Instant::now() + Duration::from_secs(setup.login_seconds);
        let access = Access::Session(SessionAccess { setup, reports, taken });
        let mut serving = std::pin::pin!(server::serve(self.control, access, house));
        let (mut refused, mut broken) = (false, false);
        let mut take = |report, place: &mut Place| refused |= take(report, place, &origin);
        loop {
            tokio::select! {
                biased;
                Some(report) = reported.recv() => take(report, &mut place),
                served = &mut serving => {
                    if let Err(error) = served {
                        log::warn!("the SSH session of {origin} broke the control protocol: {error}");
                        broken = true;
                    }
                    break;
                }
                () = place.sent_away(), if !place.logged_in() => break,
                () = sleep_until(in_time + LOGIN_GRACE), if !place.logged_in() => break,
                _ = stopping.wait_for(|stopping| *stopping), if !place.logged_in() => break,
            }
        }
        while let Ok(report) = reported.try_recv() {
            take(report, &mut place); // a session that logged in and ended at once
        }
        // The process has closed its control socket, or has no business any more.
        if let Err(error) = self.child.start_kill() {
            log::debug!("the session of {origin} had ended: {error}");
        }
        match self.child.wait().await {
            Ok(status) if crashed(status) => {
                place.warn(|| format!("the SSH session of {origin} crashed: {status}"));
                broken = true;
            }
            Ok(_) => {}
            Err(error) => log::warn!("waiting for the SSH session of {origin}: {error}"),
        }
        if place.logged_in() {
            log::info!("the SSH session of {origin} has ended");
            return;
        }
        place.penalize(match (broken, refused) {
            (true, _) => Offence::Crash,
            _ if Instant::now() >= in_time => Offence::TooSlow,
            (false, true) => Offence::Refused,
            (false, false) => Offence::NoAttempt,
        });
    }
}

/// Whether it tells of a key that was refused.
fn take(report: Report, place: &mut Place, origin: &Origin) -> bool {
    match report {
        Report::LoggedIn(login) => {
            place.log_in();
            log::info!("{} logged in from {origin} with {}", login.role, login.key);
        }
        Report::KeyKnown => place.known(),
        Report::LoginFailed { user, reason } => {
            place.warn(|| format!("login from {origin} refused: {reason}, as {user:?}"));
            return true;
        }
    }
    false
}

/// By a signal that is not the one with which we end it.
fn crashed(status: ExitStatus) -> bool {
    status.signal().is_some_and(|signal| signal != Signal::SIGKILL as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_crash() {
        for (raw, expected) in
            [(0, false), (1 << 8, false), (Signal::SIGKILL as i32, false), (Signal::SIGABRT as i32, true)]
        {
            assert_eq!(crashed(ExitStatus::from_raw(raw)), expected, "{raw}");
        }
    }
}
