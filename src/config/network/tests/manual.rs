//! The examples of dracut.cmdline(7) (dracut 059 and dracut-ng 111), initramfs-tools(7), the kernel's nfsroot.rst and
//! bonding.rst, and what else is well-formed.

use super::*;

#[test]
fn addresses() {
    for (line, expected) in [
        ("root=/dev/sda1", "every Ethernet interface: DHCP"),
        // ip={dhcp|on|any|dhcp6|auto6|either6|link6|single-dhcp}
        ("ip=dhcp", "every Ethernet interface: DHCP"),
        ("ip=on", "every Ethernet interface: DHCP"),
        ("ip=any", "every Ethernet interface: DHCP"),
        ("ip=dhcp6", "every Ethernet interface: DHCPv6"),
        ("ip=auto6", "every Ethernet interface: IPv6 autoconfiguration"),
        ("ip=either6", "every Ethernet interface: IPv6 autoconfiguration or DHCPv6"),
        ("ip=link6", "every Ethernet interface: IPv6 link-local"),
        ("ip=single-dhcp", "the first Ethernet interface: DHCP"),
        ("ip=", "every Ethernet interface: DHCP"),
        ("ip", "every Ethernet interface: DHCP"),
        ("ip=off", ""),
        ("ip=none", ""),
        ("ip=off ip=eth0:dhcp", "eth0: DHCP"),
        // Several methods, as parse-ip-opts.sh takes them.
        ("ip=dhcp,dhcp6", "every Ethernet interface: DHCP, DHCPv6"),
        ("ip=auto6,dhcp", "every Ethernet interface: DHCP, IPv6 autoconfiguration"),
        ("ip=dhcp ip=auto6", "every Ethernet interface: DHCP, IPv6 autoconfiguration"),
        // ip=<interface>:{dhcp|on|any|dhcp6|auto6|link6}[:[<mtu>][:<macaddr>]]
        ("ip=eth0:dhcp", "eth0: DHCP"),
        ("ip=eth0:any ip=eth1:on", "eth0: DHCP; eth1: DHCP"),
        ("ip=eth0:dhcp6", "eth0: DHCPv6"),
        ("ip=eth0:auto6", "eth0: IPv6 autoconfiguration"),
        ("ip=eth0:either6", "eth0: IPv6 autoconfiguration or DHCPv6"),
        ("ip=eth0:link6", "eth0: IPv6 link-local"),
        ("ip=eth0:single-dhcp", "eth0: DHCP"),
        ("ip=eth0:dhcp,auto6:1400", "eth0: DHCP, IPv6 autoconfiguration, MTU 1400"),
        ("ip=eth0:dhcp:9000", "eth0: DHCP, MTU 9000"),
        ("ip=eth0:dhcp::", "eth0: DHCP"),
        ("ip=eth0:dhcp:9000:52:54:00:12:34:56", "eth0: DHCP, MTU 9000, MAC address 52:54:00:12:34:56"),
        ("ip=eth0:dhcp::52-54-00-12-34-56", "eth0: DHCP, MAC address 52:54:00:12:34:56"),
        ("ip=52-54-00-AB-CD-EF:dhcp", "52:54:00:ab:cd:ef: DHCP"),
        ("ip=dhcp ip=eth0:dhcp", "eth0: DHCP; every Ethernet interface: DHCP"),
        ("ip=dhcp ip=eth1:off", "eth1: no address; every Ethernet interface: DHCP"),
        // ip=<client-IP>:[<peer>]:<gateway-IP>:<netmask>:<client_hostname>:<interface>:{none|off|…}[:[<mtu>][:<macaddr>]]
        ("ip=192.0.2.7::192.0.2.1:255.255.255.0:box:eth0:none", "eth0: 192.0.2.7/24 gateway 192.0.2.1, host name box"),
        ("ip=192.0.2.7::192.0.2.1:24::eth0:off", "eth0: 192.0.2.7/24 gateway 192.0.2.1"),
        ("ip=192.0.2.7:::24:::none", "the first Ethernet interface: 192.0.2.7/24"),
        ("ip=192.0.2.7/24::::::none", "the first Ethernet interface: 192.0.2.7/24"),
        ("ip=192.0.2.7:::0.0.0.0::eth0:none", "eth0: 192.0.2.7/0"),
        ("ip=192.0.2.7:::24::eth0:none:1400", "eth0: 192.0.2.7/24, MTU 1400"),
        (
            "ip=192.0.2.7:::24::eth0:none:1400:52:54:00:12:34:56",
            "eth0: 192.0.2.7/24, MTU 1400, MAC address 52:54:00:12:34:56",
        ),
        ("ip=192.0.2.7:::24::eth0:none::52:54:00:12:34:56", "eth0: 192.0.2.7/24, MAC address 52:54:00:12:34:56"),
        ("ip=:::::eth0:dhcp", "eth0: DHCP"),
        ("ip=:::::eth0:dhcp6", "eth0: DHCPv6"),
        ("ip=:::::eth0:auto6:1400", "eth0: IPv6 autoconfiguration, MTU 1400"),
        ("ip=::::box::dhcp", "every Ethernet interface: DHCP, host name box"),
        ("ip=::::box::", "every Ethernet interface: DHCP, host name box"),
        // [2001:DB8::1] and a peer with its prefix
        ("ip=[2001:DB8::1]:::64::eth0:none", "eth0: 2001:db8::1/64"),
        ("ip=[2001:db8::7]::[2001:db8::1]:64:box:eth0:none", "eth0: 2001:db8::7/64 gateway 2001:db8::1, host name box"),
        ("ip=[2001:db8::7]::[fe80::1]:128::eth0:none", "eth0: 2001:db8::7/128 gateway fe80::1"),
        ("ip=192.0.2.7:192.0.2.9::32::eth0:none", "eth0: 192.0.2.7/32 peer 192.0.2.9"),
        ("ip=192.0.2.7:192.0.2.9/32::32::eth0:none", "eth0: 192.0.2.7/32 peer 192.0.2.9"),
        ("ip=192.0.2.7:198.51.100.9/24::32::eth0:none", "eth0: 192.0.2.7/24 peer 198.51.100.9"),
        ("ip=[2001:db8::7]:[2001:db8::9]::128::eth0:none", "eth0: 2001:db8::7/128 peer 2001:db8::9"),
        ("ip=[2001:db8::7]:[2001:db8:1::9/64]::128::eth0:none", "eth0: 2001:db8::7/64 peer 2001:db8:1::9"),
        // …[:[<dns1>][:<dns2>]]
        ("ip=192.0.2.7:::24::eth0:none:192.0.2.53", "eth0: 192.0.2.7/24, name server 192.0.2.53"),
        ("ip=192.0.2.7:::24::eth0:none::192.0.2.53", "eth0: 192.0.2.7/24, name server 192.0.2.53"),
        ("ip=:::::eth0:dhcp:192.0.2.53:[2001:db8::53]", "eth0: DHCP, name server 192.0.2.53, name server 2001:db8::53"),
        // Both families for one interface.
        (
            "ip=192.0.2.7::192.0.2.1:24:box:eth0:none ip=[2001:db8::7]::[2001:db8::1]:64:box:eth0:none:1400",
            "eth0: 192.0.2.7/24 gateway 192.0.2.1, 2001:db8::7/64 gateway 2001:db8::1, MTU 1400, host name box",
        ),
        ("ip=eth0:dhcp ip=eth0:auto6", "eth0: DHCP, IPv6 autoconfiguration"),
        ("ip=eth0:dhcp ip=eth0:dhcp", "eth0: DHCP"),
        ("ip=eth0:dhcp ip=eth0:off", "eth0: DHCP"),
        ("ip=eth0:off ip=eth0:auto6", "eth0: IPv6 autoconfiguration"),
        // The kernel's, initramfs-tools' and mkinitcpio's.
        ("ip=192.0.2.7::192.0.2.1:255.255.255.128::eth0", "eth0: 192.0.2.7/25 gateway 192.0.2.1"),
        (
            "ip=192.0.2.7:192.0.2.9:192.0.2.1:255.255.255.0:box:eth0:static:192.0.2.53:192.0.2.54:192.0.2.123",
            "eth0: 192.0.2.7/24 gateway 192.0.2.1, host name box, name server 192.0.2.53, name server 192.0.2.54",
        ),
        ("nfsaddrs=192.0.2.7::192.0.2.1:24::eth0:off", "eth0: 192.0.2.7/24 gateway 192.0.2.1"),
        // Anaconda's, which dracut still takes.
        (
            "ip=192.0.2.7 netmask=255.255.255.0 gateway=192.0.2.1 ksdevice=eth0 hostname=box mtu=1400",
            "eth0: 192.0.2.7/24 gateway 192.0.2.1, MTU 1400, host name box",
        ),
        (
            "ip=192.0.2.7 netmask=24 ksdevice=bootif BOOTIF=01-52-54-00-12-34-56 rd.bootif=0",
            "52:54:00:12:34:56: 192.0.2.7/24",
        ),
        ("ip=192.0.2.7 netmask=24 ksdevice=link", "the first Ethernet interface: 192.0.2.7/24"),
        // The firmware's table: dracut has put it into /etc/cmdline.d.
        ("ip=ibft ip=192.0.2.7:::24::ibft0:none", "ibft0: 192.0.2.7/24"),
    ] {
        let (config, problems) = parse(line);
        assert_eq!(interfaces(&config), expected, "{line}");
        assert_eq!(problems, [""; 0], "{line}");
    }
}

