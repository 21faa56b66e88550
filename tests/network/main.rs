//! The network in namespaces, against real servers. See `lab.rs` for how.

mod conflicts;
mod dhcp;
mod dhcpv4;
mod dhcpv6;
mod faults;
mod fixed;
mod ipv6;
mod keep;
mod lab;
mod links;
mod made;
mod names;
mod others;
mod resolve;
mod servers;

/// Of the DHCP server.
const OPTIONS: [&str; 2] = ["--dhcp-option=option:router,192.0.2.1", "--dhcp-option=option:dns-server,192.0.2.53"];
