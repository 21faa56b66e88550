//! Tells systemd how far the daemon is: the protocol of sd_notify(3), where the unit asks for it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// To be called when nobody can come too early any more.
pub fn tell() {
    send("READY=1");
}

/// The daemon's end takes longer, and this will be called again within that time.
pub fn extend_stop(by: Duration) {
    send(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()));
}

/// Without `NOTIFY_SOCKET` nobody wants to know.
fn send(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&address),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = told {
        log::warn!("systemd can't be told {state}: {error}");
    }
}
