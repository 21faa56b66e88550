//! Does what the plan says: netlink, sockets, one file.
//!
//! What is added goes to the ledger before it is: an answer of the kernel may come late or never, and to take away what
//! was not added does no harm.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};
use nix::libc;
use tokio::sync::{mpsc, watch};

use super::{
    changes::code,
    journal::Journal,
    keep::{self, Kept},
    ledger::{Entry, Ledger, Undo},
    netlink::Netlink,
    port::{Port, Received},
    resolve::Names,
    solicit,
    step::{Setting, Step},
    sysctl::{self, Planned},
};
use crate::root::Root;

pub struct Edge {
    pub netlink: Netlink,
    root: Root,
    ledger: Ledger,
    journal: Journal,
    /// Why the ledger could not be kept in its file the last time.
    trouble: Option<String>,
    ports: BTreeMap<u32, Port>,
    ports6: BTreeMap<u32, Port>,
    arp: BTreeMap<u32, Port>,
    to: mpsc::Sender<Received>,
    /// For those who look names up.
    names: watch::Sender<Names>,
}

impl Edge {
    /// `to` is where received messages go, `names` where what the resolver has to know does.
    pub fn new(netlink: Netlink, root: &Root, to: mpsc::Sender<Received>, names: watch::Sender<Names>) -> Self {
        Self {
            netlink,
            root: root.clone(),
            ledger: Ledger::default(),
            journal: Journal::new(root),
            trouble: None,
            ports: BTreeMap::new(),
            ports6: BTreeMap::new(),
            arp: BTreeMap::new(),
            to,
            names,
        }
    }

    /// # Errors
    /// What it was about, and what went wrong.
    pub async fn perform(&mut self, step: Step, name: impl Fn(u32) -> String) -> Result<(), (Subject, anyhow::Error)> {
        let subject = subject(&step);
        self.try_to(step, name).await.map_err(|error| (subject, error))
    }

    async fn try_to(&mut self, step: Step, name: impl Fn(u32) -> String) -> Result<()> {
        match step {
            Step::SetUp(index) => {
                self.note(|ledger| ledger.record(Entry::Up(index)));
                self.netlink.set_up(index).await?;
            }
            Step::SetMtu { index, mtu, before } => {
                self.note(|ledger| ledger.record(Entry::Mtu { index, before }));
                self.netlink.set_mtu(index, mtu).await?;
            }
            Step::SetDown(index) => {
                self.note(|ledger| ledger.record(Entry::Down(index)));
                self.netlink.set_down(index).await?;
            }
            Step::SetMac { index, mac, before } => {
                self.note(|ledger| ledger.record(Entry::Mac { index, before }));
                self.netlink.set_mac(index, mac).await?;
            }
            Step::Rename { index, name } => self.netlink.rename(index, &name).await?,
            Step::Set { index, setting, on } => self.set(index, setting, on)?,
            Step::Make { name, link } => {
                self.note(|ledger| ledger.record(Entry::Made(name.clone())));
                let made = self.netlink.make(&name, &link).await;
                if made.as_ref().is_err_and(|error| code(error) == Some(libc::EEXIST)) {
                    self.note(|ledger| ledger.strike(&Entry::Made(name))); // somebody else was faster
                }
                made?;
            }
            Step::Join { index, master } => {
                self.note(|ledger| ledger.record(Entry::Joined(index)));
                self.netlink.set_master(index, Some(master)).await?;
            }
            Step::Prefer { bond, slave } => self.netlink.prefer(bond, slave).await?,
            Step::AddAddress(address) => {
                self.note(|ledger| ledger.record(Entry::Address(address)));
                self.netlink.add_address(&address).await?;
            }
            Step::RemoveAddress(address) => {
                self.netlink.remove_address(&address).await?;
                self.note(|ledger| ledger.strike(&Entry::Address(address)));
            }
            Step::AddRoute(route) => {
                self.note(|ledger| ledger.record(Entry::Route(route)));
                self.netlink.add_route(&route).await?;
            }
            Step::RemoveRoute(route) => {
                self.netlink.remove_route(&route).await?;
                self.note(|ledger| ledger.strike(&Entry::Route(route)));
            }
            Step::Listen(index) => {
                let port = Port::on_link(index, self.to.clone()).context("opening a packet socket for DHCP")?;
                self.ports.insert(index, port);
            }
            Step::ListenAddressed(index) => {
                let port = Port::on_address(index, &name(index), self.to.clone());
                self.ports.insert(index, port.context("opening UDP port 68 to renew the lease")?);
            }
            Step::Silence(index) => drop(self.ports.remove(&index)),
            Step::Listen6(index) => {
                let port = Port::on_link_local(index, &name(index), self.to.clone());
                self.ports6.insert(index, port.context("opening UDP port 546 for DHCPv6")?);
            }
            Step::Silence6(index) => drop(self.ports6.remove(&index)),
            Step::Send6(index, message) => {
                let sent = self.ports6.get(&index).map(|port| port.send_6(&message));
                sent.transpose().context("sending a DHCPv6 message")?;
            }
            Step::ListenArp { index, address } => {
                let port = Port::on_arp(index, address, self.to.clone());
                self.arp.insert(index, port.context("opening a packet socket for ARP")?);
            }
            Step::SilenceArp(index) => drop(self.arp.remove(&index)),
            Step::SendArp(index, message) => {
                let sent = self.arp.get(&index).map(|port| port.send_arp(&message));
                sent.transpose().context("sending an ARP message")?;
            }
            Step::Solicit(index, mac) => solicit::send(index, mac).context("asking for a router advertisement")?,
            Step::Broadcast(index, message) => self.send(index, Ipv4Addr::BROADCAST, &message)?,
            Step::Send { index, to, message } => self.send(index, to, &message)?,
            Step::Resolver { nameservers, search } => {
                let written = self.resolver(&nameservers, &search);
                self.names.send_replace(Names { servers: nameservers, search });
                written?;
            }
            Step::LeaveUp(index) => self.note(|ledger| ledger.strike(&Entry::Up(index))),
            Step::LeaveAll(index) => self.note(|ledger| ledger.leave(index)),
            Step::Forget(index) => self.note(|ledger| ledger.forget(index)),
            Step::Log(text) => log::info!("network: {text}"),
        }
        Ok(())
    }

