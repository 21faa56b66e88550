//! Which argument is about an interface. Pure.

use super::{
    super::{
        link::{Link, Phase},
        step::{Sort, Step},
    },
    Plan,
};
use crate::config::network::{Interface, Ipv4, Ipv6, MadeKind, Which};

/// What an interface is there for.
#[derive(Debug)]
pub enum Role {
    /// To have addresses, or to be what a VLAN is on.
    Use(Interface),
    /// To be part of this bond or bridge.
    Part(String),
}

impl Plan {
    /// What an interface shall be called: by `ifname=`, or else as it is.
    pub(super) fn name_of<'a>(&'a self, link: &'a Link) -> &'a str {
        let named = self.config.names.iter().find(|(_, mac)| link.seen.own_mac == Some(*mac));
        named.filter(|_| link.seen.master.is_none()).map_or(&link.seen.name, |(name, _)| name)
    }

    /// Gives an interface the name of `ifname=`, unless udev has, for which dracut writes rules. Whether there is
    /// something to wait for. A name that the kernel refuses is asked for once.
    pub(super) fn rename(&mut self, index: u32) -> bool {
        let Some(link) = self.links.get(&index) else { return false };
        let name = self.name_of(link).to_owned();
        if name == link.seen.name || link.renamed || link.is_held() {
            return false;
        }
        // The kernel's news of it, or of its failure, is what goes on.
        self.set(index, |link| (link.renamed, link.phase) = (true, Phase::Idle));
        self.steps.push(Step::Rename { index, name });
        true
    }

    pub(super) fn role(&self, link: &Link) -> Option<Role> {
        let name = self.name_of(link);
        let is_part = |kind: &MadeKind| match kind {
            MadeKind::Vlan { .. } => false,
            MadeKind::Bond { slaves: parts, .. } | MadeKind::Bridge { ports: parts } => {
                parts.iter().any(|part| part == name)
            }
        };
        if let Some(made) = self.config.made.iter().find(|made| is_part(&made.kind)) {
            // Never more than a part, even if the whole can't be made: an address here would be one at the wrong place.
            let elsewhere = link.seen.master.is_some() && !link.joined;
            return (!elsewhere).then(|| Role::Part(made.name.clone()));
        }
        if link.seen.sort == Sort::Unfit {
            return None;
        }
        self.argument(link, name).map(Role::Use)
    }

    /// One that names it, or else one that is about any; or it is needed for a VLAN.
    fn argument(&self, link: &Link, name: &str) -> Option<Interface> {
        let named = |it: &&Interface| match &it.which {
            Which::Named(wanted) => wanted == name,
            Which::Mac(mac) => link.seen.own_mac == Some(*mac),
            Which::Every | Which::First => false,
        };
        let any = |it: &&Interface| matches!(it.which, Which::Every | Which::First) && self.is_any(link);
        // What we hold we keep, whatever it is called now.
        let held = link.interface.as_ref().filter(|_| link.is_held());
        let free = |it: &&Interface| {
            let taken = |other: &Link| other.seen.index != link.seen.index && other.holds(it);
            it.which != Which::First || !self.links.values().any(taken)
        };
        let interfaces = &self.config.interfaces;
        let wanted = held.or_else(|| interfaces.iter().find(named)).or_else(|| interfaces.iter().find(any));
        let wanted = wanted.filter(|it| held.is_some() || !it.is_left_alone());
        wanted.filter(free).cloned().or_else(|| {
            let carries = |kind: &MadeKind| matches!(kind, MadeKind::Vlan { parent, .. } if parent == name);
            let needed = self.config.made.iter().any(|made| carries(&made.kind));
            let which = Which::Named(name.to_owned());
            needed.then(|| Interface { ipv4: Ipv4::Off, ipv6: Ipv6::Off, ..Interface::dhcp(which) })
        })
    }

    /// An argument that names no interface is about those that need no more than a cable, and those that we have made.
    fn is_any(&self, link: &Link) -> bool {
        self.making.iter().any(|it| it.index() == Some(link.seen.index)) || link.is_ordinary()
    }
}
