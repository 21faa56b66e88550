//! The prompt room against fake and real askers.
//!
//! Fake askers live in a fixture tree: real sockets and real processes, but `/proc/PID/cmdline` and `/sys/block` are
//! what the test says. The real ones are Debian's `systemd-ask-password` and `cryptsetup`; their tests need root.

mod askpass;
mod feed;
mod fixture;
mod nixos;
mod real;
mod recovery;
mod submissions;
mod systemd;
mod terminal;
mod zfs;
