//! `vestibule open`: asks for a passphrase at this console and, through the daemon, everywhere else at the same time.
//!
//! For hooks of an initramfs, in place of a `cryptsetup` that would ask at the console alone. Returns success when the
//! volume is open, whoever gave the passphrase. It fails, without having asked, when there is no daemon to ask with: the
//! caller then goes on as if vestibule were not installed.

mod terminal;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::config::cryptdevice::CryptDevice;
use crate::control::SOCKET;
use crate::control::client::{Client, Events, Gone};
use crate::control::message::{Event, Kind, Open, Question, Request, Status, Submit, Verdict};
use crate::hardening;
use crate::root::Root;
use crate::secret::Secret;
use crate::session::line::{Edit, Line};
use crate::session::text;
use terminal::Terminal;

/// How long the daemon may take to start, or to start again after a crash (its hook does that after a second). The caller
/// asks by itself after that.
const DAEMON_PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts to reach it.
const RETRY: Duration = Duration::from_millis(100);
/// How often a daemon that dies while it asks is waited for, before the caller is left to ask by itself.
const MOST_DEATHS: u32 = 3;
/// How long a passphrase that was typed may wait for the question to stand again after a wrong one.
const QUESTION_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub struct What {
    /// Open what mkinitcpio's cryptdevice= names ("DEVICE:NAME:OPTIONS")
    #[arg(long, value_name = "VALUE", requires = "device")]
    cryptdevice: Option<String>,
    /// Where the device of --cryptdevice was found
    #[arg(long, value_name = "PATH")]
    device: Option<String>,
    /// Arguments of the cryptsetup command that would have asked
    #[arg(last = true, conflicts_with = "cryptdevice", required_unless_present = "cryptdevice")]
    cryptsetup: Vec<String>,
}

/// Status 0: the volume is open. Anything else: it is not, and nobody is asked any more.
pub fn command(root: &Root, what: What) -> anyhow::Result<ExitCode> {
    let config = Config::load(root);
    if config.disabled {
        return Ok(ExitCode::FAILURE); // by the administrator, who needs no reminder
    }
    for refused in hardening::keep_memory_private() {
        eprintln!("vestibule: ignoring: {refused}");
    }
    let open = Open { arguments: what.arguments()?, path: std::env::var("PATH").ok() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let result = runtime.block_on(ask(root, &open, config.settings.port));
    runtime.shutdown_background(); // a thread may still be reading the terminal
    result.map(|()| ExitCode::SUCCESS)
}

impl What {
    fn arguments(self) -> anyhow::Result<Vec<String>> {
        let (Some(value), Some(device)) = (self.cryptdevice, self.device) else { return Ok(self.cryptsetup) };
        let parsed = CryptDevice::parse(&value).map_err(anyhow::Error::msg)?;
        for option in &parsed.unknown {
            eprintln!("vestibule: the option “{option}” of cryptdevice= is not known, ignoring");
        }
        Ok(parsed.arguments(&device))
    }
}

async fn ask(root: &Root, open: &Open, port: u16) -> anyhow::Result<()> {
    let mut asker = None;
    for _ in 0..=MOST_DEATHS {
        let client = reach(root).await?;
        let mut outcomes = client.request(Request::Open(open.clone()));
        let question = match outcomes.next().await {
            Ok(Event::Asked(question)) => question,
            Ok(Event::Refused(reason)) => bail!("{reason}"),
            Ok(_) | Err(Gone) => continue,
        };
        // Not before the daemon will ask: what the terminal holds is then still there for the caller.
        let asker = match &mut asker {
            Some(asker) => asker,
            none => none.insert(Asker::new(root, port)?),
        };
        match asker.attend(&client, outcomes, &question).await? {
            End::Open => return Ok(()),
            End::Lost => asker.say("\nvestibule ended while it was asking.\n"),
        }
    }
    bail!("the daemon ended {} times while it was asking", MOST_DEATHS + 1)
}

async fn reach(root: &Root) -> anyhow::Result<Client> {
    let path = root.join(SOCKET);
    let deadline = Instant::now() + DAEMON_PATIENCE;
    loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => return Ok(Client::start(stream)),
            Err(_) if Instant::now() < deadline => sleep(RETRY).await,
            Err(error) => {
                return Err(error).with_context(|| format!("no vestibule daemon answers at {}", path.display()));
            }
        }
    }
}

