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
