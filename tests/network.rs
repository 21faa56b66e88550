//! The network in namespaces, against a real DHCP server (dnsmasq). See `network/lab.rs` for how.

#[path = "network/lab.rs"]
mod lab;

use std::time::Duration;

use lab::{in_namespace, sh, snapshot, until};
use tokio::time::timeout;

const OPTIONS: [&str; 2] = ["--dhcp-option=option:router,192.0.2.1", "--dhcp-option=option:dns-server,192.0.2.53"];

#[test]
fn dhcp_is_got_and_undone() {
    in_namespace("dhcp_is_got_and_undone", async |mut lab| {
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
    in_namespace("a_lease_is_renewed", async |mut lab| {
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
    in_namespace("a_server_that_takes_the_address_back_is_asked_for_another", async |mut lab| {
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
fn a_cable_that_comes_late_is_noticed() {
    in_namespace("a_cable_that_comes_late_is_noticed", async |mut lab| {
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
    in_namespace("an_interface_that_appears_late_is_taken_up_and_may_be_renamed", async |mut lab| {
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
fn a_static_address_needs_no_server() {
    in_namespace("a_static_address_needs_no_server", async |lab| {
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
    in_namespace("a_gateway_outside_of_the_subnet_is_reached", async |lab| {
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
    in_namespace("the_first_interface_with_carrier_gets_the_static_address", async |lab| {
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
fn an_interface_of_somebody_else_is_left_alone() {
    in_namespace("an_interface_of_somebody_else_is_left_alone", async |mut lab| {
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
fn an_interface_that_was_up_stays_up() {
    in_namespace("an_interface_that_was_up_stays_up", async |mut lab| {
        lab.cable("eth0");
        sh("ip link set eth0 up");
        until(async || !sh("ip -6 address show dev eth0 scope link").contains("tentative")).await;
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
fn two_interfaces_have_a_default_route_each() {
    in_namespace("two_interfaces_have_a_default_route_each", async |mut lab| {
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
fn an_address_that_appears_while_we_ask_ends_the_asking() {
    in_namespace("an_address_that_appears_while_we_ask_ends_the_asking", async |lab| {
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
    in_namespace("networkd_has_the_first_word", async |mut lab| {
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
    in_namespace("what_networkd_takes_over_is_not_taken_away", async |mut lab| {
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
fn more_changes_than_the_kernel_keeps_for_us_are_seen_nevertheless() {
    in_namespace("more_changes_than_the_kernel_keeps_for_us_are_seen_nevertheless", async |mut lab| {
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
fn what_a_killed_daemon_has_left_is_taken_back() {
    in_namespace("what_a_killed_daemon_has_left_is_taken_back", async |mut lab| {
        const LEDGER: &str = "run/vestibule/ledger";
        let line = "ip=192.0.2.7::192.0.2.1:24:box:eth0:none:1400 nameserver=192.0.2.53";
        lab.cable("eth0");
        let before = snapshot();
        lab.start_and_kill(line, "eth0", "192.0.2.7/24");
        assert!(lab.exists(LEDGER) && sh("ip address show eth0").contains("192.0.2.7/24"), "it was killed");
        let mut it = lab.start(line);
        let link = it.until_address("eth0", "192.0.2.7/24").await;
        assert_eq!(link.configured_by.as_deref(), Some("static"), "{link:?}");
        until(async || reaches("192.0.2.1") && lab.exists(LEDGER)).await;
        it.net.undo().await;
        assert_eq!(snapshot(), before);
        assert_eq!((lab.read("etc/resolv.conf"), lab.exists(LEDGER)), (None, false));

        lab.start_and_kill(line, "eth0", "192.0.2.7/24");
        lab.serve(100, &OPTIONS);
        lab.file("etc/resolv.conf", "nameserver 203.0.113.53\n"); // somebody else's since
        let mut it = lab.start("ip=off"); // it need not even have a network of its own
        until(async || snapshot() == before).await;
        it.until("eth0", "was seen", |_| true).await;
        assert!(!lab.exists(LEDGER));
        it.net.undo().await;
        assert_eq!(lab.read("etc/resolv.conf").as_deref(), Some("nameserver 203.0.113.53\n"));

        lab.start_and_kill(line, "eth0", "192.0.2.7/24");
        vestibule::daemon::net::take_back(&lab.root()).await; // as hand-over does if none is running
        assert_eq!((snapshot(), lab.exists(LEDGER)), (before.clone(), false));

        lab.file(LEDGER, "nonsense");
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
        assert_eq!((snapshot(), lab.exists(LEDGER)), (before, false));
    });
}

#[test]
fn a_reverse_path_filter_does_not_eat_the_offer() {
    in_namespace("a_reverse_path_filter_does_not_eat_the_offer", async |mut lab| {
        lab.cable("eth0");
        sh("for i in all default eth0; do echo 2 > /proc/sys/net/ipv4/conf/$i/rp_filter; done"); // as systemd does
        lab.serve(100, &OPTIONS);
        let mut it = lab.start("ip=dhcp");
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
    });
}

#[test]
fn a_resolver_file_of_somebody_else_is_left_alone() {
    in_namespace("a_resolver_file_of_somebody_else_is_left_alone", async |mut lab| {
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
fn without_the_right_to_change_anything_it_says_so() {
    in_namespace("without_the_right_to_change_anything_it_says_so", async |lab| {
        lab.cable("eth0");
        let mut mine = rustix::thread::capabilities(None).unwrap();
        mine.effective.remove(rustix::thread::CapabilitySet::NET_ADMIN);
        rustix::thread::set_capabilities(None, mine).unwrap();
        let mut it = lab.start("ip=dhcp");
        let failed = "setting the interface up: Operation not permitted (os error 1)";
        it.until("eth0", "said so", |link| link.note.as_deref() == Some(failed)).await;
        it.net.undo().await;
    });
}

#[test]
fn without_access_to_the_kernel_there_is_no_network_and_nothing_waits() {
    in_namespace("without_access_to_the_kernel_there_is_no_network_and_nothing_waits", async |lab| {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        lab.cable("eth0");
        let allowed = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..allowed }).unwrap(); // so there are no sockets
        let it = lab.start("ip=dhcp");
        let mut links = it.net.links();
        let ended = timeout(Duration::from_secs(1), links.changed()).await;
        let undone = timeout(Duration::from_secs(1), it.net.undo()).await;
        setrlimit(Resource::Nofile, allowed).unwrap();
        assert!(ended.is_ok_and(|changed| changed.is_err()) && undone.is_ok());
        let said: Vec<String> = lab::said().into_iter().filter(|line| line.starts_with("ERROR")).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("no access to the kernel's network"), "{said:?}");
    });
}

#[test]
fn no_network_is_no_network() {
    in_namespace("no_network_is_no_network", async |lab| {
        lab.cable("eth0");
        let before = snapshot();
        let mut it = lab.start("ip=off");
        let link = it.until("eth0", "was seen", |_| true).await;
        assert_eq!(link.configured_by, None);
        assert_eq!(snapshot(), before);
        it.net.undo().await;
    });
}

/// Whether packets go there and back: nobody listens, and the other end says so.
fn reaches(address: &str) -> bool {
    let to = (address.parse::<std::net::IpAddr>().unwrap(), 9).into();
    let connected = std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_secs(10));
    connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}
