//! What can be offered where no daemon runs: the status, the consoles, and what the rescue room opens. The rest needs
//! somebody who owns the questions and outlives a connection, and is refused.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::bail;
use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use crate::config::grants::Grants;
use crate::config::{Config, strict_modes};
use crate::control::message::{Destination, Open, Outcome, Phase, Power, Question, Start, Status, Submit};
use crate::control::server::{House, Listening, Program};
use crate::daemon::console::Console;
use crate::daemon::lifecycle::Lifecycle;
use crate::daemon::listener::entrance::Arrival;
use crate::daemon::net::resolve::Resolver;
use crate::daemon::rescue::Rescue;
use crate::daemon::{Outside, empty_status, start_listener};
use crate::root::Root;

const NO_DAEMON: &str = "no vestibule daemon runs on this machine (vestibule serve), and only that can do it";

/// Serves whoever arrives until nobody can arrive any more and all have left, or until a signal.
///
/// `system`: all of it is a login to the system that runs here.
pub async fn serve(
    root: &Root,
    arrivals: mpsc::Receiver<Arrival>,
    lifecycle: &mut Lifecycle,
    system: bool,
) -> anyhow::Result<()> {
    let mut config = Config::load(root);
    if system {
        config.roles = config.roles.in_a_system();
        config.authorized_keys = strict_modes::authorized_keys(root, &mut config.problems);
    } else if config.disabled {
        bail!("disabled by rd.vestibule=0 on the kernel command line");
    }
    let mut problems = config.problems.clone();
    problems.iter().for_each(|problem| log::error!("configuration: {problem}"));
    let (stopping, stopped) = watch::channel(false);
    let (status, statuses) = watch::channel(Arc::new(empty_status(&config.host)));
    let rescue = Arc::new(Rescue::new(root.clone(), Resolver::alone(root)));
    let console = Console::new(root.clone(), None);
    let house = Arc::new(SmallHouse { console, rescue: rescue.clone(), statuses });
    let outside = Outside { port: None, arrivals, stopping: stopped, once: None, fresh_keys: system };
    let Some(mut listener) = start_listener(config, root, house, outside, &mut problems) else {
        bail!("{}", problems.last().map_or("no SSH", String::as_str));
    };
    if !system {
        problems
            .push("no vestibule daemon runs on this machine: nothing can be unlocked by this connection".to_owned());
    }
    status.send_modify(|status| Arc::make_mut(status).problems = problems);
    let all_left = tokio::select! {
        ended = &mut listener => Some(ended),
        reason = lifecycle.reason() => {
            log::info!("ending ({reason})");
            None
        }
    };
    status.send_modify(|status| Arc::make_mut(status).phase = Phase::HandOver);
    stopping.send_replace(true);
    // While sessions say goodbye. Where nobody is left, it ends what they leave behind: nobody would after this process.
    rescue.end().await;
    match all_left {
        Some(ended) => Ok(ended?),
        None => Ok(listener.await?),
    }
}

struct SmallHouse {
    console: Console,
    rescue: Arc<Rescue>,
    statuses: watch::Receiver<Arc<Status>>,
}

fn refuse<T>() -> Result<T, String> {
    Err(NO_DAEMON.to_owned())
}

#[async_trait]
impl House for SmallHouse {
    fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.statuses.clone()
    }

    fn log(&self) -> mpsc::Receiver<Vec<String>> {
        self.console.log()
    }

    fn peek(&self, follow: bool) -> mpsc::Receiver<String> {
        self.console.peek(follow, Vec::new)
    }

    fn submit(&self, _: Submit) -> Result<mpsc::Receiver<Outcome>, String> {
        refuse()
    }

    fn power(&self, _: Power) -> Result<(), String> {
        refuse()
    }

    fn open(&self, _: Open) -> Result<(Question, mpsc::Receiver<Outcome>), String> {
        refuse()
    }

    /// Nobody but a local client may ask for it, and there is no socket for one.
    fn stop(&self) -> mpsc::Receiver<String> {
        mpsc::channel(1).1
    }

    fn start(&self, start: Start, grants: &Grants) -> Result<Program, String> {
        self.rescue.start(start, grants)
    }

    async fn connect(&self, to: Destination) -> Result<OwnedFd, String> {
        self.rescue.connect(to).await
    }

    async fn listen(&self, on: Destination, gateway_ports: bool) -> Result<Listening, String> {
        self.rescue.listen(on, gateway_ports).await
    }

    fn hold(&self, _: u32) -> Result<(), String> {
        refuse()
    }

    fn hold_while(&self, _: u32) -> Result<Box<dyn Send + Sync>, String> {
        refuse()
    }

    /// Nothing is held.
    fn release(&self) {}

    async fn serve(&self, _: OwnedFd, _: String) -> Result<(), String> {
        refuse()
    }

    /// Whether the key was used before, another process could not tell.
    fn use_once(&self, _: &str) -> Result<(), String> {
        Err("the key is good for a single login (once), and no vestibule daemon runs here that could remember it"
            .to_owned())
    }
}
