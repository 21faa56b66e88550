//! Where a stream comes from, and what counts as one source of streams. Pure.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr};

/// Where a stream comes from. What is shown is for the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Of a peer on the network, as the kernel tells it.
    Network(IpAddr),
    /// Through a machine that passes streams on to this one, and says from where; it may say what it likes.
    Hub { name: String, address: Option<IpAddr> },
    /// Through something that knows no addresses, in words: "standard input".
    Local(String),
}

impl Origin {
    /// What may be compared with `from=` and `source-address`: only what the network has proved, not what a hub claims.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Network(address) => Some(address.to_canonical()),
            Self::Hub { .. } | Self::Local(_) => None,
        }
    }

    /// For the limits.
    pub fn source(&self) -> Source {
        Source(match self {
            Self::Network(address) => Self::Network(network(*address)),
            Self::Hub { name, address } => Self::Hub { name: name.clone(), address: address.map(network) },
            Self::Local(words) => Self::Local(words.clone()),
        })
    }
}

impl Display for Origin {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Network(address) => write!(to, "{}", address.to_canonical()),
            Self::Hub { name, address: Some(address) } => write!(to, "{} through hub {name}", address.to_canonical()),
            Self::Hub { name, address: None } => write!(to, "somewhere through hub {name}"),
            Self::Local(words) => write!(to, "{words}"),
        }
    }
}

/// What counts as one for the limits: an IPv4 address, an IPv6 /64, one of these that a hub claims, or one local stream's
/// words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source(Origin);

impl Source {
    /// The hub that it came through, whatever address that claims.
    pub fn hub(&self) -> Option<&str> {
        match &self.0 {
            Origin::Hub { name, .. } => Some(name),
            Origin::Network(_) | Origin::Local(_) => None,
        }
    }
}

/// An IPv4 address, also if it came in on an IPv6 socket, or a /64, which is what one IPv6 host gets (RFC 6177).
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Origin {
        Origin::Network(address.parse().unwrap())
    }

    fn hub(name: &str, address: Option<&str>) -> Origin {
        Origin::Hub { name: name.to_owned(), address: address.map(|address| address.parse().unwrap()) }
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let (a, b, c) = (from("2001:db8:1:2:3::4"), from("2001:db8:1:2:ffff::9"), from("2001:db8:1:3::4"));
        assert!(a.source() == b.source() && a.source() != c.source());
        assert_eq!(from("::ffff:192.0.2.1").source(), from("192.0.2.1").source());
    }

    #[test]
    fn a_hub_is_a_source_for_each_address_that_it_claims() {
        let one = hub("gate", Some("192.0.2.1")).source();
        assert_eq!(hub("gate", Some("::ffff:192.0.2.1")).source(), one);
        let others =
            [from("192.0.2.1"), hub("gate", Some("192.0.2.2")), hub("gate", None), hub("other", Some("192.0.2.1"))];
        assert!(
            others.iter().all(|other| other.source() != one),
            "a claim is not held against the owner of the address"
        );
        let hubs = [one, others[1].source(), others[2].source(), others[3].source(), others[0].source()];
        let names = hubs.each_ref().map(Source::hub);
        assert_eq!(names, [Some("gate"), Some("gate"), Some("gate"), Some("other"), None]);
        assert_ne!(Origin::Local("vsock CID 3".into()).source(), Origin::Local("vsock CID 4".into()).source());
    }

    #[test]
    fn only_the_network_proves_an_address() {
        for (origin, shown, address) in [
            (from("::ffff:192.0.2.1"), "192.0.2.1", Some("192.0.2.1")),
            (hub("gate", Some("127.0.0.1")), "127.0.0.1 through hub gate", None),
            (hub("gate", None), "somewhere through hub gate", None),
            (Origin::Local("standard input".into()), "standard input", None),
        ] {
            assert_eq!(origin.to_string(), shown);
            assert_eq!(origin.address(), address.map(|address| address.parse().unwrap()), "{shown}");
        }
    }
}
