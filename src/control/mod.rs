//! The control protocol between the daemon and its clients (sessions and local commands): typed frames over a UNIX
//! stream socket. One request opens one numbered stream of events.

pub mod client;
pub mod dial;
pub mod frame;
pub mod message;
pub mod notification;
pub mod server;
pub mod status;
pub mod stream;

/// Where local clients find the daemon; only root can open it.
pub const SOCKET: &str = "/run/vestibule/control";
