//! IPv6: static addresses, and those of router advertisements.

use crate::lab::{has_link_local, in_namespace, reaches, sh, snapshot, until};

/// What dnsmasq advertises: addresses by SLAAC, good for two minutes.
const SLAAC: &str = "2001:db8::,ra-only,64,2m";

#[test]
fn a_static_address() {
    in_namespace("ipv6::a_static_address", async |lab| {
        lab.cable("eth0");
        lab.in_server("ip address add 2001:db8::1/64 dev srv0 nodad");
        let before = snapshot();
        let mut it = lab.start("ip=[2001:db8::7]::[2001:db8::1]:64::eth0:none nameserver=[2001:db8::53]");
        let tentative = "2001:db8::7 is tentative: the kernel asks whether another station has it";
        it.until("eth0", "waited for the check", |link| link.note.as_deref() == Some(tentative)).await;
        let link = it.until_address("eth0", "2001:db8::7/64").await;
        assert_eq!(link.configured_by.as_deref(), Some("static"));
        assert_eq!(link.gateway.as_deref(), Some("2001:db8::1"));
        assert_eq!(lab.read("etc/resolv.conf").as_deref(), Some("nameserver 2001:db8::53\n"));
        until(async || reaches("2001:db8::1")).await;
        // The kernel forgets it while the interface is down.
        sh("ip link set eth0 down; ip link set eth0 up");
        until(async || reaches("2001:db8::1") && sh("ip -6 route show default").contains("2001:db8::1")).await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_gateway_that_is_link_local_or_elsewhere() {
    in_namespace("ipv6::a_gateway_that_is_link_local_or_elsewhere", async |lab| {
        lab.cable("eth0");
        lab.in_server("ip address add fe80::1/64 dev srv0 nodad");
        lab.in_server("ip address add 2001:db8:1::1/64 dev srv0 nodad");
        lab.in_server("ip address add 2001:db8:ff::1/128 dev lo");
        lab.in_server("ip route add 2001:db8::7/128 dev srv0");
        let before = snapshot();
        for gateway in ["fe80::1", "2001:db8:1::1"] {
            let mut it = lab.start(&format!("ip=[2001:db8::7]::[{gateway}]:64::eth0:none"));
            it.until_address("eth0", "2001:db8::7/64").await;
            until(async || reaches("2001:db8:ff::1")).await;
            it.net.undo().await;
            assert_eq!(snapshot(), before, "{gateway}");
        }
    });
}

#[test]
fn an_address_that_another_station_has_is_said() {
    in_namespace("ipv6::an_address_that_another_station_has_is_said", async |lab| {
        lab.cable("eth0");
        lab.in_server("ip address add 2001:db8::7/64 dev srv0 nodad");
        let before = snapshot();
        let mut it = lab.start("ip=[2001:db8::7]:::64::eth0:none");
        let failed = "2001:db8::7 is not usable: another station on this link has it";
        let link = it.until("eth0", "said so", |link| link.note.as_deref() == Some(failed)).await;
        assert!(link.addresses.is_empty());
        assert!(crate::lab::said().iter().any(|line| line.contains(failed)));
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn advertised_addresses_come_beside_dhcp_and_privacy_is_off() {
    in_namespace("ipv6::advertised_addresses_come_beside_dhcp_and_privacy_is_off", async |mut lab| {
        lab.cable("eth0");
        sh("echo 2 > /proc/sys/net/ipv6/conf/eth0/use_tempaddr");
        let before = snapshot();
        lab.serve(100, &crate::OPTIONS);
        lab.advertise(SLAAC);
        let mut it = lab.start("quiet");
        it.until_address("eth0", "192.0.2.10").await;
        it.until_address("eth0", "2001:db8::").await;
        until(async || reaches("2001:db8::1")).await;
        assert!(!sh("ip -6 address show dev eth0").contains("temporary"));
        it.net.undo().await;
        assert_eq!((snapshot(), setting("use_tempaddr")), (before, "2".into()));
    });
}

#[test]
fn a_router_that_comes_late() {
    in_namespace("ipv6::a_router_that_comes_late", async |mut lab| {
        lab.cable("eth0");
        let before = snapshot();
        let mut it = lab.start("ip=eth0:auto6");
        let waits = |link: &vestibule::control::message::Link| {
            link.carrier && link.note.as_deref() == Some("waiting for a router advertisement")
        };
        it.until("eth0", "waited", waits).await;
        has_link_local("eth0").await;
        lab.advertise(SLAAC); // dnsmasq advertises at once when it starts
        let link = it.until_address("eth0", "2001:db8::").await;
        assert_eq!((link.configured_by.as_deref(), link.note), (Some("ra"), None));
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn what_came_by_our_leave_goes_from_an_interface_that_was_up() {
    in_namespace("ipv6::what_came_by_our_leave_goes_from_an_interface_that_was_up", async |mut lab| {
        lab.cable("eth0");
        sh("echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra; ip link set eth0 up");
        has_link_local("eth0").await;
        let before = snapshot();
        let mut it = lab.start("ip=eth0:auto6");
        it.until("eth0", "was taken", |link| link.note.is_some()).await;
        lab.advertise(SLAAC);
        it.until_address("eth0", "2001:db8::").await;
        until(async || reaches("2001:db8::1") && sh("ip -6 route").contains("default")).await;
        it.net.undo().await;
        assert_eq!((snapshot(), setting("accept_ra")), (before, "0".into()));
    });
}

#[test]
fn an_interface_without_ipv6_gets_it_and_loses_it() {
    in_namespace("ipv6::an_interface_without_ipv6_gets_it_and_loses_it", async |lab| {
        lab.cable("eth0");
        sh("echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6");
        let before = snapshot();
        let mut it = lab.start("ip=[2001:db8::7]:::64::eth0:none");
        it.until_address("eth0", "2001:db8::7").await;
        it.net.undo().await;
        assert_eq!((snapshot(), setting("disable_ipv6")), (before, "1".into()));
    });
}

#[test]
fn link_local_only() {
    in_namespace("ipv6::link_local_only", async |mut lab| {
        lab.cable("eth0");
        let before = snapshot();
        lab.advertise(SLAAC);
        let mut it = lab.start("ip=eth0:link6");
        until(async || sh("ip -6 address show dev eth0").contains("fe80::")).await;
        assert_eq!(setting("accept_ra"), "0");
        let link = it.until("eth0", "was good", |link| link.carrier && link.note.is_none()).await;
        assert!(link.addresses.is_empty());
        it.net.undo().await;
        assert_eq!((snapshot(), setting("accept_ra")), (before, "1".into()));
    });
}

fn setting(key: &str) -> String {
    sh(&format!("cat /proc/sys/net/ipv6/conf/eth0/{key}")).trim().to_owned()
}
