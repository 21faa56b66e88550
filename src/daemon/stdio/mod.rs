//! `vestibule serve --stdio`: SSH on what this process was started with, which is a stream, or a socket that listens
//! (`inherited`). A daemon that runs gets it: it has the questions and the limits. Without one, the same listener serves it
//! here, and can offer less (`small_house`).

mod inherited;
mod relay;
mod small_house;

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::lifecycle::Lifecycle;
use super::listener::entrance::{Arrival, Entrance};
use super::listener::incoming;
use super::{STARTER_STACK, STARTERS};
use crate::control::message::{Event, Request};
use crate::control::{SOCKET, frame, stream};
use crate::root::Root;
use crate::{hardening, kmsg};
use inherited::Given;
use relay::Relay;

/// The daemon takes a stream at once, unless its machine is very busy.
const HANDING_OVER: Duration = Duration::from_secs(10);
/// What a session has sent last is passed on within this time after its end, or not at all.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Where a stream comes from that has no address.
const HERE: &str = "standard input";

/// Serves until the stream has ended, or for a listening socket until a signal.
///
/// With `system`, nothing boots here and nothing is to be unlocked: who logs in gets a login shell.
pub fn main(root: Root, system: bool) -> anyhow::Result<()> {
    let given = inherited::find()?;
    inherited::silence(&given)?;
    match system {
        true => start_log(),
        false => kmsg::start(&root),
    }
    for refused in hardening::keep_memory_private() {
        log::warn!("ignoring: {refused}");
    }
    if let Err(error) = super::descriptors::keep_from_children() {
        log::warn!("ignoring: inherited descriptors can't be kept from sessions: {error}");
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(STARTERS).thread_stack_size(STARTER_STACK);
    runtime.build().context("starting the runtime")?.block_on(run(root, given, system))
}

/// Whoever started a server of a system keeps a log.
fn start_log() {
    let waits = inherited::log_without_waiting();
    kmsg::start_on_stderr();
    if let Err(error) = waits {
        log::warn!("ignoring: connections wait while the log is full: {error:#}");
    }
}

async fn run(root: Root, given: Vec<Given>, system: bool) -> anyhow::Result<()> {
    let mut lifecycle = Lifecycle::start().context("taking over the signals")?.0;
    let (entrance, arrivals) = Entrance::new();
    let (mut bringing, mut relays) = (JoinSet::new(), Vec::new());
    for it in given {
        let stream = match it {
            Given::Listening(listener) => {
                let entrance = entrance.clone();
                bringing.spawn(async move { incoming::bring(listener, HERE, &entrance).await });
                continue;
            }
            Given::Connection(stream) => stream,
            Given::Pipes { input, output, terminal } => {
                let (near, relay) = Relay::start(input, output, terminal)?;
                relays.push(relay);
                near
            }
        };
        let origin = incoming::origin(&stream, HERE);
        entrance.enter(Arrival { stream, origin }).await?;
    }
    drop(entrance); // what listens has its own
    let daemon = match system {
        true => Err(ErrorKind::NotFound.into()), // if there is one, it is another machine's, or the initramfs's
        false => UnixStream::connect(root.join(SOCKET)).await,
    };
    let served = match daemon {
        Ok(_) => tokio::select! {
            handed = hand_over(&root, arrivals, &mut relays) => handed,
            _ = lifecycle.reason() => return Ok(()), // the daemon sees the end of the stream
        },
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            small_house::serve(&root, arrivals, &mut lifecycle, system).await
        }
        Err(error) => Err(error).with_context(|| format!("connecting to the daemon at {SOCKET}")),
    };
    let last_words = async {
        for relay in &mut relays {
            relay.ended().await;
        }
    };
    if timeout(LAST_WORDS, last_words).await.is_err() {
        log::warn!("standard output took no more, and what was left for it is lost");
    }
    served?;
    // A socket that can't be listened on brings nobody, and all seems to be over.
    match bringing.try_join_next() {
        Some(Ok(failed)) => failed,
        _ => Ok(()),
    }
}

/// Gives each stream to the daemon, and stays for as long as bytes pass through here.
async fn hand_over(root: &Root, mut arrivals: mpsc::Receiver<Arrival>, relays: &mut [Relay]) -> anyhow::Result<()> {
    while let Some(Arrival { stream, origin }) = arrivals.recv().await {
        let handed = timeout(HANDING_OVER, hand(root, stream, origin.to_string())).await;
        handed.context("the daemon does not answer").flatten()?;
    }
    for relay in relays {
        relay.ended().await;
    }
    Ok(())
}

async fn hand(root: &Root, socket: OwnedFd, from: String) -> anyhow::Result<()> {
    let path = root.join(SOCKET);
    let control =
        UnixStream::connect(&path).await.with_context(|| format!("no daemon answers at {}", path.display()))?;
    let (mut reader, mut writer) = stream::split(control);
    writer.attach(vec![socket]);
    frame::write(&mut writer, &(1u32, Request::Serve { from })).await.context("handing the stream to the daemon")?;
    match frame::read::<(u32, Event)>(&mut reader).await.context("hearing from the daemon")? {
        Some((_, Event::Done)) => Ok(()),
        Some((_, Event::Refused(reason))) => bail!("the daemon serves no SSH on this stream: {reason}"),
        _ => bail!("the daemon has gone"),
    }
}
