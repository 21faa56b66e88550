//! A port of AF_VSOCK (vsock(7)): from the host of a virtual machine, without any network.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc::VMADDR_CID_ANY;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, listen, socket};
use tokio::time::sleep;

use super::RETRY;
use super::entrance::Entrance;
use super::incoming;

/// Connections that the kernel holds until we accept them. There is one host, and few virtual machines beside this one
/// could ever connect.
const BACKLOG: i32 = 64;

/// Listens until nobody takes what comes. What fails is tried until it succeeds: the module may be loaded later.
pub async fn serve(port: u32, entrance: Entrance) {
    let mut told = false;
    loop {
        match listen_at(port) {
            Ok(listener) => {
                log::info!("listening for SSH on vsock port {port}");
                if let Err(error) = incoming::bring(listener, "vsock", &entrance).await {
                    log::info!("no longer listening on vsock port {port}: {error:#}");
                }
                return;
            }
            Err(error) if !told => {
                log::error!(
                    "can't listen on vsock port {port}: {}; trying again every {} s",
                    in_words(error),
                    RETRY.as_secs()
                );
                told = true;
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

fn listen_at(port: u32) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    bind(listener.as_raw_fd(), &VsockAddr::new(VMADDR_CID_ANY, port))?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    Ok(listener)
}

fn in_words(error: nix::Error) -> String {
    match error {
        nix::Error::EAFNOSUPPORT => "this kernel has no vsock, or its module is not loaded".to_owned(),
        error => error.to_string(),
    }
}
