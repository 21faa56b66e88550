//! How to log in here, for those who tell people. Pure.

use std::net::IpAddr;

use crate::control::message::Status;

/// Addresses that other machines reach without naming an interface, in the status' order.
pub fn addresses(status: &Status) -> impl Iterator<Item = &str> {
    let addresses = status.network.iter().flat_map(|link| &link.addresses);
    addresses.filter_map(|address| address.split('/').next()).filter(|address| is_usable(address))
}

/// `ssh -p 2222 root@192.0.2.7`
pub fn command(port: u16, host: &str) -> String {
    match port {
        22 => format!("ssh root@{host}"),
        _ => format!("ssh -p {port} root@{host}"),
    }
}

fn is_usable(address: &str) -> bool {
    match address.parse() {
        Ok(IpAddr::V4(v4)) => !v4.is_loopback() && !v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        Err(_) => false,
    }
}
