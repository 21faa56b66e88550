//! DHCPv6 and what routers advertise beside addresses.

use std::time::Duration;

use super::{
    lab::{Lab, in_namespace, sh, snapshot, until},
    servers::{dhcpd6, kea6, link_local, radvd},
};

const MANAGED: &str = "AdvManagedFlag on; AdvOtherConfigFlag on;";

/// A cable with a router's address at the server's end.
async fn cable(lab: &Lab) {
    lab.cable("eth0");
    lab.in_server("ip address add 2001:db8::1/64 dev srv0 nodad");
    sh("ip link set eth0 up");
    link_local(lab, "srv0").await;
    sh("ip link set eth0 down");
}

#[test]
fn a_router_sends_to_kea() {
    in_namespace("dhcpv6::a_router_sends_to_kea", async |mut lab| {
        cable(&lab).await;
        let before = snapshot();
        let options = r#", "rapid-commit": true, "option-data": [{ "name": "dns-servers", "data": "2001:db8::53" },
            { "name": "domain-search", "data": "lab.example" }]"#;
        kea6(&mut lab, options).await;
        radvd(&mut lab, MANAGED);
        let mut it = lab.start("ip=eth0:auto6");
        let link = it.until_address("eth0", "2001:db8::4").await;
        assert_eq!(link.configured_by.as_deref(), Some("dhcp6"));
        let resolver = "nameserver 2001:db8::53\nsearch lab.example\n";
        until(async || lab.read("etc/resolv.conf").as_deref() == Some(resolver)).await;
        lab.until_served("DHCP6_LEASE_RENEW", 2).await; // each two seconds
        let advertised = |link: &vestibule::control::message::Link| link.addresses.len() == 2;
        it.until("eth0", "had what the router advertises too", advertised).await;
        it.net.undo().await;
        assert_eq!((snapshot(), lab.read("etc/resolv.conf")), (before, None));
    });
}

#[test]
fn dhcpd_without_a_rapid_answer() {
    in_namespace("dhcpv6::dhcpd_without_a_rapid_answer", async |mut lab| {
        cable(&lab).await;
        let before = snapshot();
        dhcpd6(&mut lab, "default-lease-time 60; option dhcp6.name-servers 2001:db8::53;").await;
        let mut it = lab.start("ip=eth0:dhcp6"); // no router tells it to
        it.until_address("eth0", "2001:db8::3").await;
        assert_eq!(lab.count_served("Request message"), 1);
        until(async || lab.read("etc/resolv.conf").as_deref() == Some("nameserver 2001:db8::53\n")).await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_lease_that_ends_while_the_server_is_away_is_lost_and_got_again() {
    in_namespace("dhcpv6::a_lease_that_ends_while_the_server_is_away_is_lost_and_got_again", async |mut lab| {
        cable(&lab).await;
        let lease =
            "default-lease-time 8; preferred-lifetime 6; option dhcp-renewal-time 3; option dhcp-rebinding-time 5;";
        dhcpd6(&mut lab, lease).await;
        let mut it = lab.start("ip=eth0:dhcp6");
        it.until_address("eth0", "2001:db8::3").await;
        lab.until_served("Renew message", 2).await;
        lab.stop_serving();
        it.until("eth0", "lost its address", |link| link.addresses.is_empty()).await;
        dhcpd6(&mut lab, lease).await;
        it.until_address("eth0", "2001:db8::3").await;
        it.net.undo().await;
    });
}

#[test]
fn only_names_are_asked_for_where_the_router_says_so() {
    in_namespace("dhcpv6::only_names_are_asked_for_where_the_router_says_so", async |mut lab| {
        cable(&lab).await;
        let options = r#", "option-data": [{ "name": "dns-servers", "data": "2001:db8::53" }]"#;
        kea6(&mut lab, options).await;
        radvd(&mut lab, "AdvOtherConfigFlag on;");
        let mut it = lab.start("ip=dhcp"); // as nobody serves IPv4 here, this is all
        it.until_address("eth0", "2001:db8:").await;
        until(async || lab.read("etc/resolv.conf").as_deref() == Some("nameserver 2001:db8::53\n")).await;
        assert_eq!(lab.count_served("DHCP6_LEASE_ALLOC"), 0);
        it.net.undo().await;
        assert_eq!(lab.read("etc/resolv.conf"), None);
    });
}

#[test]
fn a_router_that_comes_late_is_heard_and_its_names_are_taken() {
    in_namespace("dhcpv6::a_router_that_comes_late_is_heard_and_its_names_are_taken", async |mut lab| {
        cable(&lab).await;
        let before = snapshot();
        let mut it = lab.start("ip=eth0:auto6");
        it.until("eth0", "waited", |link| link.note.as_deref() == Some("waiting for a router advertisement")).await;
        // The kernel asks three times in twelve seconds, and then listens.
        tokio::time::sleep(Duration::from_secs(15)).await;
        radvd(&mut lab, "RDNSS 2001:db8::53 2001:db8::54 { }; DNSSL lab.example { };");
        it.until_address("eth0", "2001:db8:").await;
        let resolver = "nameserver 2001:db8::53\nnameserver 2001:db8::54\nsearch lab.example\n";
        until(async || lab.read("etc/resolv.conf").as_deref() == Some(resolver)).await;
        it.net.undo().await;
        assert_eq!((snapshot(), lab.read("etc/resolv.conf")), (before, None));
    });
}

#[test]
fn either_asks_without_a_router() {
    in_namespace("dhcpv6::either_asks_without_a_router", async |mut lab| {
        cable(&lab).await;
        dhcpd6(&mut lab, "default-lease-time 60;").await;
        let mut it = lab.start("ip=eth0:either6");
        it.until_address("eth0", "2001:db8::3").await;
        it.net.undo().await;
    });
}

#[test]
fn either_does_not_ask_where_a_router_gives_addresses() {
    in_namespace("dhcpv6::either_does_not_ask_where_a_router_gives_addresses", async |mut lab| {
        cable(&lab).await;
        dhcpd6(&mut lab, "default-lease-time 60;").await;
        radvd(&mut lab, "");
        let mut it = lab.start("ip=eth0:either6");
        it.until_address("eth0", "2001:db8:").await;
        // Longer than it would wait without a router.
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(lab.count_served("Solicit message"), 0);
        it.net.undo().await;
    });
}
