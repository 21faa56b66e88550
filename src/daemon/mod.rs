//! The long-lived process.

pub mod net;
pub mod prompt;
