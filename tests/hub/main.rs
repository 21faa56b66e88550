//! Hubs: a stock OpenSSH server that machines behind NAT dial, set up by our script; tunnels through it.

#[allow(dead_code)] // tests of other rooms use the rest of it
#[path = "../common/mod.rs"]
mod common;
mod list;
#[path = "../limits/network.rs"]
mod network;
mod setup;
mod stock;
mod tunnel;
