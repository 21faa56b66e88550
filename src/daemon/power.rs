//! `reboot` and `poweroff`: directly, by reboot(2), because in an initramfs there are no services that would want to
//! be asked first. What has been written is synced.

use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot};

use crate::control::message::Power;

/// What an initramfs writes is little.
const SYNC_DEADLINE: Duration = Duration::from_secs(5);

/// Does not return when it works.
pub fn switch(power: Power) -> Result<(), String> {
    let (mode, what) = match power {
        Power::Reboot => (RebootMode::RB_AUTOBOOT, "reboot"),
        Power::Off => (RebootMode::RB_POWER_OFF, "power off"),
    };
    log::warn!("{what} asked for by a user");
    // On a disk that hangs, sync(2) never returns, and this is when somebody wants to reboot.
    let (synced, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        nix::unistd::sync();
        synced.send(())
    });
    if waiting.recv_timeout(SYNC_DEADLINE).is_err() {
        log::error!("disks did not take what was written within {} s; going on", SYNC_DEADLINE.as_secs());
    }
    match reboot(mode) {
        Ok(never) => match never {},
        Err(error) => Err(format!("the kernel refused to {what}: {error}")),
    }
}
