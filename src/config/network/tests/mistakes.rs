//! A mistake is one line that names the argument, the place and the cure; the rest still comes up.

use super::*;

#[test]
fn without_what_an_interface_needs_the_argument_is_not_used() {
    for (mistake, place) in [
        ("dhpc", "field 1"),
        ("bootp", "field 1"),
        ("dhcp,static", "field 1"),
        ("auto6,dhcp6", "two methods"),
        ("192.0.2.7", "an address alone"),
        ("2001:db8::7", "field"),
        ("eth1:dhpc", "field 2"),
        ("et/h1:ibft", "field 1"),
        (":off", "ip=off"),
        ("a-name-that-is-too-long:dhcp", "field 1"),
        ("[2001:db8::7:::64::eth1:none", "bracket"),
        ("[::1]x:::64::eth1:none", "bracket"),
        ("here:::24::eth1:none", "field 1"),
        ("192.0.2.7::192.0.2.1:::eth1:none", "field 4"),
        ("192.0.2.7::192.0.2.1:33::eth1:none", "field 4"),
        ("192.0.2.7::192.0.2.1:+24::eth1:none", "field 4"),
        ("192.0.2.7::192.0.2.1:255.0.255.0::eth1:none", "field 4"),
        ("[2001:db8::7]:::129::eth1:none", "field 4"),
        ("[2001:db8::7]:::255.255.255.0::eth1:none", "field 4"),
        ("192.0.2.7:::24::eth1:dhcp", "exclude"),
        ("192.0.2.7:::24::eth1:auto6", "exclude"),
        ("192.0.2.7:::24::eth1:automatic", "field 7"),
        (":::24::eth1:none", "field 1"),
        ("192.0.2.7:::24::a-name-that-is-too-long:none", "field 6"),
        ("192.0.2.7:::24::..:none", "field 6"),
    ] {
        let (config, problems) = parse(&format!("ip=eth0:dhcp ip={mistake}"));
        assert_eq!(interfaces(&config), "eth0: DHCP", "{mistake}");
        let [problem] = problems.as_slice() else { panic!("{mistake}: {problems:?}") };
        assert!(problem.starts_with(&format!("ip={mistake}: ")) && problem.contains(place), "{problem}");
    }
}

#[test]
fn any_other_field_is_left_out() {
    for (mistake, place, expected) in [
        ("eth1:dhcp:big", "field 3", "eth1: DHCP"),
        ("eth1:dhcp:67", "field 3", "eth1: DHCP"),
        ("eth1:dhcp:1500:52:54:00:12:34", "field 4", "eth1: DHCP, MTU 1500"),
        ("eth1:dhcp::01:00:5e:00:00:01", "field 4", "eth1: DHCP"), // multicast
        ("eth1:dhcp::00:00:00:00:00:00", "field 4", "eth1: DHCP"),
        ("192.0.2.7::nowhere:24::eth1:none", "field 3", "eth1: 192.0.2.7/24"),
        ("192.0.2.7::[2001:db8::1]:24::eth1:none", "field 3", "eth1: 192.0.2.7/24"),
        ("192.0.2.7:nobody::24::eth1:none", "field 2", "eth1: 192.0.2.7/24"),
        ("192.0.2.7:::24:my_/host:eth1:none", "field 5", "eth1: 192.0.2.7/24"),
        ("192.0.2.7:::24::eth1:none:5", "field 8", "eth1: 192.0.2.7/24"),
        ("192.0.2.7:::24::eth1:none:192.0.2.53:dns", "field 9", "eth1: 192.0.2.7/24, name server 192.0.2.53"),
    ] {
        let (config, problems) = parse(&format!("ip={mistake}"));
        assert_eq!(interfaces(&config), expected, "{mistake}");
        let [problem] = problems.as_slice() else { panic!("{mistake}: {problems:?}") };
        assert!(problem.starts_with(&format!("ip={mistake}: ")) && problem.contains(place), "{problem}");
    }
}

