//! The one place that speaks netlink: what there is, what changes, and how it is changed (rtnetlink(7)).
//!
//! Changes come on a socket of their own. The kernel marks those that a request has caused with the number of the
//! request, and netlink-proto would take them for its answer if they came on the same socket.

use std::{future::Future, io, net::IpAddr, time::Duration};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, channel::mpsc::UnboundedReceiver};
use rtnetlink::{
    AddressMessageBuilder, Error, Handle, MulticastGroup, RouteMessageBuilder,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo},
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope},
    },
    sys::SocketAddr,
};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    ledger::{Entry, Undo},
    step::{Address, AddressSeen, LinkSeen, Route, Sort},
};

/// The kernel answers at once, but for a driver that takes its time to set a device up. Longer is a broken driver.
const ANSWER: Duration = Duration::from_secs(5);

/// What has changed.
pub enum Change {
    Link(LinkSeen),
    LinkGone(u32),
    Address(AddressSeen),
    AddressGone(AddressSeen),
    /// Changes were lost, so everything has to be listed again.
    Overrun,
}

pub struct Netlink {
    handle: Handle,
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connections: [JoinHandle<()>; 2],
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connections.iter().for_each(JoinHandle::abort);
    }
}

impl Netlink {
    /// # Errors
    /// When the kernel has no netlink, or doesn't let us use it.
    pub fn open() -> io::Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (changes, _, messages) = rtnetlink::new_multicast_connection(&groups)?;
        let (requests, handle, _) = rtnetlink::new_connection()?;
        Ok(Self { handle, messages, connections: [tokio::spawn(changes), tokio::spawn(requests)] })
    }

    pub async fn list(&self) -> Result<(Vec<LinkSeen>, Vec<AddressSeen>)> {
        let links = answered("listing interfaces", self.handle.link().get().execute().try_collect::<Vec<_>>()).await?;
        let addresses =
            answered("listing addresses", self.handle.address().get().execute().try_collect::<Vec<_>>()).await?;
        Ok((links.iter().filter_map(link).collect(), addresses.iter().filter_map(address).collect()))
    }

    /// The next change; `None` when the socket is of no more use.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            let (message, _) = self.messages.next().await?;
            let change = match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(it)) => link(&it).map(Change::Link),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(it)) => {
                    link(&it).map(|link| Change::LinkGone(link.index))
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(it)) => address(&it).map(Change::Address),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(it)) => {
                    address(&it).map(Change::AddressGone)
                }
                NetlinkPayload::Overrun(_) => Some(Change::Overrun),
                _ => None,
            };
            if change.is_some() {
                return change;
            }
        }
    }

    pub async fn set_up(&self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.set(index, message).await.context("setting the interface up")
    }

    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.set(index, message).await.with_context(|| format!("setting the MTU to {mtu}"))
    }

    async fn set_down(&self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.change_mask = LinkFlags::Up;
        self.set(index, message).await.context("setting the interface down")
    }

    async fn set(&self, index: u32, mut message: LinkMessage) -> Result<()> {
        message.header.index = index;
        answered("changing an interface", self.handle.link().set(message).execute()).await
    }

    /// Adds it, or gives it the new time.
    pub async fn add_address(&self, address: &Address) -> Result<()> {
        let mut request = self.handle.address().add(address.index, address.address.into(), address.prefix).replace();
        *request.message_mut() = address_message(address);
        answered("adding an address", request.execute())
            .await
            .with_context(|| format!("adding {}/{}", address.address, address.prefix))
    }

    pub async fn remove_address(&self, address: &Address) -> Result<()> {
        let removed = answered("removing an address", self.handle.address().del(address_message(address)).execute());
        gone_is_well(removed.await).with_context(|| format!("removing {}/{}", address.address, address.prefix))
    }

    pub async fn add_route(&self, route: &Route) -> Result<()> {
        let add = self.handle.route().add(route_message(route)).replace().execute();
        answered("adding a route", add)
            .await
            .with_context(|| format!("adding the route to {}/{}", route.destination, route.prefix))
    }

    pub async fn remove_route(&self, route: &Route) -> Result<()> {
        let removed = answered("removing a route", self.handle.route().del(route_message(route)).execute()).await;
        gone_is_well(removed).with_context(|| format!("removing the route to {}/{}", route.destination, route.prefix))
    }
}

