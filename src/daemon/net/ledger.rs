//! What we have added to the system, in order, so that it can be taken away again. Pure: undoing is done by whoever
//! can, through [`Undo`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::step::{Address, Route, Setting};
use crate::config::network::Mac;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// It was down before.
    Up(u32),
    /// It was up before.
    Down(u32),
    Mtu {
        index: u32,
        before: u32,
    },
    Mac {
        index: u32,
        before: Mac,
    },
    /// A setting of the kernel's IPv6 that is `ours` now.
    Setting {
        index: u32,
        setting: Setting,
        before: i32,
        ours: i32,
    },
    /// From now on the kernel may add what routers advertise, and did not before.
    Advertised(u32),
    /// An interface that there was not before.
    Made(String),
    /// It was not part of another interface before.
    Joined(u32),
    Address(Address),
    Route(Route),
    /// A file with these contents. `empty` says that there was an empty one before, or else none.
    File {
        path: PathBuf,
        contents: String,
        empty: bool,
    },
}

impl Entry {
    /// The same thing on the system: a renewed address has another time but is one address.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(a), Self::Address(b)) => {
                (a.index, a.address, a.prefix, a.peer) == (b.index, b.address, b.prefix, b.peer)
            }
            (Self::Mtu { index: a, .. }, Self::Mtu { index: b, .. })
            | (Self::Mac { index: a, .. }, Self::Mac { index: b, .. })
            // What it was before us is what counts.
            | (Self::Up(a) | Self::Down(a), Self::Up(b) | Self::Down(b)) => a == b,
            (Self::Setting { index: a, setting, .. }, Self::Setting { index: b, setting: other, .. }) => {
                (a, setting) == (b, other)
            }
            (Self::File { path: a, .. }, Self::File { path: b, .. }) => a == b,
            _ => self == other,
        }
    }

    fn index(&self) -> Option<u32> {
        match self {
            Self::Up(index) | Self::Down(index) | Self::Advertised(index) | Self::Joined(index) => Some(*index),
            Self::Mtu { index, .. } | Self::Mac { index, .. } | Self::Setting { index, .. } => Some(*index),
            Self::Address(address) => Some(address.index),
            Self::Route(route) => Some(route.index),
            Self::Made(_) | Self::File { .. } => None,
        }
    }
}

/// Takes things away. An implementation must not fail for what is gone already, and must come back in bounded time.
pub trait Undo {
    fn undo(&mut self, entry: &Entry) -> impl Future<Output = anyhow::Result<()>> + Send;
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger(Vec<Entry>);

impl Ledger {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// To be called before the thing is done. Doing it again changes what was noted, not the order; what was there
    /// before us is what we found the first time.
    pub fn record(&mut self, entry: Entry) {
        match self.0.iter_mut().find(|it| it.same(&entry)) {
            Some(Entry::Up(_) | Entry::Down(_) | Entry::Mtu { .. } | Entry::Mac { .. }) => {}
            Some(Entry::Setting { ours, .. }) => {
                if let Entry::Setting { ours: new, .. } = entry {
                    *ours = new;
                }
            }
            Some(Entry::File { contents, .. }) => {
                if let Entry::File { contents: new, .. } = entry {
                    *contents = new;
                }
            }
            Some(it) => *it = entry,
            None => self.0.push(entry),
        }
    }

    /// The contents that we gave to a file, if we did.
    pub fn file(&self, wanted: &std::path::Path) -> Option<&str> {
        self.0.iter().find_map(|it| match it {
            Entry::File { path, contents, .. } if path == wanted => Some(contents.as_str()),
            _ => None,
        })
    }

    /// The thing was taken away, or is somebody else's now.
    pub fn strike(&mut self, entry: &Entry) {
        self.0.retain(|it| !it.same(entry));
    }

    /// The interface and its address are somebody else's now. Our routes are not: they are told by their metric.
    pub fn leave(&mut self, index: u32) {
        self.0.retain(|it| matches!(it, Entry::Route(_)) || it.index() != Some(index));
    }

    /// The interface is gone.
    pub fn forget(&mut self, index: u32) {
        self.0.retain(|it| it.index() != Some(index));
    }

    /// Takes everything away, last first. One failure doesn't stop the rest; all are returned.
    pub async fn undo(&mut self, by: &mut impl Undo) -> Vec<anyhow::Error> {
        let mut failures = Vec::new();
        while let Some(entry) = self.0.pop() {
            if let Err(error) = by.undo(&entry).await {
                failures.push(error);
            }
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes down what it is told to take away, and fails for one interface.
    #[derive(Default)]
    struct Recorder(Vec<Entry>);

    impl Undo for Recorder {
        async fn undo(&mut self, entry: &Entry) -> anyhow::Result<()> {
            self.0.push(entry.clone());
            anyhow::ensure!(*entry != Entry::Up(9), "interface 9 doesn't want to");
            Ok(())
        }
    }

    fn undo(ledger: &mut Ledger) -> (Vec<Entry>, usize) {
        let mut recorder = Recorder::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let failures = runtime.block_on(ledger.undo(&mut recorder)).len();
        (recorder.0, failures)
    }

    fn address(last: u8, valid: u32) -> Entry {
        let address = [192, 0, 2, last].into();
        Entry::Address(Address { index: 2, address, prefix: 24, peer: None, valid: Some(valid) })
    }

    fn file(contents: &str, empty: bool) -> Entry {
        Entry::File { path: "/etc/resolv.conf".into(), contents: contents.into(), empty }
    }

    #[test]
    fn last_first_and_everything_is_tried() {
        let mut ledger = Ledger::default();
        for entry in [Entry::Up(2), Entry::Up(9), address(7, 60), file("a", false)] {
            ledger.record(entry);
        }
        let (undone, failures) = undo(&mut ledger);
        assert_eq!(undone, [file("a", false), address(7, 60), Entry::Up(9), Entry::Up(2)]);
        assert_eq!(failures, 1);
        assert_eq!(undo(&mut ledger), (Vec::new(), 0), "only once");
    }

    #[test]
    fn a_thing_done_again_is_one_thing() {
        let mut ledger = Ledger::default();
        let mtu = |before| Entry::Mtu { index: 2, before };
        for entry in [mtu(1500), address(7, 60), file("a", true), mtu(9000), address(7, 90), file("b", false)] {
            ledger.record(entry);
        }
        assert_eq!(ledger.file("/etc/resolv.conf".as_ref()), Some("b"));
        assert_eq!(undo(&mut ledger).0, [file("b", true), address(7, 90), mtu(1500)]);
    }

    #[test]
    fn what_is_struck_or_gone_is_left_alone() {
        let mut ledger = Ledger::default();
        for entry in [Entry::Up(2), address(7, 60), address(8, 60), Entry::Up(3)] {
            ledger.record(entry);
        }
        ledger.strike(&address(7, 1));
        ledger.forget(3);
        assert_eq!(undo(&mut ledger).0, [address(8, 60), Entry::Up(2)]);
        let (destination, source) = ([0; 4].into(), Some([192, 0, 2, 7].into()));
        let route = Route { index: 2, destination, prefix: 0, gateway: None, onlink: false, source, metric: 2050 };
        let mtu = Entry::Mtu { index: 2, before: 1500 };
        for entry in [mtu, Entry::Up(2), address(7, 60), Entry::Route(route), Entry::Up(3), file("a", false)] {
            ledger.record(entry);
        }
        ledger.leave(2);
        assert_eq!(undo(&mut ledger).0, [file("a", false), Entry::Up(3), Entry::Route(route)]);
    }
}
