//! Tells systemd that the daemon is there: the protocol of sd_notify(3), where the unit asks for it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// To be called when nobody can come too early any more. Without `NOTIFY_SOCKET` nobody wants to know.
pub fn tell() {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&address),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address));
    if let Err(error) = told {
        log::warn!("systemd can't be told that the daemon is ready: {error}");
    }
}
