//! What goes wrong.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    OPTIONS,
    lab::{in_namespace, reaches, said, sh, snapshot, until},
};

#[test]
fn what_a_killed_daemon_has_left_is_taken_back() {
    in_namespace("faults::what_a_killed_daemon_has_left_is_taken_back", async |mut lab| {
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
fn without_the_right_to_change_anything_it_says_so() {
    in_namespace("faults::without_the_right_to_change_anything_it_says_so", async |lab| {
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
    in_namespace("faults::without_access_to_the_kernel_there_is_no_network_and_nothing_waits", async |lab| {
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
        let said: Vec<String> = said().into_iter().filter(|line| line.starts_with("ERROR")).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("no access to the kernel's network"), "{said:?}");
    });
}

#[test]
fn no_network_is_no_network() {
    in_namespace("faults::no_network_is_no_network", async |lab| {
        lab.cable("eth0");
        let before = snapshot();
        let mut it = lab.start("ip=off");
        let link = it.until("eth0", "was seen", |_| true).await;
        assert_eq!(link.configured_by, None);
        assert_eq!(snapshot(), before);
        it.net.undo().await;
    });
}
