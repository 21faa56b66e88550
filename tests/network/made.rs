//! VLANs, bonds and bridges.

use crate::lab::{in_namespace, in_namespace_with, reaches, sh, snapshot, until};

#[test]
fn a_vlan() {
    in_namespace_with("link one type vlan id 5", "made::a_vlan", async |lab| {
        lab.cable("eth0");
        tagged(&lab, 5);
        let before = snapshot();
        let mut it = lab.start("vlan=eth0.5:eth0 ip=198.51.100.7::198.51.100.1:24::eth0.5:none");
        it.until_address("eth0.5", "198.51.100.7/24").await;
        until(async || reaches("198.51.100.1")).await;
        assert!(sh("ip -d link show eth0.5").contains("802.1Q id 5"));
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_vlan_on_a_bond() {
    in_namespace_with("type bond", "made::a_vlan_on_a_bond", async |lab| {
        lab.cable("eth0");
        lab.other_cable("eth1"); // no cable
        tagged(&lab, 5);
        sh("ip link set eth1 up"); // and stays so
        until(async || sh("ip link show eth1").contains("NO-CARRIER")).await;
        let before = snapshot();
        let line = "bond=bond0:eth0,eth1:mode=active-backup,miimon=50,primary=eth0 vlan=bond0.5:bond0 \
            ip=198.51.100.7::198.51.100.1:24::bond0.5:none";
        let mut it = lab.start(line);
        it.until_address("bond0.5", "198.51.100.7/24").await;
        until(async || reaches("198.51.100.1")).await;
        it.until("eth1", "was a part", |link| link.note.as_deref() == Some("part of bond0")).await;
        until(async || sh("ip -d link show eth1").contains("master bond0")).await;
        let bond = sh("ip -d link show bond0");
        for option in ["mode active-backup", "miimon 50", "primary eth0"] {
            assert!(bond.contains(option), "{bond}");
        }
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_bridge_with_dhcp_whose_port_comes_late() {
    in_namespace("made::a_bridge_with_dhcp_whose_port_comes_late", async |mut lab| {
        let before = snapshot();
        let mut it = lab.start("bridge=br0:eth0,eth1 ip=br0:dhcp");
        it.until("br0", "waited", |link| link.note.as_deref() == Some("not made yet: waiting for eth0 or eth1")).await;
        lab.cable("eth0");
        lab.serve(100, &crate::OPTIONS);
        it.until_address("br0", "192.0.2.10").await;
        lab.other_cable("eth1");
        until(async || sh("ip -d link show eth1").contains("master br0")).await;
        sh("ip link delete eth0");
        it.gone("eth0").await;
        lab.cable("eth0"); // and again
        until(async || sh("ip -d link show eth0").contains("master br0") && reaches("192.0.2.1")).await;
        it.net.undo().await;
        sh("ip link delete eth0; ip link delete eth1");
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn parts_have_no_addresses_even_if_asked_for() {
    in_namespace("made::parts_have_no_addresses_even_if_asked_for", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &crate::OPTIONS);
        let before = snapshot();
        let mut it = lab.start("bridge=br0:eth0 ip=dhcp");
        it.until_address("br0", "192.0.2.10").await;
        assert!(it.until("eth0", "was a part", |_| true).await.addresses.is_empty());
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn an_interface_of_somebody_else_with_the_name_is_not_changed() {
    in_namespace("made::an_interface_of_somebody_else_with_the_name_is_not_changed", async |lab| {
        lab.cable("eth0");
        sh("ip link add br0 type bridge");
        let before = snapshot();
        let mut it = lab.start("bridge=br0:eth0 ip=off");
        it.until("br0", "was seen", |_| true).await;
        until(async || crate::lab::said().iter().any(|line| line.contains("br0: is there already"))).await;
        assert_eq!(snapshot(), before);
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_killed_daemon_leaves_nothing_made() {
    in_namespace("made::a_killed_daemon_leaves_nothing_made", async |lab| {
        lab.cable("eth0");
        let before = snapshot();
        let line = "bridge=br0:eth0 ip=198.51.100.7:::24::br0:none";
        lab.start_and_kill(line, "br0", "198.51.100.7/24");
        assert!(sh("ip link").contains("br0"));
        vestibule::daemon::net::take_back(&lab.root()).await;
        assert_eq!(snapshot(), before);
    });
}

/// The server's end of a VLAN on the cable, with 198.51.100.1/24.
fn tagged(lab: &crate::lab::Lab, id: u16) {
    lab.in_server(&format!("ip link add link srv0 name tagged type vlan id {id}"));
    lab.in_server("ip address add 198.51.100.1/24 dev tagged");
    lab.in_server("ip link set tagged up");
}
