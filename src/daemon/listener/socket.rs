//! The listening socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::sleep;

use super::RETRY;

/// Connections that the kernel holds until we accept them, which takes no longer than one process takes to start. If
/// they are more, clients try again after a second, so a flood should not fill it.
const BACKLOG: u32 = 512;

/// Wildcard, IPv6 and IPv4 on one socket; IPv4 alone where the kernel has no IPv6. Tried until it succeeds.
pub async fn bind(port: u16) -> TcpListener {
    let mut told = false;
    loop {
        match bind_now(port) {
            Ok(listener) => {
                log::info!("listening for SSH on port {port}");
                return listener;
            }
            Err(error) if !told => {
                log::error!("can't listen on TCP port {port}: {error}; trying again every {} s", RETRY.as_secs());
                told = true;
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

fn bind_now(port: u16) -> std::io::Result<TcpListener> {
    let (socket, address) = match TcpSocket::new_v6() {
        Ok(socket) => {
            setsockopt(&socket, sockopt::Ipv6V6Only, &false)?; // whatever net.ipv6.bindv6only says
            (socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        }
        Err(_) => (TcpSocket::new_v4()?, IpAddr::V4(Ipv4Addr::UNSPECIFIED)), // no IPv6 in this kernel
    };
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, port))?;
    socket.listen(BACKLOG)
}
