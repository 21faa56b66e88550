//! Whose an interface is: ours to configure, or the system's. Pure; [`super::facts`] reads what is judged here.
//!
//! An initramfs may have a configurator of its own. Two DHCP clients on one interface take each other's addresses away,
//! so where another one works we only watch. That its files are in the image does not mean that it works:
//!
//! - **systemd-networkd** (dracut's systemd-networkd, mkinitcpio's sd-network) is started by its socket unit as soon as
//!   there is a link. What it does with each link is in `/run/systemd/netif/links/IFINDEX` (`ADMIN_STATE=`):
//!   `pending` and `initialized` as long as it waits for udev, `unmanaged` when no `.network` file matches; anything
//!   else means that the link is networkd's, even if it has failed. dracut's `networkd-config.sh` may write such a file while networkd runs already, so `unmanaged` has to
//!   stay for a moment.
//! - **NetworkManager** (dracut's network-manager) runs only when `nm-config.sh` made
//!   `/run/NetworkManager/initrd/neednet`, and it does so only with `rd.neednet=1`, `netroot=` or a named interface.
//! - **network-legacy** (dracut up to 102) does something only if `net-genrules.sh` wrote
//!   `/etc/udev/rules.d/90-net.rules`, for the interfaces named there or, with `91-default-net.rules`, for all.
//!   `ip=dhcp` without `rd.neednet=1` writes none.
//! - **ipconfig** (klibc: initramfs-tools, mkinitcpio's net) leaves `/run/net-IFNAME.conf` or `/tmp/net-IFNAME.conf`.
//! - Whatever it was: an interface with a global address that we didn't add is somebody else's.
//!
//! Before any of this, udev has to be done with an interface: up to Linux 6.1 one that is up can't be renamed, so
//! setting it up early would leave the system with an interface that has the wrong name.

use std::time::Duration;

/// udev takes well under a second for a device. This is for a udev that died, or never comes: then we go on.
pub const UDEV_GRACE: Duration = Duration::from_secs(10);
/// How long a configurator that is expected to run may take until it shows what it does with an interface. Booting
/// without virtualisation support takes half a minute.
pub const SYSTEM_GRACE: Duration = Duration::from_secs(30);
/// How long networkd's word that it doesn't manage an interface must stand.
pub const UNMANAGED_GRACE: Duration = Duration::from_secs(3);

/// What can be read about an interface in files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// There is hardware, or a paravirtual device, behind it (`/sys/class/net/NAME/device`).
    pub device: bool,
    /// Needs more than a cable (`DEVTYPE=wlan` or `wwan`).
    pub radio: bool,
    /// udev is in this initramfs and has not finished with the interface.
    pub udev_pending: bool,
    pub networkd: Networkd,
    pub network_manager: NetworkManager,
    /// dracut's network-legacy will bring it up.
    pub legacy: bool,
    /// klibc's ipconfig has brought it up.
    pub ipconfig: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Networkd {
    /// Not in the image, or not enabled.
    #[default]
    Absent,
    /// Enabled; it has not said anything about this interface.
    Expected,
    /// Its `ADMIN_STATE`.
    Says(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkManager {
    #[default]
    Absent,
    /// It will run, or runs; it has not said anything about this interface.
    Expected,
    Manages,
    Leaves,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Ours,
    /// Whose, for a person.
    System(&'static str),
    /// Not decided; what is waited for, for a person.
    Undecided(&'static str),
}

/// `waited` is the time since the interface was first seen; `foreign` says that it has an address that we didn't add.
pub fn owner(facts: &Facts, foreign: bool, waited: Duration) -> Owner {
    if foreign {
        return Owner::System("it has an address already");
    }
    if facts.ipconfig {
        return Owner::System("configured by ipconfig");
    }
    if facts.legacy {
        return Owner::System("left to dracut's network-legacy");
    }
    match (&facts.networkd, facts.network_manager) {
        // "linger" is what networkd leaves behind when it stops.
        (Networkd::Says(state), _) if !matches!(state.as_str(), "unmanaged" | "pending" | "initialized") => {
            return Owner::System("left to systemd-networkd");
        }
        (_, NetworkManager::Manages) => return Owner::System("left to NetworkManager"),
        (Networkd::Says(state), _) if state == "unmanaged" && waited >= UNMANAGED_GRACE => {}
        (Networkd::Says(_) | Networkd::Expected, _) if waited < SYSTEM_GRACE => {
            return Owner::Undecided("waiting whether systemd-networkd configures it");
        }
        (_, NetworkManager::Expected) if waited < SYSTEM_GRACE => {
            return Owner::Undecided("waiting whether NetworkManager configures it");
        }
        _ => {}
    }
    if facts.udev_pending && waited < UDEV_GRACE {
        return Owner::Undecided("waiting for udev to name it");
    }
    Owner::Ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let networkd = |state: &str| Facts { networkd: Networkd::Says(state.into()), ..Facts::default() };
        let expected = Facts { networkd: Networkd::Expected, ..Facts::default() };
        let manager = |it| Facts { network_manager: it, ..Facts::default() };
        let udev = Facts { udev_pending: true, ..Facts::default() };
        let second = Duration::from_secs(1);
        for (facts, foreign, waited, decision) in [
            (Facts::default(), false, Duration::ZERO, "ours"),
            (Facts::default(), true, Duration::ZERO, "system"),
            (networkd("configured"), false, Duration::ZERO, "system"),
            (networkd("pending"), false, SYSTEM_GRACE - second, "undecided"),
            (networkd("pending"), false, SYSTEM_GRACE, "ours"),
            (networkd("initialized"), false, Duration::ZERO, "undecided"),
            (networkd("failed"), false, SYSTEM_GRACE * 2, "system"),
            (networkd("unmanaged"), false, second, "undecided"),
            (networkd("unmanaged"), false, UNMANAGED_GRACE, "ours"),
            (networkd("unmanaged"), true, UNMANAGED_GRACE, "system"),
            (expected.clone(), false, UNMANAGED_GRACE, "undecided"),
            (expected, false, SYSTEM_GRACE, "ours"),
            (manager(NetworkManager::Expected), false, second, "undecided"),
            (manager(NetworkManager::Expected), false, SYSTEM_GRACE, "ours"),
            (manager(NetworkManager::Manages), false, SYSTEM_GRACE, "system"),
            (manager(NetworkManager::Leaves), false, Duration::ZERO, "ours"),
            (Facts { legacy: true, ..Facts::default() }, false, SYSTEM_GRACE, "system"),
            (Facts { ipconfig: true, ..Facts::default() }, false, SYSTEM_GRACE, "system"),
            (udev.clone(), false, second, "undecided"),
            (udev.clone(), true, second, "system"),
            (udev, false, UDEV_GRACE, "ours"),
        ] {
            let shown = match owner(&facts, foreign, waited) {
                Owner::Ours => "ours",
                Owner::System(_) => "system",
                Owner::Undecided(_) => "undecided",
            };
            assert_eq!(shown, decision, "{facts:?} foreign {foreign} after {waited:?}");
        }
    }
}
