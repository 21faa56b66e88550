//! SSH: who is admitted (pure), and the connection itself.

pub mod algorithms;
pub mod auth;
pub mod authorized_keys;
pub mod certificate;
mod channel;
mod forward;
pub mod handler;
mod program;
mod request;
mod start;

/// The server's identification line (RFC 4253 section 4.2), with its end. The daemon sends it before there is a session.
/// Scripts tell the initramfs from the real system by this name.
pub const IDENTIFICATION: &str = concat!("SSH-2.0-vestibule_", env!("CARGO_PKG_VERSION"), "\r\n");
