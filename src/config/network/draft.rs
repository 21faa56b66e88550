//! From single wishes to one configuration: merged, checked against each other, in order. Pure.
//!
//! Each wish comes with the words that it was written in ("ip=eth0:dhcp", "line 12"), which go before what is wrong.

use super::{Boot, Interface, Ipv4, Ipv6, Mac, Made, MadeKind, NetworkConfig, StaticRoute, Which, names};

/// What has been read so far.
#[derive(Default)]
pub struct Draft {
    pub interfaces: Vec<(String, Interface)>,
    pub made: Vec<(String, Made)>,
    names: Vec<(String, Mac)>,
    pub routes: Vec<StaticRoute>,
    pub boot: Option<Boot>,
    /// One sentence for each thing that is wrong.
    pub problems: Vec<String>,
}

impl Draft {
    pub fn problem(&mut self, place: &str, what: &str) {
        self.problems.push(format!("{place}: {what}"));
    }

    /// Keeps the good and tells the bad.
    pub fn note<T>(&mut self, place: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|reason| self.problem(place, &reason)).ok()
    }

    /// Adds an interface, or what it has to one that is there already.
    pub fn interface(&mut self, place: String, interface: Interface) {
        if let Which::Named(name) = &interface.which
            && let Some(mac) = names::address_in_name(name)
            && !self.names.iter().any(|(_, other)| *other == mac)
        {
            self.names.push((name.clone(), mac));
        }
        match self.interfaces.iter_mut().find(|(_, other)| other.which == interface.which) {
            None => self.interfaces.push((place, interface)),
            Some((_, before)) => match merged(before, interface) {
                Ok(both) => *before = both,
                Err(what) => self.problem(&place, &format!("{what} of this interface is set already; remove one")),
            },
        }
    }

    pub fn name(&mut self, place: &str, (name, mac): (String, Mac)) {
        match self.names.iter().find(|(other, address)| *other == name || *address == mac) {
            Some(same) if *same == (name.clone(), mac) => {}
            Some((other, _)) if *other == name => {
                self.problem(place, &format!("another interface is called {name} already; choose another name"));
            }
            Some((other, _)) => {
                self.problem(place, &format!("this interface is called {other} already; remove one"));
            }
            None => {
                if names::is_kernels(&name) {
                    let advice = "the kernel may give this name to another interface; choose one such as lan0";
                    self.problem(place, advice);
                }
                self.names.push((name, mac));
            }
        }
    }

    /// Everything in one, without what is left of `interfaces`, `nameservers` and the switches.
    pub fn finish(mut self) -> (NetworkConfig, Vec<String>) {
        let made = self.in_order();
        self.free_of_members(&made);
        // Names before what is about any interface.
        let (mut interfaces, others): (Vec<_>, Vec<_>) = self
            .interfaces
            .into_iter()
            .map(|(_, interface)| interface)
            .partition(|it| matches!(it.which, Which::Named(_) | Which::Mac(_)));
        interfaces.extend(others);
        let config = NetworkConfig {
            interfaces,
            made,
            names: self.names,
            routes: self.routes,
            boot: self.boot,
            ..NetworkConfig::default()
        };
        (config, self.problems)
    }

    /// What is to be made, so that each comes after what it is made of. What can't be made is left out.
    fn in_order(&mut self) -> Vec<Made> {
        let mut waiting: Vec<(String, Made)> = Vec::new();
        for (place, made) in std::mem::take(&mut self.made) {
            match clash(&made, &waiting).or_else(|| self.is_renamed(&made)) {
                Some(what) => self.problem(&place, &what),
                None => waiting.push((place, made)),
            }
        }
        let mut ordered: Vec<Made> = Vec::new();
        while !waiting.is_empty() {
            let is_ready = |(_, made): &(String, Made)| {
                !made.parts().iter().any(|part| waiting.iter().any(|(_, other)| other.name == *part))
            };
            match waiting.iter().position(is_ready) {
                Some(at) => ordered.push(waiting.remove(at).1),
                None => {
                    for (place, made) in std::mem::take(&mut waiting) {
                        self.problem(&place, &format!("{} would be made of itself; name real interfaces", made.name));
                    }
                }
            }
        }
        ordered
    }

    fn is_renamed(&self, made: &Made) -> Option<String> {
        let taken = self.names.iter().any(|(name, _)| *name == made.name);
        taken.then(|| format!("{} is the name of a real interface (ifname=); choose another name", made.name))
    }

    /// A member of a bond or bridge has no addresses of its own.
    fn free_of_members(&mut self, made: &[Made]) {
        let (kept, members) = std::mem::take(&mut self.interfaces).into_iter().partition(|(_, it)| match &it.which {
            Which::Named(name) => master(made, name).is_none() || it.is_left_alone(),
            _ => true,
        });
        self.interfaces = kept;
        for (place, interface) in members {
            let Which::Named(name) = interface.which else { continue };
            let master = master(made, &name).unwrap_or_default();
            self.problem(&place, &format!("{name} is a part of {master}; write {master} in its place"));
        }
    }
}

