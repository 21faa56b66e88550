//! Fuzzing: what comes from outside, fed with made-up input. Compiled by `fuzz/run` only.

mod conversation;
mod dhcp;
mod dhcp6;
mod engine;
mod http;
mod lines;
mod sftp;

use std::time::Duration;

use engine::Target;

use crate::config::{
    cmdline::CommandLine,
    file,
    network::{BondOptions, Made, MadeKind, NetworkConfig, Which, master},
};

#[rustfmt::skip] // a word a line would be long
const TARGETS: [Target; 9] = [
    Target {
        name: "command-line",
        words: &[
            "ip=", "nfsaddrs=", "rd.route=", "nameserver=", "rd.peerdns=0", "ifname=", "bootdev=", "BOOTIF=01-",
            "rd.bootif=0", "vlan=", "bond=", "bridge=", "team=", "eth0", "eth1", "bond0", "br0", "vlan0005", ".5",
            "dhcp", "dhcp6", "auto6", "either6", "link6", "single-dhcp", "off", "none", "static", "ibft",
            "192.0.2.7", "[2001:db8::7]", "[2001:db8::/32]", "255.255.255.0", "/24", ":", "::", ",", ";", " ",
            "mode=802.3ad", "miimon=100", "lacp_rate=fast", "primary=eth0", "arp_interval=5",
            "arp_ip_target=192.0.2.1", "52:54:00:12:34:56", "52-54-00-12-34-56", "netmask=", "gateway=",
            "ksdevice=bootif", "enx525400123456", "default", "1500", "65535", "4294967296", "\"",
        ],
        run: command_line,
    },
    Target {
        name: "authorized-keys",
        words: &[
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ", "restrict", "pty", "no-",
            "port-forwarding", "cert-authority", "once", "command=\"", "principals=\"", "from=\"", "expiry-time=\"",
            "environment=\"", "permitopen=\"", "permitlisten=\"", "tunnel=\"", "verify-required", "no-touch-required",
            "10.0.0.0/8", "2001:db8::/32", "192.0.2.*", "!", "20300101", "202912312359Z", "localhost:8080", "[::1]:22",
            "*:*", "/run/x", "A=b", "\\\"", "\"", ",", " ", "\t", "\n", "#", "ssh-rsa", "sk-ssh-ed25519@openssh.com",
        ],
        run: lines::authorized_keys,
    },
    Target {
        name: "before-login",
        words: &[
            "\x01", "\x03", "\x04", "\x05", "\x06", "\x07", "\x08", "SSH-2.0-x\r\n", "\x00SSH-2.0-x\r\n",
            "\x00\x00\x00\x0c\x0a\x14", "\x05\x00\x00\x00\x0cssh-userauth", "\x32\x00\x00\x00\x04root",
        ],
        run: conversation::before_login,
    },
    Target {
        name: "config",
        words: &[
            "[network]\n", "[[network.interface]]\n", "[[network.route]]\n", "[[network.vlan]]\n",
            "[[network.bond]]\n", "[[network.bridge]]\n", "name = ", "mac = ", "address = ", "gateway = ",
            "peer = ", "dhcp = ", "ipv6 = ", "mtu = ", "set-mac = ", "hostname = ", "nameservers = ", "search = ",
            "destination = ", "interface = ", "id = ", "parent = ", "interfaces = ", "options = ", "enabled = ",
            "keep = ", "peer-dns = ", "boot = ", "true", "false", "\"ipv6\"", "\"auto6\"", "\"eth0\"", "\"eth1\"",
            "\"192.0.2.7/24\"", "\"2001:db8::7/64\"", "[", "]", ",", "\n", "'", "1500", "\"52:54:00:12:34:56\"",
            "\"mode=1,primary=eth0\"", "network = ", "port = ", "2222", "[[notify]]\n", "url = ", "\"https://a/b?c\"",
            "\"http://[::1]:80\"", "kind = ", "\"ntfy\"", "after = ", "on = ", "[\"failed\"]", "token-file = ",
            "headers-file = ", "ca = ", "\"/x\"",
        ],
        run: config,
    },
    Target {
        name: "dhcp4",
        words: &[
            "\x35\x01\x02", "\x35\x01\x05", "\x35\x01\x06", "\x33\x04\x00\x00\x0e\x10", "\x36\x04\x0a\x00\x00\x01",
            "\x01\x04", "\x03\x08", "\x06\x08", "\x79\x0b", "\x3a\x04", "\x3b\x04", "\x34\x01\x03", "\x1a\x02",
            "\x0f\x07", "\x77\x08", "\x7f\x7f", "\x01\x20", "\x02\x20",
        ],
        run: dhcp::version4,
    },
    Target {
        name: "dhcp6",
        words: &[
            "\x00\x01\x00\x0a\x00\x03\x00\x01\x02\x00\x00\x00\x00\x01", "\x00\x02\x00\x0a", "\x00\x03\x00\x28\x00\x00\x00\x01", "\x00\x05\x00\x18",
            "\x00\x07\x00\x01", "\x00\x0d\x00\x02\x00\x03", "\x00\x0d\x00\x02\x00\x04", "\x00\x0e\x00\x00", "\x00\x17\x00\x10",
            "\x00\x18\x00\x05\x03lab", "\x00\x20\x00\x04", "\x01\x20", "\x02\x20", "\x02\x21",
        ],
        run: dhcp6::version6,
    },
    Target {
        name: "http",
        words: &[
            "HTTP/1.1 ", "HTTP/1.0 ", "100", "101", "200 OK", "302 Found", "503", "\r\n", "\r\n\r\n", "\n", "\n\n", ":",
            "Location: /", "Content-Length: 0", " ", "\t",
        ],
        run: http::response,
    },
    Target {
        name: "router",
        words: &["\x19\x03\x00\x00", "\x1f\x02\x00\x00", "\x00\x00\x00\x3c", "\x03lab", "\x07example", "\x00"],
        run: dhcp6::router,
    },
    Target {
        name: "sftp",
        words: &[
            "\x01.", "\x02..", "\x01/", "\x04file", "\x05other", "\x01d", "\x05d/e/f", "\x0ato-outside", "\x09to-canary", "\x02up",
            "\x09up/canary", "\x05chain", "\x04proc", "\x04to-e", "\x08absolute", "\x0bd/up-canary", "\x15../../outside/canary",
            "\x03/s/", "\x06/root/", "\x07outside", "\x06canary", "\x03new", "\x00", "../", "/", "self/root",
        ],
        run: sftp::conversation,
    },
];

