//! Any configuration that can be written as arguments, written and read again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;

/// The arguments that make this configuration.
fn write(config: &NetworkConfig) -> String {
    let mut words = Vec::new();
    words.extend(config.interfaces.iter().flat_map(ip));
    if config.interfaces.is_empty() {
        words.push("ip=off".to_owned());
    }
    for made in config.made.iter().rev() {
        words.push(match &made.kind {
            MadeKind::Vlan { parent, .. } => format!("vlan={}:{parent}", made.name),
            MadeKind::Bridge { ports } => format!("bridge={}:{}", made.name, ports.join(",")),
            MadeKind::Bond { slaves, options, mtu } => {
                let mtu = mtu.map(|mtu| format!(":{mtu}")).unwrap_or_default();
                format!("bond={}:{}:{options}{mtu}", made.name, slaves.join(","))
            }
        });
    }
    words.extend(config.names.iter().map(|(name, mac)| format!("ifname={name}:{}", show::show_mac(mac))));
    words.extend(config.routes.iter().map(|route| {
        let gateway = route.gateway.map(bracketed).unwrap_or_default();
        let device = route.device.as_ref().map(|device| format!(":{device}")).unwrap_or_default();
        let net = format!("{}/{}", route.destination, route.prefix);
        let net = if route.destination.is_ipv6() { format!("[{net}]") } else { net };
        format!("rd.route={net}:{gateway}{device}")
    }));
    words.extend(config.nameservers.iter().map(|server| format!("nameserver={}", bracketed(*server))));
    words.extend((!config.peer_dns).then(|| "rd.peerdns=0".to_owned()));
    words.extend(config.neednet.then(|| "rd.neednet".to_owned()));
    words.extend(config.boot.iter().map(|boot| match boot {
        Boot::Name(name) => format!("bootdev={name}"),
        Boot::Mac(mac) => format!("BOOTIF=01-{}", show::show_mac(mac).replace(':', "-").to_uppercase()),
    }));
    words.join(" ")
}

fn bracketed(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

/// One argument for each family. What is about neither stands in the first one.
fn ip(interface: &Interface) -> Vec<String> {
    let which = match &interface.which {
        Which::Named(name) => name.clone(),
        Which::Mac(mac) => show::show_mac(mac).replace(':', "-"),
        Which::Every | Which::First => String::new(),
    };
    let mut heads = Vec::new();
    match interface.ipv4 {
        Ipv4::Off => {}
        Ipv4::Dhcp => heads.push((String::new(), "dhcp")),
        Ipv4::Static(it) => {
            let peer = it.peer.map(|peer| format!("{peer}/{}", it.prefix)).unwrap_or_default();
            let gateway = it.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
            heads.push((format!("{}:{peer}:{gateway}:{}", it.address, it.prefix), "none"));
        }
    }
    let six = match interface.ipv6 {
        Ipv6::Off | Ipv6::Kernel => None,
        Ipv6::LinkLocal => Some("link6"),
        Ipv6::Auto => Some("auto6"),
        Ipv6::Dhcp => Some("dhcp6"),
        Ipv6::Either => Some("either6"),
        Ipv6::Static(it) => {
            let peer = it.peer.map(|peer| format!("[{peer}/{}]", it.prefix)).unwrap_or_default();
            let gateway = it.gateway.map(|gateway| format!("[{gateway}]")).unwrap_or_default();
            heads.push((format!("[{}]:{peer}:{gateway}:{}", it.address, it.prefix), "none"));
            None
        }
    };
    heads.extend(six.map(|method| (String::new(), method)));
    if heads.is_empty() {
        return vec![format!("ip={which}:off")];
    }
    let host = interface.hostname.clone().unwrap_or_default();
    let tails = [
        match interface.nameservers.as_slice() {
            [] => String::new(),
            servers => servers.iter().map(|server| format!(":{}", bracketed(*server))).collect(),
        },
        match (interface.mtu, interface.mac) {
            (None, None) => String::new(),
            (mtu, mac) => format!(
                ":{}:{}",
                mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
                mac.map(|mac| show::show_mac(&mac)).unwrap_or_default()
            ),
        },
    ];
    let write = |(head, method): &(String, &str), tail: &str| {
        let head = if head.is_empty() { ":::" } else { head };
        format!("ip={head}:{host}:{which}:{method}{tail}")
    };
    let mut words: Vec<String> = heads.iter().map(|head| write(head, &tails[0])).collect();
    // What only the short form has room for beside name servers.
    if !tails[1].is_empty() {
        let (head, method) = &heads[0];
        let again =
            if head.is_empty() { format!("ip=:::::{which}:{method}{}", tails[1]) } else { write(&heads[0], &tails[1]) };
        words.push(again);
    }
    words
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_-]{0,7}"
}

fn a_mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(|mut bytes| {
        bytes[0] = bytes[0] & !1 | 2;
        bytes
    })
}

fn static4() -> impl Strategy<Value = StaticAddress> {
    (any::<Ipv4Addr>(), 0..=32u8, any::<Option<Ipv4Addr>>(), any::<Option<Ipv4Addr>>())
        .prop_map(|(address, prefix, peer, gateway)| StaticAddress { address, prefix, peer, gateway })
}

fn static6() -> impl Strategy<Value = StaticAddress6> {
    (any::<Ipv6Addr>(), 0..=128u8, any::<Option<Ipv6Addr>>(), any::<Option<Ipv6Addr>>())
        .prop_map(|(address, prefix, peer, gateway)| StaticAddress6 { address, prefix, peer, gateway })
}

