//! What is told to the real system about a network that stays (`keep = true`). Pure.
//!
//! Who reads it there:
//!
//! - **systemd-networkd** reads `/run/systemd/network/*.network`: see [`networkd`].
//! - **NetworkManager** reads `/run/NetworkManager/system-connections/*.nmconnection`: see [`network_manager`].
//! - **cloud-init** reads `/run/net-NAME.conf` (`config_from_klibc_net_cfg` in cloudinit/net/cmdline.py), which klibc's
//!   ipconfig writes in images of initramfs-tools; scripts there read it too. It is about IPv4.
//!
//! There is no record of the lease itself: networkd and NetworkManager keep theirs in formats of their own, for their own
//! restart, and dhclient's are in `/var/lib`, which is not there yet. They ask again, and get the same address, as far as
//! they name themselves to the server as we do. ifupdown, dhcpcd and wicked have no place for others to write to: what is
//! in ifupdown's `/run/network/ifstate` is not configured at all, so a leased address would be renewed by nobody.

mod network_manager;
mod networkd;

use std::net::{IpAddr, Ipv4Addr};

use super::{
    link::{By, Ours},
    step::Route,
};
use crate::config::network::Mac;

/// An interface that stays.
#[derive(Debug)]
pub struct Kept<'a> {
    pub index: u32,
    pub name: &'a str,
    pub mac: Option<Mac>,
    /// It is not one that was made of others.
    pub ordinary: bool,
    pub ours: &'a [Ours],
    /// Of `rd.route=`.
    pub routes: &'a [Route],
    /// Of the configuration, not of a lease or of a router.
    pub nameservers: Vec<IpAddr>,
    /// Likewise.
    pub search: &'a [String],
    /// Name servers and domains of leases and of routers are used too.
    pub peer_dns: bool,
}

/// A file to write.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub contents: String,
    /// Permissions.
    pub mode: u32,
}

/// Its first line, where `#` begins a comment.
const WHY: &str = "# vestibule brought this interface up before the real system, and was told to keep it.\n";

