//! Asks each machine for its status, through its tunnel on the hub.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use russh::keys::PrivateKey;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::machines::{self, Machine, NO_PORT};
use super::report::{self, Answer};
use crate::config::file::DEFAULT_PORT;
use crate::dial::{self, Error, Login, Pins};
use crate::task;
use crate::tunnel::{identity, known_hosts};

/// For all of one machine. A small board on a slow line needs some seconds for the key exchange.
const DEADLINE: Duration = Duration::from_secs(10);
/// Asked at the same time: each is a key exchange, for the hub's processor as well.
const AT_ONCE: usize = 16;
/// Longest status that is read, in bytes. One with a hundred questions has some 30 KB.
const MAX_STATUS: u64 = 1 << 20;
/// Exit status when something is wrong.
const WRONG: u8 = 3;

/// Which machines, and how to log in to them.
#[derive(Args, Debug)]
pub struct List {
    /// Where each machine's tunnel ends on this hub: a port on loopback, or a UNIX socket
    #[arg(value_name = "NAME=PORT|/SOCKET", required_unless_present = "keys")]
    machines: Vec<Target>,
    /// Take the machines from this file of public keys, as `hub setup` has written it (/etc/ssh/hub-vestibule.keys)
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The private key to log in with, in OpenSSH's format [default: ~/.ssh/id_ed25519]
    #[arg(short, long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The machines' host keys: known_hosts lines for [NAME]:2222, else NAME, else [localhost]:PORT. A key that isn't there is refused
    #[arg(long, value_name = "FILE")]
    known_hosts: PathBuf,
    /// The role to log in as
    #[arg(long, value_name = "ROLE", default_value = "peek")]
    user: String,
    /// One JSON object, for programs
    #[arg(long)]
    json: bool,
}

/// One machine's tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    name: String,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Port(u16),
    Socket(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write NAME=PORT or NAME=/SOCKET".to_owned();
        let (name, end) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
        if name.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(wrong());
        }
        let end = match end.starts_with('/') {
            true => End::Socket(end.to_owned()),
            false => End::Port(end.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?),
        };
        Ok(Self { name: name.to_owned(), end })
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "localhost:{port}"),
            Self::Socket(path) => f.write_str(path),
        }
    }
}

/// Who asks.
struct Asker {
    user: String,
    key: PrivateKey,
    known_hosts: PathBuf,
}

pub fn command(asked: List) -> anyhow::Result<ExitCode> {
    let mut targets = asked.machines;
    if let Some(file) = &asked.keys {
        targets.extend(from_keys(file)?);
    }
    let asker =
        Asker { user: asked.user, key: identity::read(asked.identity.as_deref())?, known_hosts: asked.known_hosts };
    std::fs::File::open(&asker.known_hosts)
        .with_context(|| format!("reading the host keys in {}", asker.known_hosts.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let answers = runtime.block_on(all(targets, asker))?;
    let text = if asked.json { report::json(&answers) } else { report::table(&answers) };
    std::io::stdout().write_all(text.as_bytes()).context("printing the list")?;
    Ok(if report::all_is_well(&answers) { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}

fn from_keys(file: &Path) -> anyhow::Result<Vec<Target>> {
    let text = super::read(file)?;
    let machines = machines::machines(&[(file.display().to_string(), text)], None).map_err(anyhow::Error::msg)?;
    if let Some(machine) = machines.iter().find(|machine| machine.port == NO_PORT) {
        bail!(
            "{}: {} has a socket instead of a port; name the machines: {}=/SOCKET",
            file.display(),
            machine.name,
            machine.name
        );
    }
    let target = |machine: Machine| Target { name: machine.name, end: End::Port(machine.port) };
    Ok(machines.into_iter().map(target).collect())
}

/// In the order in which they were named.
async fn all(targets: Vec<Target>, asker: Asker) -> anyhow::Result<Vec<Answer>> {
    let (asker, places) = (Arc::new(asker), Arc::new(Semaphore::new(AT_ONCE)));
    let mut asking = Vec::new();
    for target in targets {
        let (asker, places) = (asker.clone(), places.clone());
        asking.push(task::spawn(async move {
            let _place = places.acquire().await.expect("never closed");
            let since = Instant::now();
            let status = match timeout(DEADLINE, ask(&target, &asker)).await {
                Ok(result) => result.map_err(|error| format!("{error:#}")),
                Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
            };
            Answer { name: target.name, at: target.end.to_string(), took: since.elapsed(), status }
        }));
    }
    let mut answers = Vec::new();
    for answer in asking {
        answers.push(answer.await.context("asking a machine")?);
    }
    Ok(answers)
}

async fn ask(target: &Target, asker: &Asker) -> anyhow::Result<Value> {
    // As `vestibule keys` prints it; without a port it may be the key of the machine's real system.
    let mut names = vec![(target.name.as_str(), DEFAULT_PORT), (target.name.as_str(), 22)];
    if let End::Port(port) = target.end {
        names.push(("localhost", port));
    }
    let pins = known_hosts::pins(&[], Some(&asker.known_hosts), &names)?;
    let there = || format!("nothing listens at {}: the machine is not connected to this hub", target.end);
    match &target.end {
        End::Port(port) => {
            status(TcpStream::connect(("127.0.0.1", *port)).await.with_context(there)?, pins, asker).await
        }
        End::Socket(path) => status(UnixStream::connect(path).await.with_context(there)?, pins, asker).await,
    }
}

async fn status<S>(stream: S, pins: Pins, asker: &Asker) -> anyhow::Result<Value>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let login = Login { user: asker.user.clone(), key: asker.key.clone(), pins };
    let (machine, _) = dial::connect(stream, login).await.map_err(explained)?;
    let output = machine.run("status --json").await.map_err(explained)?;
    let (ours, theirs) = UnixStream::pair().context("making a pair of sockets")?;
    let theirs: OwnedFd = theirs.into_std().context("handing over a socket")?.into();
    let relay = task::spawn(output.relay(theirs));
    let mut text = Vec::new();
    ours.take(MAX_STATUS).read_to_end(&mut text).await.context("reading the status")?;
    relay.abort();
    let status: Value = match serde_json::from_slice(&text) {
        Ok(status) => status,
        Err(_) => bail!("what it answers is no status; is it vestibule, and may {} ask for it?", asker.user),
    };
    machine.goodbye("asked").await;
    Ok(status)
}

/// The sentences of `dial` are about hubs; here a machine is at the other end.
fn explained(error: Error) -> anyhow::Error {
    match error {
        Error::KeyChanged { offered, pinned } => anyhow::anyhow!(
            "ITS HOST KEY IS NOT THE PINNED ONE: it has {offered}, pinned is {}; it may be another machine, or somebody in \
             between",
            pinned.join(" and ")
        ),
        Error::KeyRefused { user, fingerprint } => anyhow::anyhow!("it does not let {fingerprint} in as {user}"),
        Error::NothingInCommon(what) => anyhow::anyhow!("its SSH server and ours have nothing in common: {what}"),
        Error::Lost(_) => anyhow::anyhow!("the connection to it was lost"),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let target = |name: &str, end| Ok(Target { name: name.to_owned(), end });
        assert_eq!("web1=20001".parse(), target("web1", End::Port(20_001)));
        assert_eq!("web1=/run/x=y".parse(), target("web1", End::Socket("/run/x=y".to_owned())));
        for text in ["", "web1", "=1", "web1=", "web1=0", "web1=65536", "a b=1", "web1=x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
