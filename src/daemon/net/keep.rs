//! What is told to the real system about a network that stays (`keep = true`). Pure.
//!
//! Who reads it there:
//!
//! - **systemd-networkd** reads `/run/systemd/network/*.network` (systemd.network(5)) and takes addresses away from a
//!   link that a file is about, unless it says `KeepConfiguration=`. Ours sorts after every other, as dracut's own
//!   default does: it counts only for a link that nothing else is about, and lets networkd renew the lease.
//! - **cloud-init** reads `/run/net-NAME.conf` (`config_from_klibc_net_cfg` in cloudinit/net/cmdline.py), which klibc's
//!   ipconfig writes in images of initramfs-tools; scripts there read it too. It is about IPv4.
//!
//! NetworkManager needs nothing: what is up with addresses when it starts for the first time it takes over with a
//! matching profile, if there is one, and does not touch otherwise (its commit 27b2477, 2017). What ifupdown does is up
//! to `/etc/network/interfaces`: it has no place for others to write to.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use super::{
    link::{By, Ours},
    step::Route,
};

/// An interface that stays.
#[derive(Debug)]
pub struct Kept<'a> {
    pub name: &'a str,
    pub ours: &'a [Ours],
    /// Of `rd.route=`.
    pub routes: &'a [Route],
}

impl Kept<'_> {
    /// The files with their contents.
    pub fn files(&self) -> Vec<(String, String)> {
        let network = (format!("/run/systemd/network/zzzz-vestibule-{}.network", self.name), self.networkd());
        let klibc = self.ipconfig().map(|text| (format!("/run/net-{}.conf", self.name), text));
        [Some(network), klibc].into_iter().flatten().collect()
    }

    fn networkd(&self) -> String {
        let leased = |by| self.ours.iter().any(|ours| ours.by == by);
        let dhcp = match (leased(By::Dhcp), leased(By::Dhcp6)) {
            (true, true) => "yes",
            (true, false) => "ipv4",
            (false, true) => "ipv6",
            (false, false) => "no",
        };
        let mut text = format!(
            "# vestibule brought this interface up before the real system, and was told to keep it.\n\
             [Match]\nName={}\n\n[Network]\nKeepConfiguration=yes\nDHCP={dhcp}\n",
            self.name,
        );
        let fixed = || self.ours.iter().filter(|ours| matches!(ours.by, By::Static | By::Static6));
        for ours in fixed() {
            // Writing to a string can't fail.
            let _ = writeln!(text, "Address={}/{}", ours.address.address, ours.address.prefix);
        }
        for server in self.ours.iter().flat_map(|ours| &ours.nameservers) {
            let _ = writeln!(text, "DNS={server}");
        }
        for domain in self.ours.iter().flat_map(|ours| &ours.search) {
            let _ = writeln!(text, "Domains={domain}");
        }
        for route in fixed().flat_map(|ours| &ours.routes).chain(self.routes) {
            let _ = writeln!(text, "\n[Route]\nDestination={}/{}", route.destination, route.prefix);
            if let Some(gateway) = route.gateway {
                let _ = writeln!(text, "Gateway={gateway}");
            }
            if route.onlink {
                text.push_str("GatewayOnLink=yes\n");
            }
        }
        text
    }

    /// As `dump_device_config` of klibc's ipconfig writes it (usr/kinit/ipconfig/main.c).
    fn ipconfig(&self) -> Option<String> {
        let ours = self.ours.iter().find(|ours| ours.address.address.is_ipv4())?;
        let IpAddr::V4(address) = ours.address.address else { return None };
        let mask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(ours.address.prefix)).unwrap_or(0));
        let broadcast = address | !mask;
        let protocol = if ours.by == By::Dhcp { "dhcp" } else { "static" };
        let default = ours.routes.iter().find(|route| route.prefix == 0).and_then(|route| route.gateway);
        let none = || IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mut servers = ours.nameservers.iter().copied().filter(IpAddr::is_ipv4);
        let mut server = || servers.next().unwrap_or_else(none);
        let search = ours.search.join(" ");
        Some(format!(
            "DEVICE='{}'\nPROTO='{protocol}'\nIPV4PROTO='{protocol}'\nIPV4ADDR='{address}'\n\
             IPV4BROADCAST='{broadcast}'\nIPV4NETMASK='{mask}'\nIPV4GATEWAY='{}'\nIPV4DNS0='{}'\nIPV4DNS1='{}'\n\
             DOMAINSEARCH='{}'\n",
            self.name,
            default.unwrap_or_else(none),
            server(),
            server(),
            // Shells read the file; a quote would end the text.
            search.replace('\'', ""),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::net::{link, step::Address};

    #[test]
    fn a_lease_and_a_static_address() {
        let address =
            |text: &str, prefix| Address { index: 2, address: text.parse().unwrap(), prefix, peer: None, valid: None };
        let of = |by, address: Address, gateway: &str, server: &str| Ours {
            by,
            address,
            routes: link::routes(
                &address,
                &[(gateway.parse::<IpAddr>().map(all).unwrap(), 0, gateway.parse().ok())],
                2050,
            ),
            nameservers: vec![server.parse().unwrap()],
            search: vec!["example.org".into()],
        };
        let ours = [
            of(By::Dhcp, address("192.0.2.7", 24), "192.0.2.1", "192.0.2.53"),
            of(By::Static6, address("2001:db8::7", 64), "fe80::1", "2001:db8::53"),
        ];
        let files = Kept { name: "eth0", ours: &ours, routes: &[] }.files();
        let network = "# vestibule brought this interface up before the real system, and was told to keep it.\n\
            [Match]\nName=eth0\n\n[Network]\nKeepConfiguration=yes\nDHCP=ipv4\nAddress=2001:db8::7/64\nDNS=192.0.2.53\n\
            DNS=2001:db8::53\nDomains=example.org\nDomains=example.org\n\n[Route]\nDestination=::/0\nGateway=fe80::1\n";
        assert_eq!(files[0], ("/run/systemd/network/zzzz-vestibule-eth0.network".into(), network.into()));
        let conf = "DEVICE='eth0'\nPROTO='dhcp'\nIPV4PROTO='dhcp'\nIPV4ADDR='192.0.2.7'\nIPV4BROADCAST='192.0.2.255'\n\
            IPV4NETMASK='255.255.255.0'\nIPV4GATEWAY='192.0.2.1'\nIPV4DNS0='192.0.2.53'\nIPV4DNS1='0.0.0.0'\n\
            DOMAINSEARCH='example.org'\n";
        assert_eq!(files[1], ("/run/net-eth0.conf".into(), conf.into()));
        assert_eq!(Kept { name: "eth0", ours: &ours[1..], routes: &[] }.files().len(), 1);
    }

    fn all(of: IpAddr) -> IpAddr {
        if of.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap()
    }
}
