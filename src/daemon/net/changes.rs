//! The changes that are made over netlink, by name, and how each is undone.

use std::{io, net::Ipv6Addr};

use anyhow::{Context, Result, bail};
use nix::libc;

use super::{
    ledger::{Entry, Undo},
    netlink::Netlink,
    rtmessage::{Change, Maker, Request},
    step::{Address, NewLink, Route},
};
use crate::config::network::Mac;

/// What the bonding module makes when it is loaded (`bond_init` in drivers/net/bonding/bond_main.c).
const BOND_OF_MODULE: &str = "bond0";

impl Netlink {
    async fn change(&mut self, request: &Request) -> Result<()> {
        self.request(request).await.map(drop)
    }

    pub async fn set_up(&mut self, index: u32) -> Result<()> {
        self.change(&Request::set_up(index, true)).await.context("setting the interface up")
    }

    pub async fn set_down(&mut self, index: u32) -> Result<()> {
        self.change(&Request::set_up(index, false)).await.context("setting the interface down")
    }

    pub async fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        self.change(&Request::set_mtu(index, mtu)).await.with_context(|| format!("setting the MTU to {mtu}"))
    }

    pub async fn set_mac(&mut self, index: u32, mac: Mac) -> Result<()> {
        let set = self.even_if_down(index, &Request::set_mac(index, mac)).await;
        set.with_context(|| format!("setting the MAC address to {mac:02x?}"))
    }

    pub async fn rename(&mut self, index: u32, name: &str) -> Result<()> {
        let renamed = self.even_if_down(index, &Request::rename(index, name)).await;
        renamed.with_context(|| format!("naming the interface {name}"))
    }

    /// Many drivers change their address only while they are down, and kernels before 6.2 the name.
    async fn even_if_down(&mut self, index: u32, request: &Request) -> Result<()> {
        match self.change(request).await {
            Err(error) if code(&error) == Some(libc::EBUSY) => {
                self.set_down(index).await?;
                let changed = self.change(request).await;
                self.set_up(index).await?;
                changed
            }
            changed => changed,
        }
    }

    /// Makes an interface, for which the kernel may have to load a module. That of bonds makes one by itself then,
    /// unless it is told not to (`max_bonds`, Documentation/networking/bonding.rst).
    pub async fn make(&mut self, name: &str, link: &NewLink) -> Result<()> {
        let (kind, module) = match link {
            NewLink::Vlan { .. } => ("VLAN", "8021q"),
            NewLink::Bond { .. } => ("bond", "bonding"),
            NewLink::Bridge => ("bridge", "bridge"),
        };
        let is_bond = matches!(link, NewLink::Bond { .. });
        let unforeseen = is_bond && !self.has(BOND_OF_MODULE).await?;
        let mut made = self.change(&Request::make(name, link)).await;
        if unforeseen && name == BOND_OF_MODULE && made.as_ref().is_err_and(|it| code(it) == Some(libc::EEXIST)) {
            made = self.change(&Request::make_over(name, link)).await;
        } else if unforeseen && name != BOND_OF_MODULE && self.has(BOND_OF_MODULE).await? {
            self.change(&Request::unmake(BOND_OF_MODULE)).await.context("removing what the module has made")?;
        }
        match made {
            Err(error) if code(&error) == Some(libc::EOPNOTSUPP) => {
                bail!("the kernel can't make a {kind}: is its module {module} in the image?")
            }
            made => made.with_context(|| format!("making the {kind}")),
        }
    }

    async fn has(&mut self, name: &str) -> Result<bool> {
        let (links, _) = self.list().await?;
        Ok(links.iter().any(|link| link.name == name))
    }

    pub async fn set_master(&mut self, index: u32, master: Option<u32>) -> Result<()> {
        self.change(&Request::set_master(index, master)).await.context(match master {
            Some(_) => "making the interface part of another",
            None => "taking the interface out of another",
        })
    }

    pub async fn prefer(&mut self, bond: u32, slave: u32) -> Result<()> {
        self.change(&Request::prefer(bond, slave)).await.context("making it the primary slave")
    }

    /// Adds it, or gives it the new time.
    pub async fn add_address(&mut self, it: &Address) -> Result<()> {
        let added = self.change(&Request::add_address(it)).await;
        added.with_context(|| format!("adding {}/{}", it.address, it.prefix))
    }

    pub async fn remove_address(&mut self, it: &Address) -> Result<()> {
        let removed = self.change(&Request::remove_address(it)).await;
        gone_is_well(removed).with_context(|| format!("removing {}/{}", it.address, it.prefix))
    }

    pub async fn add_route(&mut self, it: &Route) -> Result<()> {
        let added = match self.change(&Request::add_route(it)).await {
            Err(error) if code(&error) == Some(libc::EEXIST) => Ok(()), // this very one
            added => added,
        };
        added.with_context(|| format!("adding the route to {}/{}", it.destination, it.prefix))
    }

    pub async fn remove_route(&mut self, it: &Route) -> Result<()> {
        let removed = self.change(&Request::remove_route(it)).await;
        gone_is_well(removed).with_context(|| format!("removing the route to {}/{}", it.destination, it.prefix))
    }

    /// Removes the addresses and routes that the kernel has made of router advertisements. Where a prefix is good for
    /// ever, its route does not say where it comes from; it goes with the last address that is in it.
    async fn remove_advertised(&mut self, index: u32) -> Result<()> {
        let (_, addresses) = self.list().await?;
        let here = addresses.into_iter().filter(|it| it.index == index);
        let (gone, staying): (Vec<_>, Vec<_>) = here.partition(|it| it.advertised && it.global);
        for it in &gone {
            let (address, prefix) = (it.address, it.prefix);
            self.remove_address(&Address { index, address, prefix, peer: None, valid: None }).await?;
        }
        for change in self.request(&Request::routes()).await.context("listing routes")? {
            let Change::Route(route) = change else { continue };
            let covers = |all: &[super::step::AddressSeen]| {
                all.iter().any(|it| it.prefix == route.prefix && is_in(it.address, route.destination, route.prefix))
            };
            let advertised = match route.by {
                Maker::Router => true,
                Maker::Address => covers(&gone) && !covers(&staying),
                Maker::Other => false,
            };
            if route.index == index && advertised {
                let removed = self.change(&Request::remove_listed(&route)).await;
                gone_is_well(removed).with_context(|| format!("removing the route to {}", route.destination))?;
            }
        }
        Ok(())
    }
}

