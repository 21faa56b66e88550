use proptest::prelude::*;

use super::*;
use crate::config::cmdline::CommandLine;

mod manual;
mod mistakes;
mod round_trip;

fn parse(text: &str) -> (NetworkConfig, Vec<String>) {
    NetworkConfig::parse(&CommandLine::parse(text))
}

/// What a line makes of the interfaces, in the words of `vestibule check`.
fn interfaces(config: &NetworkConfig) -> String {
    config.interfaces.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn all(config: &NetworkConfig) -> String {
    config.lines().join("; ")
}

proptest! {
    #[test]
    fn never_panics(
        line in "((ip|nfsaddrs|nameserver|rd.route|vlan|bond|bridge|team|ifname|bootdev|BOOTIF)=|(eth|bond|vlan)[0-9]|dhcp6?|none|mode=|[0-9a-z.,:;\\[\\]/% =-]|\\PC){0,80}"
    ) {
        parse(&line);
    }
}
