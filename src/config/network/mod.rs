//! The network part of the kernel command line (dracut.cmdline(7)), parsed. Pure.
//!
//! Understood: `ip=` with DHCP and static IPv4 in all their spellings, and `nameserver=`. `rd.neednet` is read because
//! it tells whether the initramfs's own network scripts will run; our own bring-up does not depend on it. What is not
//! understood becomes a problem (argument, place, cure) and the rest still comes up. If no `ip=` argument is usable,
//! the default applies: an unreachable machine would be the worse mistake.

mod types;

use std::net::{IpAddr, Ipv4Addr};

use super::cmdline::CommandLine;
pub use types::*;

impl NetworkConfig {
    /// The configuration, and one sentence for each argument that was not understood.
    pub fn parse(line: &CommandLine) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut interfaces: Vec<Interface> = Vec::new();
        let mut off = false;
        for value in line.values("ip") {
            match argument(value) {
                Ok(Argument::Off) => off = true,
                Ok(Argument::Interface(interface)) => {
                    if interfaces.iter().any(|other| other.which == interface.which) {
                        problems.push(format!(
                            "ip={value}: a second argument for the same interface is ignored; remove one of them"
                        ));
                    } else {
                        interfaces.push(interface);
                    }
                }
                Err(reason) => problems.push(format!("ip={value}: {reason}")),
            }
        }
        if interfaces.is_empty() && !off {
            if !problems.is_empty() {
                problems.push("no usable ip= argument: DHCP on every Ethernet interface instead".to_owned());
            }
            interfaces = Self::default().interfaces;
        }
        let nameservers = line.values("nameserver").filter_map(|value| match address(value) {
            Ok(server) => Some(server),
            Err(reason) => {
                problems.push(format!("nameserver={value}: {reason}"));
                None
            }
        });
        let nameservers = nameservers.collect();
        (Self { interfaces, nameservers, neednet: line.flag("rd.neednet", false), ..Self::default() }, problems)
    }
}

enum Argument {
    Off,
    Interface(Interface),
}

/// Places as dracut.cmdline(7) names them.
const STATIC_FORM: &str = "CLIENT:[PEER]:GATEWAY:NETMASK:HOSTNAME:INTERFACE:none";

fn argument(value: &str) -> Result<Argument, String> {
    let fields = split(value)?;
    match fields.as_slice() {
        // dracut: "Empty autoconf values default to dhcp" (parse-ip-opts.sh).
        [""] | ["dhcp" | "on" | "any"] => Ok(Argument::Interface(Interface::dhcp(Which::Every))),
        ["off" | "none"] => Ok(Argument::Off),
        [name] if name.parse::<Ipv4Addr>().is_ok() => {
            Err(format!("an address alone is not enough; write ip={STATIC_FORM}"))
        }
        [name] => Err(unsupported(name, "field 1")),
        [interface, "dhcp" | "on" | "any", rest @ ..] => by_dhcp(interface, rest).map(Argument::Interface),
        [_, method] | [_, method @ ("dhcp6" | "auto6" | "either6" | "link6" | "off" | "none"), ..] => {
            Err(unsupported(method, "field 2 (method)"))
        }
        fields => explicit(fields).map(Argument::Interface),
    }
}

/// Fields between colons; an IPv6 address stands in brackets and comes out without them, as in dracut's `ip_to_var`
/// (net-lib.sh).
fn split(value: &str) -> Result<Vec<&str>, String> {
    let mut fields = Vec::new();
    let mut rest = value;
    loop {
        let (field, after) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']').ok_or("a bracket is not closed; write [ADDRESS]")?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        fields.push(field);
        match after.strip_prefix(':') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(format!("“{after}” follows a bracket; a colon belongs there")),
        }
    }
}

/// `ip=INTERFACE:dhcp[:[MTU][:MACADDR]]`
fn by_dhcp(name: &str, rest: &[&str]) -> Result<Interface, String> {
    let mut interface = Interface::dhcp(named_or(name, Which::Every)?);
    if let [field, mac @ ..] = rest {
        interface.mtu = mtu(field, "field 3 (MTU)")?;
        refuse_mac(mac)?;
    }
    Ok(interface)
}

