use super::*;

#[test]
fn static_gateways() {
    for (line, expected) in [
        ("ip=192.0.2.7::192.0.2.1:24::eth0:none", "+0.0.0.0/0 via 192.0.2.1 metric 2050"),
        ("ip=192.0.2.7::198.51.100.1:24::eth0:none", "+0.0.0.0/0 via 198.51.100.1 onlink metric 2050"),
        ("ip=192.0.2.7:198.51.100.1:198.51.100.1:32::eth0:none", "+0.0.0.0/0 via 198.51.100.1 metric 2050"),
        ("ip=192.0.2.7::198.51.100.1:0::eth0:none", "+0.0.0.0/0 via 198.51.100.1 metric 2050"),
    ] {
        let did = Story::new(line).link(eth0(false, false));
        assert_eq!((did[0].as_str(), did[2].as_str()), ("up 2", expected), "{line}");
    }
}

#[test]
fn classless_routes_in_an_order_that_works() {
    let mut story = Story::new("ip=dhcp");
    story.link(eth0(true, true));
    story.answer(dhcp::OFFER, &[]);
    let routes = [0, 198, 51, 100, 1, 32, 198, 51, 100, 1, 0, 0, 0, 0];
    let did = story.answer(dhcp::ACK, &[(dhcp::ROUTES, &routes), (dhcp::ROUTERS, &[192, 0, 2, 1])]);
    assert_eq!(did[1], "+198.51.100.1/32 metric 2050");
    assert_eq!(did[2], "+0.0.0.0/0 via 198.51.100.1 onlink metric 2050");
}

#[test]
fn routes_of_the_command_line_come_and_go_with_the_addresses_that_they_need() {
    let line = "ip=eth0:dhcp rd.route=198.51.100.0/24:192.0.2.254 rd.route=203.0.113.0/24:198.51.100.1:eth0 \
        rd.route=[2001:db8:9::/64]:[fe80::9]:eth0 rd.route=10.0.0.0/8:10.9.9.9";
    let mut story = Story::new(line);
    assert_eq!(story.link(eth0(true, true)).len(), 2, "not before there is an address");
    story.answer(dhcp::OFFER, &[]);
    let did = story.answer(dhcp::ACK, &[]);
    let routes: Vec<_> = did.iter().filter(|it| it.contains("via")).collect();
    let expected =
        ["+198.51.100.0/24 via 192.0.2.254 metric 2050", "+203.0.113.0/24 via 198.51.100.1 onlink metric 2050"];
    assert_eq!(routes, expected);
    let link_local = AddressSeen { prefix: 64, global: false, ..address(2, "fe80::2") };
    assert_eq!(story.event(Event::Address(link_local)), ["+2001:db8:9::/64 via fe80::9 metric 2050"]);
    story.link(eth0(false, false));
    assert!(story.link(eth0(true, true)).contains(&expected[0].to_owned()), "setting it down dropped them");
    story.event(Event::AddressGone(address(2, "192.0.2.7")));
    story.answer(dhcp::OFFER, &[]);
    assert!(story.answer(dhcp::ACK, &[]).contains(&expected[1].to_owned()), "and so did its address");
}

#[test]
fn servers_of_others_are_not_told_if_so_wished() {
    let mut story = Story::new("ip=dhcp nameserver=192.0.2.99 rd.peerdns=0");
    story.link(eth0(true, true));
    story.answer(dhcp::OFFER, &[]);
    let did = story.answer(dhcp::ACK, &[(dhcp::NAMESERVERS, &[192, 0, 2, 53])]);
    assert_eq!(did.last().unwrap(), "resolver [192.0.2.99]");
}
