//! What the administrator wants of the network, however it was written. Pure data; every value in it is valid.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address, in the order in which it is written.
pub type Mac = [u8; 6];

/// An empty list of interfaces means: no network (`ip=off`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// In order of appearance; what names an interface goes before what does not. All that is wanted of one interface
    /// stands in one entry.
    pub interfaces: Vec<Interface>,
    /// VLANs, bonds and bridges, in an order in which they can be made. [`Which::Every`] is about them too, but not
    /// about the members of a bond or bridge.
    pub made: Vec<Made>,
    /// `ifname=`: the name that the interface with this address shall have.
    pub names: Vec<(String, Mac)>,
    /// `rd.route=`
    pub routes: Vec<StaticRoute>,
    /// `nameserver=`, to be used before all others.
    pub nameservers: Vec<IpAddr>,
    /// Domains that short names are looked up in, before those of DHCP and router advertisements.
    pub search: Vec<String>,
    /// Whether name servers and domains of DHCP and router advertisements are used (`rd.peerdns`).
    pub peer_dns: bool,
    /// The interface whose default route and name servers are preferred.
    pub boot: Option<Boot>,
    /// `rd.neednet=1`: the initramfs's own network scripts were asked to run.
    pub neednet: bool,
    /// What was configured stays for the real system.
    pub keep: bool,
}

/// What is wanted of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub which: Which,
    pub ipv4: Ipv4,
    pub ipv6: Ipv6,
    /// Maximum transmission unit in bytes, if it is to be changed.
    pub mtu: Option<u32>,
    /// The Ethernet address that it shall have.
    pub mac: Option<Mac>,
    /// The name that DHCP tells to the server. The host name of the initramfs is not set.
    pub hostname: Option<String>,
    /// To be used once the interface has an address.
    pub nameservers: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    Named(String),
    /// The one that has this address by itself.
    Mac(Mac),
    /// Every Ethernet interface with carrier, and every one of [`NetworkConfig::made`].
    Every,
    /// One of those: with a static address the first that has carrier, else the first that gets an address; the
    /// others are let go then (`ip=single-dhcp`).
    First,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv4 {
    Off,
    Dhcp,
    Static(StaticAddress),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticAddress {
    pub address: Ipv4Addr,
    /// 0–32. With a peer it is the peer's network that is on the link, as in `ip address add … peer PEER/PREFIX`.
    pub prefix: u8,
    /// The other end of a point-to-point link.
    pub peer: Option<Ipv4Addr>,
    pub gateway: Option<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    Off,
    /// What the kernel does by itself with the settings that it has.
    Kernel,
    /// Link-local only; router advertisements are ignored (`link6`).
    LinkLocal,
    /// Addresses from router advertisements (`auto6`), and DHCPv6 for the rest, where they say so.
    Auto,
    /// DHCPv6 for addresses (`dhcp6`).
    Dhcp,
    /// DHCPv6 if no address comes by router advertisements (`either6`).
    Either,
    /// With routes from router advertisements, as dracut has it (`do_static` in ifup.sh).
    Static(StaticAddress6),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticAddress6 {
    pub address: Ipv6Addr,
    /// 0–128; of the peer's network, if there is a peer.
    pub prefix: u8,
    pub peer: Option<Ipv6Addr>,
    pub gateway: Option<Ipv6Addr>,
}

/// Destination and gateway are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRoute {
    /// Bits behind the prefix are zero.
    pub destination: IpAddr,
    pub prefix: u8,
    /// At least one of gateway and device is there. Without a device it is the interface that the gateway is on.
    pub gateway: Option<IpAddr>,
    pub device: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// `bootdev=`
    Name(String),
    /// `BOOTIF=`
    Mac(Mac),
}

/// A virtual interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub name: String,
    pub kind: MadeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeKind {
    /// IEEE 802.1Q; `id` is from 0 to 4094.
    Vlan {
        parent: String,
        id: u16,
    },
    Bond {
        slaves: Vec<String>,
        options: BondOptions,
        mtu: Option<u32>,
    },
    /// With a forwarding delay of zero, as dracut makes it.
    Bridge {
        ports: Vec<String>,
    },
}

/// What the kernel takes as `IFLA_BOND_*` attributes (linux/if_link.h). Options that exclude each other are not
/// together here.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BondOptions {
    pub mode: BondMode,
    /// Attributes that hold a number, `IFLA_BOND_MODE` not among them, each once.
    pub numbers: Vec<(u16, BondNumber)>,
    /// `IFLA_BOND_ARP_IP_TARGET`, at most [`BondOptions::TARGETS`].
    pub arp_ip_target: Vec<Ipv4Addr>,
    /// `IFLA_BOND_NS_IP6_TARGET`, at most [`BondOptions::TARGETS`].
    pub ns_ip6_target: Vec<Ipv6Addr>,
    /// `IFLA_BOND_PRIMARY`: one of the slaves. The kernel takes its index, once it is a slave.
    pub primary: Option<String>,
    /// `IFLA_BOND_AD_ACTOR_SYSTEM`
    pub ad_actor_system: Option<Mac>,
}

/// An attribute's number in the width that the kernel expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BondNumber {
    U8(u8),
    U16(u16),
    U32(u32),
}

/// With the numbers of linux/if_bonding.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum BondMode {
    #[default]
    BalanceRr = 0,
    ActiveBackup = 1,
    BalanceXor = 2,
    Broadcast = 3,
    Ieee8023ad = 4,
    BalanceTlb = 5,
    BalanceAlb = 6,
}

impl BondOptions {
    /// `BOND_MAX_ARP_TARGETS` and `BOND_MAX_NS_TARGETS` (include/net/bonding.h).
    pub const TARGETS: usize = 16;
}

impl Default for NetworkConfig {
    /// DHCP on every Ethernet interface with carrier.
    fn default() -> Self {
        Self {
            interfaces: vec![Interface::dhcp(Which::Every)],
            made: Vec::new(),
            names: Vec::new(),
            routes: Vec::new(),
            nameservers: Vec::new(),
            search: Vec::new(),
            peer_dns: true,
            boot: None,
            neednet: false,
            keep: false,
        }
    }
}

impl Interface {
    /// DHCP for IPv4, and for IPv6 what the kernel does.
    pub fn dhcp(which: Which) -> Self {
        Self {
            which,
            ipv4: Ipv4::Dhcp,
            ipv6: Ipv6::Kernel,
            mtu: None,
            mac: None,
            hostname: None,
            nameservers: Vec::new(),
        }
    }

    /// Neither IPv4 nor IPv6 is wanted: it gets no address, also where every other one does.
    pub fn is_left_alone(&self) -> bool {
        (self.ipv4, self.ipv6) == (Ipv4::Off, Ipv6::Off)
    }

    /// Has an address that doesn't have to be asked for.
    pub fn is_static(&self) -> bool {
        matches!(self.ipv4, Ipv4::Static(_)) || matches!(self.ipv6, Ipv6::Static(_))
    }
}
