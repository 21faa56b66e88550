//! The process of one connection.

pub mod command;
pub mod line;
pub mod screen;
pub mod ssh;
pub mod text;
