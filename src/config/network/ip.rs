//! `ip=` in all its forms. Pure.
//!
//! - dracut.cmdline(7), as `ip_to_var` (net-lib.sh) and `parse-ip-opts.sh` read it
//! - the kernel's own (Documentation/admin-guide/nfs/nfsroot.rst), which initramfs-tools and mkinitcpio have taken over:
//!   fields missing at the end are empty ones, `static` is `none`, a time server may follow the name servers
//! - Anaconda's: `ip=ADDRESS netmask=… gateway=…`
//!
//! Without a good address (or method) and a good name, an argument is not used. A mistake in any other field is told,
//! and the interface comes up without it.

use std::net::{IpAddr, Ipv4Addr};

use super::{Interface, Ipv4, Ipv6, Mac, StaticAddress, StaticAddress6, Which, field, names};
use crate::config::cmdline::CommandLine;

/// What one argument says.
#[derive(Debug, PartialEq, Eq)]
pub enum Argument {
    /// No network, unless another argument wants it.
    Off,
    /// What a table of the firmware says about this interface, or about all that are in it.
    Ibft(Which),
    Interface(Interface),
}

/// Places as dracut.cmdline(7) names them.
const STATIC_FORM: &str = "CLIENT:[PEER]:GATEWAY:NETMASK:HOSTNAME:INTERFACE:none";

/// Reads one value of `ip=`. The error says why it can't be used; `notes` are about fields that are left out.
pub fn parse(value: &str, line: &CommandLine, notes: &mut Vec<String>) -> Result<Argument, String> {
    let fields = field::split(value)?;
    match fields.as_slice() {
        ["off" | "none"] => Ok(Argument::Off),
        ["ibft"] => Ok(Argument::Ibft(Which::Every)),
        // NetworkManager's (nmi-cmdline-reader.c).
        [interface, "ibft"] => which(interface, Which::Every)
            .map(Argument::Ibft)
            .map_err(|reason| format!("field 1 (INTERFACE): {reason}")),
        [address] if address.parse::<Ipv4Addr>().is_ok() => anaconda(address, line, notes).map(Argument::Interface),
        [methods] => {
            let mut interface = by_method(methods, Which::Every, "field 1")?;
            if methods.split(',').any(|method| method == "single-dhcp") {
                interface.which = Which::First;
            }
            Ok(Argument::Interface(interface))
        }
        [interface, methods, rest @ ..] if are_methods(methods) => {
            short(interface, methods, rest, notes).map(Argument::Interface)
        }
        [_, method] => Err(unknown(method, "field 2 (method)")),
        fields => explicit(fields, notes),
    }
}

/// Whether the second field makes this the short form. dracut's shell forgets some of its own methods here.
fn are_methods(text: &str) -> bool {
    !text.is_empty() && text.split(',').all(|method| matches!(method, "off" | "none") || method_of(method).is_some())
}

/// What a method is about: IPv4, IPv6, or both.
pub fn method_of(method: &str) -> Option<(Ipv4, Ipv6)> {
    Some(match method {
        "dhcp" | "on" | "any" | "single-dhcp" => (Ipv4::Dhcp, Ipv6::Kernel),
        "dhcp6" => (Ipv4::Off, Ipv6::Dhcp),
        "auto6" => (Ipv4::Off, Ipv6::Auto),
        "either6" => (Ipv4::Off, Ipv6::Either),
        "link6" => (Ipv4::Off, Ipv6::LinkLocal),
        _ => return None,
    })
}

/// Methods between commas, as in `ip=dhcp,dhcp6`. None at all is DHCP: "Empty autoconf values default to dhcp"
/// (parse-ip-opts.sh).
fn by_method(methods: &str, which: Which, place: &str) -> Result<Interface, String> {
    let mut interface = Interface { ipv4: Ipv4::Off, ipv6: Ipv6::Off, ..Interface::dhcp(which) };
    for method in if methods.is_empty() { "dhcp" } else { methods }.split(',') {
        let (ipv4, ipv6) = method_of(method).ok_or_else(|| unknown(method, place))?;
        if ipv4 != Ipv4::Off {
            interface.ipv4 = ipv4;
        }
        match (interface.ipv6, ipv6) {
            (Ipv6::Off | Ipv6::Kernel, _) => interface.ipv6 = ipv6,
            (_, Ipv6::Kernel) => {}
            (before, after) if before == after => {}
            _ => return Err(format!("{place}: {methods} has two methods for IPv6; leave one out")),
        }
    }
    Ok(interface)
}

