//! The `[network]` section of `config.toml`. Pure.
//!
//! A mistake is told with its line, and the rest is used, as on the kernel command line. Words that are known from there
//! mean the same here.

use std::net::IpAddr;

use super::{
    Interface, Ipv4, Ipv6, Made, MadeKind, NetworkConfig, Which, bond,
    draft::Draft,
    entry::{self, Entry},
    field, ip, made, names,
};

/// What the section says.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// Whether to bring up the network at all.
    pub enabled: bool,
    /// `None` if it is what happens without a section.
    pub config: Option<NetworkConfig>,
    /// One sentence for each thing that is wrong.
    pub problems: Vec<String>,
}

type Reader = fn(&mut Entry, &mut Draft);
/// The lists of tables, and how an entry of each is read.
const KINDS: [(&str, Reader); 5] =
    [("interface", interface), ("route", route), ("vlan", vlan), ("bond", a_bond), ("bridge", bridge)];

/// Reads the section in `text`, a whole `config.toml`. There is none in a file that is no TOML, and none if there is
/// only the short form `network = false`.
pub fn read(text: &str) -> Option<Section> {
    let file = entry::parse(text)?;
    let mut section = Entry::section(&file, "network", text)?;
    let mut draft = Draft::default();
    let enabled = section.switch("enabled").unwrap_or(true);
    let keep = section.switch("keep").unwrap_or(false);
    let peer_dns = section.switch("peer-dns").unwrap_or(true);
    let nameservers = section.list("nameservers", field::address);
    let search = section.list("search", field::host);
    draft.boot = section.one("boot", names::bootdev);
    let mut wanted = 0;
    for (kind, read) in KINDS {
        for mut entry in section.tables(kind) {
            wanted += usize::from(kind == "interface");
            read(&mut entry, &mut draft);
            draft.problems.extend(entry.finish());
        }
    }
    draft.problems.extend(section.finish());
    let (mut config, mut problems) = draft.finish();
    if config.interfaces.is_empty() {
        config.interfaces = NetworkConfig::default().interfaces;
        if wanted > 0 {
            problems.push("[network]: no usable interface: DHCP on every Ethernet interface instead".to_owned());
        }
    }
    config.boot = config.boot.take().or_else(|| config.first_named());
    let config = NetworkConfig { nameservers, search, keep, peer_dns, ..config };
    Some(Section { enabled, config: (config != NetworkConfig::default()).then_some(config), problems })
}

/// Without a word on how it gets its addresses: by DHCP, as with `ip=INTERFACE:dhcp`.
fn interface(entry: &mut Entry, draft: &mut Draft) {
    let name = entry.one("name", field::name);
    let mac = entry.one("mac", field::mac);
    let which = match (name, mac) {
        (Some(name), Some(mac)) => {
            draft.name(&entry.place(), (name.clone(), mac));
            Which::Named(name)
        }
        (Some(name), None) => Which::Named(name),
        (None, Some(mac)) => Which::Mac(mac),
        (None, None) if entry.has("name") || entry.has("mac") => return entry.skip(), // it is not about every interface
        (None, None) => Which::Every,
    };
    let mut interface = Interface { ipv4: Ipv4::Off, ..Interface::dhcp(which) };
    fixed_addresses(entry, &mut interface);
    methods(entry, &mut interface);
    interface.mtu = entry.one("mtu", field::mtu);
    interface.mac = entry.one("set-mac", field::mac);
    interface.hostname = entry.one("hostname", field::host);
    interface.nameservers = entry.list("nameservers", field::address);
    draft.interface(entry.place(), interface);
}

fn fixed_addresses(entry: &mut Entry, interface: &mut Interface) {
    let addresses = entry.list("address", |text| match field::address_and_prefix(text)? {
        (address, Some(prefix)) => Ok((address, prefix)),
        (address, None) => Err(format!("{address} has no netmask; write it as 192.0.2.7/24 or 2001:db8::7/64")),
    });
    let mut gateways = entry.list("gateway", field::address);
    let mut peer = entry.one("peer", |text| {
        let (peer, prefix) = field::address_and_prefix(text)?;
        Ok((peer, prefix.or(Some(if peer.is_ipv4() { 32 } else { 128 }))))
    });
    for (address, prefix) in addresses {
        let taken = match address {
            IpAddr::V4(_) => interface.ipv4 != Ipv4::Off,
            IpAddr::V6(_) => interface.ipv6 != Ipv6::Kernel,
        };
        if taken {
            entry.problem("address", &format!("{address}: one address of each family is possible; remove one"));
            continue;
        }
        let same = |other: IpAddr| other.is_ipv4() == address.is_ipv4();
        let gateway = gateways.iter().position(|it| same(*it)).map(|at| gateways.remove(at));
        let peer = peer.take_if(|(peer, _)| same(*peer));
        let fixed = ip::static_interface(interface.which.clone(), (address, prefix), gateway, peer);
        match address {
            IpAddr::V4(_) => interface.ipv4 = fixed.ipv4,
            IpAddr::V6(_) => interface.ipv6 = fixed.ipv6,
        }
    }
    let left = gateways.into_iter().map(|it| ("gateway", it)).chain(peer.map(|(it, _)| ("peer", it)));
    for (key, address) in left {
        entry.problem(key, &format!("{address} goes with no address of this interface; write one for each address"));
    }
}

