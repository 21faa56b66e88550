//! ARP messages for IPv4 on Ethernet as bytes (RFC 826), in the forms that RFC 5227 gives them. Pure.

use std::net::Ipv4Addr;

use crate::config::network::Mac;

const LENGTH: usize = 28;
/// Ethernet, IPv4, and the lengths of their addresses.
const HEADER: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// A question, or else an answer.
    pub request: bool,
    pub mac: Mac,
    /// Whose it is; 0.0.0.0 in a probe.
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

impl Arp {
    /// Asks whether anybody has an address, and touches nobody's cache (RFC 5227 section 2.1.1).
    pub fn probe(mac: Mac, address: Ipv4Addr) -> Self {
        Self { request: true, mac, sender: Ipv4Addr::UNSPECIFIED, target: address }
    }

    /// Says that an address is ours (RFC 5227 section 2.3).
    pub fn announcement(mac: Mac, address: Ipv4Addr) -> Self {
        Self { request: true, mac, sender: address, target: address }
    }

    /// Whether it says anything of who has, or wants, an address.
    pub fn is_about(&self, address: Ipv4Addr) -> bool {
        self.sender == address || self.is_probe_for(address)
    }

    pub fn is_probe_for(&self, address: Ipv4Addr) -> bool {
        self.request && self.sender.is_unspecified() && self.target == address
    }

    /// `None` for whatever is not ARP for IPv4 on Ethernet.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let message: &[u8; LENGTH] = bytes.first_chunk()?;
        let (header, rest) = message.split_first_chunk()?;
        let [0, operation @ (REQUEST | REPLY), rest @ ..] = rest else { return None };
        (*header == HEADER).then_some(Self {
            request: *operation == REQUEST,
            mac: *rest.first_chunk()?,
            sender: Ipv4Addr::from(*rest[6..].first_chunk::<4>()?),
            target: Ipv4Addr::from(*rest[16..].first_chunk::<4>()?),
        })
    }

    /// The hardware address of the target is not known, and so left zero.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..6].copy_from_slice(&HEADER);
        bytes[7] = if self.request { REQUEST } else { REPLY };
        bytes[8..14].copy_from_slice(&self.mac);
        bytes[14..18].copy_from_slice(&self.sender.octets());
        bytes[24..].copy_from_slice(&self.target.octets());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_rfc_826_and_5227_have_them() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let probe = Arp::probe([2, 0, 0, 0, 0, 1], address);
        let bytes = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7];
        assert_eq!(probe.encode(), bytes);
        assert!(probe.is_about(address) && probe.is_probe_for(address));
        let announcement = Arp::announcement([2, 0, 0, 0, 0, 1], address);
        assert!(announcement.is_about(address) && !announcement.is_probe_for(address));
        let question = Arp { sender: [192, 0, 2, 9].into(), ..probe };
        assert!(!question.is_about(address), "an ordinary question for it says nothing");
        for (at, value) in [(0, 1), (1, 6), (3, 6), (4, 8), (5, 16), (7, 3), (6, 1)] {
            let mut other = bytes;
            other[at] = value;
            assert_eq!(Arp::decode(&other), None, "byte {at}");
        }
        assert_eq!(Arp::decode(&bytes[..27]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(request: bool, mac: [u8; 6], sender: u32, target: u32, pad in 0..20usize) {
            let message = Arp { request, mac, sender: sender.into(), target: target.into() };
            prop_assert_eq!(Arp::decode(&[&message.encode()[..], &vec![0; pad]].concat()), Some(message));
        }

        #[test]
        fn hostile_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            Arp::decode(&bytes);
        }
    }
}