/// `ip=INTERFACE:METHOD[:[MTU][:MACADDR]]`. With `off` the interface gets no address.
fn short(name: &str, methods: &str, rest: &[&str], notes: &mut Vec<String>) -> Result<Interface, String> {
    let which = which(name, Which::Every).map_err(|reason| format!("field 1 (INTERFACE): {reason}"))?;
    let mut interface = match methods {
        "off" | "none" if which == Which::Every => return Err("no interface is named; write ip=off".to_owned()),
        "off" | "none" => Interface { ipv4: Ipv4::Off, ipv6: Ipv6::Off, ..Interface::dhcp(which) },
        methods => by_method(methods, which, "field 2 (method)")?,
    };
    let field = |number: usize| rest.get(number - 3).copied().unwrap_or("");
    interface.mtu = optional(field(3), "field 3 (MTU)", notes, field::mtu);
    interface.mac = mac(rest.get(1..).unwrap_or_default(), "field 4 (MACADDR)", notes);
    Ok(interface)
}

/// `ip=CLIENT:[PEER]:GATEWAY:NETMASK:HOSTNAME:INTERFACE:METHOD[:[MTU][:MACADDR]]` or `…[:[DNS1][:DNS2]]`
fn explicit(fields: &[&str], notes: &mut Vec<String>) -> Result<Argument, String> {
    const METHOD: &str = "field 7 (METHOD)";
    let field = |number: usize| fields.get(number - 1).copied().unwrap_or("");
    let which = |otherwise| which(field(6), otherwise).map_err(|reason| format!("field 6 (INTERFACE): {reason}"));
    let mut interface = match (field(7), field(1)) {
        ("ibft", _) => return which(Which::Every).map(Argument::Ibft),
        ("none" | "off" | "static", _) => fixed(&field, which(Which::First)?, notes)?,
        ("", client) if !client.is_empty() => fixed(&field, which(Which::First)?, notes)?,
        // dracut takes an address beside the automatic methods of IPv6, for nothing.
        (methods, "") => by_method(methods, which(Which::Every)?, METHOD)?,
        (methods, _) if are_methods(methods) => {
            return Err(format!("an address (field 1) and {methods} (field 7) exclude each other; empty one"));
        }
        (methods, _) => return Err(unknown(methods, METHOD)),
    };
    interface.hostname = optional(field(5), "field 5 (HOSTNAME)", notes, field::host);
    // As dracut tells them apart: an address is a name server, a number the MTU. The time server of the kernel's form
    // (field 10) is of no use here.
    if field::address(field(8)).is_ok() || (field(8).is_empty() && field::address(field(9)).is_ok()) {
        for (number, place) in [(8, "field 8 (DNS1)"), (9, "field 9 (DNS2)")] {
            interface.nameservers.extend(optional(field(number), place, notes, field::address));
        }
    } else {
        interface.mtu = optional(field(8), "field 8 (MTU or DNS1)", notes, field::mtu);
        interface.mac = mac(fields.get(8..).unwrap_or_default(), "field 9 (MACADDR or DNS2)", notes);
    }
    Ok(Argument::Interface(interface))
}

/// The address, netmask, peer and gateway of the long form.
fn fixed<'a>(field: &impl Fn(usize) -> &'a str, which: Which, notes: &mut Vec<String>) -> Result<Interface, String> {
    if field(1).is_empty() {
        return Err(format!("field 1 (CLIENT) is empty; write ip={STATIC_FORM}, or ip=INTERFACE:dhcp"));
    }
    let (address, own) = field::address_and_prefix(field(1)).map_err(|reason| format!("field 1 (CLIENT): {reason}"))?;
    let prefix = match (field(4), own) {
        ("", Some(own)) => own,
        ("", None) => return Err("field 4 (NETMASK) is empty; write 255.255.255.0 or 24, or 64 for IPv6".to_owned()),
        (text, _) => field::prefix(text, address).map_err(|reason| format!("field 4 (NETMASK): {reason}"))?,
    };
    let same = |other: IpAddr| match other.is_ipv4() == address.is_ipv4() {
        true => Ok(other),
        false => Err(format!("{other} is of another family than {address}; write a second ip= for it")),
    };
    let gateway = optional(field(3), "field 3 (GATEWAY)", notes, |text| same(field::address(text)?));
    let peer = optional(field(2), "field 2 (PEER)", notes, |text| {
        let (peer, prefix) = field::address_and_prefix(text)?;
        Ok((same(peer)?, prefix))
    });
    Ok(static_interface(which, (address, prefix), gateway, peer))
}

