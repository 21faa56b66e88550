//! The long-lived process: builds the parts, starts them, orders the stop.

mod clock;
pub mod console;
pub mod descriptors;
mod hold;
mod house;
pub mod lifecycle;
pub mod listener;
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

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use russh::keys::PublicKey;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::family::Family;
use crate::config::network::NetworkConfig;
use crate::config::{Config, HOST_CERTIFICATE, HOST_KEY};
use crate::control::SOCKET;
use crate::control::message::{Link, Phase, Setup, Status};
use crate::control::notification::Notification;
use crate::control::server::{self, Access, House};
use crate::root::Root;
use crate::secret::Secret;
use crate::session::ssh::authorized_keys;
use crate::{hardening, image, kmsg};
use console::Console;
use console::capture::Capture;
use hold::Holds;
use house::Rooms;
use lifecycle::{Lifecycle, Stopper};
use listener::Listener;
use net::{Net, resolve::Resolver};
use notify::Notifier;
use once::UsedKeys;
use prompt::broker::View;
use prompt::emergency::{self, Hold};
use rescue::Rescue;
use sources::Sources;

/// Accepting fails when descriptors or memory are short; that is not mended by trying at once.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

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
    let control = ControlSocket::bind(&root).await?;
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
    let house = Arc::new(Rooms {
        broker: broker.clone(),
        hook,
        console,
        rescue: rescue.clone(),
        used_keys: UsedKeys::new(&root),
        statuses: statuses.clone(),
        stopper,
        holds: holds.clone(),
    });
    let (port, fingerprint) = (config.settings.port, fingerprint(&config));
    let recipients = std::mem::take(&mut config.recipients);
    if recipients.iter().any(|recipient| recipient.notify.url.tls) {
        clock::not_before(clock::built(&root), &root);
    }
    let listener = start_listener(config, &root, house.clone(), (stopped.clone(), once), &mut problems);
    let facts = notify::Facts { ssh: fingerprint.filter(|_| listener.is_some()).map(|key| (port, key)) };
    let notifier = Notifier::start(recipients, facts, &resolver, &statuses, &stopped);
    let told = notifier.states.clone();
    let seen = (broker.view(), hold, net.as_ref().map(Net::links), holds.clone(), told);
    let observer = crate::task::spawn(observe(seen, problems, (status, stopped.clone())));
    let message = listener.is_some().then(|| plymouth::start(root.clone(), statuses, stopped.clone(), port));
    let serving = crate::task::spawn(serve_locally(control, house));

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

/// Starts the SSH server, if there is a host key and a user; else says why there is none. The console is unaffected.
fn start_listener(
    config: Config,
    root: &Root,
    house: Arc<dyn House>,
    (stopping, once): (watch::Receiver<bool>, Option<Stopper>),
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
    if keys.iter().any(|key| key.authority.is_some()) {
        clock::not_before(built, root);
    }
    let roles = config.roles;
    let (host, authorized_keys, login_seconds) = (config.host, config.authorized_keys, config.settings.login_seconds);
    let setup = Box::new(move |peer: &str| Setup {
        host: host.clone(),
        peer: peer.to_owned(),
        built,
        host_key: host_key.duplicate(),
        host_certificate: host_certificate.clone(),
        authorized_keys: authorized_keys.clone(),
        roles: roles.clone(),
        login_seconds,
    });
    let login = Duration::from_secs(login_seconds);
    let listener = Listener { port: config.settings.port, setup, login, house, stopping, once };
    Some(crate::task::spawn(listener.run()))
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

/// What the broker, the emergency watch, the network and the notifier publish, and what holds the boot.
type Seen = (
    watch::Receiver<View>,
    watch::Receiver<Option<Hold>>,
    Option<watch::Receiver<Arc<[Link]>>>,
    Holds,
    watch::Receiver<Vec<Notification>>,
);

/// Puts what they know into the one status that clients watch.
async fn observe(
    (mut view, mut hold, links, holds, mut told): Seen,
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
        now.notifications.clone_from(&told.borrow_and_update());
        status.send_replace(Arc::new(now));
        tokio::select! {
            changed = links.changed() => if changed.is_err() {
                links = no_links.clone(); // no network to be had; everything else goes on
            },
            Ok(()) = view.changed() => {}
            Ok(()) = hold.changed() => {}
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
        notifications: vec![],
    }
}

/// The socket for local clients; it and its directory are removed on drop, so that nothing of it is in the real root.
struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    async fn bind(root: &Root) -> anyhow::Result<Self> {
        let path = root.join(SOCKET);
        let directory = path.parent().expect("the path has a directory");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("making {}", directory.display()))?;
        if UnixStream::connect(&path).await.is_ok() {
            bail!("another vestibule daemon is running (it answers at {})", path.display());
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing the old {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).with_context(|| format!("making {}", path.display()))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))
            .with_context(|| format!("closing {}", path.display()))?;
        Ok(Self { listener, path })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(error) = remove_socket(&self.path) {
            log::warn!("{error:#}");
        }
    }
}

/// Does what a daemon that was killed can't do any more: takes its network back and removes its files.
pub async fn clean_up_after(root: &Root) -> anyhow::Result<()> {
    kmsg::start(root);
    net::take_back(root).await;
    prompt::feed::Feed::clean_up(root, &Config::load(root).settings.keys);
    remove_socket(&root.join(SOCKET))
}

/// Removes the control socket with its directory, which holds only what is ours.
fn remove_socket(path: &Path) -> anyhow::Result<()> {
    let directory = path.parent().expect("the path has a directory");
    std::fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))
}

async fn serve_locally(control: ControlSocket, house: Arc<Rooms>) {
    loop {
        match control.listener.accept().await {
            Ok((stream, _)) => {
                let house = house.clone();
                crate::task::spawn(async move {
                    if let Err(error) = server::serve(stream, Access::Local, house).await {
                        log::warn!("a local client broke the control protocol: {error}");
                    }
                });
            }
            Err(error) => {
                log::warn!("accepting a local client failed: {error}; trying again");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}
