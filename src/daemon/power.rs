//! `reboot` and `poweroff`: directly, by reboot(2), because in an initramfs there are no services that would want to
//! be asked first. What has been written is synced.

use nix::sys::reboot::{RebootMode, reboot};

use crate::control::message::Power;

/// Does not return when it works.
pub fn switch(power: Power) -> Result<(), String> {
    let (mode, what) = match power {
        Power::Reboot => (RebootMode::RB_AUTOBOOT, "reboot"),
        Power::Off => (RebootMode::RB_POWER_OFF, "power off"),
    };
    log::warn!("{what} asked for by a user");
    nix::unistd::sync();
    match reboot(mode) {
        Ok(never) => match never {},
        Err(error) => Err(format!("the kernel refused to {what}: {error}")),
    }
}
