//! The process of one connection.

pub mod line;
pub mod ssh;