/// `ip=CLIENT:[PEER]:GATEWAY:NETMASK:HOSTNAME:INTERFACE:METHOD[:[MTU][:MACADDR]]` or `…[:[DNS1][:DNS2]]`.
/// Missing fields at the end are empty ones, as for the kernel's own `ip=` (Documentation/admin-guide/nfs/nfsroot.rst)
/// and initramfs-tools, which also say `static` for `none` and have a time server after DNS2.
fn explicit(fields: &[&str]) -> Result<Interface, String> {
    let field = |number: usize| fields.get(number - 1).copied().unwrap_or("");
    let ipv4 = match (field(7), field(1)) {
        ("dhcp" | "on" | "any", "") | ("", "") => Ipv4::Dhcp,
        ("dhcp" | "on" | "any", _) => {
            return Err("an address (field 1) and DHCP (field 7) exclude each other; empty one, or write none".into());
        }
        ("none" | "off" | "static" | "", _) => Ipv4::Static(static_address(&field)?),
        (other, _) => return Err(unsupported(other, "field 7 (method)")),
    };
    let otherwise = if ipv4 == Ipv4::Dhcp { Which::Every } else { Which::First };
    let mut interface = Interface { ipv4, ..Interface::dhcp(named_or(field(6), otherwise)?) };
    interface.hostname = Some(field(5)).filter(|name| !name.is_empty()).map(str::to_owned);
    // As dracut tells them apart: an address is a name server, a number the MTU.
    if field(8).parse::<IpAddr>().is_ok() || field(9).parse::<IpAddr>().is_ok() {
        for (number, place) in [(8, "field 8 (DNS1)"), (9, "field 9 (DNS2)")] {
            if !field(number).is_empty() {
                interface.nameservers.push(address(field(number)).map_err(|reason| format!("{place}: {reason}"))?);
            }
        }
    } else {
        interface.mtu = mtu(field(8), "field 8 (MTU or DNS1)")?;
        refuse_mac(fields.get(8..).unwrap_or(&[]))?;
    }
    Ok(interface)
}

fn static_address<'a>(field: &impl Fn(usize) -> &'a str) -> Result<StaticAddress, String> {
    let gateway = optional_v4(field(3), "field 3 (GATEWAY)")?;
    let peer = field(2).split_once('/').map_or(field(2), |(address, _)| address);
    let peer = optional_v4(peer, "field 2 (PEER)")?;
    let address = optional_v4(field(1), "field 1 (CLIENT)")?
        .ok_or_else(|| format!("field 1 (CLIENT) is empty; write ip={STATIC_FORM}, or ip=INTERFACE:dhcp"))?;
    Ok(StaticAddress { address, prefix: netmask(field(4))?, peer, gateway })
}

fn optional_v4(text: &str, place: &str) -> Result<Option<Ipv4Addr>, String> {
    match (text, text.parse::<IpAddr>()) {
        ("", _) => Ok(None),
        (_, Ok(IpAddr::V4(address))) => Ok(Some(address)),
        (_, Ok(IpAddr::V6(_))) => Err(format!("{place}: IPv6 is not supported here; give an IPv4 address")),
        (_, Err(_)) => Err(format!("{place}: “{text}” is not an address; write it as 192.0.2.7")),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    inside.parse().map_err(|_| format!("“{text}” is not an address; write it as 192.0.2.7 or [2001:db8::7]"))
}

/// A prefix length or a dotted quad.
fn netmask(text: &str) -> Result<u8, String> {
    let wrong = || format!("field 4 (NETMASK): “{text}” is no netmask; write it as 255.255.255.0 or 24");
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let bits = mask.to_bits();
        return if bits.leading_ones() + bits.trailing_zeros() >= 32 {
            Ok(bits.leading_ones() as u8)
        } else {
            Err(wrong())
        };
    }
    text.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(wrong)
}

/// 68 bytes is the least that IPv4 allows (RFC 791), 65535 the most that a packet can have.
fn mtu(text: &str, place: &str) -> Result<Option<u32>, String> {
    match (text, text.parse()) {
        ("", _) => Ok(None),
        (_, Ok(bytes @ 68..=65535)) => Ok(Some(bytes)),
        _ => Err(format!("{place}: “{text}” is no MTU; write a number of bytes such as 1500, or nothing")),
    }
}

fn refuse_mac(fields: &[&str]) -> Result<(), String> {
    match fields.iter().any(|field| !field.is_empty()) {
        true => Err("setting a MAC address is not supported; remove the last field".into()),
        false => Ok(()),
    }
}

fn named_or(name: &str, otherwise: Which) -> Result<Which, String> {
    /// IFNAMSIZ in linux/if.h, less its final zero byte.
    const LONGEST: usize = 15;
    match name {
        "" => Ok(otherwise),
        name if name.len() > LONGEST || name.contains(|c: char| c == '/' || c.is_whitespace()) => {
            Err(format!("“{name}” can't be the name of an interface; see ip link"))
        }
        name => Ok(Which::Named(name.to_owned())),
    }
}

fn unsupported(method: &str, place: &str) -> String {
    match method {
        "auto6" | "dhcp6" | "either6" | "link6" => {
            format!("{place}: {method} is not supported; write dhcp (IPv6 addresses come by router advertisement)")
        }
        "single-dhcp" | "ibft" | "bootp" | "rarp" | "both" | "link-local" => {
            format!("{place}: {method} is not supported; write dhcp or ip={STATIC_FORM}")
        }
        other => format!("{place}: “{other}” is not known; write dhcp, off or ip={STATIC_FORM}"),
    }
}

#[cfg(test)]
mod tests;
