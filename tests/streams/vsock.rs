//! Between a virtual machine and its host. Here the machine is its own host, where the kernel has that (vsock_loopback).

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc::VMADDR_CID_LOCAL;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

use crate::common::Machine;
use crate::lab::{bridge, configure, greet, is_greeted, machine, until};

fn connected(port: u16) -> nix::Result<OwnedFd> {
    let stream = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect(stream.as_raw_fd(), &VsockAddr::new(VMADDR_CID_LOCAL, port.into()))?;
    Ok(stream)
}

#[test]
fn the_daemon_listens_and_goes_on_where_it_cannot() {
    let mut machine: Machine = machine("streams-vsock");
    configure(&machine, "vsock = true");
    machine.start();
    machine.wait_for_ssh();
    assert!(is_greeted(&greet(&machine, &[])), "TCP goes on; log:\n{}", machine.log());
    let port = machine.port;
    until("a word about vsock", || machine.log().contains(&format!("vsock port {port}")));
    if let Err(error) = connected(port) {
        eprintln!("SKIPPED: sessions over vsock, as this kernel has no loopback for it ({error})");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, alias) = (listener.local_addr().unwrap(), format!("HostKeyAlias=[127.0.0.1]:{port}"));
    bridge(listener, move || connected(port).unwrap());
    let greeted = greet(&machine, &["-p", &address.port().to_string(), "-o", &alias]);
    assert!(is_greeted(&greeted), "{greeted:?}; log:\n{}", machine.log());
    assert!(machine.log().contains("root logged in from vsock CID "), "{}", machine.log());
}