/// See `fuzz/run` for what can be set.
#[test]
fn explore() {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let chosen = set("FUZZ_TARGET");
    let targets: Vec<&Target> =
        TARGETS.iter().filter(|it| chosen.as_ref().is_none_or(|name| name == it.name)).collect();
    assert!(!targets.is_empty(), "no such target; there are {:?}", TARGETS.map(|target| target.name));
    let seconds: u32 = set("FUZZ_SECONDS").map_or(30, |value| value.parse().expect("FUZZ_SECONDS is a number"));
    for target in &targets {
        match set("FUZZ_INPUT") {
            Some(file) => (target.run)(&std::fs::read(file).expect("FUZZ_INPUT can be read")),
            None => {
                let time = Duration::from_secs(seconds.into()) / targets.len() as u32;
                engine::explore(target, time, set("FUZZ_KEEP").is_some());
            }
        }
    }
}

fn command_line(input: &[u8]) {
    let line = CommandLine::parse(&String::from_utf8_lossy(input));
    let (config, problems) = NetworkConfig::parse(&line);
    check(&config);
    assert!(problems.iter().all(|problem| problem.contains(':')), "each names its place: {problems:?}");
    // What is wrong in one argument must not leave a machine without network.
    let off = line.values("ip").chain(line.values("nfsaddrs")).any(|value| matches!(value, "off" | "none"));
    assert!(off || !config.interfaces.is_empty());
}

fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    http::recipients(&text);
    let Ok((settings, _)) = file::parse(&text) else { return };
    if let Some(config) = settings.configured {
        check(&config);
        assert!(!config.interfaces.is_empty());
    }
}

/// What the types promise.
fn check(config: &NetworkConfig) {
    let is_name = |name: &str| !name.is_empty() && name.len() <= 15 && !name.contains('/');
    for (index, interface) in config.interfaces.iter().enumerate() {
        assert!(config.interfaces[..index].iter().all(|before| before.which != interface.which), "merged");
        assert!(interface.mtu.is_none_or(|mtu| (68..=65535).contains(&mtu)));
        if let Which::Named(name) = &interface.which {
            assert!(is_name(name));
            assert!(interface.is_left_alone() || master(&config.made, name).is_none(), "a member has no address");
        }
    }
    for (index, made) in config.made.iter().enumerate() {
        let Made { name, kind } = made;
        let (before, after) = config.made.split_at(index);
        assert!(is_name(name) && before.iter().all(|other| other.name != *name));
        assert!(made.parts().iter().all(|part| is_name(part) && after.iter().all(|later| later.name != *part)));
        match kind {
            MadeKind::Vlan { id, .. } => assert!(*id <= 4094),
            MadeKind::Bond { slaves, options, .. } => {
                let targets = options.arp_ip_target.len().max(options.ns_ip6_target.len());
                assert!(!slaves.is_empty() && targets <= BondOptions::TARGETS);
                assert!(options.primary.as_ref().is_none_or(|primary| slaves.contains(primary)));
            }
            MadeKind::Bridge { ports } => assert!(!ports.is_empty()),
        }
    }
    for route in &config.routes {
        assert!(route.gateway.is_some() || route.device.is_some());
        assert!(route.gateway.is_none_or(|gateway| gateway.is_ipv4() == route.destination.is_ipv4()));
    }
    config.lines();
}
