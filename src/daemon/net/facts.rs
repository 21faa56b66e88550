//! Reads from files what [`super::owner`] judges. Where a file can't be read, what it would have said is not so.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::owner::{Facts, NetworkManager, Networkd};
use crate::root::Root;

/// What the files say about the interface `name` with this index now. `neednet` is `rd.neednet` of the kernel command
/// line.
pub fn observe(root: &Root, name: &str, index: u32, neednet: bool) -> Facts {
    let sysfs = root.join(format!("/sys/class/net/{name}"));
    let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let mac = text(sysfs.join("address"));
    Facts {
        device: sysfs.join("device").exists(),
        radio: matches!(value(&text(sysfs.join("uevent")), "DEVTYPE"), Some("wlan" | "wwan")),
        udev_pending: udev_runs(root) && !root.join(format!("/run/udev/data/n{index}")).exists(),
        networkd: networkd(root, index),
        network_manager: network_manager(root, index, neednet),
        legacy: legacy(root, name, mac.trim()),
        ipconfig: ["/run", "/tmp"].iter().any(|dir| root.join(format!("{dir}/net-{name}.conf")).exists()),
    }
}

/// The daemon may start before udev does, so the program counts as well as its socket.
fn udev_runs(root: &Root) -> bool {
    ["/run/udev/control", "/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd"]
        .iter()
        .any(|path| root.join(path).exists())
}

fn networkd(root: &Root, index: u32) -> Networkd {
    if let Ok(state) = fs::read_to_string(root.join(format!("/run/systemd/netif/links/{index}"))) {
        // Written without a state only while networkd is making up its mind.
        return Networkd::Says(value(&state, "ADMIN_STATE").unwrap_or("pending").to_owned());
    }
    let program = ["/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd"];
    let enabled = || ["/etc/systemd/system", "/usr/lib/systemd/system"].iter().any(|it| wanted(&root.join(it)));
    match program.iter().any(|path| root.join(path).exists()) && enabled() {
        true => Networkd::Expected,
        false => Networkd::Absent,
    }
}

/// Whether a target wants networkd's service or socket (`systemctl enable` makes links in `TARGET.wants`).
fn wanted(units: &Path) -> bool {
    let targets = fs::read_dir(units).into_iter().flatten().flatten();
    let mut wants = targets.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "wants"));
    wants.any(|dir| ["service", "socket"].iter().any(|it| dir.join(format!("systemd-networkd.{it}")).is_symlink()))
}

fn network_manager(root: &Root, index: u32, neednet: bool) -> NetworkManager {
    if let Ok(state) = fs::read_to_string(root.join(format!("/run/NetworkManager/devices/{index}"))) {
        return match value(&state, "managed") == Some("true") || value(&state, "connection-uuid").is_some() {
            true => NetworkManager::Manages,
            false => NetworkManager::Leaves,
        };
    }
    let installed = ["/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"].iter().any(|it| root.join(it).exists());
    // `neednet` on the command line tells it before dracut's hook has made the file.
    match installed && (neednet || root.join("/run/NetworkManager/initrd/neednet").exists()) {
        true => NetworkManager::Expected,
        false => NetworkManager::Absent,
    }
}

fn legacy(root: &Root, name: &str, mac: &str) -> bool {
    let rules = |file: &str| fs::read_to_string(root.join(format!("/etc/udev/rules.d/{file}"))).unwrap_or_default();
    // Without a hit in the first one's list, the second is not written; it is for every interface.
    let named = rules("90-net.rules");
    named.contains(&format!("==\"{name}\""))
        || (!mac.is_empty() && named.contains(&format!("ATTR{{address}}==\"{mac}\"")))
        || rules("91-default-net.rules").contains("/sbin/ifup")
        || root.join(format!("/tmp/net.{name}.did-setup")).exists()
}

