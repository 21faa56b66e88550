//! What passes between SSH channels and descriptors: for the server (`session`), and for the client (`dial`).
//!
//! russh's handlers must not wait, so what comes in is queued for each channel, and how much is queued is bounded.

pub mod backlog;
pub mod descriptor;
pub mod inbox;
pub mod relay;
pub mod table;
