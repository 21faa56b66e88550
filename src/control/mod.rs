//! The control protocol between the daemon and its clients (sessions and local commands).

pub mod message;
