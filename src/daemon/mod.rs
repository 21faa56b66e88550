//! The long-lived process: builds the parts, starts them, orders the stop.

mod clock;
mod confined;
pub mod console;
pub mod descriptors;
pub mod dial;
mod hold;
mod house;
pub mod lifecycle;
pub mod listener;
mod local;
mod login;
pub mod net;
pub mod notify;
mod once;
pub mod plymouth;
pub mod power;
pub mod prompt;
pub mod ready;
pub mod rescue;
mod sources;
pub mod stdio;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use russh::keys::PublicKey;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::family::Family;
use crate::config::network::NetworkConfig;
use crate::config::{self, Config, HOST_CERTIFICATE, HOST_KEY};
use crate::control::SOCKET;
use crate::control::dial::Hub;
use crate::control::message::{Link, Phase, Setup, Status};
use crate::control::notification::Notification;
use crate::control::server::House;
use crate::root::Root;
use crate::secret::Secret;
use crate::session::ssh::authorized_keys;
use crate::{hardening, image, kmsg};
use console::Console;
use console::capture::Capture;
use dial::Dials;
use hold::Holds;
use house::Rooms;
use lifecycle::{Lifecycle, Stopper};
use listener::Listener;
use listener::entrance::{Arrival, Entrance};
use net::{Net, resolve::Resolver};
use notify::Notifier;
use once::UsedKeys;
use prompt::broker::View;
use prompt::emergency::{self, Hold};
use rescue::Rescue;
use sources::Sources;

/// Threads that start session processes, when there are any to start: the daemon itself doesn't wait for that.
const STARTERS: usize = 2;
/// They do nothing else, and all memory is locked.
const STARTER_STACK: usize = 128 << 10;

