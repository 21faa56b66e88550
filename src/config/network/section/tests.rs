use super::*;

fn lines(text: &str) -> (String, Vec<String>) {
    let section = read(text).expect(text);
    (section.config.unwrap_or_default().lines().join("; "), section.problems)
}

#[test]
fn understood() {
    const EVERY: &str = "every Ethernet interface: DHCP";
    for (text, expected) in [
        ("[network]", EVERY),
        ("[[network.interface]]", EVERY),
        ("[[network.interface]]\nname = 'a'\ndhcp = true", "a: DHCP"),
        ("[[network.interface]]\nname = 'a'\ndhcp = 'ipv6'", "a: DHCPv6"),
        ("[[network.interface]]\nname = 'a'\ndhcp = ['ipv4', 'ipv6']", "a: DHCP, DHCPv6"),
        ("[[network.interface]]\nname = 'a'\ndhcp = false", "a: no address"),
        ("[[network.interface]]\nname = 'a'\nipv6 = 'off'", "a: DHCP, no IPv6"),
        ("[[network.interface]]\nname = 'a'\nipv6 = 'link6'", "a: IPv6 link-local"),
        (
            "[[network.interface]]\nname = 'a'\nipv6 = 'either6'\ndhcp = 'ipv4'",
            "a: DHCP, IPv6 autoconfiguration or DHCPv6",
        ),
        ("[[network.interface]]\nmac = '52-54-00-12-34-56'", "52:54:00:12:34:56: DHCP"),
        ("[[network.interface]]\nname = 'a'\naddress = '192.0.2.7/24'\nipv6 = 'off'", "a: 192.0.2.7/24, no IPv6"),
        (
            "[[network.interface]]\nname = 'a'\naddress = '2001:db8::7/64'\ngateway = 'fe80::1'\ndhcp = true",
            "a: DHCP, 2001:db8::7/64 gateway fe80::1",
        ),
        (
            "[[network.interface]]\nname = 'a'\n[[network.interface]]\nname = 'b'\n[[network.interface]]\n",
            "a: DHCP; b: DHCP; every Ethernet interface: DHCP; a is preferred",
        ),
        (
            "[network]\npeer-dns = false\nkeep = true\nboot = 'b'\nsearch = 'example.org'\nnameservers = ['::1']",
            "every Ethernet interface: DHCP; name server ::1; search domain example.org; name servers of DHCP and router \
             advertisements are not used; b is preferred; what is configured stays for the real system",
        ),
        ("[[network.vlan]]\nname = 'a.0007'\nparent = 'a'", "a.0007: VLAN 7 on a; every Ethernet interface: DHCP"),
        (
            "[[network.bridge]]\nname = 'b'\ninterfaces = 'c'\n[[network.bond]]\nname = 'c'\ninterfaces = ['x', 'y']\n\
             options = ['mode=1', 'primary=y']",
            "c: bond of x, y, mode=active-backup,miimon=100,primary=y; b: bridge of c; every Ethernet interface: DHCP",
        ),
        (
            "[[network.route]]\ndestination = 'default'\ninterface = 'a'",
            "every Ethernet interface: DHCP; route to 0.0.0.0/0 on a",
        ),
    ] {
        assert_eq!(lines(text), (expected.to_owned(), Vec::new()), "{text}");
    }
    assert_eq!(read("port = 3\n"), None);
    assert_eq!(read("network = true\n"), None);
}

