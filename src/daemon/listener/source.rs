//! What counts as one source of connections. Pure.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address that came in on the IPv6 socket, as IPv4.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What counts as one source: an IPv4 address, or a /64, which is what one IPv6 host gets (RFC 6177).
pub fn source(peer: IpAddr) -> IpAddr {
    match canonical(peer) {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_network_is_one_source() {
        let a: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        let b: IpAddr = "2001:db8:1:2:ffff::9".parse().unwrap();
        let c: IpAddr = "2001:db8:1:3::4".parse().unwrap();
        assert!(source(a) == source(b) && source(a) != source(c));
        assert_eq!(source("::ffff:192.0.2.1".parse().unwrap()), IpAddr::from([192, 0, 2, 1]));
    }
}