/// All addresses are of one family. The second field is the other end of a point-to-point link for dracut, and the
/// server to boot from for the kernel. With a prefix of its own, or where the netmask leaves no room for a neighbour,
/// it must be the first; else it is left out, which serves both: a gateway is reached without it too.
pub fn static_interface(
    which: Which,
    (address, prefix): (IpAddr, u8),
    gateway: Option<IpAddr>,
    peer: Option<(IpAddr, Option<u8>)>,
) -> Interface {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let peer = peer.filter(|(_, own)| own.is_some() || prefix + 1 >= longest);
    let prefix = peer.and_then(|(_, own)| own).unwrap_or(prefix);
    let mut interface = Interface { ipv4: Ipv4::Off, ..Interface::dhcp(which) };
    match address {
        IpAddr::V4(address) => {
            let v4 = |it| if let IpAddr::V4(it) = it { Some(it) } else { None };
            let (peer, gateway) = (peer.and_then(|it| v4(it.0)), gateway.and_then(v4));
            interface.ipv4 = Ipv4::Static(StaticAddress { address, prefix, peer, gateway });
        }
        IpAddr::V6(address) => {
            let v6 = |it| if let IpAddr::V6(it) = it { Some(it) } else { None };
            let (peer, gateway) = (peer.and_then(|it| v6(it.0)), gateway.and_then(v6));
            interface.ipv6 = Ipv6::Static(StaticAddress6 { address, prefix, peer, gateway });
        }
    }
    interface
}

/// `ip=ADDRESS netmask=… gateway=… hostname=… ksdevice=… mtu=…` (the one-field case of `ip_to_var`)
fn anaconda(address: &str, line: &CommandLine, notes: &mut Vec<String>) -> Result<Interface, String> {
    let value = |key| line.last(key).unwrap_or("");
    if value("netmask").is_empty() {
        return Err(format!("an address alone is not enough; write ip={STATIC_FORM}, or add netmask="));
    }
    let which = match value("ksdevice") {
        "" | "link" | "ibft" => Which::First,
        "bootif" | "BOOTIF" => names::bootif(value("BOOTIF")).map(Which::Mac)?,
        name => which(name, Which::First).map_err(|reason| format!("ksdevice={name}: {reason}"))?,
    };
    let fields = [address, "", value("gateway"), value("netmask")];
    let mut interface = fixed(&|number| fields.get(number - 1).copied().unwrap_or(""), which, notes)?;
    interface.hostname = optional(value("hostname"), "hostname=", notes, field::host);
    interface.mtu = optional(value("mtu"), "mtu=", notes, field::mtu);
    Ok(interface)
}

/// An interface by name, or by its Ethernet address with dashes (colons only separate fields here).
fn which(text: &str, otherwise: Which) -> Result<Which, String> {
    match (text, field::mac(text)) {
        ("", _) => Ok(otherwise),
        (_, Ok(mac)) => Ok(Which::Mac(mac)),
        (name, Err(_)) => field::name(name).map(Which::Named),
    }
}

/// Six fields, as the colons separate them, or one with dashes.
fn mac(fields: &[&str], place: &str, notes: &mut Vec<String>) -> Option<Mac> {
    let text = fields.join(":");
    optional(text.trim_end_matches(':'), place, notes, field::mac)
}

/// A field that the interface can come up without.
fn optional<'a, T>(
    text: &'a str,
    place: &str,
    notes: &mut Vec<String>,
    read: impl FnOnce(&'a str) -> Result<T, String>,
) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    read(text).map_err(|reason| notes.push(format!("{place}: {reason}; the rest is used"))).ok()
}

fn unknown(method: &str, place: &str) -> String {
    match method {
        "bootp" | "rarp" | "both" | "link-local" => {
            format!("{place}: {method} is not supported; write dhcp or ip={STATIC_FORM}")
        }
        other => format!("{place}: “{other}” is not known; write dhcp, auto6, off or ip={STATIC_FORM}"),
    }
}
