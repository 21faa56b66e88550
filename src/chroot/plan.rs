//! What was mounted by us, what by somebody else, and what is to be undone in which order. Pure: mount tables and the journal
//! are arguments.
//!
//! The journal is written before each mount (*intent*) and after it (*made*). A process that is killed in between leaves an
//! intent: what is mounted there then is ours if it looks like what was wanted, since nothing was before, and it may lack its
//! options.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::mountinfo::{Mounted, Table};

/// What we made, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The mount namespace, as the kernel calls it.
    pub namespace: String,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// In the chroot.
    pub target: PathBuf,
    /// What it is to look like; nothing if that isn't known.
    like: Option<Like>,
    /// Nothing: it was about to be made.
    made: Option<Identity>,
}

/// What tells a mount that was about to be made from one that somebody else has made there since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Like {
    /// As it is asked for: the mount table may say `nfs4` where that was `nfs`.
    pub kind: String,
    /// Of a bind: that of the mount from which it was.
    pub source: Option<String>,
}

impl Like {
    fn fits(&self, mounted: &Mounted) -> bool {
        mounted.kind.starts_with(&self.kind) && self.source.as_ref().is_none_or(|source| *source == mounted.source)
    }
}

impl Entry {
    fn may_become(&self, mounted: &Mounted) -> bool {
        self.made.is_none() && self.like.as_ref().is_none_or(|like| like.fits(mounted))
    }
}

/// By which a mount is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    id: u64,
    device: String,
    root: String,
}

/// What stands at a mount point.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'t> {
    Nothing,
    Ours,
    /// We were killed while it was made.
    HalfMade,
    /// Nothing, but ours is there, elsewhere: a directory above it has been renamed.
    Moved(&'t Mounted),
    Theirs(&'t Mounted),
}

/// One mount that is to go.
#[derive(Debug, PartialEq, Eq)]
pub struct Undo {
    pub mounted: Mounted,
    /// Not: somebody has put it on one of ours, which can't go without it.
    pub ours: bool,
}

impl From<&Mounted> for Identity {
    fn from(mounted: &Mounted) -> Self {
        Self { id: mounted.id, device: mounted.device.clone(), root: mounted.root.clone() }
    }
}

impl Identity {
    /// Its number changes in another namespace, and its root when what was bound is renamed; not both.
    fn is_of(&self, mounted: &Mounted) -> bool {
        self.device == mounted.device && (self.id == mounted.id || self.root == mounted.root)
    }

    fn is_exactly(&self, mounted: &Mounted) -> bool {
        Self::from(mounted) == *self
    }
}

impl Journal {
    /// What stands at `target`, a path of the chroot at `root`.
    pub fn found<'t>(&self, table: &'t Table, target: &Path, root: &Path) -> Found<'t> {
        let entry = self.entries.iter().find(|entry| entry.target == target);
        let outside = below(root, target);
        match (table.at(&outside), entry) {
            (Some(upper), Some(entry)) if entry.may_become(upper) => Found::HalfMade,
            (Some(upper), Some(Entry { made: Some(identity), .. })) if identity.is_of(upper) => Found::Ours,
            (upper, Some(entry)) => match (ours(entry, table, root), upper) {
                (Some(mounted), _) if mounted.target != outside => Found::Moved(mounted),
                (_, Some(upper)) => Found::Theirs(upper),
                (_, None) => Found::Nothing,
            },
            (Some(upper), None) => Found::Theirs(upper),
            (None, None) => Found::Nothing,
        }
    }

    /// Targets of those that are there, under another as well, or elsewhere.
    pub fn present(&self, table: &Table, root: &Path) -> Vec<PathBuf> {
        let there = self.entries.iter().filter(|entry| ours(entry, table, root).is_some());
        there.map(|entry| entry.target.clone()).collect()
    }

    /// Where else it would be seen if something were mounted at `target`: on a mount of others, below the chroot's directory, that
    /// shows up elsewhere, as a `/dev` does that was bound by hand. With it, that mount.
    pub fn seen_also<'t>(&self, table: &'t Table, target: &Path, root: &Path) -> Option<(&'t Mounted, &'t Mounted)> {
        let carrier = table.carrier(&below(root, target))?;
        let is_below = carrier.target != root && carrier.target.starts_with(root);
        let is_ours =
            || self.entries.iter().any(|entry| ours(entry, table, root).is_some_and(|own| own.id == carrier.id));
        if !is_below || is_ours() {
            return None;
        }
        Some((carrier, table.seen_also_on(carrier)?))
    }

    pub fn intend(&mut self, target: &Path, like: Option<Like>) {
        self.forget(target);
        self.entries.push(Entry { target: target.to_owned(), like, made: None });
    }

    pub fn made(&mut self, target: &Path, mounted: &Mounted) {
        for entry in self.entries.iter_mut().filter(|entry| entry.target == target) {
            entry.made = Some(mounted.into());
        }
    }

    pub fn forget(&mut self, target: &Path) {
        self.entries.retain(|entry| entry.target != target);
    }

    /// Whether this is the table of a process that sees any of our mounts.
    pub fn is_seen_in(&self, table: &Table, root: &Path) -> bool {
        self.entries.iter().any(|entry| ours(entry, table, root).is_some())
    }

    /// Our mounts but those of `keep`, last made first, with what stands on them.
    pub fn to_undo(&self, table: &Table, root: &Path, keep: &[PathBuf]) -> Vec<Undo> {
        let mut steps: Vec<Undo> = Vec::new();
        let own: Vec<u64> = self.entries.iter().filter_map(|entry| Some(ours(entry, table, root)?.id)).collect();
        for entry in self.entries.iter().rev().filter(|entry| !keep.contains(&entry.target)) {
            let Some(mounted) = ours(entry, table, root) else { continue };
            for mounted in table.standing_on(mounted.id).into_iter().chain([mounted]) {
                if steps.iter().all(|step| step.mounted.id != mounted.id) {
                    steps.push(Undo { mounted: mounted.clone(), ours: own.contains(&mounted.id) });
                }
            }
        }
        steps
    }
}