impl Undo for Netlink {
    async fn undo(&mut self, entry: &Entry) -> Result<()> {
        match entry {
            Entry::Up(index) => gone_is_well(self.set_down(*index).await),
            Entry::Mtu { index, before } => gone_is_well(self.set_mtu(*index, *before).await),
            Entry::Address(address) => self.remove_address(address).await,
            Entry::Route(route) => self.remove_route(route).await,
            Entry::File { path, .. } => bail!("{}: not a thing of the network", path.display()),
        }
    }
}

async fn answered<T>(doing: &str, request: impl Future<Output = Result<T, Error>>) -> Result<T> {
    match timeout(ANSWER, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Error::NetlinkError(error))) => Err(error.to_io().into()),
        // Not shown itself: `Error` can hold any message, and code to print them all is 175 KB.
        Ok(Err(_)) => bail!("{doing}: the netlink socket failed"),
        Err(_) => bail!("{doing}: the kernel did not answer in {} s", ANSWER.as_secs()),
    }
}

/// To take away what is not there any more is no failure.
fn gone_is_well(result: Result<()>) -> Result<()> {
    use nix::libc::{EADDRNOTAVAIL, ENODEV, ESRCH};
    result.or_else(|error| {
        let code = error.chain().find_map(|it| it.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
        match code {
            Some(EADDRNOTAVAIL | ENODEV | ESRCH) => Ok(()),
            _ => Err(error),
        }
    })
}

fn link(message: &LinkMessage) -> Option<LinkSeen> {
    // The same messages tell about bridge ports, where “gone” means: no longer a port.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let (mut name, mut mac, mut mtu, mut kind, mut part) = (None, None, 0, None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(it) => name = Some(it.clone()),
            LinkAttribute::Address(it) => mac = it.as_slice().try_into().ok(),
            LinkAttribute::Mtu(it) => mtu = *it,
            LinkAttribute::Controller(_) => part = true,
            LinkAttribute::LinkInfo(it) => {
                kind = it.iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind) } else { None });
            }
            _ => {}
        }
    }
    let flags = message.header.flags;
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether && !flags.contains(LinkFlags::Loopback);
    let sort = match kind {
        _ if !ethernet || part => Sort::Unfit,
        None => Sort::Ethernet,
        Some(InfoKind::Veth) => Sort::Veth,
        Some(_) => Sort::Made,
    };
    let up = flags.contains(LinkFlags::Up);
    let carrier = up && flags.contains(LinkFlags::LowerUp);
    Some(LinkSeen { index: message.header.index, name: name?, mac, sort, up, carrier, mtu })
}

fn address(message: &AddressMessage) -> Option<AddressSeen> {
    let find = |want: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(want);
    // With a peer, IFA_ADDRESS is the peer and IFA_LOCAL our own; IPv6 usually has no IFA_LOCAL.
    let local = find(|it| if let AddressAttribute::Local(address) = it { Some(*address) } else { None });
    let address = local.or_else(|| find(|it| if let AddressAttribute::Address(it) = it { Some(*it) } else { None }))?;
    Some(AddressSeen {
        index: message.header.index,
        address,
        prefix: message.header.prefix_len,
        global: matches!(message.header.scope, AddressScope::Universe | AddressScope::Site),
        permanent: message.header.flags.contains(AddressHeaderFlags::Permanent),
    })
}

fn address_message(it: &Address) -> AddressMessage {
    let mut message =
        AddressMessageBuilder::<std::net::Ipv4Addr>::new().index(it.index).address(it.address, it.prefix).build();
    if let Some(peer) = it.peer {
        message.attributes.retain(|it| matches!(it, AddressAttribute::Local(_)));
        message.attributes.push(AddressAttribute::Address(peer.into()));
    }
    if let Some(valid) = it.valid {
        let mut time = CacheInfo::default();
        (time.ifa_valid, time.ifa_preferred) = (valid, valid);
        message.attributes.push(AddressAttribute::CacheInfo(time));
    }
    message
}

fn route_message(it: &Route) -> RouteMessage {
    let mut route = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
        .destination_prefix(it.destination, it.prefix)
        .output_interface(it.index)
        .pref_source(it.source)
        .protocol(RouteProtocol::Boot)
        .priority(it.metric);
    match it.gateway {
        Some(gateway) => route.get_mut().attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway))),
        None => route = route.scope(RouteScope::Link),
    }
    if it.onlink { route.onlink().build() } else { route.build() }
}
