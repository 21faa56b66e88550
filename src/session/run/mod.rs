//! Runs one command for one user: the control protocol on one side, the user's byte streams on the other. The same
//! code serves an SSH channel and a local terminal.

mod screen;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::command::{Command, Feed, Unlock};
use super::text::{self, exit};
use crate::control::client::Client;
use crate::control::message::{Event, Kind, Outcome, Power, Request, Submit};
use crate::secret::{MAX_KEY_LEN, MAX_LEN, Secret};

/// How long a passphrase may take to come in from a pipe. Somebody may be typing it at the other end.
const STDIN_DEADLINE: Duration = Duration::from_secs(300);
/// When nothing has come by then, a hint tells that a passphrase is awaited.
const STDIN_HINT: Duration = Duration::from_secs(3);
/// Without a verdict by then, a line tells that this goes on. Many key derivations take about two seconds.
const PROGRESS_HINT: Duration = Duration::from_secs(4);

/// The user's side of a command.
pub struct Io {
    /// Closed at end of file.
    pub input: mpsc::Receiver<Input>,
    pub output: mpsc::Sender<Output>,
    /// Columns of the user's terminal, if there is one.
    pub terminal: Option<u32>,
    /// Whether the unlock screen offers a shell.
    pub shell: bool,
}

/// What comes after a command.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing; its exit status.
    Exit(u8),
    /// A shell was chosen on the unlock screen, which comes back after it. The terminal has so many columns.
    Shell { columns: u32 },
}

pub enum Input {
    Bytes(Vec<u8>),
    /// The terminal has so many columns now.
    Columns(u32),
    /// There is more that can't be read; the reason. What came before is not all.
    Failed(String),
}

pub enum Output {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// Runs `command` to its end.
pub async fn run(command: Command, client: &Client, mut io: Io) -> End {
    End::Exit(match command {
        Command::Unlock(_) if io.terminal.is_some() => return screen::run(client, io).await,
        Command::Unlock(options) => unlock(options, client, &mut io).await,
        Command::Feed(options) => feed(options, client, &mut io).await,
        Command::Peek { follow } => peek(follow, client, &mut io).await,
        Command::Status { json } => status(json, client, &io).await,
        Command::Hold { seconds } => granted(Request::Hold { seconds }, client, &io).await,
        Command::Release => granted(Request::Release, client, &io).await,
        Command::Reboot => granted(Request::Power(Power::Reboot), client, &io).await,
        Command::Poweroff => granted(Request::Power(Power::Off), client, &io).await,
    })
}

impl Io {
    async fn out(&self, text: impl Into<Vec<u8>>) -> Result<(), UserGone> {
        self.output.send(Output::Out(text.into())).await.map_err(|_| UserGone)
    }

    async fn err(&self, text: impl Into<String>) {
        let text = text.into();
        let newline = if self.terminal.is_some() { "\r\n" } else { "\n" };
        // Somebody who has gone does not read what went wrong; the exit status is still returned.
        let _ = self.output.send(Output::Err(format!("vestibule: {text}{newline}").into_bytes())).await;
    }

