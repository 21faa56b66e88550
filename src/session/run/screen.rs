//! The unlock screen at work: what the daemon tells, what is typed, and what comes of it.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{End, Input, Io, not_unlocked};
use crate::control::client::{Client, Events, Gone};
use crate::control::message::{Event, Kind, Outcome, Phase, Power, Request, Status, Submit};
use crate::secret::Secret;
use crate::session::screen::{Action, Aim, Screen};
use crate::session::text::{self, exit};

/// After the last question is unlocked the screen stays this long, so that a further question is not missed.
const LINGER: Duration = Duration::from_secs(8);

/// The unlock screen, until everything is unlocked, the boot continues, or the user leaves.
pub async fn run(client: &Client, mut io: Io) -> End {
    let mut columns = io.terminal.unwrap_or(0);
    let mut screen = Screen::new(columns);
    screen.offer_shell(io.shell);
    let mut watch = client.request(Request::Watch { log: true });
    let mut answer = Answer::default();
    let mut side: Option<Events> = None; // a peek, a reboot
    let mut leave_at = None;
    let (mut known, mut input_ended) = (false, false);
    let (farewell, status) = loop {
        if io.out(screen.take_output()).await.is_err() {
            return End::Exit(not_unlocked(&answer.outcomes));
        }
        tokio::select! {
            event = watch.next() => match event {
                Ok(Event::Status(status)) => {
                    leave_at = (status.phase == Phase::Unlocked).then(|| Instant::now() + LINGER);
                    let ending = (status.phase == Phase::HandOver).then(|| hand_over(&status, &answer.outcomes));
                    screen.status(*status);
                    known = true;
                    if let Some(ending) = ending {
                        break ending;
                    }
                }
                Ok(Event::Log(lines)) => screen.log(&lines),
                Ok(_) => {}
                Err(_) => break ("vestibule has gone away; goodbye.", not_unlocked(&answer.outcomes)),
            },
            event = next_of(&mut answer.events) => match event {
                Ok(Event::Outcome(outcome)) => {
                    screen.outcome(&outcome);
                    answer.outcomes.push(outcome);
                }
                ended => {
                    if let Ok(Event::Refused(reason)) = ended {
                        screen.show(&format!("not permitted: {reason}"));
                    }
                    answer.events = None;
                    screen.checked();
                    if input_ended {
                        break ("", text::exit_status(&answer.outcomes));
                    }
                }
            },
            event = next_of(&mut side) => match event {
                Ok(Event::Text(text)) => screen.show(&text),
                Ok(Event::Refused(reason)) => {
                    screen.show(&format!("not permitted: {reason}"));
                    side = None;
                }
                Ok(_) | Err(_) => side = None,
            },
            // Not before it is known what is asked: keys may have come ahead (a pipe into ssh -tt).
            input = io.input.recv(), if known && !input_ended => match input {
                Some(Input::Columns(now)) => {
                    columns = now;
                    screen.resize(columns);
                }
                Some(Input::Failed(_)) => {} // its end follows
                Some(Input::Bytes(bytes)) => {
                    let bytes = zeroize::Zeroizing::new(bytes);
                    let (mut quit, mut shell) = (false, false);
                    for action in bytes.iter().filter_map(|byte| screen.key(*byte)).collect::<Vec<_>>() {
                        match action {
                            Action::Submit { aim, secret } => answer = Answer::begin(client, aim, secret),
                            Action::Peek => side = Some(client.request(Request::Peek { follow: false })),
                            Action::Reboot => side = Some(client.request(Request::Power(Power::Reboot))),
                            Action::PowerOff => side = Some(client.request(Request::Power(Power::Off))),
                            Action::Shell => shell = true,
                            Action::Quit => quit = true,
                        }
                    }
                    if shell {
                        screen.leave("A shell; its end leads back here.");
                        // As with the farewell below.
                        let _ = timeout(Duration::from_secs(1), io.out(screen.take_output())).await;
                        return End::Shell { columns };
                    }
                    if quit {
                        break ("Disconnecting.", answer.left_early());
                    }
                }
                // A passphrase from a pipe (ssh -tt): its verdict is still wanted.
                None if answer.events.is_some() => input_ended = true,
                None => break ("", answer.left_early()),
            },
            () = tokio::time::sleep_until(leave_at.unwrap_or_else(Instant::now)), if leave_at.is_some() => {
                break ("All unlocked, the boot continues; goodbye.", exit::UNLOCKED);
            }
        }
    };
    screen.leave(farewell);
    // Whether or not the farewell is read, this is the end; but a full queue must not hold the process.
    let _ = timeout(Duration::from_secs(1), io.out(screen.take_output())).await;
    End::Exit(status)
}

/// The last answer that was given on the screen.
#[derive(Default)]
struct Answer {
    /// `Some` as long as verdicts are to come.
    events: Option<Events>,
    outcomes: Vec<Outcome>,
}

impl Answer {
    fn begin(client: &Client, aim: Aim, secret: Secret) -> Self {
        let (volumes, kind) = match aim {
            Aim::One(kind, name) => (vec![name], kind),
            Aim::All | Aim::Nothing => (vec![], Kind::Passphrase),
        };
        let submit = Submit { volumes, kind: Some(kind), secret, wait_ms: 0 };
        Self { events: Some(client.request(Request::Submit(submit))), outcomes: Vec::new() }
    }

    fn left_early(&self) -> u8 {
        not_unlocked(&self.outcomes)
    }
}

/// What to say, and which exit status, when the daemon ends. It does so at hand-over and when the machine is switched
/// off; only what was observed tells them apart.
fn hand_over(status: &Status, outcomes: &[Outcome]) -> (&'static str, u8) {
    match status.questions.is_empty() && status.gave_up.is_empty() && !status.unlocked.is_empty() {
        true => ("All unlocked, the boot continues; goodbye.", exit::UNLOCKED),
        false => ("vestibule ends here, without having seen everything unlocked; goodbye.", not_unlocked(outcomes)),
    }
}

async fn next_of(events: &mut Option<Events>) -> Result<Event, Gone> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}
