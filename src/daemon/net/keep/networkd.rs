//! For systemd-networkd (systemd.network(5)). It takes addresses away from a link that a file is about, unless that says
//! `KeepConfiguration=`. Ours sorts after every other, as dracut's own default does: it counts only for a link that nothing
//! else is about, and lets networkd renew the lease.

use std::fmt::Write;

use super::{File, Kept, WHY};
use crate::daemon::net::link::By;

// Writing to a string can't fail.
pub fn file(kept: &Kept) -> File {
    let dhcp = match (kept.has(By::Dhcp), kept.has(By::Dhcp6)) {
        (true, true) => "yes",
        (true, false) => "ipv4",
        (false, true) => "ipv6",
        (false, false) => "no",
    };
    let mut text = format!("{WHY}[Match]\nName={}\n\n[Network]\nKeepConfiguration=yes\nDHCP={dhcp}\n", kept.name);
    for server in &kept.nameservers {
        let _ = writeln!(text, "DNS={server}");
    }
    for domain in kept.search {
        let _ = writeln!(text, "Domains={domain}");
    }
    // As we name ourselves to servers, or they would give it another address.
    let dhcp6 = kept.mac.map_or(String::new(), |[_, _, c, d, e, f]| {
        format!("DUIDType=link-layer\nIAID={}\n", u32::from_be_bytes([c, d, e, f]))
    });
    for (section, identity) in [("DHCPv4", "ClientIdentifier=mac\n"), ("DHCPv6", &dhcp6), ("IPv6AcceptRA", "")] {
        let names = if kept.peer_dns { "" } else { "UseDNS=no\nUseDomains=no\n" };
        if !(identity.is_empty() && names.is_empty()) {
            let _ = write!(text, "\n[{section}]\n{identity}{names}");
        }
    }
    for it in kept.fixed().map(|ours| ours.address) {
        let _ = writeln!(text, "\n[Address]\nAddress={}/{}", it.address, it.prefix);
        if let Some(peer) = it.peer {
            let _ = writeln!(text, "Peer={peer}/{}", it.prefix);
        }
    }
    for route in kept.fixed_routes() {
        let _ = writeln!(text, "\n[Route]\nDestination={}/{}", route.destination, route.prefix);
        if let Some(gateway) = route.gateway {
            let _ = writeln!(text, "Gateway={gateway}");
        }
        if route.onlink {
            text.push_str("GatewayOnLink=yes\n");
        }
    }
    let path = format!("/run/systemd/network/zzzz-vestibule-{}.network", kept.name);
    File { path, contents: text, mode: 0o644 }
}