/// What `dhcp` and `ipv6` say, beside the addresses that are there.
fn methods(entry: &mut Entry, interface: &mut Interface) {
    const TAKEN: &str = "there is an address of this family; remove one";
    let dhcp = entry.list("dhcp", |text| match text {
        "true" | "ipv4" => Ok("ipv4"),
        "ipv6" | "false" => Ok(if text == "ipv6" { "ipv6" } else { "none" }),
        _ => Err(format!("“{text}” is not known; write true, false, \"ipv4\" or \"ipv6\"")),
    });
    let ipv6 = entry.one("ipv6", |text| match text {
        "off" => Ok(Ipv6::Off),
        _ => ip::method_of(text)
            .filter(|(ipv4, _)| *ipv4 == Ipv4::Off)
            .map(|(_, ipv6)| ipv6)
            .ok_or_else(|| format!("“{text}” is not known; write auto6, dhcp6, either6, link6 or off")),
    });
    let ipv6 = ipv6.or(dhcp.contains(&"ipv6").then_some(Ipv6::Dhcp));
    match (interface.ipv4, dhcp.contains(&"ipv4")) {
        (Ipv4::Off, true) => interface.ipv4 = Ipv4::Dhcp,
        (_, true) => entry.problem("dhcp", TAKEN),
        (_, false) => {}
    }
    match (interface.ipv6, ipv6) {
        (Ipv6::Kernel, Some(ipv6)) => interface.ipv6 = ipv6,
        (_, Some(_)) => entry.problem(if entry.has("ipv6") { "ipv6" } else { "dhcp" }, TAKEN),
        (_, None) => {}
    }
    match (interface.ipv4, interface.ipv6) {
        (Ipv4::Off, Ipv6::Kernel) if dhcp.contains(&"none") => interface.ipv6 = Ipv6::Off,
        (Ipv4::Off, Ipv6::Kernel | Ipv6::Off) if dhcp.is_empty() => interface.ipv4 = Ipv4::Dhcp,
        _ => {}
    }
}

fn route(entry: &mut Entry, draft: &mut Draft) {
    let destination = entry.required("destination", |text| Ok(text.to_owned()));
    let gateway = entry.one("gateway", field::address);
    let device = entry.one("interface", field::name);
    let broken = entry.has("gateway") && gateway.is_none() || entry.has("interface") && device.is_none();
    if let (Some(destination), false) = (destination, broken) {
        match names::static_route(&destination, gateway, device) {
            Ok(route) => draft.routes.push(route),
            Err(reason) => entry.problem("destination", &reason),
        }
    }
}

/// With a name in one of the kernel's styles, the number may be left out.
fn vlan(entry: &mut Entry, draft: &mut Draft) {
    let number = |text: &str| match field::number(text) {
        Some(number) => made::vlan_id(number),
        None => Err(format!("“{text}” is no VLAN number; write one from 0 to 4094")),
    };
    let id = entry.one("id", number);
    let name = entry.required("name", field::name);
    let parent = entry.required("parent", field::name);
    let (Some(name), Some(parent), false) = (name, parent, entry.has("id") && id.is_none()) else { return };
    match id {
        Some(id) => draft.made.push((entry.place(), Made { name, kind: MadeKind::Vlan { parent, id } })),
        None => match made::vlan(&format!("{name}:{parent}")) {
            Ok(made) => draft.made.push((entry.place(), made)),
            Err(_) => entry.problem("id", "the number of the VLAN is missing; write id = 5"),
        },
    }
}

fn a_bond(entry: &mut Entry, draft: &mut Draft) {
    let name = entry.required("name", field::name);
    let slaves = entry.members();
    let text = entry.list("options", |text| Ok(text.to_owned())).join(",");
    let mut left_out = Vec::new();
    let options = bond::options(&text, &slaves, &mut left_out);
    left_out.iter().for_each(|reason| entry.problem("options", reason));
    let mtu = entry.one("mtu", field::mtu);
    if let (Some(name), false) = (name, slaves.is_empty()) {
        draft.made.push((entry.place(), Made { name, kind: MadeKind::Bond { slaves, options, mtu } }));
    }
}

fn bridge(entry: &mut Entry, draft: &mut Draft) {
    let name = entry.required("name", field::name);
    let ports = entry.members();
    if let (Some(name), false) = (name, ports.is_empty()) {
        draft.made.push((entry.place(), Made { name, kind: MadeKind::Bridge { ports } }));
    }
}

#[cfg(test)]
mod tests;
