//! DHCPv4 against dnsmasq.

use crate::{
    OPTIONS,
    lab::{in_namespace, reaches, sh, snapshot},
};

#[test]
fn dhcp_is_got_and_undone() {
    in_namespace("dhcp::dhcp_is_got_and_undone", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        let before = snapshot();
        let mut it = lab.start("quiet");
        let link = it.until_address("eth0", "192.0.2.10").await;
        assert_eq!(link.configured_by.as_deref(), Some("dhcp"));
        assert_eq!(link.gateway.as_deref(), Some("192.0.2.1"));
        assert_eq!(link.nameservers, ["192.0.2.53"]);
        assert_eq!(lab.read("etc/resolv.conf").as_deref(), Some("nameserver 192.0.2.53\n"));
        assert!(reaches("192.0.2.1"));
        assert!(sh("ip route").contains("default via 192.0.2.1 dev eth0"));
        it.net.undo().await;
        assert_eq!(snapshot(), before);
        assert_eq!(lab.read("etc/resolv.conf"), None);
    });
}

#[test]
fn a_lease_is_renewed() {
    in_namespace("dhcp::a_lease_is_renewed", async |mut lab| {
        lab.cable("eth0");
        // Renew after 2 s, rebind after 4 s.
        lab.serve(100, &["--dhcp-option=option:T1,2", "--dhcp-option=option:T2,4"]);
        let mut it = lab.start("ip=dhcp");
        let first = it.until_address("eth0", "192.0.2.10").await;
        let acks = lab.count_served("DHCPACK");
        lab.until_served("DHCPACK", acks + 1).await; // by unicast, after T1
        lab.stop_serving();
        lab.serve_again();
        lab.until_served("DHCPACK", 1).await;
        let still = it.until_address("eth0", "192.0.2.10").await;
        assert_eq!(still.addresses, first.addresses);
        assert_eq!(lab.count_served("DHCPDISCOVER"), 0, "renewed, not got anew");
        it.net.undo().await;
    });
}

#[test]
fn a_server_that_takes_the_address_back_is_asked_for_another() {
    in_namespace("dhcp::a_server_that_takes_the_address_back_is_asked_for_another", async |mut lab| {
        lab.cable("eth0");
        let before = snapshot();
        lab.serve(100, &["--dhcp-option=option:T1,2", "--dhcp-option=option:T2,4"]);
        let mut it = lab.start("ip=eth0:dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        lab.serve(200, &OPTIONS); // knows nothing of the lease, and refuses it
        let link = it.until_address("eth0", "192.0.2.20").await;
        assert_eq!(link.addresses.len(), 1, "the old one is gone: {link:?}");
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_reverse_path_filter_does_not_eat_the_offer() {
    in_namespace("dhcp::a_reverse_path_filter_does_not_eat_the_offer", async |mut lab| {
        lab.cable("eth0");
        sh("for i in all default eth0; do echo 2 > /proc/sys/net/ipv4/conf/$i/rp_filter; done"); // as systemd does
        lab.serve(100, &OPTIONS);
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
    });
}
