//! Names and addresses of interfaces, and routes, of the command line.

use crate::{
    OPTIONS,
    lab::{has_link_local, in_namespace, reaches, sh, snapshot, until},
};

#[test]
fn a_name_is_given_and_stays() {
    in_namespace("names::a_name_is_given_and_stays", async |mut lab| {
        lab.cable("eth0");
        sh("ip link set eth0 address 02:00:00:00:00:07");
        let before = snapshot();
        lab.serve(100, &OPTIONS);
        let mut it = lab.start("ifname=lan0:02:00:00:00:00:07 ip=lan0:dhcp");
        it.until_address("lan0", "192.0.2.10").await;
        it.net.undo().await;
        assert_eq!(snapshot(), before.replace("eth0", "lan0"), "the real system finds it by that name");
    });
}

#[test]
fn a_name_that_is_taken_is_said_and_the_network_comes_up() {
    in_namespace("names::a_name_that_is_taken_is_said_and_the_network_comes_up", async |mut lab| {
        lab.cable("eth0");
        lab.other_cable("lan0");
        sh("ip link set eth0 address 02:00:00:00:00:07");
        let before = snapshot();
        lab.serve(100, &OPTIONS);
        let mut it = lab.start("ifname=lan0:02:00:00:00:00:07 ip=02-00-00-00-00-07:dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        assert!(crate::lab::said().iter().any(|line| line.contains("naming the interface lan0")));
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn an_interface_has_another_address_and_mtu_for_a_while() {
    in_namespace("names::an_interface_has_another_address_and_mtu_for_a_while", async |mut lab| {
        lab.cable("eth0");
        sh("ip link set eth0 up"); // and is up before
        has_link_local("eth0").await;
        let before = snapshot();
        lab.serve(100, &OPTIONS);
        let mut it = lab.start("ip=eth0:dhcp:1400:02:00:00:00:00:57");
        let link = it.until_address("eth0", "192.0.2.10").await;
        assert_eq!(link.mac.as_deref(), Some("02:00:00:00:00:57"));
        assert!(sh("ip link show eth0").contains("mtu 1400") && reaches("192.0.2.1"));
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn routes_of_the_command_line() {
    in_namespace("names::routes_of_the_command_line", async |mut lab| {
        lab.cable("eth0");
        lab.in_server("ip address add 203.0.113.1/32 dev lo");
        lab.in_server("ip address add fe80::1/64 dev srv0 nodad");
        lab.in_server("ip address add 2001:db8:9::1/128 dev lo");
        lab.in_server("ip route add 2001:db8::7/128 dev srv0");
        let before = snapshot();
        lab.serve(100, &[]);
        let line = "ip=eth0:dhcp ip=[2001:db8::7]:::64::eth0:none rd.route=203.0.113.0/24:192.0.2.1 \
            rd.route=[2001:db8:9::/64]:[fe80::1]:eth0";
        let mut it = lab.start(line);
        it.until_address("eth0", "192.0.2.10").await;
        it.until_address("eth0", "2001:db8::7").await;
        until(async || reaches("203.0.113.1") && reaches("2001:db8:9::1")).await;
        sh("ip link set eth0 down; ip link set eth0 up");
        until(async || reaches("203.0.113.1") && reaches("2001:db8:9::1")).await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}
