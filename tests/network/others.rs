//! What belongs to somebody else.

use crate::{
    OPTIONS,
    lab::{in_namespace, sh},
};

#[test]
fn an_interface_of_somebody_else_is_left_alone() {
    in_namespace("others::an_interface_of_somebody_else_is_left_alone", async |mut lab| {
        lab.cable("eth0");
        sh("ip link set eth0 up; ip address add 192.0.2.77/24 dev eth0");
        lab.serve(100, &OPTIONS);
        let mut it = lab.start("ip=dhcp");
        let link = it.until_address("eth0", "192.0.2.77").await;
        assert_eq!(link.configured_by.as_deref(), Some("system"));
        assert_eq!(link.note.as_deref(), Some("it has an address already"));
        assert_eq!(lab.read("etc/resolv.conf"), None);
        it.net.undo().await;
        assert!(sh("ip address show eth0").contains("192.0.2.77"));
        assert!(sh("ip link show eth0").contains(",UP"), "it was up before");
        assert_eq!(lab.count_served("DHCPDISCOVER"), 0);
    });
}

#[test]
fn an_address_that_appears_while_we_ask_ends_the_asking() {
    in_namespace("others::an_address_that_appears_while_we_ask_ends_the_asking", async |lab| {
        lab.cable("eth0");
        let mut it = lab.start("ip=dhcp");
        it.until("eth0", "asked", |link| link.note.as_deref() == Some("waiting for a DHCP server")).await;
        sh("ip address add 192.0.2.77/24 dev eth0");
        it.until("eth0", "was left alone", |link| link.configured_by.as_deref() == Some("system")).await;
        it.net.undo().await;
        assert!(sh("ip address show eth0").contains("192.0.2.77"));
        assert!(sh("ip link show eth0").contains(",UP"), "who has added the address needs it up");
    });
}

#[test]
fn networkd_has_the_first_word() {
    in_namespace("others::networkd_has_the_first_word", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        let index = sh("cat /sys/class/net/eth0/ifindex");
        let state = format!("run/systemd/netif/links/{}", index.trim());
        lab.file(&state, "ADMIN_STATE=configuring\n");
        let mut it = lab.start("ip=dhcp");
        it.until("eth0", "was left alone", |link| link.note.as_deref() == Some("left to systemd-networkd")).await;
        it.net.undo().await;
        lab.file(&state, "ADMIN_STATE=unmanaged\n");
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
    });
}

#[test]
fn what_networkd_takes_over_is_not_taken_away() {
    in_namespace("others::what_networkd_takes_over_is_not_taken_away", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        let index = sh("cat /sys/class/net/eth0/ifindex");
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        lab.file(&format!("run/systemd/netif/links/{}", index.trim()), "ADMIN_STATE=configured\n");
        it.net.undo().await;
        assert!(sh("ip address show eth0").contains("192.0.2.10"));
        assert!(sh("ip link show eth0").contains(",UP"));
        assert!(!sh("ip route").contains("default"), "that route is ours alone");
    });
}

#[test]
fn a_resolver_file_of_somebody_else_is_left_alone() {
    in_namespace("others::a_resolver_file_of_somebody_else_is_left_alone", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        lab.file("etc/resolv.conf", "nameserver 203.0.113.53\n");
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
        assert_eq!(lab.read("etc/resolv.conf").as_deref(), Some("nameserver 203.0.113.53\n"));
    });
}
