//! Cables, and interfaces that come, go and are renamed.

use crate::{
    OPTIONS,
    lab::{has_link_local, in_namespace, reaches, sh, snapshot, until},
};

#[test]
fn a_cable_that_comes_late_is_noticed() {
    in_namespace("links::a_cable_that_comes_late_is_noticed", async |mut lab| {
        lab.cable("eth0");
        lab.plug(false);
        lab.serve(100, &OPTIONS);
        let before = snapshot();
        let mut it = lab.start("ip=dhcp");
        it.until("eth0", "waited for a cable", |link| {
            !link.carrier && link.note.as_deref() == Some("no carrier: waiting for a cable")
        })
        .await;
        lab.plug(true);
        it.until_address("eth0", "192.0.2.10").await;
        lab.plug(false);
        it.until("eth0", "lost its carrier and kept its address", |link| !link.carrier && !link.addresses.is_empty())
            .await;
        lab.plug(true);
        it.until("eth0", "was good again", |link| link.carrier && !link.addresses.is_empty() && link.note.is_none())
            .await;
        assert!(reaches("192.0.2.1"));
        lab.plug(false);
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn an_interface_that_appears_late_is_taken_up_and_may_be_renamed() {
    in_namespace("links::an_interface_that_appears_late_is_taken_up_and_may_be_renamed", async |mut lab| {
        let before = snapshot();
        let mut it = lab.start("ip=late0:dhcp");
        lab.cable("wrong0");
        lab.serve(100, &OPTIONS);
        let link = it.until("wrong0", "was seen", |_| true).await;
        assert_eq!(link.configured_by, None);
        sh("ip link set wrong0 name late0");
        it.until_address("late0", "192.0.2.10").await;
        // A kernel before 6.2 renames only what is down, and so takes its routes away.
        sh("ip link set late0 down; ip link set late0 name later0; ip link set later0 up");
        it.until("later0", "was good again", |link| link.carrier && !link.addresses.is_empty()).await;
        until(async || reaches("192.0.2.1") && sh("ip route").contains("default via 192.0.2.1")).await;
        sh("ip link delete later0");
        it.gone("later0").await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn an_interface_that_was_up_stays_up() {
    in_namespace("links::an_interface_that_was_up_stays_up", async |mut lab| {
        lab.cable("eth0");
        sh("ip link set eth0 up");
        has_link_local("eth0").await;
        let before = snapshot();
        assert!(before.contains("fe80::"), "with the addresses that the kernel gives it: {before}");
        lab.serve(100, &OPTIONS);
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn more_changes_than_the_kernel_keeps_for_us_are_seen_nevertheless() {
    in_namespace("links::more_changes_than_the_kernel_keeps_for_us_are_seen_nevertheless", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        let before = snapshot();
        let mut it = lab.start("ip=eth0:dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        lab.other_cable("old0");
        it.until("old0", "was seen", |_| true).await;
        // The one thread of this test reads nothing meanwhile.
        sh("for i in $(seq 300); do echo link set lo alias $i; done | ip -batch -
            ip link delete old0; ip address flush dev eth0");
        lab.other_cable("new0");
        let dropped =
            sh("awk 'NR > 1 && $2 == 0 && $3 != 0 { dropped += $9 } END { print dropped }' /proc/net/netlink");
        assert!(dropped.trim().parse::<u32>().unwrap() > 0, "nothing was lost");
        it.gone("old0").await;
        it.until("new0", "was seen", |_| true).await;
        it.until("eth0", "lost its address", |link| link.addresses.is_empty()).await;
        it.until_address("eth0", "192.0.2.10").await;
        until(async || reaches("192.0.2.1")).await;
        it.net.undo().await;
        sh("ip link delete new0; ip link set lo alias ''");
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn fifty_flaps_of_the_cable() {
    in_namespace("links::fifty_flaps_of_the_cable", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        let before = snapshot();
        let mut it = lab.start("ip=eth0:dhcp ip=[2001:db8::7]:::64::eth0:none");
        it.until_address("eth0", "192.0.2.10").await;
        for flap in 0..50 {
            lab.plug(false);
            if flap % 10 == 0 {
                it.until("eth0", "lost its carrier", |link| !link.carrier).await;
            }
            lab.plug(true);
        }
        let good = |link: &vestibule::control::message::Link| link.carrier && link.addresses.len() == 2;
        it.until("eth0", "was good again", good).await;
        until(async || reaches("192.0.2.1")).await;
        assert!(lab.count_served("DHCPREQUEST") < 60, "a flap is one question at most");
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn two_interfaces_in_one_subnet() {
    in_namespace("links::two_interfaces_in_one_subnet", async |mut lab| {
        lab.in_server("ip link add switch type bridge");
        lab.cable("eth0");
        lab.other_cable("eth1");
        lab.in_server("ip address del 192.0.2.1/24 dev srv0");
        lab.in_server("ip address add 192.0.2.1/24 dev switch");
        for port in ["srv0", "eth1-end", "switch"] {
            let master = if port == "switch" { "" } else { "master switch" };
            lab.in_server(&format!("ip link set {port} up {master}"));
        }
        let before = snapshot();
        lab.serve(100, &OPTIONS);
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        it.until_address("eth1", "192.0.2.10").await;
        until(async || sh("ip route show default").lines().count() == 2).await;
        assert!(reaches("192.0.2.1"));
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_dead_second_interface_keeps_nobody_waiting() {
    in_namespace("links::a_dead_second_interface_keeps_nobody_waiting", async |mut lab| {
        lab.other_cable("dead0");
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        let before = snapshot();
        let began = std::time::Instant::now();
        let mut it = lab.start("quiet");
        it.until_address("eth0", "192.0.2.10").await;
        assert!(began.elapsed().as_secs() < 10, "took {:?}", began.elapsed());
        it.until("dead0", "waited", |link| link.note.as_deref() == Some("no carrier: waiting for a cable")).await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn the_first_lease_wins() {
    in_namespace("links::the_first_lease_wins", async |mut lab| {
        lab.cable("eth0");
        lab.other_cable("eth1");
        lab.in_server("ip link set eth1-end up"); // where nobody answers
        lab.serve(100, &OPTIONS);
        let before = snapshot();
        let mut it = lab.start("ip=single-dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        let unused = |link: &vestibule::control::message::Link| {
            link.note.as_deref() == Some("not used: another interface was first")
        };
        it.until("eth1", "was let go", unused).await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_lease_is_renewed_under_another_name_of_the_interface() {
    in_namespace("links::a_lease_is_renewed_under_another_name_of_the_interface", async |mut lab| {
        lab.cable("eth0");
        sh("ip link set eth0 address 02:00:00:00:00:07");
        let before = snapshot();
        lab.serve(100, &["--dhcp-option=option:T1,2", "--dhcp-option=option:T2,4"]);
        let mut it = lab.start("ip=::::box:02-00-00-00-00-07:dhcp");
        let first = it.until_address("eth0", "192.0.2.10").await;
        sh("ip link set eth0 down; ip link set eth0 name ens3; ip link set ens3 up");
        it.until("ens3", "was good again", |link| link.carrier && link.addresses == first.addresses).await;
        let (asked, acks) = (lab.count_served("DHCPDISCOVER"), lab.count_served("DHCPACK"));
        lab.until_served("DHCPACK", acks + 2).await;
        assert_eq!(lab.count_served("DHCPDISCOVER"), asked, "never anew");
        assert!(lab.read("served").unwrap().contains("02:00:00:00:00:07 box"), "the server knows the name");
        it.until_address("ens3", "192.0.2.10").await;
        it.net.undo().await;
        assert_eq!(snapshot(), before.replace("eth0", "ens3"));
    });
}
