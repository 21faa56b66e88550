//! The words between the plan and the edges: what was seen, and what to do. Pure data.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{
    advert::Advert,
    arp::Arp,
    dhcp::message::Message,
    dhcp6::{self, Want},
    owner::Facts,
};
use crate::config::network::{BondOptions, Mac};

/// An interface as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSeen {
    /// Stays the same when udev renames the interface.
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    /// The one that it has by itself, where the kernel knows it; else the one that it has.
    pub own_mac: Option<Mac>,
    pub sort: Sort,
    /// The bond, bridge or the like that it is part of.
    pub master: Option<u32>,
    pub up: bool,
    pub carrier: bool,
    /// In bytes.
    pub mtu: u32,
    /// What routers have said about DHCPv6.
    pub router: Option<Want>,
}

/// What an interface is good for, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Ethernet; [`Facts`] know whether there is hardware behind it.
    Ethernet,
    /// One end of a pair, as containers have it.
    Veth,
    /// Ethernet made of others (bridge, bond, VLAN, tunnel): only for those who name it.
    Made,
    /// Part of a bridge, bond or the like, a loopback or something without Ethernet addresses: never.
    Unfit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressSeen {
    pub index: u32,
    pub address: IpAddr,
    pub prefix: u8,
    /// Not link-local or host-local.
    pub global: bool,
    /// Without an end; an IPv6 address from a router advertisement has one.
    pub permanent: bool,
    /// Made by the kernel from a router advertisement. Before Linux 5.18 it does not say so, and this is one that has
    /// an end.
    pub advertised: bool,
    pub check: Check,
}

/// How far the kernel is with asking whether another station has an IPv6 address (RFC 4862 section 5.4). IPv4
/// addresses are usable at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// Usable.
    #[default]
    Passed,
    /// Tentative: not usable yet.
    Running,
    /// Another station has it: not usable.
    Failed,
}

impl AddressSeen {
    /// Whether this is the same address, perhaps with another time.
    pub fn same(&self, other: &Self) -> bool {
        (self.index, self.address, self.prefix) == (other.index, other.address, other.prefix)
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    /// Everything that there is, at the start and after events were lost.
    Listed {
        links: Vec<(LinkSeen, Facts)>,
        addresses: Vec<AddressSeen>,
    },
    /// New or changed.
    Link(LinkSeen, Facts),
    LinkGone(u32),
    Address(AddressSeen),
    AddressGone(AddressSeen),
    Message {
        index: u32,
        message: Message,
    },
    Message6 {
        index: u32,
        message: dhcp6::message::Message,
    },
    /// Another station, or an interface of our own, says something about the address that is watched there.
    Arp {
        index: u32,
        message: Arp,
    },
    /// A router's options that the kernel has no use for.
    Advert {
        index: u32,
        advert: Advert,
    },
    /// What routers say about DHCPv6.
    Router {
        index: u32,
        wants: Option<Want>,
    },
    /// A step on this interface failed; why, for a person. It has been logged.
    Failed {
        index: u32,
        why: String,
    },
    /// An interface could not be made; why, for a person. It has not been logged.
    NotMade {
        name: String,
        why: String,
    },
    /// [`super::plan::Plan::deadline`] has come.
    Tick,
}

/// An address to add. Adding one that is there renews its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub index: u32,
    pub address: IpAddr,
    pub prefix: u8,
    /// The other end of a point-to-point link; of the same family.
    pub peer: Option<IpAddr>,
    /// Seconds after which the kernel drops it by itself; `None` for ever.
    pub valid: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub index: u32,
    pub destination: IpAddr,
    pub prefix: u8,
    /// Of the same family.
    pub gateway: Option<IpAddr>,
    /// The gateway is reached through this interface although no address of ours says so.
    pub onlink: bool,
    /// Our own address on packets that take this route. Never with IPv6, where the kernel refuses one that it is still
    /// checking, and chooses well by itself (RFC 6724).
    pub source: Option<Ipv4Addr>,
    pub metric: u32,
}

/// What the kernel does with IPv6 on an interface by itself (Documentation/networking/ip-sysctl.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    AcceptRa,
    Autoconf,
    UseTempaddr,
    AddrGenMode,
    DisableIpv6,
}

/// An interface to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewLink {
    Vlan { parent: u32, id: u16 },
    Bond { options: BondOptions, mtu: Option<u32> },
    Bridge,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    SetUp(u32),
    /// To be set up again when all is undone.
    SetDown(u32),
    SetMtu {
        index: u32,
        mtu: u32,
        before: u32,
    },
    SetMac {
        index: u32,
        mac: Mac,
        before: Mac,
    },
    /// For good: the real system finds the interface by this name.
    Rename {
        index: u32,
        name: String,
    },
    /// Sees to it that the kernel does this, or does not, with IPv6.
    Set {
        index: u32,
        setting: Setting,
        on: bool,
    },
    Make {
        name: String,
        link: NewLink,
    },
    /// Makes it part of a bond or bridge.
    Join {
        index: u32,
        master: u32,
    },
    /// Of a bond's slaves this one is to be used when it can be.
    Prefer {
        bond: u32,
        slave: u32,
    },
    AddAddress(Address),
    RemoveAddress(Address),
    AddRoute(Route),
    RemoveRoute(Route),
    /// Receive DHCP messages on an interface without an address.
    Listen(u32),
    /// Receive them on one that has its address.
    ListenAddressed(u32),
    /// Receive none.
    Silence(u32),
    /// To everybody, from no address.
    Broadcast(u32, Message),
    Send {
        index: u32,
        to: Ipv4Addr,
        message: Message,
    },
    /// Receive DHCPv6 messages, on an interface that has a link-local address.
    Listen6(u32),
    /// Receive none of those.
    Silence6(u32),
    /// To all DHCPv6 servers on the link.
    Send6(u32, dhcp6::message::Message),
    /// Receive what is said about an IPv4 address by ARP, and no more about another one.
    ListenArp {
        index: u32,
        address: Ipv4Addr,
    },
    /// Receive none of that.
    SilenceArp(u32),
    /// To every station on the link.
    SendArp(u32, Arp),
    /// Ask routers to advertise now, from this Ethernet address.
    Solicit(u32, Mac),
    /// All that is known now, for the resolver.
    Resolver {
        nameservers: Vec<IpAddr>,
        search: Vec<String>,
    },
    /// Somebody else has the interface now: it stays up when we go.
    LeaveUp(u32),
    /// Somebody else has the interface and the address on it now: they stay as they are when we go.
    LeaveAll(u32),
    /// The interface is gone, and with it all that we added to it.
    Forget(u32),
    Log(String),
}
