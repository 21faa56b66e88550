//! Names that we dial, against dnsmasq.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use vestibule::daemon::net::resolve::{ConnectError, Resolver};

use crate::{
    lab::{Lab, Watched, in_namespace, sh},
    servers::filter,
};

/// Of the DHCP server, which answers questions too.
const NAMES: [&str; 10] = [
    "--port=53",
    "--no-resolv",
    "--no-hosts",
    "--domain-needed",
    "--local=/example/",
    "--host-record=box.lab.example,192.0.2.7,2001:db8::7",
    "--cname=alias.lab.example,box.lab.example",
    "--txt-record=text.lab.example,words",
    "--dhcp-option=option:dns-server,192.0.2.1",
    "--dhcp-option=option:domain-search,none.example,lab.example",
];

/// With a file of somebody else's that says nothing.
async fn start(lab: &mut Lab, line: &str) -> (Watched, Resolver) {
    lab.cable("eth0");
    sh(&format!("ln -s /nowhere {}", lab.root().join("/etc/resolv.conf").display()));
    lab.serve(100, &NAMES);
    let mut it = lab.start(line);
    it.until_address("eth0", "192.0.2.10").await;
    let resolver = it.net.resolver();
    (it, resolver)
}

async fn find(resolver: &Resolver, host: &str) -> String {
    match resolver.resolve(host, 22).await {
        Ok(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn names_of_the_network() {
    in_namespace("resolve::names_of_the_network", async |mut lab| {
        let (it, resolver) = start(&mut lab, "ip=dhcp").await;
        let unknown = "name server 192.0.2.1 knows no such name; check the spelling, or give an address";
        for (host, wanted) in [
            ("box", "[2001:db8::7]:22 192.0.2.7:22".to_owned()),
            ("BOX.lab.example.", "[2001:db8::7]:22 192.0.2.7:22".to_owned()),
            ("alias.lab.example", "[2001:db8::7]:22 192.0.2.7:22".to_owned()),
            ("text", "text: there is such a name, but it has no address".to_owned()),
            ("nobody", format!("nobody: {unknown}")),
            ("nobody.lab.example", format!("nobody.lab.example: {unknown}")),
        ] {
            assert_eq!(find(&resolver, host).await, wanted);
        }
        // A file of somebody else's counts too.
        sh(&format!("rm {}", lab.root().join("/etc/resolv.conf").display()));
        lab.file("etc/resolv.conf", "search a.example b.example c.example d.example e.example f.example\n");
        assert_eq!(find(&resolver, "box").await, format!("box: {unknown}"), "its domains are all there is room for");
        let refused = find(&resolver, "box.lab").await; // one with a dot is whole, and none of the server's
        assert!(refused.contains("(192.0.2.1: it refuses to say (code 5))"), "{refused}");
        it.net.undo().await;
    });
}

#[test]
fn a_server_that_is_silent() {
    in_namespace("resolve::a_server_that_is_silent", async |mut lab| {
        // Nobody has the first address: another answers in its place.
        let (it, resolver) = start(&mut lab, "ip=dhcp nameserver=192.0.2.53").await;
        let began = Instant::now();
        assert_eq!(find(&resolver, "box").await, "[2001:db8::7]:22 192.0.2.7:22");
        assert!(began.elapsed() >= Duration::from_secs(1), "the first was asked: {:?}", began.elapsed());
        filter(&lab, "ingress", "udp dport 53 drop");
        let began = Instant::now();
        let said = find(&resolver, "box").await;
        let wanted =
            ["box: no answer from a name server within 10 s (192.0.2.53: ", ", 192.0.2.1: it does not answer)"];
        assert!(said.starts_with(wanted[0]) && said.contains(wanted[1]), "{said}");
        assert!((9..14).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        it.net.undo().await;
    });
}

#[test]
fn a_server_that_comes_late() {
    in_namespace("resolve::a_server_that_comes_late", async |mut lab| {
        lab.cable("eth0");
        let mut it = lab.start("ip=dhcp");
        let resolver = it.net.resolver();
        assert!(find(&resolver, "box").await.starts_with("box: no name server is known after 10 s"));
        let asked = tokio::spawn(async move { find(&resolver, "box").await });
        it.until("eth0", "asked", |link| link.note.as_deref() == Some("waiting for a DHCP server")).await;
        sh("ip link set eth0 down; ip link set eth0 up"); // so that it asks soon
        lab.serve(100, &NAMES);
        assert_eq!(asked.await.unwrap(), "[2001:db8::7]:22 192.0.2.7:22");
        it.net.undo().await;
    });
}

#[test]
fn all_addresses_are_tried() {
    in_namespace("resolve::all_addresses_are_tried", async |mut lab| {
        let (it, resolver) = start(&mut lab, "ip=dhcp").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        filter(&lab, "ingress", "meta l4proto tcp drop");
        // No way there; silence; somebody; nobody.
        lab.file("etc/hosts", "2001:db8::7 all\n192.0.2.1 all\n127.0.0.1 all\n127.0.0.2 none\n2001:db8::7 none\n");
        let began = Instant::now();
        let stream = resolver.connect("all", port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert!((2..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        let error = resolver.connect("none", port).await.unwrap_err();
        let ConnectError::Failed(.., tried) = &error else { panic!("{error}") };
        assert_eq!(tried.len(), 2);
        let wanted = format!("none port {port} can't be reached: 127.0.0.2:{port}: Connection refused");
        assert!(error.to_string().starts_with(&wanted), "{error}");
        let error = resolver.connect("nobody", port).await.unwrap_err();
        assert!(
            error.to_string().contains("can't be reached: nobody: name server 192.0.2.1 knows no such name"),
            "{error}"
        );
        it.net.undo().await;
    });
}