enum End {
    Open,
    /// The daemon has gone.
    Lost,
}

/// What happened next.
enum News {
    Outcome(Result<Event, Gone>),
    /// The passphrase from this console has its verdict, which `Outcome` tells as well, or won't have one.
    Submitted,
    Status(Result<Event, Gone>),
    /// `None`: the terminal has hung up.
    Typed(Option<Vec<u8>>),
    Signal,
}

/// The person at the console.
struct Asker {
    /// `None`: there is no console to ask at, and SSH alone answers.
    terminal: Option<Terminal>,
    typed: mpsc::Receiver<Vec<u8>>,
    line: Line,
    signals: [Signal; 3],
    port: u16,
}

impl Asker {
    fn new(root: &Root, port: u16) -> anyhow::Result<Self> {
        // Before the terminal is changed: it is restored at each of these.
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        let signals = [terminate?, interrupt?, hangup?];
        let terminal = Terminal::enter(root)?;
        let typed = terminal.as_ref().map_or_else(|| mpsc::channel(1).1, Terminal::read);
        Ok(Self { terminal, typed, line: Line::default(), signals, port })
    }

    /// Until the volume is open or the daemon has gone; an error at a signal.
    async fn attend(&mut self, client: &Client, mut outcomes: Events, question: &Question) -> anyhow::Result<End> {
        let mut statuses = Some(client.request(Request::Watch { log: false }));
        let mut submission = None;
        let mut ahead = None;
        let mut prompt = String::new();
        loop {
            match self.news(&mut outcomes, &mut submission, &mut statuses).await {
                News::Signal => bail!("ended by a signal"),
                News::Outcome(Ok(Event::Outcome(outcome))) => {
                    self.say(&format!("\n{}\n", text::outcome(&outcome)));
                    if outcome.verdict == Verdict::Unlocked {
                        return Ok(End::Open);
                    }
                    self.say(&prompt);
                }
                News::Outcome(_) => return Ok(End::Lost),
                News::Submitted => submission = None,
                News::Status(Ok(Event::Status(status))) => {
                    let now = worded(&question.message, way_in(&status, self.port));
                    if now != prompt {
                        self.say(&format!("\n{now}"));
                        prompt = now;
                    }
                }
                News::Status(_) => statuses = None,
                News::Typed(None) => self.typed = mpsc::channel(1).1,
                News::Typed(Some(bytes)) => ahead = self.edit(&bytes, &prompt).or(ahead),
            }
            if submission.is_none()
                && let Some(secret) = ahead.take()
            {
                submission = Some(client.request(Request::Submit(answer(question, secret))));
            }
        }
    }

    async fn news(
        &mut self,
        outcomes: &mut Events,
        submission: &mut Option<Events>,
        statuses: &mut Option<Events>,
    ) -> News {
        let [terminate, interrupt, hangup] = &mut self.signals;
        let console = self.terminal.is_some() && !(self.typed.is_closed() && self.typed.is_empty());
        tokio::select! {
            biased;
            _ = terminate.recv() => News::Signal,
            _ = interrupt.recv() => News::Signal,
            _ = hangup.recv() => News::Signal,
            event = outcomes.next() => News::Outcome(event),
            _ = next(submission) => News::Submitted,
            event = next(statuses) => News::Status(event),
            typed = self.typed.recv(), if console => News::Typed(typed),
        }
    }

