//! Static addresses and routes.

use vestibule::{
    config::{Config, network::NetworkConfig},
    root::Root,
};

use crate::{
    OPTIONS,
    lab::{in_namespace, reaches, sh, snapshot, until},
};

#[test]
fn a_static_address_needs_no_server() {
    in_namespace("fixed::a_static_address_needs_no_server", async |lab| {
        lab.cable("eth0");
        let before = snapshot();
        let mut it = lab.start("ip=192.0.2.7::192.0.2.1:24:box:eth0:none:1400 nameserver=192.0.2.53");
        let link = it.until_address("eth0", "192.0.2.7/24").await;
        assert_eq!((link.configured_by.as_deref(), link.gateway.as_deref()), (Some("static"), Some("192.0.2.1")));
        until(async || reaches("192.0.2.1")).await;
        assert!(sh("ip link show eth0").contains("mtu 1400"));
        assert_eq!(lab.read("etc/resolv.conf").as_deref(), Some("nameserver 192.0.2.53\n"));
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_gateway_outside_of_the_subnet_is_reached() {
    in_namespace("fixed::a_gateway_outside_of_the_subnet_is_reached", async |lab| {
        lab.cable("eth0");
        lab.in_server("ip route add 198.51.100.7/32 dev srv0");
        let mut it = lab.start("ip=198.51.100.7::192.0.2.1:32::eth0:none");
        it.until_address("eth0", "198.51.100.7/32").await;
        until(async || reaches("192.0.2.1")).await;
        it.net.undo().await;
    });
}

#[test]
fn the_first_interface_with_carrier_gets_the_static_address() {
    in_namespace("fixed::the_first_interface_with_carrier_gets_the_static_address", async |lab| {
        lab.other_cable("dead0");
        lab.cable("eth0");
        let mut it = lab.start("ip=192.0.2.7::192.0.2.1:24:::none");
        it.until_address("eth0", "192.0.2.7/24").await;
        lab.in_server("ip link set dead0-end up"); // comes too late
        let late = it.until("dead0", "had carrier", |link| link.carrier).await;
        assert!(late.addresses.is_empty() && late.configured_by.is_none(), "{late:?}");
        it.net.undo().await;
    });
}

#[test]
fn two_interfaces_have_a_default_route_each() {
    in_namespace("fixed::two_interfaces_have_a_default_route_each", async |mut lab| {
        lab.cable("eth0");
        lab.other_cable("eth1");
        let before = snapshot();
        lab.serve(100, &OPTIONS);
        let mut it = lab.start("ip=eth0:dhcp ip=198.51.100.7::198.51.100.1:24::eth1:none");
        it.until_address("eth0", "192.0.2.10").await;
        it.until_address("eth1", "198.51.100.7").await;
        until(async || sh("ip route show default").lines().count() == 2).await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn what_the_firmware_says() {
    in_namespace("fixed::what_the_firmware_says", async |lab| {
        lab.cable("eth0");
        let before = snapshot();
        let mac = sh("cat /sys/class/net/eth0/address");
        // The kernel's own files are not to be had for a namespace.
        let table = [("mac", &*mac), ("flags", "3\n"), ("origin", "1\n"), ("ip-addr", "192.0.2.7\n"), ("vlan", "0\n")];
        for (key, value) in table.into_iter().chain([("subnet-mask", "255.255.255.0"), ("gateway", "192.0.2.1\n")]) {
            lab.file(&format!("firmware/sys/firmware/ibft/ethernet0/{key}"), value);
        }
        lab.file("firmware/proc/cmdline", "quiet ip=ibft\n");
        let read = Config::load(&Root::new(lab.root().join("firmware")));
        assert_eq!(read.problems, [""; 0]);
        let mut it = lab.start_with("", |config| *config = NetworkConfig::parse(&read.command_line).0);
        let link = it.until_address("eth0", "192.0.2.7/24").await;
        assert_eq!(link.gateway.as_deref(), Some("192.0.2.1"));
        until(async || reaches("192.0.2.1")).await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}
