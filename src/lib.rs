//! vestibule: SSH into a machine before its disk is unlocked. This file is the map of the house.
//!
//! Three streams, one way each: prompts go up (source → broker → session → SSH channel), answers go down (SSH
//! channel → command → broker → that prompt's own reply), and *stop* ends everything (lifecycle → sessions told →
//! network undone → exit). See `docs/design.md`.

#![deny(unsafe_code)]

pub mod calendar;
pub mod chroot;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dial;
pub mod dialler;
pub mod flow;
pub mod hardening;
pub mod hub;
pub mod image;
pub mod kmsg;
pub mod open;
pub mod post;
pub mod recycle;
pub mod root;
pub mod secret;
pub mod session;
pub mod sftp;
pub mod task;
pub mod tunnel;

#[cfg(all(test, fuzzing))]
#[path = "../fuzz/mod.rs"]
mod fuzz;