/// The value of `KEY=value` in a file of such lines.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree of files below the temporary directory, removed when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("vestibule-facts-{}-{test}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn with(self, path: &str, text: &str) -> Self {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn facts(&self) -> Facts {
            observe(&Root::new(&self.0), "eth0", 3, false)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0); // what is left lies in the temporary directory
        }
    }

    #[test]
    fn an_empty_initramfs_has_no_configurator() {
        assert_eq!(Tree::new("empty").facts(), Facts::default());
    }

    #[test]
    fn hardware_and_radio() {
        let tree = Tree::new("hardware")
            .with("sys/class/net/eth0/device/vendor", "")
            .with("sys/class/net/eth0/uevent", "INTERFACE=eth0\n");
        assert_eq!(tree.facts(), Facts { device: true, ..Facts::default() });
        let tree = tree.with("sys/class/net/eth0/uevent", "DEVTYPE=wlan\nINTERFACE=eth0\n");
        assert!(tree.facts().radio);
    }

    #[test]
    fn udev_first() {
        let tree = Tree::new("udev").with("run/udev/control", "");
        assert!(tree.facts().udev_pending);
        assert!(!tree.with("run/udev/data/n3", "").facts().udev_pending);
    }

    #[test]
    fn networkd_counts_when_it_is_enabled_and_says_what_it_does() {
        let tree = Tree::new("networkd").with("usr/lib/systemd/systemd-networkd", "");
        assert_eq!(tree.facts().networkd, Networkd::Absent);
        let wants = tree.0.join("etc/systemd/system/sockets.target.wants");
        fs::create_dir_all(&wants).unwrap();
        symlink("/usr/lib/systemd/system/systemd-networkd.socket", wants.join("systemd-networkd.socket")).unwrap();
        assert_eq!(tree.facts().networkd, Networkd::Expected);
        let tree =
            tree.with("run/systemd/netif/links/3", "# This is private data.\nADMIN_STATE=unmanaged\nOPER_STATE=off\n");
        assert_eq!(tree.facts().networkd, Networkd::Says("unmanaged".into()));
        let tree = tree.with("run/systemd/netif/links/3", "# This is private data.\n");
        assert_eq!(tree.facts().networkd, Networkd::Says("pending".into()));
    }

    #[test]
    fn network_manager_counts_when_it_is_needed() {
        let tree = Tree::new("manager").with("usr/sbin/NetworkManager", "");
        assert_eq!(tree.facts().network_manager, NetworkManager::Absent);
        assert_eq!(observe(&Root::new(&tree.0), "eth0", 3, true).network_manager, NetworkManager::Expected);
        let tree = tree.with("run/NetworkManager/initrd/neednet", "");
        assert_eq!(tree.facts().network_manager, NetworkManager::Expected);
        let tree = tree.with("run/NetworkManager/devices/3", "[device]\nmanaged=true\n");
        assert_eq!(tree.facts().network_manager, NetworkManager::Manages);
        let tree = tree.with("run/NetworkManager/devices/3", "[device]\nmanaged=false\n");
        assert_eq!(tree.facts().network_manager, NetworkManager::Leaves);
    }

    #[test]
    fn legacy_counts_for_the_interfaces_in_its_rules() {
        let rule = |name: &str| format!("ENV{{INTERFACE}}==\"{name}\", RUN+=\"/sbin/initqueue … /sbin/ifup $name\"\n");
        assert!(!Tree::new("legacy1").with("sbin/ifup", "").facts().legacy);
        assert!(!Tree::new("legacy2").with("etc/udev/rules.d/90-net.rules", &rule("eth1")).facts().legacy);
        assert!(Tree::new("legacy3").with("etc/udev/rules.d/90-net.rules", &rule("eth0")).facts().legacy);
        assert!(
            Tree::new("legacy4")
                .with("etc/udev/rules.d/91-default-net.rules", "RUN+=\"/sbin/ifup $name\"")
                .facts()
                .legacy
        );
        assert!(Tree::new("legacy5").with("tmp/net.eth0.did-setup", "").facts().legacy);
        let by_mac = "ATTR{address}==\"52:54:00:12:34:56\", RUN+=\"/sbin/ifup $name\"\n";
        let tree = Tree::new("legacy6").with("etc/udev/rules.d/90-net.rules", by_mac);
        assert!(!tree.facts().legacy);
        assert!(tree.with("sys/class/net/eth0/address", "52:54:00:12:34:56\n").facts().legacy);
    }

    #[test]
    fn ipconfig_leaves_a_file() {
        assert!(Tree::new("ipconfig").with("run/net-eth0.conf", "DEVICE='eth0'").facts().ipconfig);
    }
}
