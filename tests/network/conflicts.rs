//! Another station on the link has the address that we have, or are to have.

use super::{
    lab::{Lab, Watched, in_namespace, said, sh, snapshot, until},
    servers::{dhcpd, filter, filtered},
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