    /// Changes the ledger, also in its file. Without the file all works, so trouble with it is only logged, once.
    fn note(&mut self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.ledger);
        let trouble = self.journal.keep(&self.ledger).err().map(|error| format!("{error:#}"));
        if let Some(trouble) = trouble.as_ref().filter(|it| self.trouble.as_ref() != Some(it)) {
            log::warn!("network: {trouble}; if vestibule is killed, it leaves its network behind");
        }
        self.trouble = trouble;
    }

    fn send(&self, index: u32, to: Ipv4Addr, message: &super::dhcp::message::Message) -> Result<()> {
        match self.ports.get(&index) {
            Some(port) => port.send(to, message).context("sending a DHCP message"),
            None => Ok(()), // opening it failed, which has been reported
        }
    }

    /// Sees to a setting of the kernel's IPv6.
    fn set(&mut self, index: u32, setting: Setting, on: bool) -> Result<()> {
        let Some(Planned { before, ours }) = sysctl::plan(&self.root, index, setting, on)? else { return Ok(()) };
        if on == (setting != Setting::DisableIpv6) {
            self.note(|ledger| ledger.record(Entry::Advertised(index)));
        }
        self.note(|ledger| ledger.record(Entry::Setting { index, setting, before, ours }));
        sysctl::set(&self.root, index, setting, ours)
    }

    /// Writes `/etc/resolv.conf` (resolv.conf(5)), unless somebody else has written or linked it.
    fn resolver(&mut self, nameservers: &[IpAddr], search: &[String]) -> Result<()> {
        let path = &self.root.join("/etc/resolv.conf");
        let ours = self.ledger.file(path);
        let empty = match fs::symlink_metadata(path) {
            Ok(it) if ours.is_some_and(|ours| holds(path, ours)) => it.len() == 0,
            Ok(it) if it.is_file() && it.len() == 0 => true,
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error).with_context(|| format!("looking at {}", path.display())),
        };
        let mut contents: String = nameservers.iter().map(|server| format!("nameserver {server}\n")).collect();
        if !search.is_empty() {
            contents += &format!("search {}\n", search.join(" "));
        }
        self.note(|ledger| ledger.record(Entry::File { path: path.clone(), contents: contents.clone(), empty }));
        fs::write(path, &contents).with_context(|| format!("writing {}", path.display()))
    }

    /// Leaves everything, and tells the real system about it. The failures are returned, not logged.
    pub fn keep<'a>(&self, kept: impl Iterator<Item = Kept<'a>>) -> Vec<anyhow::Error> {
        let write = |keep::File { path, contents, mode }| {
            let path = self.root.join(path);
            fs::create_dir_all(path.parent().expect("it is below /run"))
                .and_then(|()| fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&path))
                .and_then(|mut file| file.write_all(contents.as_bytes()))
                .with_context(|| format!("writing {}", path.display()))
        };
        kept.flat_map(|it| it.files()).filter_map(|file| write(file).err()).collect()
    }

    /// Takes everything away again, but for the journal. The failures are returned, not logged.
    pub async fn undo(mut self) -> Vec<anyhow::Error> {
        self.ports.clear();
        self.ports6.clear();
        self.arp.clear();
        self.ledger.undo(&mut Everything { netlink: self.netlink, root: self.root }).await
    }
}

