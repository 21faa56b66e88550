//! `ifname=`, `bootdev=`, `BOOTIF=`, and routes: arguments about one thing each. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Boot, Mac, StaticRoute, field};

/// `ifname=INTERFACE:MAC` (`parse_ifname_opts` in net-lib.sh)
pub fn ifname(value: &str) -> Result<(String, Mac), String> {
    let (name, mac) = value.split_once(':').ok_or("a MAC address is missing; write ifname=NAME:52:54:00:12:34:56")?;
    if mac.split(':').count() == 20 {
        return Err("InfiniBand addresses (20 bytes) are not supported; use the name that the kernel gives".to_owned());
    }
    let name = field::name(name).map_err(|reason| format!("field 1 (INTERFACE): {reason}"))?;
    Ok((name, field::mac(mac).map_err(|reason| format!("field 2 (MAC): {reason}"))?))
}

/// A name that the kernel may give to another interface at any time.
pub fn is_kernels(name: &str) -> bool {
    name.strip_prefix("eth").is_some_and(|rest| !rest.is_empty() && field::number(rest).is_some())
}

/// `enx` and twelve hexadecimal digits: udev's name for an interface by its address, which dracut turns into an
/// `ifname=` of its own (parse-ip-opts.sh).
pub fn address_in_name(name: &str) -> Option<Mac> {
    let digits = name.strip_prefix("enx").filter(|rest| rest.len() == 12 && rest.is_ascii())?;
    let pairs: Vec<&str> = (0..6).map(|pair| &digits[2 * pair..2 * pair + 2]).collect();
    field::mac(&pairs.join(":")).ok()
}

/// `bootdev=`: a name; dracut compares it with addresses too (ifup.sh).
pub fn bootdev(value: &str) -> Result<Boot, String> {
    match field::mac(value) {
        Ok(mac) => Ok(Boot::Mac(mac)),
        Err(_) => field::name(value).map(Boot::Name),
    }
}

/// PXELINUX puts the type of the hardware (01: Ethernet) before the address and dashes between the bytes; both may be
/// otherwise (`fix_bootif` in net-lib.sh).
pub fn bootif(value: &str) -> Result<Mac, String> {
    let mac = match value.split([':', '-']).count() {
        7 => value.split_once([':', '-']).map_or(value, |(_, rest)| rest),
        _ => value,
    };
    field::mac(mac).map_err(|_| format!("“{value}” is no MAC address; write it as 01-52-54-00-12-34-56"))
}

/// `rd.route=NET/NETMASK:[GATEWAY][:INTERFACE]` (`route_to_var` in net-lib.sh, then `ip route add`)
pub fn route(value: &str) -> Result<StaticRoute, String> {
    const FORM: &str = "NET/NETMASK:GATEWAY[:INTERFACE]";
    let fields = field::split(value)?;
    let (net, gateway, device) = match fields.as_slice() {
        [net, gateway] => (*net, *gateway, ""),
        [net, gateway, device] => (*net, *gateway, *device),
        _ => return Err(format!("it has {} fields and not 2 or 3; write rd.route={FORM}", fields.len())),
    };
    let filled = |text: &'static str| move |reason| format!("{text}: {reason}");
    let gateway = (!gateway.is_empty()).then(|| field::address(gateway)).transpose();
    let device = (!device.is_empty()).then(|| field::name(device)).transpose();
    let gateway = gateway.map_err(filled("field 2 (GATEWAY)"))?;
    let device = device.map_err(filled("field 3 (INTERFACE)"))?;
    static_route(net, gateway, device).map_err(filled("field 1 (NET)"))
}

/// A route to `net`, which is written as for ip-route(8). As the kernel does for IPv6, bits behind the prefix are
/// dropped.
pub fn static_route(net: &str, gateway: Option<IpAddr>, device: Option<String>) -> Result<StaticRoute, String> {
    let (destination, prefix) = match (net, gateway) {
        ("default", Some(IpAddr::V6(_))) => (Ipv6Addr::UNSPECIFIED.into(), Some(0)),
        ("default", _) => (Ipv4Addr::UNSPECIFIED.into(), Some(0)),
        (net, _) => field::address_and_prefix(net)?,
    };
    if gateway.is_none() && device.is_none() {
        return Err("neither gateway nor interface is given; one of them is needed".to_owned());
    }
    if let Some(gateway) = gateway.filter(|gateway| gateway.is_ipv4() != destination.is_ipv4()) {
        return Err(format!("{destination} and the gateway {gateway} are of different families; write both in one"));
    }
    let (destination, prefix) = match destination {
        IpAddr::V4(it) => {
            let prefix = prefix.unwrap_or(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            (Ipv4Addr::from_bits(it.to_bits() & mask).into(), prefix)
        }
        IpAddr::V6(it) => {
            let prefix = prefix.unwrap_or(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            (Ipv6Addr::from_bits(it.to_bits() & mask).into(), prefix)
        }
    };
    Ok(StaticRoute { destination, prefix, gateway, device })
}
