//! What the kernel does with IPv6 on an interface by itself: files below `/proc/sys/net/ipv6/conf`
//! (Documentation/networking/ip-sysctl.rst).
//!
//! A file lies below the name that the interface has now.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rustix::net::netdevice::index_to_name;

use super::step::Setting;
use crate::root::Root;

/// A change that is to be made: what it is now, and what it shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub before: i32,
    pub ours: i32,
}

/// What has to be written so that the kernel does this, or does not; `None` if nothing has.
///
/// # Errors
/// When the kernel has no such setting, as one without IPv6.
pub fn plan(root: &Root, index: u32, setting: Setting, on: bool) -> Result<Option<Planned>> {
    let Some(before) = read(root, index, setting)? else { return Ok(None) };
    let forwards = || file(root, index, "forwarding").is_ok_and(|path| number(&path).is_ok_and(|it| it != 0));
    let ours = wanted(setting, on, before, forwards);
    Ok((ours != before).then_some(Planned { before, ours }))
}

/// The value that leads to what is wanted; the present one if it does.
fn wanted(setting: Setting, on: bool, now: i32, forwards: impl FnOnce() -> bool) -> i32 {
    match (setting, on) {
        (Setting::AcceptRa, true) => match (now, forwards()) {
            // A router takes no advice from other routers, unless this is 2.
            (2, _) | (1, false) => now,
            (_, true) => 2,
            (_, false) => 1,
        },
        // 1 is: no addresses at all, not even a link-local one. The others differ in how they are made.
        (Setting::AddrGenMode, true) => {
            if now == 1 {
                0
            } else {
                now
            }
        }
        (Setting::AddrGenMode, false) => 1,
        // Below zero is off too.
        (Setting::UseTempaddr, false) => now.min(0),
        (_, on) if (now != 0) == on => now,
        (_, on) => on.into(),
    }
}

pub fn set(root: &Root, index: u32, setting: Setting, value: i32) -> Result<()> {
    write(root, index, setting, value).with_context(|| format!("setting {} to {value}", key(setting)))
}

/// Puts a value back, unless somebody has changed it since, or the interface is gone.
pub fn put_back(root: &Root, index: u32, setting: Setting, before: i32, ours: i32) -> Result<()> {
    match read(root, index, setting) {
        Ok(Some(now)) if now == ours => {
            write(root, index, setting, before).with_context(|| format!("putting {} back to {before}", key(setting)))
        }
        _ => Ok(()),
    }
}

/// `None`: a kernel that is built without this one.
fn read(root: &Root, index: u32, setting: Setting) -> Result<Option<i32>> {
    // IPv6 may be a module, which the first socket loads. One that fails is no news: the directory tells.
    drop(socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None));
    let path = file(root, index, key(setting))?;
    match number(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && setting == Setting::UseTempaddr => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error)
            .context("this kernel has no IPv6 here: is the module ipv6 in the image, and ipv6.disable=1 not given?"),
        read => read.map(Some).with_context(|| format!("reading {}", path.display())),
    }
}

fn number(path: &Path) -> io::Result<i32> {
    fs::read_to_string(path)?.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

fn write(root: &Root, index: u32, setting: Setting, value: i32) -> io::Result<()> {
    fs::write(file(root, index, key(setting))?, value.to_string())
}

fn file(root: &Root, index: u32, key: &str) -> io::Result<PathBuf> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let name = index_to_name(socket, index)?;
    Ok(root.join(format!("/proc/sys/net/ipv6/conf/{name}/{key}")))
}

fn key(setting: Setting) -> &'static str {
    match setting {
        Setting::AcceptRa => "accept_ra",
        Setting::Autoconf => "autoconf",
        Setting::UseTempaddr => "use_tempaddr",
        Setting::AddrGenMode => "addr_gen_mode",
        Setting::DisableIpv6 => "disable_ipv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_what_is_wanted_already_stays() {
        use Setting::{AcceptRa, AddrGenMode, Autoconf, DisableIpv6, UseTempaddr};
        for (setting, on, now, forwards, expected) in [
            (AcceptRa, true, 0, false, 1),
            (AcceptRa, true, 1, false, 1),
            (AcceptRa, true, 1, true, 2),
            (AcceptRa, true, 2, false, 2),
            (AcceptRa, false, 2, false, 0),
            (AddrGenMode, true, 1, false, 0),
            (AddrGenMode, true, 3, false, 3),
            (UseTempaddr, false, 2, false, 0),
            (UseTempaddr, false, -1, false, -1),
            (Autoconf, true, 0, false, 1),
            (DisableIpv6, false, 1, false, 0),
            (DisableIpv6, false, 0, false, 0),
        ] {
            let text = format!("{setting:?} {on}, is {now}, forwards {forwards}");
            assert_eq!(wanted(setting, on, now, || forwards), expected, "{text}");
        }
    }
}
