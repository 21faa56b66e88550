//! SSH over streams that are no connections to the daemon's port: standard input and output, inherited sockets, a serial
//! line, vsock; and commands that pass a session on to another machine.

mod activation;
#[path = "../common/mod.rs"]
#[allow(dead_code)] // other tests use the rest of it
mod common;
mod lab;
mod proxy_command;
mod proxy_on;
mod serial;
mod vsock;