fn is_in(address: std::net::IpAddr, network: Ipv6Addr, prefix: u8) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    matches!(address, std::net::IpAddr::V6(it) if (it.to_bits() ^ network.to_bits()) & mask == 0)
}

impl Undo for Netlink {
    async fn undo(&mut self, entry: &Entry) -> Result<()> {
        match entry {
            Entry::Up(index) => gone_is_well(self.set_down(*index).await),
            Entry::Down(index) => gone_is_well(self.set_up(*index).await),
            Entry::Mtu { index, before } => gone_is_well(self.set_mtu(*index, *before).await),
            Entry::Mac { index, before } => gone_is_well(self.set_mac(*index, *before).await),
            Entry::Advertised(index) => self.remove_advertised(*index).await,
            Entry::Made(name) => gone_is_well(self.change(&Request::unmake(name)).await)
                .with_context(|| format!("removing the interface {name}")),
            Entry::Joined(index) => gone_is_well(self.set_master(*index, None).await),
            Entry::Address(address) => self.remove_address(address).await,
            Entry::Route(route) => self.remove_route(route).await,
            Entry::Setting { .. } | Entry::File { .. } => bail!("a file is not a thing of netlink"),
        }
    }
}

/// To take away what is not there any more is no failure.
fn gone_is_well(result: Result<()>) -> Result<()> {
    use nix::libc::{EADDRNOTAVAIL, ENODEV, ESRCH};
    result.or_else(|error| match code(&error) {
        Some(EADDRNOTAVAIL | ENODEV | ESRCH) => Ok(()),
        _ => Err(error),
    })
}

/// What the kernel has answered, in its numbers.
pub fn code(error: &anyhow::Error) -> Option<i32> {
    error.chain().find_map(|it| it.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error)
}
