//! `vestibule dial`: tunnels on a running system, through a stock OpenSSH server (the hub). They are built again when they
//! break, and say so.
//!
//! The story of one run: take the lock, listen for `-L`, then again and again: dial (`link`), have the hub listen for
//! `-R`, carry what comes, until the connection is gone or nobody needs it.

mod demand;
pub mod forward;
pub mod identity;
pub mod known_hosts;
mod link;
mod local;
mod lock;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::daemon::net::resolve::Resolver;
use crate::daemon::ready;
use crate::dial::backoff::Backoff;
use crate::kmsg;
use crate::root::Root;
use demand::Demand;
use forward::{Destination, Forward};
use link::{Ended, Hubs, Link};

/// Idle time, in seconds, after which a connection on demand is ended: longer than a person thinks between two clicks.
const IDLE_SECONDS: &str = "60";

/// What is tunnelled, and how.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("pinned").required(true).args(["host_key", "known_hosts"]))]
#[command(group = clap::ArgGroup::new("forwards").required(true).multiple(true).args(["local", "remote"]))]
pub struct Options {
    /// The account on the hub
    #[arg(value_name = "USER@HOST")]
    to: Destination,
    /// The hub's port
    #[arg(short, long, default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The private key to log in with: ed25519 or ECDSA in OpenSSH's format, without a passphrase [default: ~/.ssh/id_ed25519]
    #[arg(short, long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The hub's host key: "ssh-ed25519 AAAA…" or "SHA256:…" (may be repeated)
    #[arg(long, value_name = "KEY")]
    host_key: Vec<String>,
    /// A file with the hub's host key, as ssh has it
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
    /// Listen here, and have the hub connect to host:hostport for each connection; on 127.0.0.1 unless bind says otherwise
    #[arg(short = 'L', value_name = "[BIND:]PORT:HOST:HOSTPORT")]
    local: Vec<Forward>,
    /// Have the hub listen, and connect to host:hostport from here for each connection; nothing else can be reached
    #[arg(short = 'R', value_name = "[BIND:]PORT:HOST:HOSTPORT")]
    remote: Vec<Forward>,
    /// Dial only when somebody uses a -L, and hang up after so many seconds without use [default: 60]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = IDLE_SECONDS,
          value_parser = clap::value_parser!(u32).range(1..=86_400), conflicts_with = "remote")]
    on_demand: Option<u32>,
    /// Go on also when the first attempt fails; else that ends the command with an error
    #[arg(long)]
    keep_trying: bool,
    /// What this tunnel is called; of each name only one runs at a time [default: USER@HOST:PORT]
    #[arg(long, value_parser = name)]
    name: Option<String>,
}

/// A part of the name of a file.
fn name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    match !text.is_empty() && text.len() <= 100 && text.bytes().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("a name has up to 100 letters, digits, and . _ - @".to_owned()),
    }
}

/// What is asked for, checked and read.
struct Plan {
    to: link::To,
    remote: Vec<Forward>,
    idle: Option<Duration>,
    keep_trying: bool,
}

/// Ends at SIGTERM or SIGINT, or with an error.
pub fn command(root: &Root, options: Options) -> anyhow::Result<()> {
    kmsg::start_on_stderr();
    let Options { to: Destination { user, host }, port, identity, host_key, known_hosts, .. } = options;
    let name = options.name.unwrap_or_else(|| format!("{user}@{host}:{port}"));
    let pins = known_hosts::pins(&host_key, known_hosts.as_deref(), &[(&host, port)])?;
    let key = identity::read(identity.as_deref())?;
    different_ports(&options.remote)?;
    let _lock = lock::take(root, &name)?;
    let plan = Plan {
        to: link::To { user, host, port, key, pins },
        remote: options.remote,
        idle: options.on_demand.map(|seconds| Duration::from_secs(seconds.into())),
        keep_trying: options.keep_trying,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(run(&plan, &options.local, Resolver::alone(root)))
}

/// What arrives says only at which port: two targets there could not be told apart.
fn different_ports(remote: &[Forward]) -> anyhow::Result<()> {
    for (index, forward) in remote.iter().enumerate() {
        let twice = remote[..index].iter().any(|other| other.port == forward.port && other.port != 0);
        anyhow::ensure!(!twice, "-R {}: the hub is to listen on port {0} twice; give each -R its own", forward.port);
    }
    let chosen = remote.iter().filter(|forward| forward.port == 0).count();
    anyhow::ensure!(chosen <= 1, "only one -R can have its port chosen by the hub (0)");
    Ok(())
}

/// Why a connection is over, or an attempt at one.
enum Next {
    Ended(Ended),
    Failed(String),
    Told,
}

async fn run(plan: &Plan, local: &[Forward], resolver: Resolver) -> anyhow::Result<()> {
    let mut end = End::new()?;
    let demand = Demand::default();
    let hubs = Hubs::default();
    local::listen(local, &hubs, &demand).await?;
    let mut backoff = Backoff::default();
    let mut worked = plan.keep_trying || plan.idle.is_some();
    let mut said = String::new();
    let mut ready = false;
    if plan.idle.is_some() {
        ready = true;
        ready::tell();
    }
    loop {
        if plan.idle.is_some() {
            if !demand.is_there() {
                backoff = Backoff::default(); // whoever comes next has not waited yet
            }
            select! {
                () = demand.wanted() => {}
                () = end.told() => return Ok(()),
            }
        }
        let mut lasted = Duration::ZERO;
        let dialled = select! {
            dialled = Link::make(&plan.to, &plan.remote, &resolver) => dialled,
            () = end.told() => return Ok(()),
        };
        let next = match dialled {
            Err(why) if !worked => anyhow::bail!("{why}"),
            Err(why) => Next::Failed(why),
            Ok(mut link) => {
                said.clear();
                log::info!("{}", link.described(&plan.to));
                worked = true;
                if !std::mem::replace(&mut ready, true) {
                    ready::tell();
                }
                let since = Instant::now();
                let hub = hubs.offer(&link);
                let next = select! {
                    ended = link.carry(&resolver, demand.idle(plan.idle)) => Next::Ended(ended),
                    () = end.told() => Next::Told,
                };
                drop(hub);
                lasted = since.elapsed();
                link.leave().await;
                next
            }
        };
        match next {
            Next::Told => return Ok(()),
            Next::Ended(Ended::Idle) => {
                log::info!("nobody uses the tunnel: hung up");
                continue;
            }
            Next::Ended(Ended::Lost(why)) => log::warn!("{why}; dialling again"),
            // Said once, however often it is tried.
            Next::Failed(why) if why == said => {}
            Next::Failed(why) => {
                log::warn!("{why}; trying again");
                said = why;
            }
        }
        select! {
            () = sleep(backoff.wait(lasted, random())) => {}
            () = end.told() => return Ok(()),
        }
    }
}

/// SIGTERM or SIGINT.
struct End(Signal, Signal);

impl End {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("waiting for signals");
        Ok(Self(on(SignalKind::terminate())?, on(SignalKind::interrupt())?))
    }

    async fn told(&mut self) {
        select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
        log::info!("told to end");
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without random numbers all wait equally long, which is no reason to end.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u32::from_ne_bytes(bytes)
}
