//! The network in namespaces, against a real DHCP server (dnsmasq). See `network/lab.rs` for how.

#[path = "network/lab.rs"]
mod lab;

use lab::{in_namespace, sh, snapshot};

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

/// Whether packets go there and back: nobody listens, and the other end says so.
fn reaches(address: &str) -> bool {
    let to = (address.parse::<std::net::IpAddr>().unwrap(), 9).into();
    let connected = std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_secs(10));
    connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}
