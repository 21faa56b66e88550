//! What initramfs-tools means by `ip=`, said as dracut.cmdline(7) says it. Pure.
//!
//! initramfs-tools(7) "ip" (its "BOOTIF" is everybody's), initramfs.conf(5) `IP=` and `DEVICE=`, `configure_networking()` in its
//! `scripts/functions` 0.142, and klibc 2.0.12 `usr/kinit/ipconfig/main.c`. One argument counts, the last; the kernel's
//! wins over the file's. It is `CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:INTERFACE:METHOD:DNS0:DNS1:NTP0`, or a method.

use std::net::Ipv4Addr;

use super::cmdline::CommandLine;

/// The command line with at most one `ip=`, in dracut's spelling, and one sentence for each thing that can't be said.
/// `conf` is initramfs.conf with what follows it in `conf.d`.
pub fn translate(mut line: CommandLine, conf: &str) -> (CommandLine, Vec<String>) {
    let mut problems = Vec::new();
    let device = assigned(conf, "DEVICE", &mut problems);
    let from_file = assigned(conf, "IP", &mut problems);
    let ip = line.last("ip").map(str::to_owned).or(from_file);
    line.set("ip", respell(ip.as_deref().unwrap_or(""), device.as_deref().unwrap_or("")));
    (line, problems)
}

/// The value of a shell variable that is set to plain text, the last time that it is set.
fn assigned(conf: &str, name: &str, problems: &mut Vec<String>) -> Option<String> {
    let value = conf.lines().rev().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
    let value = value.split(" #").next().unwrap_or_default().trim();
    let bare = ['"', '\''].iter().find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value);
    if bare.contains(['$', '`', '"', '\'', '\\', ' ']) {
        problems.push(format!("initramfs.conf: {name}={value}: only plain text is understood; ignored"));
        return None;
    }
    Some(bare.to_owned()).filter(|value| !value.is_empty())
}

fn respell(ip: &str, device: &str) -> Option<String> {
    let by_dhcp = |device: &str| if device.is_empty() { "dhcp".to_owned() } else { format!("{device}:dhcp") };
    let fields: Vec<&str> = ip.split(':').collect();
    match fields[..] {
        [""] if device.is_empty() => None,
        ["" | "on" | "any" | "dhcp" | "both"] => Some(by_dhcp(device)),
        // Not in klibc's form: dracut's own spelling, or a mistake that is told with its place.
        [_] => Some(ip.to_owned()),
        [first, ..] if !first.is_empty() && first.parse::<Ipv4Addr>().is_err() => Some(ip.to_owned()),
        _ => Some(full(&|number| fields.get(number - 1).copied().unwrap_or(""), device)),
    }
}

fn full<'a>(field: &impl Fn(usize) -> &'a str, device: &str) -> String {
    let device = match field(6) {
        "" => device,
        "all" => "",
        named => named,
    };
    let (client, method) = match (field(1), field(7)) {
        (_, "dhcp" | "on" | "any" | "both") => ("", "dhcp"),
        (client, "static" | "off") => (client, "none"),
        other => other,
    };
    let netmask = match (field(4), client.parse::<Ipv4Addr>()) {
        ("", Ok(client)) => class_netmask(client),
        (netmask, _) => netmask,
    };
    // The server is one to boot from, not dracut's other end of a point-to-point link; nobody here asks for the time.
    let (gateway, host, dns0, dns1) = (field(3), field(5), field(8), field(9));
    let start = format!("{client}::{gateway}:{netmask}:{host}:{device}:{method}");
    if dns0.is_empty() && dns1.is_empty() { start } else { format!("{start}:{dns0}:{dns1}") }
}

/// What ipconfig guesses (`inet_class_netmask()`): the class of the address (RFC 791).
fn class_netmask(address: Ipv4Addr) -> &'static str {
    match address.octets()[0] {
        0..=127 => "255.0.0.0",
        128..=191 => "255.255.0.0",
        _ => "255.255.255.0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::NetworkConfig;

    /// Rows: kernel command line, initramfs.conf; the one `ip=` that comes of it.
    #[test]
    fn as_ipconfig_reads_it() {
        for (line, conf, expected) in [
            ("quiet", "", None),
            ("quiet", "# IP=off\nDEVICE=\n", None),
            ("ip=dhcp", "", Some("dhcp")),
            ("ip=on", "DEVICE=eth0", Some("eth0:dhcp")),
            ("ip=both", "", Some("dhcp")),
            ("ip=off", "", Some("off")),
            ("quiet", "DEVICE=eth1\n", Some("eth1:dhcp")),
            ("quiet", "IP=off\n", Some("off")),
            ("ip=dhcp", "IP=off\n", Some("dhcp")),
            ("ip=off ip=:::::eth1:dhcp", "", Some(":::::eth1:dhcp")),
            (
                "quiet",
                "IP=\"192.0.2.7::192.0.2.1:255.255.255.0:box:eth0:off\" # fixed",
                Some("192.0.2.7::192.0.2.1:255.255.255.0:box:eth0:none"),
            ),
            ("ip=10.0.2.15:10.0.2.9:10.0.2.2", "DEVICE=eth0", Some("10.0.2.15::10.0.2.2:255.0.0.0::eth0:")),
            ("ip=192.0.2.7:::::all:static", "DEVICE=eth0", Some("192.0.2.7:::255.255.255.0:::none")),
            ("ip=172.16.0.7::::box:eth0:dhcp", "", Some("::::box:eth0:dhcp")),
            (
                "ip=192.0.2.7::192.0.2.1:255.255.255.0:box:eth0:none:192.0.2.53::192.0.2.123",
                "",
                Some("192.0.2.7::192.0.2.1:255.255.255.0:box:eth0:none:192.0.2.53:"),
            ),
            ("ip=eth0:dhcp", "", Some("eth0:dhcp")),
            ("ip=bootp", "", Some("bootp")),
        ] {
            let (translated, problems) = translate(CommandLine::parse(line), conf);
            assert_eq!(translated.values("ip").collect::<Vec<_>>(), Vec::from_iter(expected), "{line} {conf}");
            assert_eq!(problems, [""; 0], "{line} {conf}");
            let problems = NetworkConfig::parse(&translated).1;
            assert_eq!(problems.is_empty(), expected != Some("bootp"), "{line} {conf}: {problems:?}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_told() {
        let problems = translate(CommandLine::parse("quiet"), "IP=$MINE").1;
        assert!(problems.len() == 1 && problems[0].contains("IP=$MINE"), "{problems:?}");
    }
}
