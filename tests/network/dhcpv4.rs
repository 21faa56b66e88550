//! DHCPv4.

use std::time::{Duration, Instant};

use super::{
    lab::{in_namespace, sh, snapshot, until},
    servers::{dhcpd, filter, kea4, lossy, relay},
};

#[test]
fn all_that_dhcpd_says() {
    in_namespace("dhcpv4::all_that_dhcpd_says", async |mut lab| {
        lab.cable("eth0");
        let before = snapshot();
        let options = "option routers 192.0.2.1, 192.0.2.2; option domain-name \"lab.example\"; \
            option domain-search \"a.lab.example\", \"b.lab.example\"; option interface-mtu 1400; \
            option domain-name-servers 192.0.2.53, 192.0.2.54;";
        // It looks whether the address is free, for a second, before it offers.
        dhcpd(&mut lab, "ping-check true; default-lease-time 60; max-lease-time 60;", options).await;
        let mut it = lab.start("ip=dhcp");
        let link = it.until_address("eth0", "192.0.2.3").await;
        assert_eq!(link.gateway.as_deref(), Some("192.0.2.1"));
        assert_eq!(link.nameservers, ["192.0.2.53", "192.0.2.54"]);
        let resolver = "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch a.lab.example b.lab.example\n";
        until(async || lab.read("etc/resolv.conf").as_deref() == Some(resolver)).await;
        until(async || sh("ip link show eth0").contains("mtu 1400")).await;
        until(async || sh("ip route show default").lines().count() == 2).await;
        it.net.undo().await;
        assert_eq!((snapshot(), lab.read("etc/resolv.conf")), (before, None));
    });
}

#[test]
fn a_lease_of_ten_seconds_is_renewed_twenty_times() {
    in_namespace("dhcpv4::a_lease_of_ten_seconds_is_renewed_twenty_times", async |mut lab| {
        lab.cable("eth0");
        // Each second, so that it takes twenty and not a hundred. The times between are in the tests of the state machine.
        let lease = "default-lease-time 10; max-lease-time 10; min-lease-time 10; option dhcp-renewal-time 1; \
            option dhcp-rebinding-time 8; dhcp-cache-threshold 0;";
        dhcpd(&mut lab, lease, "").await;
        let mut it = lab.start("ip=dhcp");
        let first = it.until_address("eth0", "192.0.2.3").await;
        let asked = (lab.count_served("DHCPDISCOVER"), lab.count_served("DHCPOFFER"));
        lab.until_served("DHCPACK", 21).await;
        let last = it.until_address("eth0", "192.0.2.3").await;
        assert_eq!(first.addresses, last.addresses);
        let now = (lab.count_served("DHCPDISCOVER"), lab.count_served("DHCPOFFER"));
        assert_eq!(now, asked, "never anew");
        // As leased, and thirty seconds; after each renewal, one of which this sees at once on any machine.
        let left = [38, 39, 40].map(|left| format!("valid_lft {left}sec"));
        until(async || left.iter().any(|left| sh("ip address show eth0").contains(left))).await;
        it.net.undo().await;
    });
}