#[test]
fn virtual_interfaces() {
    const MIIMON: &str = "miimon=100";
    for (line, expected) in [
        // The four styles of VLAN names.
        ("vlan=vlan0005:eth0", "vlan0005: VLAN 5 on eth0".to_owned()),
        ("vlan=vlan5:eth0", "vlan5: VLAN 5 on eth0".to_owned()),
        ("vlan=eth0.0005:eth0", "eth0.0005: VLAN 5 on eth0".to_owned()),
        ("vlan=eth0.5:eth0", "eth0.5: VLAN 5 on eth0".to_owned()),
        ("vlan=vlan0010:eth0", "vlan0010: VLAN 10 on eth0".to_owned()),
        ("vlan=eth0.4094:eth0 vlan=eth0.0:eth0", "eth0.4094: VLAN 4094 on eth0; eth0.0: VLAN 0 on eth0".to_owned()),
        // bond=<bondname>[:<bondslaves>:[:<options>[:<mtu>]]]
        ("bond", format!("bond0: bond of eth0, eth1, mode=balance-rr,{MIIMON}")),
        ("bond=bond0:eth0,eth1:mode=balance-rr", format!("bond0: bond of eth0, eth1, mode=balance-rr,{MIIMON}")),
        ("bond=bond1", format!("bond1: bond of eth0, eth1, mode=balance-rr,{MIIMON}")),
        ("bond=bond0:a,b", format!("bond0: bond of a, b, mode=balance-rr,{MIIMON}")),
        ("bond=bond0:a,b:mode=4:9000", format!("bond0: bond of a, b, mode=802.3ad,{MIIMON}, MTU 9000")),
        (
            "bond=bond0:a,b:mode=active-backup,miimon=50,primary=b,updelay=100,fail_over_mac=active",
            "bond0: bond of a, b, mode=active-backup,miimon=50,updelay=100,fail_over_mac=active,primary=b".to_owned(),
        ),
        (
            "bond=bond0:a,b:mode=1,arp_interval=500,arp_ip_target=192.0.2.1;+192.0.2.2,arp_validate=all",
            "bond0: bond of a, b, mode=active-backup,arp_interval=500,arp_validate=all,\
             arp_ip_target=192.0.2.1;192.0.2.2"
                .to_owned(),
        ),
        // bridge=<bridgename>:<ethnames>
        ("bridge", "br0: bridge of eth0".to_owned()),
        ("bridge=br0:eth0", "br0: bridge of eth0".to_owned()),
        ("bridge=br1:eth0,eth1", "br1: bridge of eth0, eth1".to_owned()),
        // What something is made of comes before it, however it is written.
        (
            "bridge=br0:bond0.5 vlan=bond0.5:bond0 bond=bond0:eth0,eth1",
            format!(
                "bond0: bond of eth0, eth1, mode=balance-rr,{MIIMON}; bond0.5: VLAN 5 on bond0; br0: bridge of bond0.5"
            ),
        ),
        ("vlan=a.5:a vlan=b.5:b", "a.5: VLAN 5 on a; b.5: VLAN 5 on b".to_owned()),
    ] {
        let (config, problems) = parse(line);
        assert_eq!(all(&config), format!("{expected}; every Ethernet interface: DHCP"), "{line}");
        assert_eq!(problems, [""; 0], "{line}");
    }
}

