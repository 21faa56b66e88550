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

#[test]
fn a_network_that_is_kept_stays_and_the_real_system_is_told() {
    in_namespace("others::a_network_that_is_kept_stays_and_the_real_system_is_told", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        let mut it = lab.start_with("ip=eth0:dhcp rd.route=203.0.113.0/24:192.0.2.1", |config| config.keep = true);
        it.until_address("eth0", "192.0.2.10").await;
        let so = || sh("ip -d link; ip -br address; ip route show table all; ip rule");
        crate::lab::until(async || so().contains("203.0.113.0")).await;
        let before = so();
        it.net.undo().await;
        assert_eq!(so(), before);
        assert!(!lab.exists("run/vestibule/ledger"), "nobody takes it back");
        let network = lab.read("run/systemd/network/zzzz-vestibule-eth0.network").unwrap();
        assert!(network.contains("Name=eth0\n") && network.contains("DHCP=ipv4\n"), "{network}");
        assert!(network.ends_with("[Route]\nDestination=203.0.113.0/24\nGateway=192.0.2.1\n"), "{network}");
        let conf = lab.read("run/net-eth0.conf").unwrap();
        assert!(conf.contains("DEVICE='eth0'\n") && conf.contains("IPV4GATEWAY='192.0.2.1'\n"), "{conf}");
        // Whoever comes now finds an interface that is configured.
        let mut it = lab.start("ip=dhcp");
        it.until("eth0", "was left alone", |link| link.configured_by.as_deref() == Some("system")).await;
        it.net.undo().await;
        assert_eq!(so(), before);
    });
}
