//! The limits of the SSH server, with real clients and with peers that only want to be in the way.

#[path = "../common/mod.rs"]
#[allow(dead_code)] // other tests use the rest of it
mod common;
mod connection;
mod dead_peer;
mod flood;
mod network;
mod once;
mod peers;
