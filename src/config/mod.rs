//! Configuration: kernel command line, config file, roles.

pub mod cmdline;
pub mod network;
pub mod role;