/// Access to the network as it was before a daemon of this boot that was killed, if there was one: what it has added is
/// ours to take away, and would be somebody else's for the plan.
///
/// # Errors
/// When the kernel has no netlink for us.
pub async fn open(root: &Root) -> io::Result<Netlink> {
    let (netlink, journal) = (Netlink::open()?, Journal::new(root));
    let left = journal.load().unwrap_or_else(|error| {
        log::warn!("network: ignoring what an earlier vestibule may have left behind: {error:#}");
        None
    });
    let Some(mut left) = left else { return Ok(netlink) };
    log::warn!("network: taking away what a vestibule that was killed has left behind");
    // In this order: if this one is killed too, it is still noted what is left to do.
    let mut failures = left.undo(&mut Everything { netlink, root: root.clone() }).await;
    failures.extend(journal.remove().err());
    for failure in failures {
        log::error!("network: undoing: {failure:#}");
    }
    Netlink::open() // what has changed until now is no news on this one
}

/// What a step is about, should it fail.
pub enum Subject {
    Link(u32),
    /// An interface that is not there yet.
    Name(String),
    Nothing,
}

fn subject(step: &Step) -> Subject {
    Subject::Link(match step {
        Step::SetUp(index) | Step::SetDown(index) | Step::Listen(index) | Step::ListenAddressed(index) => *index,
        Step::SetMtu { index, .. } | Step::SetMac { index, .. } | Step::Rename { index, .. } => *index,
        Step::Set { index, .. } | Step::Join { index, .. } | Step::Prefer { slave: index, .. } => *index,
        Step::Broadcast(index, _) | Step::Send { index, .. } | Step::Listen6(index) | Step::Send6(index, _) => *index,
        Step::ListenArp { index, .. } | Step::SendArp(index, _) | Step::Solicit(index, _) => *index,
        Step::AddAddress(it) | Step::RemoveAddress(it) => it.index,
        Step::AddRoute(it) | Step::RemoveRoute(it) => it.index,
        Step::Make { name, .. } => return Subject::Name(name.clone()),
        Step::Silence(_) | Step::Silence6(_) | Step::LeaveUp(_) | Step::LeaveAll(_) | Step::Forget(_) => {
            return Subject::Nothing;
        }
        Step::SilenceArp(_) | Step::Resolver { .. } | Step::Log(_) => return Subject::Nothing,
    })
}

/// Network and files.
struct Everything {
    netlink: Netlink,
    root: Root,
}

impl Undo for Everything {
    async fn undo(&mut self, entry: &Entry) -> Result<()> {
        match entry {
            Entry::File { path, contents, empty } if holds(path, contents) => {
                let undone = if *empty { fs::write(path, "") } else { fs::remove_file(path) };
                undone.with_context(|| format!("taking back {}", path.display()))
            }
            Entry::File { .. } => Ok(()), // somebody has made it theirs
            Entry::Setting { index, setting, before, ours } => {
                sysctl::put_back(&self.root, *index, *setting, *before, *ours)
            }
            entry => self.netlink.undo(entry).await,
        }
    }
}

fn holds(path: &Path, contents: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text == contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        daemon::net::step::{Address, Route},
        root::tests::Fixture,
    };

    /// No interface has this number.
    const NOWHERE: u32 = i32::MAX as u32;

    #[tokio::test]
    async fn what_may_have_been_done_is_undone_and_what_was_not_is_no_failure() {
        let root = Fixture::new(&[]); // without /etc, so that no file can be written either
        let (to, _messages) = mpsc::channel(1);
        let mut edge = Edge::new(Netlink::open().unwrap(), &root, to, watch::channel(Names::default()).0);
        let ip = Ipv4Addr::new(192, 0, 2, 7);
        let address = Address { index: NOWHERE, address: ip.into(), prefix: 24, peer: None, valid: None };
        let (destination, gateway, onlink) = (Ipv4Addr::UNSPECIFIED.into(), None, false);
        let route = Route { index: NOWHERE, destination, prefix: 0, gateway, onlink, source: Some(ip), metric: 9999 };
        let mtu = Step::SetMtu { index: NOWHERE, mtu: 1400, before: 1500 };
        let servers = Step::Resolver { nameservers: vec![ip.into()], search: Vec::new() };
        for step in [mtu, Step::SetUp(NOWHERE), Step::AddAddress(address), Step::AddRoute(route), servers] {
            edge.perform(step.clone(), |_| String::new()).await.expect_err(&format!("{step:?}"));
        }
        let mut seen = Seen(Vec::new());
        let mut ledger = edge.ledger.clone();
        ledger.undo(&mut seen).await;
        assert_eq!(seen.0.len(), 5, "{:?}", seen.0);
        for failure in edge.undo().await {
            // Without rights the kernel doesn't even say that there is nothing.
            let code = failure.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            assert!(code == Some(libc::EPERM) && !nix::unistd::geteuid().is_root(), "{failure:#}");
        }
    }

    struct Seen(Vec<Entry>);

    impl Undo for Seen {
        async fn undo(&mut self, entry: &Entry) -> Result<()> {
            self.0.push(entry.clone());
            Ok(())
        }
    }
}