/// Runs the daemon until hand-over.
///
/// `family` is what the hook that started it knows about the initramfs; with `once`, one session is served.
pub fn main(root: Root, family: Option<Family>, once: bool) -> anyhow::Result<()> {
    kmsg::start(&root);
    for refused in hardening::keep_memory_private() {
        log::warn!("ignoring: {refused}");
    }
    if let Err(error) = descriptors::keep_from_children() {
        log::warn!("ignoring: inherited descriptors can't be kept from sessions: {error}");
    }
    let config = Config::load(&root);
    if config.disabled {
        log::info!("disabled by rd.vestibule=0 on the kernel command line");
        ready::tell();
        return Ok(());
    }
    match hardening::confinement() {
        Ok(all) => log::info!("{all}"),
        Err(lacking) => log::warn!("{lacking}"),
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(STARTERS).thread_stack_size(STARTER_STACK);
    let runtime = runtime.build().context("starting the runtime")?;
    runtime.block_on(run(root, config, family, once))
}

/// The whole life of the daemon, in order.
async fn run(root: Root, mut config: Config, family: Option<Family>, once: bool) -> anyhow::Result<()> {
    let (mut lifecycle, stopper) = Lifecycle::start().context("taking over the signals")?;
    let control = local::ControlSocket::bind(&root).await?;
    let (network, mut problems) = NetworkConfig::choose(&config.command_line, config.settings.configured.as_ref());
    problems.extend(config.problems.iter().cloned());
    for problem in &problems {
        log::error!("configuration: {problem}");
    }

    let hold = emergency::watch(root.clone());
    let Sources { broker, hook, problems: unusable } =
        sources::start(&root, family, &config.settings.keys, hold.clone());
    unusable.iter().for_each(|problem| log::error!("{problem}"));
    problems.extend(unusable);
    ready::tell();
    let net = config.settings.network.then(|| net::start(network, root.clone()));
    let plymouth = config.command_line.flag("plymouth.enable", true) && config.command_line.flag("rd.plymouth", true);
    let capture = config.settings.console_capture.then(|| Capture::start(root.clone(), plymouth));
    let console = Console::new(root.clone(), capture.as_ref().map(Capture::captured));
    let (stopping, stopped) = watch::channel(false);
    let (status, statuses) = watch::channel(Arc::new(empty_status(&config.host)));
    let once = once.then(|| stopper.clone());
    let resolver = net.as_ref().map_or_else(|| Resolver::alone(&root), Net::resolver);
    let rescue = Arc::new(Rescue::new(root.clone(), resolver.clone()));
    let holds = Holds::default();
    let (entrance, arrivals) = Entrance::new();
    let house = Arc::new(Rooms {
        broker: broker.clone(),
        hook,
        console,
        rescue: rescue.clone(),
        used_keys: UsedKeys::new(&root),
        statuses: statuses.clone(),
        stopper,
        holds: holds.clone(),
        entrance: entrance.clone(),
    });
    let (port, vsock, fingerprint) = (config.settings.port, config.settings.vsock_port(), fingerprint(&config));
    let links = net.as_ref().map(Net::links);
    let recipients = std::mem::take(&mut config.recipients);
    if recipients.iter().any(|recipient| recipient.notify.url.tls) {
        clock::not_before(clock::built(&root), &root);
    }
    let around = dial::Around {
        resolver: resolver.clone(),
        links: links.clone(),
        entrance: entrance.clone(),
        stopping: stopped.clone(),
    };
    let dials = Dials::start(&config, around);
    let outside = Outside { port: Some(port), arrivals, stopping: stopped.clone(), once, fresh_keys: false };
    let listener = start_listener(config, &root, house.clone(), outside, &mut problems);
    if let Some(port) = vsock.filter(|_| listener.is_some()) {
        crate::task::spawn(listener::vsock::serve(port, entrance));
    }
    let facts = notify::Facts { ssh: fingerprint.filter(|_| listener.is_some()).map(|key| (port, key)) };
    let notifier = Notifier::start(recipients, facts, &resolver, &statuses, &stopped);
    let (hubs, told) = (dials.states(), notifier.states.clone());
    let seen = Seen { view: broker.view(), hold, links, holds: holds.clone(), hubs, told };
    let observer = crate::task::spawn(observe(seen, problems, (status, stopped.clone())));
    let message = listener.is_some().then(|| plymouth::start(root.clone(), statuses, stopped.clone(), port));
    let serving = crate::task::spawn(local::serve(control, house));

    let reason = lifecycle.reason().await;
    holds.wait(lifecycle.signal()).await;
    log::info!("ending ({reason}): the boot continues");
    // In this order: users are told while they can still be reached, then the network goes, then our files.
    broker.stop();
    stopping.send_replace(true);
    rescue.end().await; // while sessions say goodbye
    if let Some(listener) = listener
        && let Err(error) = listener.await
    {
        log::error!("the SSH listener ended badly: {error}; going on");
    }
    dials.leave().await; // no earlier: sessions say goodbye through them
    if let Some(message) = message
        && let Err(error) = message.await
    {
        log::error!("the message on plymouth's screen ended badly: {error}; going on");
    }
    if let Some(capture) = capture {
        capture.stop().await;
    }
    notifier.end().await;
    if let Some(net) = net {
        net.undo().await;
    }
    observer.abort();
    serving.abort();
    drop(serving.await); // removes the control socket
    Ok(())
}

/// What comes to the listener from elsewhere.
struct Outside {
    port: Option<u16>,
    arrivals: mpsc::Receiver<Arrival>,
    stopping: watch::Receiver<bool>,
    once: Option<Stopper>,
    /// This is a running system: each connection goes by the keys that are authorised when it comes.
    fresh_keys: bool,
}

/// Starts the SSH server, if there is a host key and a user; else says why there is none. The console is unaffected.
fn start_listener(
    config: Config,
    root: &Root,
    house: Arc<dyn House>,
    Outside { port, arrivals, stopping, once, fresh_keys }: Outside,
    problems: &mut Vec<String>,
) -> Option<JoinHandle<()>> {
    let (host_key, public) = match usable_host_key(config.host_key) {
        Ok(usable) => usable,
        Err(reason) => return no_ssh(problems, reason),
    };
    let host_certificate = config.host_certificate.filter(|text| match image::keys::certificate(text, &public) {
        Ok(_) => true,
        Err(error) => {
            let problem = format!("{HOST_CERTIFICATE}: {error:#}; clients are shown the key alone");
            log::error!("{problem}");
            problems.push(problem);
            false
        }
    });
    let (keys, unusable) = authorized_keys::parse(&config.authorized_keys.0, &config.authorized_keys.1);
    for problem in &unusable {
        log::error!("{problem}");
        problems.push(problem.to_string());
    }
    if keys.is_empty() {
        return no_ssh(problems, format!("{} lists no usable key, so nobody could log in", config.authorized_keys.0));
    }
    let built = clock::built(root);
    // Without a port of our own this is no initramfs, but a running system, whose clock is its own affair.
    if port.is_some() && keys.iter().any(|key| key.authority.is_some()) {
        clock::not_before(built, root);
    }
    let roles = config.roles;
    let (host, authorized_keys, login_seconds) = (config.host, config.authorized_keys, config.settings.login_seconds);
    let post_quantum_only = config.settings.post_quantum_only;
    let root = root.clone();
    let setup = Box::new(move |peer| Setup {
        host: host.clone(),
        peer,
        built,
        host_key: host_key.duplicate(),
        host_certificate: host_certificate.clone(),
        authorized_keys: if fresh_keys { keys_of_a_system(&root) } else { authorized_keys.clone() },
        roles: roles.clone(),
        post_quantum_only,
        login_seconds,
    });
    let login = Duration::from_secs(login_seconds);
    let listener = Listener { port, arrivals, setup, login, house, stopping, once };
    Some(crate::task::spawn(listener.run()))
}

/// As they are now.
fn keys_of_a_system(root: &Root) -> (String, String) {
    let mut problems = Vec::new();
    let keys = config::strict_modes::authorized_keys(root, &mut problems);
    problems.iter().for_each(|problem| log::error!("{problem}"));
    keys
}

fn no_ssh(problems: &mut Vec<String>, reason: String) -> Option<JoinHandle<()>> {
    log::error!("no SSH: {reason}");
    problems.push(format!("no SSH: {reason}"));
    None
}

/// The host key if it is one, with its fingerprint on the console for whoever compares it there.
fn usable_host_key(host_key: Option<Secret>) -> Result<(Secret, PublicKey), String> {
    let host_key =
        host_key.ok_or_else(|| format!("{HOST_KEY} is missing or unreadable in this image; build it anew"))?;
    let key = image::keys::parse(host_key.expose())
        .map_err(|error| format!("{HOST_KEY}: {error:#}; build the image anew"))?;
    log::info!("SSH host key {}", authorized_keys::fingerprint(key.public_key()));
    Ok((host_key, key.public_key().clone()))
}

/// Of the host key, if it is one.
fn fingerprint(config: &Config) -> Option<String> {
    let key = image::keys::parse(config.host_key.as_ref()?.expose()).ok()?;
    Some(authorized_keys::fingerprint(key.public_key()))
}

/// What the broker, the emergency watch, the network, the hubs and the notifier publish, and what holds the boot.
struct Seen {
    view: watch::Receiver<View>,
    hold: watch::Receiver<Option<Hold>>,
    links: Option<watch::Receiver<Arc<[Link]>>>,
    holds: Holds,
    hubs: watch::Receiver<Vec<Hub>>,
    told: watch::Receiver<Vec<Notification>>,
}

/// Puts what they know into the one status that clients watch.
async fn observe(
    Seen { mut view, mut hold, links, holds, mut hubs, mut told }: Seen,
    problems: Vec<String>,
    (status, mut stopping): (watch::Sender<Arc<Status>>, watch::Receiver<bool>),
) {
    let (_none, no_links) = watch::channel(Arc::from([]));
    let mut links = links.unwrap_or_else(|| no_links.clone());
    let mut held = holds.watch();
    loop {
        let seen = view.borrow_and_update().clone();
        let stop = *stopping.borrow_and_update();
        let mut now = empty_status(&status.borrow().host);
        now.phase = phase(&seen, stop);
        now.questions = seen.questions.to_vec();
        now.unlocked = seen.unlocked.to_vec();
        now.gave_up = seen.gave_up.to_vec();
        now.network = links.borrow_and_update().to_vec();
        now.problems.clone_from(&problems);
        now.emergency = hold.borrow_and_update().as_ref().map(Hold::in_words);
        now.hold = holds.in_words();
        now.hubs.clone_from(&hubs.borrow_and_update());
        now.notifications.clone_from(&told.borrow_and_update());
        status.send_replace(Arc::new(now));
        tokio::select! {
            changed = links.changed() => if changed.is_err() {
                links = no_links.clone(); // no network to be had; everything else goes on
            },
            Ok(()) = view.changed() => {}
            Ok(()) = hold.changed() => {}
            Ok(()) = hubs.changed() => {}
            () = held.changed() => {}
            Ok(()) = told.changed() => {}
            Ok(()) = stopping.changed() => {}
            else => return, // the daemon is ending
        }
    }
}

fn phase(view: &View, stopping: bool) -> Phase {
    match view {
        _ if stopping => Phase::HandOver,
        View { questions, .. } if questions.iter().any(|question| !question.is_recovery()) => Phase::Asking,
        View { elsewhere, .. } if !elsewhere.is_empty() => Phase::Asking,
        View { gave_up, .. } if !gave_up.is_empty() => Phase::Failed,
        View { asked_once: true, unlocked, .. } if !unlocked.is_empty() => Phase::Unlocked,
        _ => Phase::Booting,
    }
}

fn empty_status(host: &str) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host.to_owned(),
        phase: Phase::Booting,
        questions: Vec::new(),
        unlocked: Vec::new(),
        gave_up: Vec::new(),
        network: Vec::new(),
        problems: Vec::new(),
        emergency: None,
        hold: None,
        hubs: vec![],
        notifications: vec![],
    }
}

/// Does what a daemon that was killed can't do any more: takes its network back and removes its files.
pub async fn clean_up_after(root: &Root) -> anyhow::Result<()> {
    kmsg::start(root);
    net::take_back(root).await;
    prompt::feed::Feed::clean_up(root, &Config::load(root).settings.keys);
    local::remove_socket(&root.join(SOCKET))
}
