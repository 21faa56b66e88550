//! Another station on the link has the address that we have, or are to have; and routers that have to be asked.

use super::{
    lab::{Lab, Watched, has_link_local, in_namespace, said, sh, snapshot, until},
    servers::{dhcpd, dhcpd6, filter, filtered, link_local, radvd_that_waits},
};

/// The station at the server's end answers for this address too.
fn takes(lab: &Lab, address: &str) {
    lab.in_server(&format!("ip address add {address}/32 dev srv0"));
}

fn warned(what: &str) -> usize {
    said().iter().filter(|line| line.contains(what)).count()
}

/// An interface with a lease of dhcpd, and its address.
async fn leased(lab: &Lab) -> (Watched, String) {
    let mut it = lab.start("ip=eth0:dhcp");
    let link = it.until_address("eth0", "192.0.2.3").await;
    let address = link.addresses[0].split('/').next().unwrap().to_owned();
    (it, address)
}

#[test]
fn an_offer_that_another_station_has_is_declined() {
    in_namespace("conflicts::an_offer_that_another_station_has_is_declined", async |mut lab| {
        lab.cable("eth0");
        let before = snapshot();
        dhcpd(&mut lab, "default-lease-time 60; max-lease-time 60;", "option routers 192.0.2.1;").await;
        let (it, first) = leased(&lab).await; // so that it is the one to be offered again
        it.net.undo().await;
        takes(&lab, &first);
        let mut it = lab.start("ip=eth0:dhcp");
        let other = |link: &vestibule::control::message::Link| {
            link.addresses.len() == 1 && !link.addresses[0].starts_with(&format!("{first}/"))
        };
        let link = it.until("eth0", "had another address", other).await;
        assert_eq!((lab.count_served("DHCPDECLINE"), warned("is declined")), (1, 1));
        assert_eq!(link.note, None);
        assert_eq!(sh("ip -4 -br address show eth0").split_whitespace().count(), 3, "and no other");
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_station_that_takes_our_address_is_answered_and_then_given_way_to() {
    in_namespace("conflicts::a_station_that_takes_our_address_is_answered_and_then_given_way_to", async |mut lab| {
        lab.cable("eth0");
        dhcpd(&mut lab, "default-lease-time 60; max-lease-time 60;", "").await;
        let (mut it, first) = leased(&lab).await;
        filter(&lab, "ingress", &format!("arp saddr ip {first} arp daddr ip {first} counter"));
        until(async || filtered(&lab) >= 2).await; // announced twice: ours by all rules
        takes(&lab, &first);
        lab.in_server("sh -c 'echo 1 > /proc/sys/net/ipv4/conf/srv0/arp_notify'");
        // The kernel announces all addresses when it gets another Ethernet address.
        let claim = |end: u8| lab.in_server(&format!("ip link set srv0 address 02:00:00:00:00:{end:02}"));
        claim(1);
        let told = |link: &vestibule::control::message::Link| {
            link.note.as_deref().is_some_and(|note| note.contains("it stays, as it was ours first"))
        };
        let link = it.until("eth0", "told of it", told).await;
        assert_eq!(link.addresses.len(), 1);
        until(async || filtered(&lab) >= 3).await; // it was answered
        claim(2);
        let other = |link: &vestibule::control::message::Link| {
            link.addresses.len() == 1 && !link.addresses[0].starts_with(&format!("{first}/"))
        };
        it.until("eth0", "had another address", other).await;
        assert_eq!(lab.count_served("DHCPDECLINE"), 1);
        it.net.undo().await;
    });
}

#[test]
fn a_static_address_that_another_station_has_is_told() {
    in_namespace("conflicts::a_static_address_that_another_station_has_is_told", async |lab| {
        lab.cable("eth0");
        let before = snapshot();
        takes(&lab, "192.0.2.7");
        let mut it = lab.start("ip=192.0.2.7:::24::eth0:none");
        let told = |link: &vestibule::control::message::Link| {
            link.note.as_deref().is_some_and(|note| note.contains("192.0.2.7 is used by the station"))
        };
        let link = it.until("eth0", "told of it", told).await;
        assert_eq!(link.addresses, ["192.0.2.7/24"], "it stays");
        assert_eq!(warned("is used by the station"), 1);
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_lease_of_ipv6_that_another_station_has_is_declined() {
    in_namespace("conflicts::a_lease_of_ipv6_that_another_station_has_is_declined", async |mut lab| {
        lab.cable("eth0");
        lab.in_server("ip address add 2001:db8::1/64 dev srv0 nodad");
        sh("ip link set eth0 up");
        link_local(&lab, "srv0").await;
        sh("ip link set eth0 down");
        let before = snapshot();
        dhcpd6(&mut lab, "default-lease-time 60;").await;
        let mut it = lab.start("ip=eth0:dhcp6");
        let first = it.until_address("eth0", "2001:db8::3").await.addresses[0].clone();
        it.net.undo().await; // so that it is the one to be offered again
        lab.in_server(&format!("ip address add {first} dev srv0 nodad"));
        let mut it = lab.start("ip=eth0:dhcp6");
        let noted = |link: &vestibule::control::message::Link| {
            link.note.as_deref().is_some_and(|note| note.contains("was declined: another station"))
        };
        it.until("eth0", "said so", noted).await;
        let link = it.until_address("eth0", "2001:db8::3").await;
        assert!(link.addresses[0] != first && link.note.is_none(), "{link:?}");
        assert_eq!(lab.count_served("Decline message"), 1);
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn routers_are_asked_on_an_interface_that_was_up_and_did_not_listen() {
    in_namespace("conflicts::routers_are_asked_on_an_interface_that_was_up_and_did_not_listen", async |mut lab| {
        lab.cable("eth0");
        sh("echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra; ip link set eth0 up");
        sh("ip address add 203.0.113.7/24 dev eth0 scope link"); // somebody else's, and so it must not go down
        link_local(&lab, "srv0").await;
        has_link_local("eth0").await;
        let before = snapshot();
        radvd_that_waits(&mut lab, "RDNSS 2001:db8::53 { };").await;
        let mut it = lab.start("ip=eth0:auto6");
        it.until_address("eth0", "2001:db8:").await;
        until(async || lab.read("etc/resolv.conf").as_deref() == Some("nameserver 2001:db8::53\n")).await;
        assert!(sh("ip address show dev eth0").contains("203.0.113.7/24"));
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}
