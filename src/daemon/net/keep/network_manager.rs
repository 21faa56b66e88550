//! For NetworkManager (nm-settings-keyfile(5)).
//!
//! What is up with addresses when it starts for the first time after a boot, it takes over with a profile that fits, without
//! taking it down (`get_existing_connection` in its nm-manager.c); the administrator's own come before ours, which has the
//! lowest priority there is. If none fits, it only watches; that is right for fixed addresses, but a lease would end unrenewed:
//! therefore ours. "For the first time"
//! means that there is no `/run/NetworkManager/devices` (nm-config.c), so nothing is written there.

use std::{fmt::Write, net::IpAddr};

use super::{File, Kept, WHY};
use crate::daemon::net::link::By;

/// The letters of "vestibule", broken by the version for schemes of one's own (8, RFC 9562 section 5.8); what follows is the
/// index of the interface, so that each profile has its own.
const UUID: &str = "76657374-6962-8756-8c65";

/// `None` for what it has no word for. One made of others it would need a profile for each part of; without one, it leaves
/// all of them alone.
pub fn file(kept: &Kept) -> Option<File> {
    if !kept.ordinary || kept.ours.iter().any(|ours| ours.address.peer.is_some()) {
        return None;
    }
    let name = kept.name;
    let mut text = format!(
        "{WHY}[connection]\nid=vestibule-{name}\nuuid={UUID}-{:012x}\ntype=ethernet\ninterface-name={name}\n\
         autoconnect-priority=-999\n\n[ipv4]\n",
        kept.index,
    );
    let ipv4 = match (kept.has(By::Dhcp), kept.has(By::Static)) {
        (true, _) => "auto",
        (false, true) => "manual",
        (false, false) => "disabled",
    };
    let _ = writeln!(text, "method={ipv4}"); // writing to a string can't fail
    if ipv4 != "disabled" {
        family(&mut text, kept, IpAddr::is_ipv4);
    }
    // Routers are heard, as before, and addresses made as the kernel makes them.
    text.push_str("\n[ipv6]\nmethod=auto\naddr-gen-mode=eui64\nip6-privacy=0\n");
    family(&mut text, kept, IpAddr::is_ipv6);
    let path = format!("/run/NetworkManager/system-connections/vestibule-{name}.nmconnection");
    // It takes no other mode: profiles may have passwords.
    Some(File { path, contents: text, mode: 0o600 })
}

/// What is fixed, of one family.
fn family(text: &mut String, kept: &Kept, is: impl Fn(&IpAddr) -> bool) {
    let addresses = kept.fixed().map(|ours| ours.address).filter(|it| is(&it.address));
    for (number, it) in (1..).zip(addresses) {
        let _ = writeln!(text, "address{number}={}/{}", it.address, it.prefix);
    }
    let mut number = 0;
    for route in kept.fixed_routes().filter(|route| is(&route.destination)) {
        match route.gateway {
            Some(gateway) if route.prefix == 0 && !route.onlink => {
                let _ = writeln!(text, "gateway={gateway}");
                continue;
            }
            gateway => {
                number += 1;
                let gateway = gateway.map(|gateway| format!(",{gateway}")).unwrap_or_default();
                let _ = writeln!(text, "route{number}={}/{}{gateway}", route.destination, route.prefix);
            }
        }
        if route.onlink {
            let _ = writeln!(text, "route{number}_options=onlink=true");
        }
    }
    let servers: String = kept.nameservers.iter().filter(|it| is(it)).map(|it| format!("{it};")).collect();
    if !servers.is_empty() {
        let _ = writeln!(text, "dns={servers}");
    }
    if !kept.search.is_empty() {
        let _ = writeln!(text, "dns-search={};", kept.search.join(";"));
    }
    if !kept.peer_dns {
        text.push_str("ignore-auto-dns=true\n");
    }
}