impl Kept<'_> {
    pub fn files(&self) -> Vec<File> {
        let klibc = self.ipconfig().map(|contents| File {
            path: format!("/run/net-{}.conf", self.name),
            contents,
            mode: 0o644, // as ipconfig's
        });
        [Some(networkd::file(self)), network_manager::file(self), klibc].into_iter().flatten().collect()
    }

    fn has(&self, by: By) -> bool {
        self.ours.iter().any(|ours| ours.by == by)
    }

    /// Addresses that don't come from a lease.
    fn fixed(&self) -> impl Iterator<Item = &Ours> {
        self.ours.iter().filter(|ours| matches!(ours.by, By::Static | By::Static6))
    }

    /// Routes that don't come from a lease.
    fn fixed_routes(&self) -> impl Iterator<Item = &Route> {
        self.fixed().flat_map(|ours| &ours.routes).chain(self.routes)
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
        let mut servers = self.nameservers.iter().chain(&ours.nameservers).copied().filter(IpAddr::is_ipv4);
        let mut server = || servers.next().unwrap_or_else(none);
        let search = [self.search, &ours.search].concat().join(" ");
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

    fn address(text: &str, prefix: u8) -> Address {
        Address { index: 2, address: text.parse().unwrap(), prefix, peer: None, valid: None }
    }

    fn of(by: By, address: Address, gateway: &str, server: Option<&str>) -> Ours {
        let gateway: IpAddr = gateway.parse().unwrap();
        let all = if gateway.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
        let routes = link::routes(&address, &[(all, 0, Some(gateway))], 2050);
        let nameservers = server.map(|server| server.parse().unwrap()).into_iter().collect();
        Ours { by, address, routes, nameservers, search: server.map(|_| "lease.example".into()).into_iter().collect() }
    }

    fn kept<'a>(ours: &'a [Ours], search: &'a [String]) -> Kept<'a> {
        let nameservers = vec!["192.0.2.99".parse().unwrap(), "2001:db8::53".parse().unwrap()];
        let mac = Some([2, 0, 0, 0, 1, 4]);
        Kept { index: 2, name: "eth0", mac, ordinary: true, ours, routes: &[], nameservers, search, peer_dns: true }
    }

    #[test]
    fn a_lease_and_a_static_address() {
        let ours = [
            of(By::Dhcp, address("192.0.2.7", 24), "192.0.2.1", Some("192.0.2.53")),
            of(By::Static6, address("2001:db8::7", 64), "fe80::1", None),
        ];
        let search = ["example.org".to_owned()];
        let files = kept(&ours, &search).files();
        let file = |path: &str, mode, contents: &str| File { path: path.into(), contents: contents.into(), mode };
        let network = format!(
            "{WHY}[Match]\nName=eth0\n\n[Network]\nKeepConfiguration=yes\nDHCP=ipv4\nDNS=192.0.2.99\nDNS=2001:db8::53\n\
             Domains=example.org\n\n[DHCPv4]\nClientIdentifier=mac\n\n[DHCPv6]\nDUIDType=link-layer\nIAID=260\n\n\
             [Address]\nAddress=2001:db8::7/64\n\n[Route]\nDestination=::/0\nGateway=fe80::1\n"
        );
        assert_eq!(files[0], file("/run/systemd/network/zzzz-vestibule-eth0.network", 0o644, &network));
        let profile = format!(
            "{WHY}[connection]\nid=vestibule-eth0\nuuid=76657374-6962-8756-8c65-000000000002\ntype=ethernet\n\
             interface-name=eth0\nautoconnect-priority=-999\n\n\
             [ipv4]\nmethod=auto\ndns=192.0.2.99;\ndns-search=example.org;\n\n\
             [ipv6]\nmethod=auto\naddr-gen-mode=eui64\nip6-privacy=0\naddress1=2001:db8::7/64\ngateway=fe80::1\n\
             dns=2001:db8::53;\ndns-search=example.org;\n"
        );
        let path = "/run/NetworkManager/system-connections/vestibule-eth0.nmconnection";
        assert_eq!(files[1], file(path, 0o600, &profile));
        let conf = "DEVICE='eth0'\nPROTO='dhcp'\nIPV4PROTO='dhcp'\nIPV4ADDR='192.0.2.7'\nIPV4BROADCAST='192.0.2.255'\n\
            IPV4NETMASK='255.255.255.0'\nIPV4GATEWAY='192.0.2.1'\nIPV4DNS0='192.0.2.99'\nIPV4DNS1='192.0.2.53'\n\
            DOMAINSEARCH='example.org lease.example'\n";
        assert_eq!(files[2], file("/run/net-eth0.conf", 0o644, conf));
        assert_eq!(files.len(), 3);
        assert_eq!(kept(&ours[1..], &search).files().len(), 2, "the last is about IPv4");
    }

    #[test]
    fn names_of_leases_that_are_not_wanted() {
        let ours = [of(By::Dhcp, address("192.0.2.7", 24), "192.0.2.1", None)];
        let files = Kept { peer_dns: false, ..kept(&ours, &[]) }.files();
        assert!(files[0].contents.contains("=mac\nUseDNS=no\nUseDomains=no\n"), "{}", files[0].contents);
        assert_eq!(files[1].contents.matches("ignore-auto-dns=true\n").count(), 2, "{}", files[1].contents);
    }

    #[test]
    fn other_ends_routes_and_what_was_made() {
        let mut own = address("192.0.2.7", 32);
        own.peer = Some("192.0.2.1".parse().unwrap());
        let mut ours = [of(By::Static, own, "192.0.2.1", None)];
        let files = kept(&ours, &[]).files();
        assert!(files[0].contents.contains("[Address]\nAddress=192.0.2.7/32\nPeer=192.0.2.1/32\n"));
        assert!(files.iter().all(|it| !it.path.contains("NetworkManager")), "it has no word for that");
        ours[0].address.peer = None;
        ours[0].routes = link::routes(
            &ours[0].address,
            &[(ours[0].routes[0].destination, 0, Some("198.51.100.1".parse().unwrap()))],
            1,
        );
        let route = Route { destination: "203.0.113.0".parse().unwrap(), prefix: 24, ..ours[0].routes[0] };
        let routes = [route, Route { gateway: None, onlink: false, ..route }];
        let files = Kept { routes: &routes, ..kept(&ours, &[]) }.files();
        assert!(files[0].contents.contains("Destination=0.0.0.0/0\nGateway=198.51.100.1\nGatewayOnLink=yes\n"));
        let wanted = "method=manual\naddress1=192.0.2.7/32\nroute1=0.0.0.0/0,198.51.100.1\nroute1_options=onlink=true\n\
            route2=203.0.113.0/24,198.51.100.1\nroute2_options=onlink=true\nroute3=203.0.113.0/24\n";
        assert!(files[1].contents.contains(wanted), "{}", files[1].contents);
        let made = Kept { ordinary: false, ..kept(&ours, &[]) }.files();
        assert!(made.iter().all(|it| !it.path.contains("NetworkManager")));
    }
}
