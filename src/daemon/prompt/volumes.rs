//! What is unlocked: device mapper's own word for it.
//!
//! `/sys/block/dm-*/dm/{name,uuid}`: Linux, `Documentation/ABI/testing/sysfs-block-dm`. The UUID of everything that
//! libcryptsetup opens starts with `CRYPT-` (`dm_prepare_uuid()` in its `lib/libdevmapper.c`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::ask_file::unescape;
use super::proof::Proved;
use crate::control::message::Volume;
use crate::root::Root;

/// How often sysfs is looked at while a verdict is awaited: it has no notification that needs no udev. A person doesn't
/// notice the delay, and it costs a directory listing.
pub const PROOF_POLL: Duration = Duration::from_millis(100);
/// How often it is looked at for volumes that others open.
const WATCH_POLL: Duration = Duration::from_millis(500);

/// The open volumes, published at each change.
pub struct Volumes {
    root: Root,
    /// Those that device mapper doesn't know.
    proved: Proved,
    open: watch::Sender<Arc<[Volume]>>,
}

/// Starts looking.
pub fn spawn(root: Root) -> Arc<Volumes> {
    spawn_with(root, Proved::default())
}

/// The same, with what sources prove to be open by other means.
pub fn spawn_with(root: Root, proved: Proved) -> Arc<Volumes> {
    let open = watch::Sender::new(open(&root).into());
    let volumes = Arc::new(Volumes { root, proved, open });
    let watched = Arc::downgrade(&volumes);
    crate::task::spawn(async move {
        let mut ticks = tokio::time::interval(WATCH_POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(volumes) = watched.upgrade() else { return };
            volumes.look();
        }
    });
    volumes
}

impl Volumes {
    pub fn watch(&self) -> watch::Receiver<Arc<[Volume]>> {
        self.open.subscribe()
    }

    /// Looks now, for those to whom the next regular look comes too late.
    pub fn look(&self) {
        let mut now = open(&self.root);
        now.extend(self.proved.all());
        self.open.send_if_modified(|before| {
            let changed = before[..] != now[..];
            if changed {
                *before = now.into();
            }
            changed
        });
    }
}

/// Every encrypted volume that is open now, by name.
pub fn open(root: &Root) -> Vec<Volume> {
    let Ok(entries) = std::fs::read_dir(root.join("/sys/block")) else { return Vec::new() };
    let mut volumes: Vec<_> = entries.flatten().filter_map(|entry| volume(root, &entry.path())).collect();
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    volumes
}

/// Whether the volume `name` is open.
pub fn is_open(root: &Root, name: &str) -> bool {
    open(root).iter().any(|volume| volume.name == name)
}

/// Returns when the volume `name` is open. The caller sets the deadline.
pub async fn opened(root: &Root, name: &str) {
    let mut ticks = tokio::time::interval(PROOF_POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if is_open(root, name) {
            return;
        }
    }
}

fn volume(root: &Root, block: &Path) -> Option<Volume> {
    let uuid = line(&block.join("dm/uuid"))?;
    // Helpers: the device that a key slot is read through, and the integrity device below a volume.
    let helper = uuid.starts_with("CRYPT-TEMP-") || uuid.starts_with("CRYPT-SUBDEV-");
    // Between its creation and the loading of its table a device has a name and no size. That is not open yet.
    let loaded = line(&block.join("size")).is_some_and(|size| size != "0");
    if !uuid.starts_with("CRYPT-") || helper || !loaded {
        return None;
    }
    Some(Volume { name: mapped_name(block)?, device: below(root, block) })
}

/// The device that the volume lies on, where there is exactly one.
fn below(root: &Root, block: &Path) -> Option<String> {
    let mut slaves = std::fs::read_dir(block.join("slaves")).ok()?.flatten();
    let (slave, None) = (slaves.next()?.file_name().into_string().ok()?, slaves.next()) else { return None };
    let mapped = mapped_name(&root.join(PathBuf::from("/sys/block").join(&slave)));
    Some(mapped.map_or_else(|| format!("/dev/{slave}"), |name| format!("/dev/mapper/{name}")))
}

/// Device mapper escapes some characters as `\xNN` (libdevmapper's name mangling).
fn mapped_name(block: &Path) -> Option<String> {
    Some(unescape(&line(&block.join("dm/name"))?))
}

fn line(path: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&std::fs::read(path).ok()?).trim_end().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_volumes_from_other_mappings() {
        let directory = std::env::temp_dir().join(format!("vestibule-volumes-{}", std::process::id()));
        let put = |path: &str, text: &str| {
            let path = directory.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let device = |dm: &str, name: &str, uuid: &str, size: &str| {
            put(&format!("sys/block/{dm}/dm/name"), &format!("{name}\n"));
            put(&format!("sys/block/{dm}/dm/uuid"), &format!("{uuid}\n"));
            put(&format!("sys/block/{dm}/size"), &format!("{size}\n"));
        };
        put("sys/block/sda/size", "100\n");
        device("dm-0", "my\\x20root", "CRYPT-LUKS2-7e-my root", "100");
        put("sys/block/dm-0/slaves/sda2/x", "");
        device("dm-1", "vg-home", "LVM-abc", "100");
        device("dm-2", "temporary-cryptsetup-7", "CRYPT-TEMP-temporary-cryptsetup-7", "8");
        device("dm-3", "slow", "CRYPT-LUKS2-8-slow", "0");
        device("dm-4", "home", "CRYPT-LUKS1-9-home", "100");
        put("sys/block/dm-4/slaves/dm-1/x", "");

        let volume = |name: &str, device: &str| Volume { name: name.into(), device: Some(device.into()) };
        let root = Root::new(&directory);
        assert_eq!(open(&root), [volume("home", "/dev/mapper/vg-home"), volume("my root", "/dev/sda2")]);
        assert!(is_open(&root, "my root") && !is_open(&root, "slow"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