impl Made {
    /// The names of the interfaces that it is made of.
    pub fn parts(&self) -> &[String] {
        match &self.kind {
            MadeKind::Vlan { parent, .. } => std::slice::from_ref(parent),
            MadeKind::Bond { slaves, .. } => slaves,
            MadeKind::Bridge { ports } => ports,
        }
    }

    fn is_master(&self) -> bool {
        !matches!(self.kind, MadeKind::Vlan { .. })
    }
}

/// The bond or bridge that `name` is a member of.
pub fn master<'a>(made: &'a [Made], name: &str) -> Option<&'a str> {
    made.iter().find(|made| made.is_master() && made.parts().iter().any(|part| part == name)).map(|it| &*it.name)
}

/// Why `made` can't be beside what is there already.
fn clash(made: &Made, before: &[(String, Made)]) -> Option<String> {
    for (_, other) in before {
        if other.name == made.name {
            return Some(format!("there is another {} already; choose another name", made.name));
        }
        if made.is_master()
            && other.is_master()
            && let Some(part) = made.parts().iter().find(|part| other.parts().contains(part))
        {
            return Some(format!("{part} is a part of {} already; leave it out of one", other.name));
        }
        if matches!(made.kind, MadeKind::Vlan { .. }) && made.kind == other.kind {
            return Some(format!("{} is this VLAN already; remove one", other.name));
        }
    }
    None
}

/// Both in one; the error is what they both have.
fn merged(before: &Interface, mut after: Interface) -> Result<Interface, &'static str> {
    after.ipv4 = match (before.ipv4, after.ipv4) {
        (Ipv4::Off, other) | (other, Ipv4::Off) => other,
        (one, other) if one == other => one,
        _ => return Err("IPv4"),
    };
    after.ipv6 = match (before.ipv6, after.ipv6) {
        (Ipv6::Off, other) | (other, Ipv6::Off) | (Ipv6::Kernel, other) | (other, Ipv6::Kernel) => other,
        (one, other) if one == other => one,
        _ => return Err("IPv6"),
    };
    after.mtu = one_of(before.mtu, after.mtu).ok_or("the MTU")?;
    after.mac = one_of(before.mac, after.mac).ok_or("the MAC address")?;
    after.hostname = one_of(before.hostname.clone(), after.hostname).ok_or("the host name")?;
    let mut nameservers = before.nameservers.clone();
    nameservers.extend(after.nameservers.iter().filter(|server| !before.nameservers.contains(server)));
    Ok(Interface { nameservers, ..after })
}

/// The outer option is empty if they differ.
fn one_of<T: PartialEq>(before: Option<T>, after: Option<T>) -> Option<Option<T>> {
    match (before, after) {
        (Some(before), Some(after)) if before != after => None,
        (before, after) => Some(before.or(after)),
    }
}