#[test]
fn routes_names_and_the_rest() {
    let every = "every Ethernet interface: DHCP";
    for (line, expected) in [
        ("rd.route=192.168.200.0/24:192.168.100.222:ens10", "route to 192.168.200.0/24 by 192.168.100.222 on ens10"),
        ("rd.route=192.168.200.0/24:192.168.100.222", "route to 192.168.200.0/24 by 192.168.100.222"),
        ("rd.route=192.168.200.0/24::ens10", "route to 192.168.200.0/24 on ens10"),
        ("rd.route=[2001:DB8:3::/8]:[2001:DB8:2::1]:ens10", "route to 2000::/8 by 2001:db8:2::1 on ens10"),
        ("rd.route=192.168.200.0/255.255.255.0:192.0.2.1", "route to 192.168.200.0/24 by 192.0.2.1"),
        ("rd.route=198.51.100.7:192.0.2.1", "route to 198.51.100.7/32 by 192.0.2.1"),
        ("rd.route=default:192.0.2.1", "route to 0.0.0.0/0 by 192.0.2.1"),
        ("rd.route=default:[fe80::1]:eth0", "route to ::/0 by fe80::1 on eth0"),
        ("nameserver=192.0.2.53 nameserver=2001:db8::53", "name server 192.0.2.53; name server 2001:db8::53"),
        ("nameserver=[2001:db8::53] nameserver=2001:db8::53", "name server 2001:db8::53"),
        ("rd.peerdns=0", "name servers of DHCP and router advertisements are not used"),
        ("rd.peerdns", ""),
    ] {
        let (config, problems) = parse(line);
        assert_eq!(all(&config), [every, expected].join("; ").trim_end_matches("; "), "{line}");
        assert_eq!(problems, [""; 0], "{line}");
    }
    assert!(parse("rd.neednet=1").0.neednet && !parse("rd.neednet=0").0.neednet);
}