/// The rest of the entry, or the other entries, are used.
#[test]
fn a_mistake_is_told_with_its_line() {
    for (text, expected, told) in [
        (
            "name = 'a'\ngatway = '192.0.2.1'",
            "a: DHCP",
            "line 5: [network.interface] gatway: there is no such setting (name,",
        ),
        (
            "name = 'a'\naddress = [\n  '192.0.2.7/24',\n  'here/24']",
            "a: 192.0.2.7/24",
            "line 5: [network.interface] address: “here”",
        ),
        ("name = 'a'\naddress = '192.0.2.7'", "a: DHCP", "has no netmask"),
        ("name = 'a'\naddress = ['192.0.2.7/24', '192.0.2.8/24']", "a: 192.0.2.7/24", "one address of each"),
        ("name = 'a'\naddress = '192.0.2.7/24'\ndhcp = true", "a: 192.0.2.7/24", "line 6: [network.interface] dhcp: "),
        (
            "name = 'a'\naddress = '2001:db8::7/64'\nipv6 = 'auto6'",
            "a: 2001:db8::7/64",
            "line 6: [network.interface] ipv6: ",
        ),
        ("name = 'a'\ngateway = '192.0.2.1'", "a: DHCP", "gateway: 192.0.2.1 goes with no address"),
        ("name = 'a'\npeer = '192.0.2.1'", "a: DHCP", "peer: 192.0.2.1 goes with no address"),
        ("name = 'a'\ndhcp = 'yes'", "a: DHCP", "dhcp: “yes” is not known"),
        ("name = 'a'\nipv6 = 'dhcp'", "a: DHCP", "ipv6: “dhcp” is not known"),
        ("name = 'a'\nmtu = 7", "a: DHCP", "line 5: [network.interface] mtu: "),
        ("name = 'a'\nmtu = 1.5", "a: DHCP", "of the type float"),
        ("name = ['a', 'b']\nmtu = 1500", "", "only one"),
        ("name = 'a/b'\nmtu = 1500", "", "line 4: [network.interface] name: “a/b” can't be"),
        (
            "name = 'lan'\n[[network.interface]]\nname = 'lan'\naddress = '192.0.2.7/24'",
            "lan: DHCP",
            "line 5: [network.interface]: IPv4",
        ),
    ] {
        let (shown, problems) =
            lines(&format!("[[network.interface]]\nname = 'lan0'\n[[network.interface]]\n{text}\n"));
        let expected = match expected {
            "" => "lan0: DHCP".to_owned(),
            expected => format!("lan0: DHCP; {expected}; lan0 is preferred"),
        };
        assert_eq!(shown, expected, "{text}");
        let [problem] = problems.as_slice() else { panic!("{text}: {problems:?}") };
        assert!(problem.contains(told), "{text}: {problem}");
    }
}

#[test]
fn other_tables() {
    for (text, told) in [
        ("[network]\nkep = true", "line 2: [network] kep: there is no such setting"),
        ("[network]\nkeep = 'x'", "neither true nor false"),
        (
            "[network]\ninterface = 'eth0'",
            "line 2: [network] interface: this is a list of tables; write [[network.interface]]",
        ),
        ("[network.interface]\nname = 'eth0'", "[[network.interface]]"),
        ("[network]\nnameservers = ['a']", "line 2: [network] nameservers: “a”"),
        ("[[network.route]]\ngateway = '192.0.2.1'", "line 1: [network.route] destination: this is missing"),
        ("[[network.route]]\ndestination = 'default'", "neither gateway nor interface"),
        ("[[network.route]]\ndestination = 'default'\ngateway = 'x'", "line 3: [network.route] gateway: "),
        ("[[network.vlan]]\nname = 'a'\nparent = 'b'", "id: the number of the VLAN is missing"),
        ("[[network.vlan]]\nname = 'a'\nparent = 'b'\nid = 5000", "line 4: [network.vlan] id: 5000 is no VLAN"),
        ("[[network.vlan]]\nname = 'a.1'", "parent: this is missing"),
        ("[[network.bond]]\nname = 'a'", "interfaces: this is missing"),
        ("[[network.bond]]\nname = 'a'\ninterfaces = ['x', 'x']", "twice"),
        (
            "[[network.bond]]\nname = 'a'\ninterfaces = 'x'\noptions = 'speed=9'",
            "line 4: [network.bond] options: “speed=9”",
        ),
        ("[[network.bridge]]\ninterfaces = 'x'", "name: this is missing"),
        (
            "[[network.bridge]]\nname = 'b'\ninterfaces = 'x'\n[[network.bridge]]\nname = 'b'\ninterfaces = 'y'",
            "line 4: [network.bridge]: there is another b",
        ),
    ] {
        let (_, problems) = lines(text);
        let [problem] = problems.as_slice() else { panic!("{text}: {problems:?}") };
        assert!(problem.contains(told), "{text}: {problem}");
    }
    let (shown, problems) = lines("[[network.interface]]\nname = 'a/b'\n");
    assert_eq!((shown.as_str(), problems.len()), ("every Ethernet interface: DHCP", 2));
}
