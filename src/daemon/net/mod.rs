//! Network bring-up over netlink, and its undoing.
//!
//! Events from the kernel and from DHCP servers go into [`plan`], which is pure and answers with steps; [`edge`] does
//! them and keeps the [`ledger`]. One task turns this wheel; nothing waits for it.

pub(crate) mod advert;
mod arp;
mod changes;
mod conflict;
pub(crate) mod dhcp;
pub(crate) mod dhcp6;
mod domain;
mod edge;
mod facts;
mod journal;
mod keep;
mod ledger;
mod link;
mod netlink;
mod owner;
mod packet;
mod plan;
mod port;
pub mod resolve;
mod rtmessage;
mod solicit;
mod step;
mod sysctl;
mod udp;

use std::{
    fs,
    hash::{BuildHasher, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use self::{
    edge::{Edge, Subject},
    journal::Journal,
    netlink::{Change, Netlink},
    plan::Plan,
    port::Received,
    resolve::{Names, Resolver},
    step::{Event, LinkSeen},
};
use crate::{config::network::NetworkConfig, control::message::Link, root::Root};

/// For all of [`Net::undo`]. Taking an interface down waits for its driver, a second at worst; the boot must not wait
/// longer than this for a broken one.
const UNDO: Duration = Duration::from_secs(10);
/// If listing fails, or the socket, the next attempt is so much later: soon for a person, rare for a log.
const LIST_AGAIN: Duration = Duration::from_secs(5);
/// DHCP messages that wait to be looked at. More are dropped by the sockets, and asked for again.
const MESSAGES: usize = 16;

/// The network, as long as it is ours.
pub struct Net {
    journal: Journal,
    links: watch::Receiver<Arc<[Link]>>,
    resolver: Resolver,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Brings the network up in a task of its own. Never fails and never blocks: what goes wrong is logged and shown in
/// [`Net::links`]. Needs a tokio runtime around it.
pub fn start(config: NetworkConfig, root: Root) -> Net {
    let (shown, links) = watch::channel(Arc::from([]));
    let (stop, stopped) = oneshot::channel();
    let journal = Journal::new(&root);
    let (names, known) = watch::channel(Names::default());
    let resolver = Resolver::new(&root, known);
    let task = crate::task::spawn(run(config, root, (shown, names), stopped));
    Net { journal, links, resolver, stop, task }
}

/// Takes away what a daemon of this boot that was killed has added, for when no other one comes after it. Logs what
/// fails; ten seconds at most.
pub async fn take_back(root: &Root) {
    match timeout(UNDO, edge::open(root)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            log::error!("network: no access to the kernel's network ({error}); nothing can be taken back")
        }
        Err(_) => log::error!("network: undoing took more than {} s; the rest is left as it is", UNDO.as_secs()),
    }
}

impl Net {
    /// The interfaces, at each change.
    pub fn links(&self) -> watch::Receiver<Arc<[Link]>> {
        self.links.clone()
    }

    /// For names that are dialled.
    pub fn resolver(&self) -> Resolver {
        self.resolver.clone()
    }

    /// Takes away all that was added, unless it is to be kept, last first, within ten seconds. Logs what fails. The lease is not given back: see
    /// `dhcp`.
    pub async fn undo(mut self) {
        // If nobody listens, the task has ended by itself, and there is nothing to wait for.
        let undone = self.stop.send(()).is_err() || timeout(UNDO, &mut self.task).await.is_ok();
        if !undone {
            self.task.abort();
            log::error!("network: undoing took more than {} s; the rest is left as it is", UNDO.as_secs());
        }
        if let Err(error) = self.journal.remove() {
            log::error!("network: undoing: {error:#}");
        }
    }
}

/// What others learn from the network.
type Told = (watch::Sender<Arc<[Link]>>, watch::Sender<Names>);

async fn run(config: NetworkConfig, root: Root, (shown, names): Told, stop: oneshot::Receiver<()>) {
    let netlink = match edge::open(&root).await {
        Ok(netlink) => netlink,
        Err(error) => {
            log::error!("network: no access to the kernel's network ({error}); everything else goes on");
            return;
        }
    };
    let (to, messages) = mpsc::channel(MESSAGES);
    let (neednet, keep) = (config.neednet, config.keep);
    let plan = Plan::new(config, hostname(&root), seed());
    let edge = Edge::new(netlink, &root, to, names);
    Room { root, neednet, keep, began: Instant::now(), plan, edge, connected: true, messages, shown }.serve(stop).await;
}

struct Room {
    root: Root,
    neednet: bool,
    /// What we have added stays.
    keep: bool,
    began: Instant,
    plan: Plan,
    edge: Edge,
    /// The netlink socket works.
    connected: bool,
    messages: mpsc::Receiver<Received>,
    shown: watch::Sender<Arc<[Link]>>,
}

/// Why the task woke up.
enum Wake {
    Stop,
    Change(Option<Change>),
    Message(Received),
    Deadline,
}

impl Room {
    async fn serve(mut self, mut stop: oneshot::Receiver<()>) {
        let mut list_at = Some(Instant::now());
        loop {
            if list_at.is_some_and(|at| at <= Instant::now()) {
                list_at = self.list().await;
            }
            let deadline = [self.plan.deadline().map(|deadline| self.began + deadline), list_at];
            let deadline = deadline.into_iter().flatten().min();
            let wake = tokio::select! {
                _ = &mut stop => Wake::Stop,
                change = self.edge.netlink.next(), if self.connected => Wake::Change(change),
                Some(message) = self.messages.recv() => Wake::Message(message),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Wake::Deadline,
            };
            match wake {
                Wake::Stop => break,
                Wake::Change(Some(Change::Overrun)) => list_at = Some(Instant::now()),
                Wake::Change(Some(change)) => self.change(change).await,
                Wake::Change(None) => {
                    self.connected = false;
                    list_at = Some(Instant::now());
                }
                Wake::Message(event) => self.handle(event).await,
                Wake::Deadline => self.tick().await,
            }
        }
        if let Err(error) = self.connect() {
            log::error!("network: the netlink socket failed and can't be opened again ({error})");
        }
        self.look_again().await; // so that nothing is taken away that is somebody else's by now
        if self.keep {
            for failure in self.edge.keep(self.plan.kept()) {
                log::error!("network: telling the real system of what stays: {failure:#}");
            }
            log::info!("network: everything stays as it is, as the configuration says");
            return;
        }
        for failure in self.edge.undo().await {
            log::error!("network: undoing: {failure:#}");
        }
    }

    /// Reads everything anew; when to try again if that fails.
    async fn list(&mut self) -> Option<Instant> {
        let listed = match self.connect() {
            Ok(()) => self.edge.netlink.list().await,
            Err(error) => {
                Err(anyhow::Error::from(error).context("the netlink socket failed and can't be opened again"))
            }
        };
        match listed {
            Ok((links, addresses)) => {
                let links = links.into_iter().map(|link| self.with_facts(link)).collect();
                self.handle(Event::Listed { links, addresses }).await;
                None
            }
            Err(error) => {
                log::error!("network: {error:#}; trying again in {} s", LIST_AGAIN.as_secs());
                Some(Instant::now() + LIST_AGAIN)
            }
        }
    }

    /// A new netlink socket, if the old one has failed.
    fn connect(&mut self) -> std::io::Result<()> {
        if !self.connected {
            self.edge.netlink = Netlink::open()?;
            self.connected = true;
        }
        Ok(())
    }

    async fn change(&mut self, change: Change) {
        let event = match change {
            Change::Link(link) => {
                let (link, facts) = self.with_facts(link);
                Event::Link(link, facts)
            }
            Change::LinkGone(index) => Event::LinkGone(index),
            Change::Address(address) => Event::Address(address),
            Change::AddressGone(address) => Event::AddressGone(address),
            Change::Advert { index, advert } => Event::Advert { index, advert },
            Change::Router { index, wants } => Event::Router { index, wants },
            Change::Route(_) | Change::Overrun => return,
        };
        self.handle(event).await;
    }

    async fn tick(&mut self) {
        self.look_again().await;
        self.handle(Event::Tick).await;
    }

    /// The files that tell whose an interface is have no event of their own.
    async fn look_again(&mut self) {
        for link in self.plan.watched().cloned().collect::<Vec<_>>() {
            let (link, facts) = self.with_facts(link);
            self.handle(Event::Link(link, facts)).await;
        }
    }

    fn with_facts(&self, link: LinkSeen) -> (LinkSeen, owner::Facts) {
        let facts = facts::observe(&self.root, &link.name, link.index, self.neednet);
        (link, facts)
    }

    /// Lets the plan decide, does the steps, and tells those who watch.
    async fn handle(&mut self, event: Event) {
        let mut steps = self.plan.handle(self.began.elapsed(), event);
        while !steps.is_empty() {
            let mut more = Vec::new();
            for step in steps {
                let name = |index| self.plan.name(index).to_owned();
                match self.edge.perform(step, name).await {
                    Ok(()) => {}
                    Err((Subject::Link(index), error)) => {
                        let failed = Event::Failed { index, why: format!("{error:#}") };
                        more.extend(self.plan.handle(self.began.elapsed(), failed));
                    }
                    Err((Subject::Name(name), error)) => {
                        let failed = Event::NotMade { name, why: format!("{error:#}") };
                        more.extend(self.plan.handle(self.began.elapsed(), failed));
                    }
                    Err((Subject::Nothing, error)) => log::error!("network: {error:#}"),
                }
            }
            steps = more;
        }
        let links: Arc<[Link]> = self.plan.links().into();
        self.shown.send_if_modified(|shown| {
            let changed = **shown != *links;
            *shown = links;
            changed
        });
    }
}

/// The host name, if the initramfs has one of its own.
fn hostname(root: &Root) -> Option<String> {
    /// What a kernel, systemd and dracut say when they have none.
    const NONE: [&str; 4] = ["", "(none)", "localhost", "localhost.localdomain"];
    let name = fs::read_to_string(root.join("/proc/sys/kernel/hostname")).ok()?.trim().to_owned();
    (!NONE.contains(&name.as_str())).then_some(name)
}

/// A number that differs between machines and boots: the random keys of the standard library's hash maps, which come
/// from getrandom(2), are the shortest way to one.
fn seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
