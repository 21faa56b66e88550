//! SSH: who is admitted (pure), and the connection itself.

pub mod algorithms;
pub mod auth;
pub mod authorized_keys;
pub mod handler;