/// The mount of an entry, if it is still there, also under another, or where it is since a directory above it was renamed.
fn ours<'t>(entry: &Entry, table: &'t Table, root: &Path) -> Option<&'t Mounted> {
    let outside = below(root, &entry.target);
    let Some(identity) = &entry.made else {
        return table.at(&outside).filter(|mounted| entry.may_become(mounted));
    };
    let same = |mounted: &&Mounted| {
        identity.is_of(mounted) && mounted.target == outside
            || identity.is_exactly(mounted) && mounted.target.starts_with(root)
    };
    // Two that look alike: the one of that number.
    table.all().filter(same).max_by_key(|mounted| mounted.id == identity.id)
}

fn below(root: &Path, target: &Path) -> PathBuf {
    root.join(target.strip_prefix("/").unwrap_or(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/c";

    /// Mounts of that number, parent, device and target.
    fn table(lines: &[(u64, u64, &str, &str)]) -> Table {
        let line = |(id, parent, device, target): &(u64, u64, &str, &str)| {
            format!("{id} {parent} {device} / {target} rw - tmpfs none rw\n")
        };
        Table::parse(lines.iter().map(line).collect::<String>().as_bytes()).unwrap()
    }

    fn journal(table: &Table, made: &[&str], intended: &[&str]) -> Journal {
        let mut journal = Journal::default();
        for target in made.iter().chain(intended) {
            journal.intend(Path::new(target), None);
        }
        for target in made {
            journal.made(Path::new(target), table.at(Path::new(&format!("{ROOT}{target}"))).unwrap());
        }
        journal
    }

    fn undone(journal: &Journal, table: &Table, keep: &[&str]) -> Vec<(u64, bool)> {
        let keep: Vec<PathBuf> = keep.iter().map(PathBuf::from).collect();
        journal.to_undo(table, Path::new(ROOT), &keep).iter().map(|step| (step.mounted.id, step.ours)).collect()
    }

    #[test]
    fn last_made_goes_first_with_what_stands_on_it() {
        let before =
            table(&[(1, 0, "8:1", "/"), (2, 1, "0:5", "/c/dev"), (3, 2, "0:6", "/c/dev/pts"), (4, 1, "0:7", "/c/run")]);
        let journal = journal(&before, &["/dev", "/dev/pts", "/run"], &["/tmp"]);
        assert_eq!(undone(&journal, &before, &[]), [(4, true), (3, true), (2, true)]);
        assert_eq!(undone(&journal, &before, &["/dev", "/dev/pts"]), [(4, true)]);

        let more = table(&[
            (1, 0, "8:1", "/"),
            (2, 1, "0:5", "/c/dev"),
            (3, 2, "0:6", "/c/dev/pts"),
            (4, 1, "0:7", "/c/run"),
            (5, 4, "0:8", "/c/run/user/0"),
            (6, 4, "0:9", "/c/run"),
            (7, 1, "0:9", "/c/other"),
            (8, 1, "0:9", "/c/tmp"),
        ]);
        assert_eq!(
            undone(&journal, &more, &[]),
            [(8, true), (6, false), (5, false), (4, true), (3, true), (2, true)],
            "an intent that came to be, and a /run that is covered"
        );
    }

    #[test]
    fn whose_it_is() {
        let then = table(&[(2, 1, "0:5", "/c/dev"), (3, 1, "0:6", "/c/run"), (4, 1, "0:7", "/c/sys")]);
        let journal = journal(&then, &["/dev", "/run", "/sys"], &["/proc", "/tmp"]);
        let now = table(&[
            (20, 1, "0:5", "/c/dev"),
            (30, 1, "0:66", "/c/run"),
            (40, 1, "0:8", "/c/proc"),
            (50, 1, "0:9", "/c/mnt"),
        ]);
        let found = |target: &str| journal.found(&now, Path::new(target), Path::new(ROOT));
        assert_eq!(found("/dev"), Found::Ours, "by another number, in another namespace");
        assert!(matches!(found("/run"), Found::Theirs(mounted) if mounted.id == 30), "ours was undone, another came");
        assert_eq!(found("/sys"), Found::Nothing);
        assert_eq!(found("/proc"), Found::HalfMade);
        assert_eq!(found("/tmp"), Found::Nothing);
        assert!(matches!(found("/mnt"), Found::Theirs(mounted) if mounted.id == 50));
        assert_eq!(undone(&journal, &now, &[]), [(40, true), (20, true)]);
        assert!(journal.is_seen_in(&now, Path::new(ROOT)) && !journal.is_seen_in(&now, Path::new("/other")));
    }

    #[test]
    fn a_directory_above_it_is_renamed() {
        let journal =
            journal(&table(&[(2, 1, "8:1", "/c/home/phone"), (3, 1, "8:1", "/c/mnt")]), &["/home/phone", "/mnt"], &[]);
        let found = |now: &Table, target: &str| format!("{:?}", journal.found(now, Path::new(target), Path::new(ROOT)));
        for (elsewhere, also) in [("/c/home/other", None), ("/c/home/other", Some((9, 1, "8:1", "/c/home/phone")))] {
            let now: Vec<_> = [(2, 1, "8:1", elsewhere), (3, 1, "8:1", "/c/mnt")].into_iter().chain(also).collect();
            let now = table(&now);
            assert_eq!(undone(&journal, &now, &[]), [(3, true), (2, true)]);
            assert_eq!(undone(&journal, &now, &["/home/phone"]), [(3, true)]);
            assert_eq!(journal.present(&now, Path::new(ROOT)), [Path::new("/home/phone"), Path::new("/mnt")]);
            match also {
                None => assert!(found(&now, "/home/phone").starts_with("Moved")),
                Some(_) => assert_eq!(found(&now, "/home/phone"), "Ours", "it looks alike"),
            }
        }
        for other in [(2, 1, "8:2", "/c/home/other"), (5, 1, "8:1", "/c/home/other"), (2, 1, "8:1", "/other")] {
            let now = table(&[other]);
            assert_eq!(undone(&journal, &now, &[]), []);
            assert_eq!(found(&now, "/home/phone"), "Nothing");
        }
    }

    #[test]
    fn what_somebody_mounts_where_we_were_killed_is_theirs() {
        let table = table(&[(8, 1, "0:9", "/c/tmp")]); // a tmpfs of “none”
        for (kind, source, is_ours) in [
            ("tmpfs", None, true),
            ("tmp", None, true),
            ("tmpfs", Some("none"), true),
            ("tmpfs", Some("/dev/sda1"), false),
            ("ext4", None, false),
        ] {
            let mut journal = Journal::default();
            journal.intend(Path::new("/tmp"), Some(Like { kind: kind.to_owned(), source: source.map(str::to_owned) }));
            let found = journal.found(&table, Path::new("/tmp"), Path::new(ROOT));
            assert_eq!(matches!(found, Found::HalfMade), is_ours, "{kind} {source:?}: {found:?}");
            assert_eq!(matches!(found, Found::Theirs(_)), !is_ours, "{kind} {source:?}: {found:?}");
            assert_eq!(undone(&journal, &table, &[]).len(), usize::from(is_ours));
        }
    }

    #[test]
    fn it_survives_being_written() {
        let table = table(&[(2, 1, "0:5", "/c/dev")]);
        let journal = journal(&table, &["/dev"], &["/tmp"]);
        let text = serde_json::to_string(&journal).unwrap();
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal);
    }
}
