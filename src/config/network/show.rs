//! A configuration in words, for `vestibule check`. Pure.

use std::fmt::{self, Display, Formatter};

use super::{Boot, Interface, Ipv4, Ipv6, Mac, Made, MadeKind, NetworkConfig, StaticRoute, Which};

impl NetworkConfig {
    /// What will be done, a line for each interface, route and so on.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.names.iter().map(|(name, mac)| format!("{name}: the name of {}", show_mac(mac))).collect();
        lines.extend(self.made.iter().map(ToString::to_string));
        lines.extend(self.interfaces.iter().map(ToString::to_string));
        if self.interfaces.is_empty() {
            lines.push("no interface is brought up".to_owned());
        }
        lines.extend(self.routes.iter().map(ToString::to_string));
        lines.extend(self.nameservers.iter().map(|server| format!("name server {server}")));
        lines.extend(self.search.iter().map(|domain| format!("search domain {domain}")));
        if !self.peer_dns {
            lines.push("name servers of DHCP and router advertisements are not used".to_owned());
        }
        lines.extend(self.boot.iter().map(|boot| match boot {
            Boot::Name(name) => format!("{name} is preferred"),
            Boot::Mac(mac) => format!("{} is preferred", show_mac(mac)),
        }));
        if self.keep {
            lines.push("what is configured stays for the real system".to_owned());
        }
        lines
    }
}

impl Display for Interface {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{}: ", self.which)?;
        let mut parts = Vec::new();
        match self.ipv4 {
            Ipv4::Off => {}
            Ipv4::Dhcp => parts.push("DHCP".to_owned()),
            Ipv4::Static(it) => parts.push(fixed(it.address, it.prefix, it.peer, it.gateway)),
        }
        match self.ipv6 {
            Ipv6::Off if self.ipv4 == Ipv4::Off => parts.push("no address".to_owned()),
            Ipv6::Off => parts.push("no IPv6".to_owned()),
            Ipv6::Kernel => {}
            Ipv6::LinkLocal => parts.push("IPv6 link-local".to_owned()),
            Ipv6::Auto => parts.push("IPv6 autoconfiguration".to_owned()),
            Ipv6::Dhcp => parts.push("DHCPv6".to_owned()),
            Ipv6::Either => parts.push("IPv6 autoconfiguration or DHCPv6".to_owned()),
            Ipv6::Static(it) => parts.push(fixed(it.address, it.prefix, it.peer, it.gateway)),
        }
        parts.extend(self.mtu.map(|mtu| format!("MTU {mtu}")));
        parts.extend(self.mac.map(|mac| format!("MAC address {}", show_mac(&mac))));
        parts.extend(self.hostname.iter().map(|name| format!("host name {name}")));
        parts.extend(self.nameservers.iter().map(|server| format!("name server {server}")));
        f.write_str(&parts.join(", "))
    }
}

impl Display for Which {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Which::Named(name) => f.write_str(name),
            Which::Mac(mac) => f.write_str(&show_mac(mac)),
            Which::Every => f.write_str("every Ethernet interface"),
            Which::First => f.write_str("the first Ethernet interface"),
        }
    }
}

impl Display for Made {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match &self.kind {
            MadeKind::Vlan { parent, id } => write!(f, "VLAN {id} on {parent}"),
            MadeKind::Bridge { ports } => write!(f, "bridge of {}", ports.join(", ")),
            MadeKind::Bond { slaves, options, mtu } => {
                write!(f, "bond of {}, {options}", slaves.join(", "))?;
                mtu.map_or(Ok(()), |mtu| write!(f, ", MTU {mtu}"))
            }
        }
    }
}

impl Display for StaticRoute {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "route to {}/{}", self.destination, self.prefix)?;
        if let Some(gateway) = self.gateway {
            write!(f, " by {gateway}")?;
        }
        self.device.as_ref().map_or(Ok(()), |device| write!(f, " on {device}"))
    }
}

fn fixed<T: Display>(address: T, prefix: u8, peer: Option<T>, gateway: Option<T>) -> String {
    let peer = peer.map(|peer| format!(" peer {peer}")).unwrap_or_default();
    let gateway = gateway.map(|gateway| format!(" gateway {gateway}")).unwrap_or_default();
    format!("{address}/{prefix}{peer}{gateway}")
}

pub fn show_mac(mac: &Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