#[test]
fn a_lease_that_ends_while_the_server_is_away_is_lost_and_got_again() {
    in_namespace("dhcpv4::a_lease_that_ends_while_the_server_is_away_is_lost_and_got_again", async |mut lab| {
        lab.cable("eth0");
        let before = snapshot();
        let lease = "default-lease-time 10; max-lease-time 10; min-lease-time 10;";
        dhcpd(&mut lab, lease, "option routers 192.0.2.1;").await;
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.3").await;
        lab.stop_serving();
        it.until("eth0", "lost its address", |link| link.addresses.is_empty()).await;
        assert!(!sh("ip route").contains("default"), "nor is there a way");
        dhcpd(&mut lab, lease, "option routers 192.0.2.1;").await;
        it.until_address("eth0", "192.0.2.3").await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_server_that_starts_late_is_found() {
    in_namespace("dhcpv4::a_server_that_starts_late_is_found", async |mut lab| {
        lab.cable("eth0");
        let mut it = lab.start("ip=dhcp");
        it.until("eth0", "asked", |link| link.note.as_deref() == Some("waiting for a DHCP server")).await;
        tokio::time::sleep(Duration::from_secs(20)).await; // that late
        lab.serve(100, &[]);
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
    });
}

#[test]
fn three_packets_of_ten_may_be_lost() {
    in_namespace("dhcpv4::three_packets_of_ten_may_be_lost", async |mut lab| {
        lab.cable("eth0");
        lossy(&lab);
        let lease = "default-lease-time 10; max-lease-time 10; min-lease-time 10; option dhcp-renewal-time 1; \
            option dhcp-rebinding-time 8; dhcp-cache-threshold 0;";
        dhcpd(&mut lab, lease, "").await;
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.3").await;
        lab.until_served("DHCPACK", 5).await;
        it.until_address("eth0", "192.0.2.3").await;
        it.net.undo().await;
    });
}

#[test]
fn another_server_with_other_options_takes_over() {
    in_namespace("dhcpv4::another_server_with_other_options_takes_over", async |mut lab| {
        lab.cable("eth0");
        let before = snapshot();
        let lease = "default-lease-time 10; max-lease-time 10; min-lease-time 10;";
        let options = "option routers 192.0.2.1; option domain-name \"old.example\"; option interface-mtu 1400; \
            option domain-name-servers 192.0.2.53;";
        dhcpd(&mut lab, lease, options).await;
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.3").await;
        until(async || sh("ip link show eth0").contains("mtu 1400")).await;
        lab.stop_serving();
        let options = r#"{ "name": "routers", "data": "192.0.2.254" }, { "name": "domain-name", "data": "new.example" },
            { "name": "domain-name-servers", "data": "192.0.2.55" }"#;
        kea4(&mut lab, options).await; // knows nothing of the lease, and is silent about it until it ends
        let link = it.until_address("eth0", "192.0.2.4").await;
        assert_eq!((link.addresses.len(), link.gateway.as_deref()), (1, Some("192.0.2.254")));
        let resolver = "nameserver 192.0.2.55\nsearch new.example\n";
        until(async || lab.read("etc/resolv.conf").as_deref() == Some(resolver)).await;
        until(async || sh("ip link show eth0").contains("mtu 1500")).await;
        assert!(!sh("ip route").contains("192.0.2.1 "), "{}", sh("ip route"));
        lab.until_served("DHCP4_LEASE_ALLOC", 3).await; // by its own word, and renewed
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn classless_routes_take_the_place_of_routers() {
    in_namespace("dhcpv4::classless_routes_take_the_place_of_routers", async |mut lab| {
        lab.cable("eth0");
        let before = snapshot();
        let routes = "--dhcp-option=121,198.51.100.0/24,192.0.2.8,203.0.113.9/32,0.0.0.0,0.0.0.0/0,192.0.2.1";
        lab.serve(100, &["--dhcp-option=option:router,192.0.2.77", routes]);
        let mut it = lab.start("ip=dhcp");
        let link = it.until_address("eth0", "192.0.2.10").await;
        assert_eq!(link.gateway.as_deref(), Some("192.0.2.1"));
        until(async || sh("ip route").lines().count() == 4).await;
        let table = sh("ip route");
        for route in ["default via 192.0.2.1 ", "198.51.100.0/24 via 192.0.2.8 ", "203.0.113.9 dev eth0 scope link "] {
            assert!(table.contains(route), "{table}");
        }
        assert!(!table.contains("192.0.2.77"), "{table}");
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn the_second_router_is_used_when_the_first_is_dead() {
    in_namespace("dhcpv4::the_second_router_is_used_when_the_first_is_dead", async |mut lab| {
        lab.cable("eth0");
        let before = snapshot();
        lab.in_server("ip address add 203.0.113.1/32 dev lo");
        lab.serve(100, &["--dhcp-option=option:router,192.0.2.99,192.0.2.1"]);
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        // The kernel finds out with the first packets that nobody answers for them.
        let end = Instant::now() + Duration::from_secs(30);
        let to = "203.0.113.1:9".parse().unwrap();
        let tried = || std::net::TcpStream::connect_timeout(&to, Duration::from_secs(4)).unwrap_err().kind();
        while tried() != std::io::ErrorKind::ConnectionRefused {
            assert!(Instant::now() < end, "{}", sh("ip route; ip neighbour"));
        }
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn an_answer_to_everybody_is_an_answer() {
    in_namespace("dhcpv4::an_answer_to_everybody_is_an_answer", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &["--dhcp-broadcast"]);
        filter(&lab, "egress", "udp dport 68 ip daddr 192.0.2.0/24 drop");
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        assert_eq!(lab.count_served("DHCPDISCOVER"), 1);
        it.net.undo().await;
    });
}

#[test]
fn where_only_packets_to_everybody_arrive_they_are_asked_for() {
    in_namespace("dhcpv4::where_only_packets_to_everybody_arrive_they_are_asked_for", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &[]);
        filter(&lab, "egress", "udp dport 68 ip daddr 192.0.2.0/24 drop");
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        assert_eq!(lab.count_served("DHCPDISCOVER"), 2, "the second asked for it");
        it.net.undo().await;
    });
}

#[test]
fn a_relay_is_asked_first_and_the_server_behind_it_later() {
    in_namespace("dhcpv4::a_relay_is_asked_first_and_the_server_behind_it_later", async |mut lab| {
        lab.cable("eth0");
        relay(&mut lab, &["--dhcp-option=option:T1,2", "--dhcp-option=option:T2,4", "--dhcp-option=3,192.0.2.1"]);
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        lab.until_served("DHCPACK", 3).await; // past the relay, by unicast
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
    });
}