    /// Takes what was typed; the last passphrase that is complete.
    fn edit(&mut self, bytes: &[u8], prompt: &str) -> Option<Secret> {
        let mut complete = None;
        for &byte in bytes {
            match self.line.push(byte) {
                Edit::Enter if !self.line.is_empty() => {
                    self.say("\n");
                    complete = Some(self.line.take());
                }
                Edit::Enter | Edit::Redraw => self.say(&format!("\n{prompt}")),
                Edit::Interrupt => {
                    self.line.clear();
                    self.say(&format!("\n{prompt}"));
                }
                Edit::None | Edit::Tab | Edit::End | Edit::Full => {}
            }
        }
        complete
    }

    fn say(&self, text: &str) {
        if let Some(terminal) = &self.terminal {
            terminal.say(text);
        }
    }
}

/// The next event of a request, if one is open.
async fn next(events: &mut Option<Events>) -> Result<Event, Gone> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

fn answer(question: &Question, secret: Secret) -> Submit {
    let wait_ms = QUESTION_PATIENCE.as_millis() as u64;
    Submit { volumes: question.volume.iter().cloned().collect(), kind: Some(Kind::Passphrase), secret, wait_ms }
}

/// `Enter passphrase for /dev/sda2 (or: ssh -p 2222 root@192.0.2.7): `
fn worded(message: &str, way_in: Option<String>) -> String {
    match way_in {
        Some(way_in) => format!("{} (or: {way_in}): ", message.trim_end_matches(':')),
        None => format!("{message} "),
    }
}

/// The command that logs in to this machine, once it has an address and unless nobody can log in.
fn way_in(status: &Status, port: u16) -> Option<String> {
    if status.problems.iter().any(|problem| problem.starts_with("no SSH")) {
        return None;
    }
    let addresses = || status.network.iter().flat_map(|link| &link.addresses);
    // An address of one link only (RFC 4291 section 2.5.6) needs to be told the link on the other side.
    let wide = |address: &&String| !address.to_ascii_lowercase().starts_with("fe80:");
    let address = addresses().find(|address| !address.contains(':')).or_else(|| addresses().find(wide))?;
    let address = address.split_once('/').map_or(address.as_str(), |(address, _)| address);
    Some(format!("ssh -p {port} root@{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::{Link, Phase};

    fn status(addresses: &[&str], problems: &[&str]) -> Status {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let link = Link {
            name: "eth0".into(),
            mac: None,
            carrier: true,
            addresses: words(addresses),
            gateway: None,
            nameservers: vec![],
            configured_by: None,
            note: None,
        };
        Status {
            version: String::new(),
            host: String::new(),
            phase: Phase::Asking,
            questions: vec![],
            unlocked: vec![],
            gave_up: vec![],
            network: vec![link],
            emergency: None,
            hold: None,
            hubs: vec![],
            notifications: vec![],
            problems: words(problems),
        }
    }

    #[test]
    fn the_prompt_tells_the_other_way_in() {
        for (addresses, problems, prompt) in [
            (&[][..], &[][..], "Enter passphrase for /dev/sda2: "),
            (&["192.0.2.7/24"], &[], "Enter passphrase for /dev/sda2 (or: ssh -p 2222 root@192.0.2.7): "),
            (
                &["2001:db8::7/64", "192.0.2.7/24"],
                &["x"],
                "Enter passphrase for /dev/sda2 (or: ssh -p 2222 root@192.0.2.7): ",
            ),
            (
                &["fe80::7/64", "2001:db8::7/64"],
                &[],
                "Enter passphrase for /dev/sda2 (or: ssh -p 2222 root@2001:db8::7): ",
            ),
            (&["fe80::7/64"], &[], "Enter passphrase for /dev/sda2: "),
            (&["192.0.2.7/24"], &["no SSH: no key"], "Enter passphrase for /dev/sda2: "),
        ] {
            assert_eq!(worded("Enter passphrase for /dev/sda2:", way_in(&status(addresses, problems), 2222)), prompt);
        }
    }
}