#[test]
fn other_arguments() {
    for (mistake, place) in [
        ("nameserver=here", "“here”"),
        ("rd.route=192.0.2.0/24", "2 or 3"),
        ("rd.route=192.0.2.0/24:192.0.2.1:eth0:5", "2 or 3"),
        ("rd.route=192.0.2.0/24:", "neither"),
        ("rd.route=192.0.2.0/40:192.0.2.1", "field 1"),
        ("rd.route=net:192.0.2.1", "field 1"),
        ("rd.route=192.0.2.0/24:[2001:db8::1]", "families"),
        ("rd.route=192.0.2.0/24:gw", "field 2"),
        ("rd.route=192.0.2.0/24::et/h0", "field 3"),
        ("vlan", "two fields"),
        ("vlan=eth0.5", "two fields"),
        ("vlan=eth0.5:eth0:eth1", "two fields"),
        ("vlan=mgmt:eth0", "no VLAN number; write vlan5, vlan0005, eth0.5"),
        ("vlan=vlan:eth0", "no VLAN number"),
        ("vlan=eth0.5x:eth0", "no VLAN number"),
        ("vlan=eth0.4095:eth0", "field 1"),
        ("bond=bond0:eth0,eth0", "field 2"),
        ("bond=bond0:eth0,,eth1", "field 2"),
        ("bond=a/b", "field 1"),
        ("bond=bond0:eth0:mode=1:1500:more", "5 fields"),
        ("bond=bond0:eth0:mode=1:much", "field 4"),
        ("bridge=br0", "two fields"),
        ("bridge=br0:eth0:eth1", "two fields"),
        ("bridge=br0:br0", "made of itself"),
        ("team", "bond=team0:eth0,eth1:mode=active-backup"),
        ("team=team0:a,b:lacp", "bond=team0:a,b:mode=802.3ad"),
        ("ifname=lan", "missing"),
        ("ifname=lan:52:54:00:12:34", "field 2"),
        ("ifname=lan:01:00:5e:00:00:01", "field 2"),
        ("ifname=et/h:52:54:00:12:34:56", "field 1"),
        ("ifname=ib0:80:00:02:08:fe:80:00:00:00:00:00:00:f4:52:14:03:00:7b:cb:a1", "InfiniBand"),
        ("ifname=eth0:52:54:00:12:34:56", "lan0"),
        ("bootdev=", "missing"),
        ("BOOTIF=52-54-00", "no MAC"),
        ("BOOTIF=20-52-54-00-12-34-56-78-9a", "no MAC"),
    ] {
        let (config, problems) = parse(&format!("ip=lan0:dhcp {mistake}"));
        assert_eq!(interfaces(&config), "lan0: DHCP", "{mistake}");
        let [problem] = problems.as_slice() else { panic!("{mistake}: {problems:?}") };
        let argument = if mistake.contains('=') { format!("{mistake}: ") } else { format!("{mistake}=: ") };
        assert!(problem.starts_with(&argument) && problem.contains(place), "{problem}");
    }
}

#[test]
fn arguments_that_contradict_each_other() {
    for (line, expected, told) in [
        ("ip=eth0:dhcp ip=192.0.2.7:::24::eth0:none", "eth0: DHCP", "IPv4 of this interface is set already"),
        ("ip=eth0:auto6 ip=eth0:dhcp6", "eth0: IPv6 autoconfiguration", "IPv6 of this"),
        ("ip=eth0:dhcp:1400 ip=eth0:auto6:1500", "eth0: DHCP, MTU 1400", "the MTU of this"),
        ("bond=b:x,y ip=x:dhcp ip=b:dhcp", "b: bond of x, y, mode=balance-rr,miimon=100; b: DHCP", "x is a part of b"),
        ("bridge=b:x bridge=c:x ip=b:dhcp", "b: bridge of x; b: DHCP", "x is a part of b"),
        ("bridge=b:x vlan=b:x ip=b:dhcp", "b: bridge of x; b: DHCP", "field 1"),
        ("vlan=x.5:x vlan=vlan5:x ip=x:dhcp", "x.5: VLAN 5 on x; x: DHCP", "x.5 is this VLAN already"),
        ("vlan=x.5:x vlan=x.5:y ip=x:dhcp", "x.5: VLAN 5 on x; x: DHCP", "another x.5 already"),
        (
            "ifname=b:52:54:00:12:34:56 bridge=b:x ip=x:dhcp",
            "b: the name of 52:54:00:12:34:56; x: DHCP",
            "b is the name of a real interface",
        ),
        (
            "ifname=a:52:54:00:12:34:56 ifname=b:52:54:00:12:34:56 ip=a:dhcp",
            "a: the name of 52:54:00:12:34:56; a: DHCP",
            "called a already",
        ),
        (
            "ifname=a:52:54:00:12:34:56 ifname=a:52:54:00:12:34:57 ip=a:dhcp",
            "a: the name of 52:54:00:12:34:56; a: DHCP",
            "another interface is called a",
        ),
    ] {
        let (config, problems) = parse(line);
        assert_eq!(all(&config), expected, "{line}");
        let [problem] = problems.as_slice() else { panic!("{line}: {problems:?}") };
        assert!(problem.contains(told), "{problem}");
    }
    // A circle: none of it can be made.
    let (config, problems) = parse("bridge=a:b bridge=b:c bridge=c:a vlan=x.5:x ip=x:dhcp");
    assert_eq!((all(&config).as_str(), problems.len()), ("x.5: VLAN 5 on x; x: DHCP", 3));
}

#[test]
fn nothing_usable_falls_back_to_the_default() {
    for line in ["ip=dhpc", "ip=dhpc bootdev=eth1", "bridge=br0:eth0 ip=eth0:dhcp"] {
        let (config, problems) = parse(line);
        assert_eq!(config.interfaces, NetworkConfig::default().interfaces, "{line}");
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
    let (config, problems) = parse("ip=ibft");
    assert_eq!((interfaces(&config).as_str(), problems.len()), ("every Ethernet interface: DHCP", 2));
}
