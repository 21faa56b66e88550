//! The long-lived process.

pub mod console;
pub mod net;
pub mod prompt;
pub mod readable;
