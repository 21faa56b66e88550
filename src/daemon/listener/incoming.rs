//! Sockets that listen, of any family: what connects to them is brought to the entrance.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Context;
use nix::sys::socket::{SockaddrStorage, getpeername};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use tokio::time::sleep;

use super::RETRY;
use super::entrance::{Arrival, Entrance};
use super::origin::Origin;
use crate::daemon::descriptors;

/// Only returns with an error: when nobody takes what is brought, or the socket can't be used. `words` say where a
/// connection comes from that has no address.
pub async fn bring(listener: OwnedFd, words: &str, entrance: &Entrance) -> anyhow::Result<()> {
    rustix::io::ioctl_fionbio(&listener, true).context("making a listening socket non-blocking")?;
    let listener = descriptors::watch(listener).context("watching a listening socket")?;
    loop {
        let mut ready = listener.readable().await.context("waiting for a connection")?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match ready.try_io(|listener| accept_with(listener, flags).map_err(Into::into)) {
            Ok(Ok(stream)) => {
                let origin = origin(&stream, words);
                entrance.enter(Arrival { stream, origin }).await?;
            }
            // The peer has gone already; nothing is wrong here, and others wait.
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::CONNABORTED.raw_os_error()) => {}
            Ok(Err(error)) => {
                log::warn!("accepting an SSH connection failed: {error}; trying again");
                sleep(RETRY).await;
            }
            Err(_would_block) => {}
        }
    }
}

/// Where the peer of a connected socket is; in these words, where it has no address. An address of vsock(7) is none of
/// the network's.
pub fn origin(stream: &OwnedFd, words: &str) -> Origin {
    let peer = getpeername::<SockaddrStorage>(stream.as_raw_fd()).ok();
    let network = |peer: &SockaddrStorage| {
        let v4 = peer.as_sockaddr_in().map(|it| it.ip().into());
        v4.or_else(|| peer.as_sockaddr_in6().map(|it| it.ip().into()))
    };
    let vsock = |peer: &SockaddrStorage| Some(format!("vsock CID {}", peer.as_vsock_addr()?.cid()));
    match peer.as_ref().and_then(network) {
        Some(address) => Origin::Network(address),
        None => Origin::Local(peer.as_ref().and_then(vsock).unwrap_or_else(|| words.to_owned())),
    }
}
