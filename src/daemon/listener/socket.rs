//! The listening socket, and what is told to each that connects to it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::ipproto::TCP;
use rustix::net::sockopt::socket_protocol;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;

use super::RETRY;
use super::origin::Origin;

/// Connections that the kernel holds until we accept them, which takes no longer than one process takes to start. If
/// they are more, clients try again after a second, so a flood should not fill it.
const BACKLOG: u32 = 512;
/// Data that is not acknowledged for this long means that the peer is gone (tcp(7), TCP_USER_TIMEOUT), in milliseconds.
/// With the first question of the keep-alive after `session::KEEPALIVE`, that is within a minute.
const USER_TIMEOUT_MS: u32 = 45_000;

/// Our port: wildcard, IPv6 and IPv4 on one socket; IPv4 alone where the kernel has no IPv6.
pub struct Port {
    number: u16,
    listener: Option<TcpListener>,
    told: bool,
}

impl Port {
    pub fn new(number: u16) -> Self {
        Self { number, listener: None, told: false }
    }

    /// The next connection. What fails is tried until it succeeds. Nothing is lost when this is dropped while it waits.
    pub async fn next(&mut self) -> (TcpStream, Origin) {
        loop {
            let Some(listener) = &self.listener else {
                self.bind().await;
                continue;
            };
            match listener.accept().await {
                Ok((stream, peer)) => return (stream, Origin::Network(peer.ip())),
                // The peer has gone already; nothing is wrong here, and others wait.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!("accepting an SSH connection failed: {error}; trying again");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn bind(&mut self) {
        let port = self.number;
        match bind(port) {
            Ok(listener) => {
                log::info!("listening for SSH on port {port}");
                self.listener = Some(listener);
                return;
            }
            Err(error) if !self.told => {
                log::error!("can't listen on TCP port {port}: {error}; trying again every {} s", RETRY.as_secs());
                self.told = true;
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
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

/// A stream socket of any family. Tokio has a type for each of some; that of TCP does nothing but recv(2), send(2) and
/// shutdown(2), which are the same for all of them.
pub fn stream(socket: OwnedFd) -> std::io::Result<TcpStream> {
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

/// What is only there for TCP.
pub fn set_options(stream: &TcpStream) -> std::io::Result<()> {
    if socket_protocol(stream.as_fd())? != Some(TCP) {
        return Ok(());
    }
    stream.set_nodelay(true)?;
    Ok(setsockopt(stream, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?)
}