fn interface() -> impl Strategy<Value = Interface> {
    let families = prop_oneof![
        Just((Ipv4::Off, Ipv6::Off)),
        Just((Ipv4::Dhcp, Ipv6::Kernel)),
        Just((Ipv4::Dhcp, Ipv6::Either)),
        Just((Ipv4::Off, Ipv6::LinkLocal)),
        Just((Ipv4::Off, Ipv6::Dhcp)),
        static4().prop_map(|it| (Ipv4::Static(it), Ipv6::Kernel)),
        (static4(), static6()).prop_map(|(v4, v6)| (Ipv4::Static(v4), Ipv6::Static(v6))),
        static6().prop_map(|it| (Ipv4::Off, Ipv6::Static(it))),
        static4().prop_map(|it| (Ipv4::Static(it), Ipv6::Auto)),
    ];
    let which = prop_oneof![name().prop_map(Which::Named), a_mac().prop_map(Which::Mac)];
    let numbers = (proptest::option::of(68..=65535u32), proptest::option::of(a_mac()));
    let names = (proptest::option::of("[a-z][a-z.-]{0,20}"), proptest::collection::btree_set(any::<IpAddr>(), 0..=2));
    (which, families, numbers, names).prop_map(|(which, (ipv4, ipv6), (mtu, mac), (hostname, servers))| {
        let bare = Interface { which, ipv4, ipv6, mtu: None, mac: None, hostname: None, nameservers: Vec::new() };
        match bare.is_left_alone() {
            true => bare,
            false => Interface { mtu, mac, hostname, nameservers: servers.into_iter().collect(), ..bare },
        }
    })
}

fn route() -> impl Strategy<Value = StaticRoute> {
    let (four, six) = (
        (any::<Ipv4Addr>(), 0..=32u8, any::<Option<Ipv4Addr>>())
            .prop_map(|it| (IpAddr::V4(it.0), it.1, it.2.map(IpAddr::V4))),
        (any::<Ipv6Addr>(), 0..=128u8, any::<Option<Ipv6Addr>>())
            .prop_map(|it| (IpAddr::V6(it.0), it.1, it.2.map(IpAddr::V6))),
    );
    (prop_oneof![four, six], name()).prop_map(|((net, prefix, gateway), device)| {
        names::static_route(&format!("{net}/{prefix}"), gateway, Some(device)).unwrap()
    })
}

/// A bond of x0 and x1, a VLAN on it, a bridge of that: or the first so many of them.
fn made() -> impl Strategy<Value = Vec<Made>> {
    (0..=3usize, 0..=4094u16, 0..7u8, proptest::option::of(68..=65535u32)).prop_map(|(count, id, mode, mtu)| {
        let slaves = vec!["x0".to_owned(), "x1".to_owned()];
        let options = bond::options(&format!("mode={mode},updelay=200"), &slaves, &mut Vec::new());
        let vlan = format!("X.{id:04}");
        let all = [
            Made { name: "X".into(), kind: MadeKind::Bond { slaves, options, mtu } },
            Made { name: vlan.clone(), kind: MadeKind::Vlan { parent: "X".into(), id } },
            Made { name: "Y".into(), kind: MadeKind::Bridge { ports: vec![vlan] } },
        ];
        all.into_iter().take(count).collect()
    })
}

prop_compose! {
    fn config()(
        named in proptest::collection::vec(interface(), 0..4),
        every in any::<bool>(),
        made in made(),
        names in proptest::collection::vec((name(), a_mac()), 0..3),
        routes in proptest::collection::vec(route(), 0..3),
        nameservers in proptest::collection::btree_set(any::<IpAddr>(), 0..3),
        boot in prop_oneof![name().prop_map(Boot::Name), a_mac().prop_map(Boot::Mac)],
        (peer_dns, neednet) in any::<(bool, bool)>(),
    ) -> NetworkConfig {
        let mut interfaces = named;
        if every || !interfaces.is_empty() {
            interfaces.push(Interface::dhcp(Which::Every));
        }
        let nameservers = nameservers.into_iter().collect();
        let (search, boot, keep) = (Vec::new(), Some(boot), false);
        NetworkConfig { interfaces, made, names, routes, nameservers, search, peer_dns, boot, neednet, keep }
    }
}

/// Two wishes about one interface would be merged, or refused; and so is one about a part of a bond or bridge.
fn is_clear(config: &NetworkConfig) -> bool {
    let mut names: Vec<_> = config.interfaces.iter().map(|it| it.which.to_string()).collect();
    let mut called: Vec<_> = config.names.iter().flat_map(|(name, mac)| [name.clone(), show::show_mac(mac)]).collect();
    let is_part = |it: &Interface| matches!(&it.which, Which::Named(name) if master(&config.made, name).is_some());
    let parts = config.interfaces.iter().any(|it| is_part(it) && !it.is_left_alone());
    let kernels = called.iter().any(|name| super::names::is_kernels(name));
    let count = names.len() + called.len();
    [&mut names, &mut called].into_iter().for_each(|list| {
        list.sort();
        list.dedup();
    });
    !kernels && !parts && names.len() + called.len() == count
}

proptest! {
    #[test]
    fn what_is_written_is_read_the_same(config in config().prop_filter("clear", is_clear)) {
        let line = write(&config);
        let (read, problems) = parse(&line);
        prop_assert_eq!(problems, Vec::<String>::new(), "{}", line);
        prop_assert_eq!(read, config, "{}", line);
    }
}
