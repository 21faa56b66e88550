//! `/proc/PID/mountinfo` (proc(5)): what is mounted where, as a process sees it. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Of the mount, in its namespace; another may get it when this one has gone.
    pub id: u64,
    /// Of the mount that it stands on.
    pub parent: u64,
    /// `major:minor` of the file system.
    pub device: String,
    /// What of the file system is seen: `/`, or the directory that was bound.
    pub root: String,
    /// The mount point.
    pub target: PathBuf,
    /// Mounts of one peer group show what is mounted on any of them (mount_namespaces(7)): its number.
    pub peers: Option<u64>,
    /// The peer group of which it shows what is mounted there, but not the other way round.
    pub master: Option<u64>,
    pub kind: String,
    pub source: String,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(Vec<Mounted>);

impl Table {
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| mounted(line).ok_or_else(|| String::from_utf8_lossy(line).into_owned()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Mounted> {
        self.0.iter()
    }

    /// What is seen at a mount point: the mount on which no other stands there.
    pub fn at(&self, target: &Path) -> Option<&Mounted> {
        let here = || self.all().filter(|mounted| mounted.target == target);
        here().find(|mounted| !here().any(|other| other.parent == mounted.id && other.id != mounted.id))
    }

    /// The mount on which something at `path` would stand.
    pub fn carrier(&self, path: &Path) -> Option<&Mounted> {
        self.mount_of(path.parent()?)
    }

    /// The mount of which what is at `path` is a part.
    pub fn mount_of(&self, path: &Path) -> Option<&Mounted> {
        path.ancestors().find_map(|above| self.at(above))
    }

    /// Another mount on which it is seen, too, when something is mounted on this one.
    pub fn seen_also_on(&self, mounted: &Mounted) -> Option<&Mounted> {
        let group = mounted.peers?;
        let shows = |other: &&Mounted| other.peers == Some(group) || other.master == Some(group);
        self.all().filter(shows).find(|other| other.id != mounted.id)
    }

    /// All that stand on this mount, directly or not; each before those that it stands on.
    pub fn standing_on(&self, id: u64) -> Vec<&Mounted> {
        let mut found: Vec<&Mounted> = Vec::new();
        let mut grounds = vec![id];
        while let Some(ground) = grounds.pop() {
            for mounted in self.0.iter().filter(|mounted| mounted.parent == ground) {
                // The root may stand on itself.
                if mounted.id != id && found.iter().all(|other| other.id != mounted.id) {
                    found.push(mounted);
                    grounds.push(mounted.id);
                }
            }
        }
        found.reverse();
        found
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: between the options and the dash stand
/// any number of optional fields.
fn mounted(line: &[u8]) -> Option<Mounted> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = 6 + fields.get(6..)?.iter().position(|field| *field == b"-")?;
    let text = |index: usize| fields.get(index).map(|field| String::from_utf8_lossy(&unescaped(field)).into_owned());
    let number = |index: usize| text(index)?.parse().ok();
    let group = |tag: &str| (6..dash).find_map(|index| text(index)?.strip_prefix(tag)?.parse().ok());
    Some(Mounted {
        id: number(0)?,
        parent: number(1)?,
        device: text(2)?,
        root: text(3)?,
        target: OsString::from_vec(unescaped(fields[4])).into(),
        peers: group("shared:"),
        master: group("master:"),
        kind: text(dash + 1)?,
        source: text(dash + 2).unwrap_or_default(),
    })
}

/// Space, tab, newline and backslash stand there as `\040` and its like.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"1 1 0:2 / / rw shared:1 - rootfs rootfs rw\n\
        21 1 254:1 / /srv/a\\040b rw,relatime shared:1 master:7 - ext4 /dev/vda1 rw\n\
        30 21 0:5 / /srv/a\\040b/dev rw - devtmpfs udev rw,size=1k\n\
        31 30 0:22 / /srv/a\\040b/dev/pts rw - devpts  rw\n\
        32 30 0:23 /back\\134slash /srv/a\\040b/dev rw - tmpfs none rw\n\
        33 32 0:24 / /srv/a\\040b/dev/shm rw - tmpfs none rw\n";

    #[test]
    fn lines_are_read() {
        let table = Table::parse(TEXT).unwrap();
        let target = PathBuf::from("/srv/a b");
        assert_eq!(
            table.at(&target),
            Some(&Mounted {
                id: 21,
                parent: 1,
                device: "254:1".to_owned(),
                root: "/".to_owned(),
                target: target.clone(),
                peers: Some(1),
                master: Some(7),
                kind: "ext4".to_owned(),
                source: "/dev/vda1".to_owned(),
            })
        );
        assert_eq!(table.at(&target.join("dev/pts")).unwrap().source, "");
        assert_eq!(table.at(Path::new("/none")), None);
        for broken in ["1 1 0:2 / /", "1 1 0:2 / / rw rootfs rootfs rw", "x 1 0:2 / / rw - a b c"] {
            assert_eq!(Table::parse(broken.as_bytes()), Err(broken.to_owned()));
        }
    }

    #[test]
    fn the_uppermost_is_seen_and_leaves_come_first() {
        let table = Table::parse(TEXT).unwrap();
        let upper = table.at(Path::new("/srv/a b/dev")).unwrap();
        assert_eq!((upper.id, &*upper.root), (32, "/back\\slash"));
        let ids = |id| table.standing_on(id).into_iter().map(|mounted| mounted.id).collect::<Vec<_>>();
        assert_eq!(ids(30), [33, 32, 31]);
        assert_eq!(ids(21), [33, 32, 31, 30]);
        assert_eq!(ids(33), [0; 0]);
        assert_eq!(ids(1).len(), 5, "the root stands on itself");
    }

    #[test]
    fn what_is_mounted_on_one_is_seen_on_its_peers_and_slaves() {
        let lines = b"1 1 8:1 / / rw shared:1 - ext4 a rw\n2 1 0:5 / /dev rw shared:2 - devtmpfs b rw\n\
            3 1 0:5 / /c/dev rw shared:2 - devtmpfs b rw\n4 3 0:6 / /c/dev/pts rw shared:3 - devpts c rw\n\
            5 1 0:6 / /c/mnt rw shared:4 - ext4 d rw\n6 1 0:6 / /x rw shared:5 master:3 - devpts d rw\n";
        let table = Table::parse(lines).unwrap();
        let carrier = |path| table.carrier(Path::new(path)).unwrap();
        let also = |path| Some(table.seen_also_on(carrier(path))?.id);
        assert_eq!((carrier("/c/dev/pts/x").id, carrier("/c/dev/pts").id, carrier("/c/dev").id), (4, 3, 1));
        assert_eq!(
            (also("/c/dev/shm"), also("/c/dev/pts/x"), also("/c/mnt/x"), also("/c/x")),
            (Some(2), Some(6), None, None)
        );
    }
}