    /// Text in lines, with the line ends that the terminal wants (it is in raw mode).
    async fn text(&self, text: &str) -> Result<(), UserGone> {
        match self.terminal {
            Some(_) => self.out(text.replace('\n', "\r\n")).await,
            None => self.out(text).await,
        }
    }
}

/// The user's channel is closed.
struct UserGone;

async fn unlock(options: Unlock, client: &Client, io: &mut Io) -> u8 {
    let secret = match read_secret(io, "passphrase", MAX_LEN, options.raw).await {
        Ok(secret) => secret,
        Err(reason) => {
            io.err(reason).await;
            return exit::USAGE;
        }
    };
    let submit = Submit { volumes: options.volumes, kind: None, secret, wait_ms: u64::from(options.wait) * 1000 };
    give(submit, client, io).await
}

async fn feed(options: Feed, client: &Client, io: &mut Io) -> u8 {
    if io.terminal.is_some() {
        io.err("a key file is fed from a pipe: ssh HOST feed VOLUME < keyfile (without -t)").await;
        return exit::USAGE;
    }
    let secret = match read_secret(io, "key", MAX_KEY_LEN, true).await {
        Ok(secret) => secret,
        Err(reason) => {
            io.err(reason).await;
            return exit::USAGE;
        }
    };
    let (volumes, wait_ms) = (vec![options.volume], u64::from(options.wait) * 1000);
    give(Submit { volumes, kind: Some(Kind::Key), secret, wait_ms }, client, io).await
}

/// Submits it, and tells what came of it.
async fn give(submit: Submit, client: &Client, io: &mut Io) -> u8 {
    let mut events = client.request(Request::Submit(submit));
    let mut outcomes: Vec<Outcome> = Vec::new();
    if let Err(_elapsed) = timeout(PROGRESS_HINT, events.ready()).await {
        io.err("waiting for a question, or for its verdict").await;
    }
    loop {
        match events.next().await {
            Ok(Event::Outcome(outcome)) => {
                // The verdict counts even when nobody reads the line about it.
                let _ = io.text(&format!("{}\n", text::outcome(&outcome))).await;
                outcomes.push(outcome);
            }
            Ok(Event::Done) => break,
            Ok(Event::Refused(reason)) => {
                io.err(reason).await;
                return exit::NOT_PERMITTED;
            }
            Ok(_) => {}
            Err(gone) => {
                io.err(format!("{gone} before every verdict was there")).await;
                return not_unlocked(&outcomes);
            }
        }
    }
    if outcomes.is_empty() {
        io.err("nothing is asking for it (see status); nothing was used").await;
    }
    text::exit_status(&outcomes)
}

/// Reads standard input to its end. Nothing has been tried when this fails.
async fn read_secret(io: &mut Io, name: &str, limit: usize, raw: bool) -> Result<Secret, String> {
    let deadline = Instant::now() + STDIN_DEADLINE;
    let mut hint = Some(Instant::now() + STDIN_HINT);
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(limit + 1));
    loop {
        let next = tokio::time::timeout_at(hint.unwrap_or(deadline), io.input.recv()).await;
        match next {
            Err(_) if hint.take().is_some() => {
                io.err(format!("reading the {name} from standard input until its end")).await;
            }
            Err(_) => {
                return Err(format!("no {name} came within {} s; nothing was tried", STDIN_DEADLINE.as_secs()));
            }
            Ok(Some(Input::Bytes(more))) => {
                let more = zeroize::Zeroizing::new(more);
                if bytes.len() + more.len() > limit + 1 {
                    return Err(too_long(name, limit));
                }
                bytes.extend_from_slice(&more);
            }
            Ok(Some(Input::Columns(_))) => {}
            Ok(Some(Input::Failed(reason))) => {
                return Err(format!("standard input can't be read to its end ({reason}); nothing was tried"));
            }
            Ok(None) => break,
        }
    }
    let mut secret = Secret::new(std::mem::take(&mut bytes));
    if !raw {
        secret = secret.without_trailing_newline();
    }
    match secret.len() {
        0 => Err(format!("the {name} on standard input is empty; nothing was tried")),
        n if n > limit => Err(too_long(name, limit)),
        _ => Ok(secret),
    }
}

fn too_long(name: &str, limit: usize) -> String {
    format!("the {name} is longer than {limit} bytes; nothing was tried")
}

async fn peek(follow: bool, client: &Client, io: &mut Io) -> u8 {
    let mut events = client.request(Request::Peek { follow });
    loop {
        tokio::select! {
            event = events.next() => match event {
                Ok(Event::Text(text)) if io.text(&text).await.is_err() => return 0,
                Ok(Event::Refused(reason)) => {
                    io.err(reason).await;
                    return exit::NOT_PERMITTED;
                }
                Ok(Event::Done) | Err(_) => return 0,
                Ok(_) => {}
            },
            input = io.input.recv(), if io.terminal.is_some() => match input {
                Some(Input::Bytes(bytes)) if bytes.iter().any(|byte| matches!(byte, 0x03 | 0x04 | b'q')) => return 0,
                Some(_) => {}
                None => return 0,
            },
        }
    }
}

async fn status(json: bool, client: &Client, io: &Io) -> u8 {
    match client.request(Request::Status).next().await {
        Ok(Event::Status(status)) => {
            let text = match json {
                true => serde_json::to_string(&status).map(|json| json + "\n").map_err(|error| error.to_string()),
                false => Ok(text::status(&status)),
            };
            match text {
                Ok(text) => drop(io.text(&text).await),
                Err(error) => {
                    io.err(format!("the status can't be written as JSON: {error}")).await;
                    return exit::NO_VERDICT;
                }
            }
            0
        }
        Ok(Event::Refused(reason)) => {
            io.err(reason).await;
            exit::NOT_PERMITTED
        }
        Ok(_) | Err(_) => {
            io.err("the daemon did not answer").await;
            exit::NO_VERDICT
        }
    }
}

async fn granted(request: Request, client: &Client, io: &Io) -> u8 {
    match client.granted(request).await {
        Ok(()) => 0,
        Err(reason) => {
            io.err(reason).await;
            exit::NOT_PERMITTED
        }
    }
}

/// The exit status when the end of it was not seen: never success.
fn not_unlocked(outcomes: &[Outcome]) -> u8 {
    match text::exit_status(outcomes) {
        exit::UNLOCKED | exit::NOTHING_ASKED => exit::NO_VERDICT,
        status => status,
    }
}