#[test]
fn names_and_the_interface_to_prefer() {
    const DHCP: &str = "every Ethernet interface: DHCP";
    const STATIC: &str = "ip=192.0.2.7:::24:::none";
    for (line, expected) in [
        (
            "ifname=bootnet:52:54:00:AB:12:34 ip=bootnet:dhcp",
            "bootnet: the name of 52:54:00:ab:12:34; bootnet: DHCP".to_owned(),
        ),
        ("ip=enx525400ab1234:dhcp", "enx525400ab1234: the name of 52:54:00:ab:12:34; enx525400ab1234: DHCP".to_owned()),
        ("bootdev=eth1 ip=dhcp", format!("{DHCP}; eth1 is preferred")),
        ("bootdev=eth1", "eth1: DHCP; eth1 is preferred".to_owned()),
        ("bootdev=eth1 ip=eth0:dhcp", "eth0: DHCP; eth1: DHCP; eth1 is preferred".to_owned()),
        ("bootdev=52:54:00:ab:12:34 ip=dhcp", format!("{DHCP}; 52:54:00:ab:12:34 is preferred")),
        ("ip=dhcp ip=eth1:off", format!("eth1: no address; {DHCP}")),
        ("ip=eth1:dhcp ip=eth0:dhcp", "eth1: DHCP; eth0: DHCP; eth1 is preferred".to_owned()),
        ("BOOTIF=01-52-54-00-ab-12-34 ip=dhcp", format!("{DHCP}; 52:54:00:ab:12:34 is preferred")),
        ("BOOTIF=01-52-54-00-AB-12-34", "52:54:00:ab:12:34: DHCP; 52:54:00:ab:12:34 is preferred".to_owned()),
        ("BOOTIF=52:54:00:ab:12:34 ip=dhcp", format!("{DHCP}; 52:54:00:ab:12:34 is preferred")),
        ("BOOTIF=01:52:54:00:ab:12:34 ip=dhcp", format!("{DHCP}; 52:54:00:ab:12:34 is preferred")),
        ("BOOTIF=52-54-00-ab-12-34 ip=dhcp", format!("{DHCP}; 52:54:00:ab:12:34 is preferred")),
        ("BOOTIF=01-52-54-00-ab-12-34 bootdev=eth1 ip=dhcp", format!("{DHCP}; 52:54:00:ab:12:34 is preferred")),
        ("BOOTIF=01-52-54-00-ab-12-34 rd.bootif=0", DHCP.to_owned()),
        (&format!("{STATIC} bootdev=eth1"), "eth1: 192.0.2.7/24; eth1 is preferred".to_owned()),
        (
            &format!("{STATIC} BOOTIF=01-52-54-00-ab-12-34"),
            "52:54:00:ab:12:34: 192.0.2.7/24; 52:54:00:ab:12:34 is preferred".to_owned(),
        ),
    ] {
        let (config, problems) = parse(line);
        assert_eq!(all(&config), expected, "{line}");
        assert_eq!(problems, [""; 0], "{line}");
    }
}

#[test]
fn the_kernel_command_line_wins_as_a_whole() {
    let (mut configured, _) = parse("ip=192.0.2.7:::24::eth0:none nameserver=192.0.2.53");
    configured.keep = true;
    let choose = |line| all(&NetworkConfig::choose(&CommandLine::parse(line), Some(&configured)).0);
    let kept = "what is configured stays for the real system";
    assert_eq!(choose("ip=eth1:dhcp"), format!("eth1: DHCP; {kept}"));
    assert_eq!(
        choose("rd.route=default::eth0"),
        format!("every Ethernet interface: DHCP; route to 0.0.0.0/0 on eth0; {kept}")
    );
    for line in ["", "root=/dev/sda1 rd.peerdns=0"] {
        assert_eq!(choose(line), format!("eth0: 192.0.2.7/24; name server 192.0.2.53; {kept}"));
    }
    // PXELINUX adds this by itself.
    assert!(choose("BOOTIF=01-52-54-00-ab-12-34").contains("eth0: 192.0.2.7/24"));
    assert_eq!(NetworkConfig::choose(&CommandLine::parse(""), None), (NetworkConfig::default(), Vec::new()));
}
