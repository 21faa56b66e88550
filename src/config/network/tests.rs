use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> (NetworkConfig, Vec<String>) {
    NetworkConfig::parse(&CommandLine::parse(text))
}

/// A short spelling of a configuration, for the table.
fn show(config: &NetworkConfig) -> String {
    let shown = config.interfaces.iter().map(|interface| {
        let mut text = match &interface.which {
            Which::Named(name) => name.clone(),
            Which::Every => "every".into(),
            Which::First => "first".into(),
            Which::Mac(mac) => format!("{mac:02x?}"),
        };
        match interface.ipv4 {
            Ipv4::Off => {}
            Ipv4::Dhcp => text += " dhcp",
            Ipv4::Static(it) => {
                text += &format!(" {}/{}", it.address, it.prefix);
                text += &it.peer.map(|peer| format!(" peer {peer}")).unwrap_or_default();
                text += &it.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            }
        }
        text += &interface.mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default();
        text += &interface.hostname.iter().map(|name| format!(" host {name}")).collect::<String>();
        text += &interface.nameservers.iter().map(|server| format!(" dns {server}")).collect::<String>();
        text
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[test]
fn understood() {
    for (line, expected) in [
        ("root=/dev/sda1", "every dhcp"),
        ("ip=dhcp", "every dhcp"),
        ("ip=on", "every dhcp"),
        ("ip=any", "every dhcp"),
        ("ip=", "every dhcp"),
        ("ip", "every dhcp"),
        ("ip=off", ""),
        ("ip=none", ""),
        ("ip=off ip=eth0:dhcp", "eth0 dhcp"),
        ("ip=eth0:dhcp", "eth0 dhcp"),
        ("ip=eth0:any ip=eth1:on", "eth0 dhcp, eth1 dhcp"),
        ("ip=eth0:dhcp:9000", "eth0 dhcp mtu 9000"),
        ("ip=eth0:dhcp::", "eth0 dhcp"),
        ("ip=dhcp ip=eth0:dhcp", "every dhcp, eth0 dhcp"),
        ("ip=:::::eth0:dhcp", "eth0 dhcp"),
        ("ip=::::box::dhcp", "every dhcp host box"),
        ("ip=192.0.2.7::192.0.2.1:255.255.255.0:box:eth0:none", "eth0 192.0.2.7/24 via 192.0.2.1 host box"),
        ("ip=192.0.2.7::192.0.2.1:24::eth0:off", "eth0 192.0.2.7/24 via 192.0.2.1"),
        ("ip=192.0.2.7:::24:::none", "first 192.0.2.7/24"),
        ("ip=192.0.2.7::192.0.2.1:255.255.255.128::eth0", "eth0 192.0.2.7/25 via 192.0.2.1"),
        ("ip=192.0.2.7:192.0.2.9::32::eth0:none", "eth0 192.0.2.7/32 peer 192.0.2.9"),
        ("ip=192.0.2.7:192.0.2.9/32::32::eth0:none", "eth0 192.0.2.7/32 peer 192.0.2.9"),
        ("ip=192.0.2.7:::0.0.0.0::eth0:none", "eth0 192.0.2.7/0"),
        ("ip=192.0.2.7:::24::eth0:none:192.0.2.53", "eth0 192.0.2.7/24 dns 192.0.2.53"),
        ("ip=192.0.2.7:::24::eth0:none::192.0.2.53", "eth0 192.0.2.7/24 dns 192.0.2.53"),
        (
            "ip=192.0.2.7:::24::eth0:static:192.0.2.53:[2001:db8::53]:192.0.2.123",
            "eth0 192.0.2.7/24 dns 192.0.2.53 dns 2001:db8::53",
        ),
        ("ip=192.0.2.7:::24::eth0:none:1400", "eth0 192.0.2.7/24 mtu 1400"),
    ] {
        let (config, problems) = parse(line);
        assert_eq!(show(&config), expected, "{line}");
        assert_eq!(problems, [""; 0], "{line}");
    }
}

#[test]
fn a_mistake_names_argument_place_and_cure_and_the_rest_comes_up() {
    for (mistake, place) in [
        ("auto6", "field 1"),
        ("single-dhcp", "field 1"),
        ("ibft", "field 1"),
        ("dhpc", "field 1"),
        ("192.0.2.7", "an address alone"),
        ("eth1:auto6", "field 2"),
        ("eth1:dhcp6:1500", "field 2"),
        ("eth1:off", "field 2"),
        ("eth1:dhcp:big", "field 3"),
        ("eth1:dhcp:1500:52:54:00:12:34:56", "MAC address"),
        ("[2001:db8::7]::[2001:db8::1]:64::eth1:none", "field 3"),
        ("[2001:db8::7]:::64::eth1:none", "field 1"),
        ("[2001:db8::7:::64::eth1:none", "bracket"),
        ("[::1]x:::64::eth1:none", "bracket"),
        ("192.0.2.7::nowhere:24::eth1:none", "field 3"),
        ("192.0.2.7::192.0.2.1:::eth1:none", "field 4"),
        ("192.0.2.7::192.0.2.1:33::eth1:none", "field 4"),
        ("192.0.2.7::192.0.2.1:255.0.255.0::eth1:none", "field 4"),
        ("192.0.2.7:::24::eth1:dhcp", "exclude"),
        ("192.0.2.7:::24::eth1:auto6", "field 7"),
        (":::24::eth1:none", "field 1"),
        ("192.0.2.7:::24::eth1:none:5", "field 8"),
        ("192.0.2.7:::24::eth1:none:192.0.2.53:dns", "field 9"),
        ("192.0.2.7:::24::a-name-that-is-too-long:none", "name of an interface"),
    ] {
        let (config, problems) = parse(&format!("ip=eth0:dhcp ip={mistake}"));
        assert_eq!(show(&config), "eth0 dhcp", "{mistake}");
        let [problem] = problems.as_slice() else { panic!("{mistake}: {problems:?}") };
        assert!(problem.starts_with(&format!("ip={mistake}: ")) && problem.contains(place), "{problem}");
    }
}

#[test]
fn nothing_usable_falls_back_to_the_default() {
    let (config, problems) = parse("ip=auto6");
    assert_eq!(config, NetworkConfig::default());
    assert_eq!(problems.len(), 2);
}

#[test]
fn a_second_argument_for_one_interface_is_a_problem() {
    let (config, problems) = parse("ip=eth0:dhcp ip=192.0.2.7:::24::eth0:none");
    assert_eq!((show(&config).as_str(), problems.len()), ("eth0 dhcp", 1));
}

#[test]
fn nameservers_and_neednet() {
    let (config, problems) = parse("nameserver=192.0.2.53 nameserver=here nameserver=[2001:db8::53] rd.neednet=1");
    let expected: [IpAddr; 2] = ["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()];
    assert_eq!(config.nameservers, expected);
    assert!(config.neednet);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("nameserver=here: "));
}

proptest! {
    #[test]
    fn never_panics(line in "(ip=|nameserver=|[0-9a-z.:\\[\\]/% ]|\\PC){0,80}") {
        parse(&line);
    }
}
