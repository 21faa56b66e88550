//! The network arguments of the kernel command line, all together. Pure.

use super::{
    Boot, Interface, NetworkConfig, Which,
    draft::Draft,
    field,
    ip::{self, Argument},
    made, names,
};
use crate::config::cmdline::CommandLine;

/// Arguments that somebody wrote to configure the network. `BOOTIF=`, which PXELINUX adds by itself, and switches are
/// not among them.
const OWN: [&str; 10] =
    ["ip", "nfsaddrs", "vlan", "bond", "bridge", "team", "ifname", "rd.route", "nameserver", "bootdev"];

impl NetworkConfig {
    /// What `line` says, with one sentence for each argument that was not understood; else what `configured` says. As
    /// soon as there is one network argument, nothing but `keep` counts of `configured`.
    pub fn choose(line: &CommandLine, configured: Option<&Self>) -> (Self, Vec<String>) {
        let (mut config, problems) = Self::parse(line);
        match configured {
            Some(configured) if !Self::is_on(line) => {
                let Self { neednet, boot, .. } = config;
                let boot = configured.boot.clone().or(boot);
                (Self { neednet, boot, ..configured.clone() }, problems)
            }
            configured => {
                config.keep = configured.is_some_and(|it| it.keep);
                (config, problems)
            }
        }
    }

    /// Whether `line` has a network argument of its own.
    pub fn is_on(line: &CommandLine) -> bool {
        OWN.iter().any(|key| line.values(key).next().is_some())
    }

    /// What the kernel command line says, and one sentence for each argument that was not understood.
    pub fn parse(line: &CommandLine) -> (Self, Vec<String>) {
        let mut draft = Draft::default();
        let off = addresses(line, &mut draft);
        others(line, &mut draft);
        let nameservers = nameservers(line, &mut draft);
        let boot = boot(line, &mut draft);
        draft.boot = boot.clone();
        let given = draft.interfaces.len();
        let (mut config, mut problems) = draft.finish();
        if config.interfaces.is_empty() && !off {
            config.interfaces = vec![Interface::dhcp(Which::Every)];
            match boot {
                // The one that the machine was started from, if nothing else is known. dracut does no more either.
                Some(Boot::Name(name)) if config.made.is_empty() => config.interfaces[0].which = Which::Named(name),
                Some(Boot::Mac(mac)) if config.made.is_empty() => config.interfaces[0].which = Which::Mac(mac),
                _ => {}
            }
            let wanted = given > 0 || line.values("ip").chain(line.values("nfsaddrs")).next().is_some();
            if wanted {
                config.interfaces[0].which = Which::Every;
                problems.push("no usable ip= argument: DHCP on every Ethernet interface instead".to_owned());
            }
        }
        config.boot = config.boot.take().or_else(|| config.first_named());
        config.nameservers = nameservers;
        config.peer_dns = line.flag("rd.peerdns", true);
        config.neednet = line.flag("rd.neednet", false);
        (config, problems)
    }

    /// Among several interfaces dracut prefers the first that is named.
    pub(super) fn first_named(&self) -> Option<Boot> {
        let named = |interface: &Interface| match &interface.which {
            Which::Named(name) => Some(Boot::Name(name.clone())),
            Which::Mac(mac) => Some(Boot::Mac(*mac)),
            Which::Every | Which::First => None,
        };
        let wanted: Vec<&Interface> = self.interfaces.iter().filter(|it| !it.is_left_alone()).collect();
        wanted.iter().copied().find_map(named).filter(|_| wanted.len() > 1)
    }
}

/// `ip=`. Whether one of them says that there shall be no network.
fn addresses(line: &CommandLine, draft: &mut Draft) -> bool {
    let mut off = false;
    let mut ibft = Vec::new();
    for (key, value) in ["ip", "nfsaddrs"].iter().flat_map(|key| line.values(key).map(move |value| (key, value))) {
        let place = format!("{key}={value}");
        let mut notes = Vec::new();
        let argument = ip::parse(value, line, &mut notes);
        for note in notes {
            draft.problem(&place, &note);
        }
        match draft.note(&place, argument) {
            Some(Argument::Off) => off = true,
            Some(Argument::Ibft(_)) => ibft.push(place),
            Some(Argument::Interface(interface)) => draft.interface(place, interface),
            None => {}
        }
    }
    // What the table says are arguments by now: dracut's, in /etc/cmdline.d (parse-ibft.sh), or ours.
    if draft.interfaces.is_empty() {
        for place in ibft {
            draft.problem(&place, "the firmware has no usable iBFT for it, or the kernel's module iscsi_ibft is not in the image; write the addresses, or ip=dhcp");
        }
    }
    off
}

/// Everything that stands by itself.
fn others(line: &CommandLine, draft: &mut Draft) {
    for value in line.values("ifname") {
        let place = format!("ifname={value}");
        if let Some(name) = draft.note(&place, names::ifname(value)) {
            draft.name(&place, name);
        }
    }
    for value in line.values("rd.route") {
        let route = draft.note(&format!("rd.route={value}"), names::route(value));
        draft.routes.extend(route);
    }
    for value in line.values("bond") {
        let place = format!("bond={value}");
        let mut notes = Vec::new();
        let made = made::bond(value, &mut notes);
        for note in notes {
            draft.problem(&place, &note);
        }
        let made = draft.note(&place, made);
        draft.made.extend(made.map(|made| (place, made)));
    }
    for (key, read) in [("bridge", made::bridge as fn(&str) -> _), ("vlan", made::vlan)] {
        for value in line.values(key) {
            let place = format!("{key}={value}");
            let made = draft.note(&place, read(value));
            draft.made.extend(made.map(|made| (place, made)));
        }
    }
    for value in line.values("team") {
        draft.problem(&format!("team={value}"), &made::team(value));
    }
}

fn nameservers(line: &CommandLine, draft: &mut Draft) -> Vec<std::net::IpAddr> {
    let mut all = Vec::new();
    for value in line.values("nameserver") {
        let server = draft.note(&format!("nameserver={value}"), field::address(value));
        all.extend(server.filter(|server| !all.contains(server)));
    }
    all
}

/// The interface to prefer: as in parse-ip-opts.sh, `BOOTIF=` before `bootdev=`. An address for any interface is for
/// this one.
fn boot(line: &CommandLine, draft: &mut Draft) -> Option<Boot> {
    let said = line.last("bootdev").and_then(|value| draft.note(&format!("bootdev={value}"), names::bootdev(value)));
    let pxe = line.last("BOOTIF").filter(|_| line.flag("rd.bootif", true));
    let pxe = pxe.and_then(|value| draft.note(&format!("BOOTIF={value}"), names::bootif(value))).map(Boot::Mac);
    let boot = pxe.or_else(|| said.clone())?;
    let which = match &boot {
        Boot::Name(name) => Which::Named(name.clone()),
        Boot::Mac(mac) => Which::Mac(*mac),
    };
    if draft.interfaces.len() == 1 && draft.interfaces[0].1.which == Which::First && draft.interfaces[0].1.is_static() {
        draft.interfaces[0].1.which = which;
    } else if let (Some(Boot::Name(name)), false) = (said, draft.interfaces.is_empty()) {
        // "If no ip= is directed at it": DHCP (the end of ifup.sh).
        let which = Which::Named(name);
        let covered = |(_, it): &(String, Interface)| it.which == which || it.which == Which::Every;
        if !draft.interfaces.iter().any(covered) {
            draft.interface(format!("bootdev={which}"), Interface::dhcp(which));
        }
    }
    Some(boot)
}
