//! DHCPv4 messages as bytes (RFC 2131 section 2, options RFC 2132). Pure, and never panics on what a network sends.
//!
//! Our own and not a crate's, because the one that is well kept (`dhcproto`) adds 240 KB to the stripped binary.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::daemon::net::domain;

pub const MASK: u8 = 1;
pub const ROUTERS: u8 = 3;
pub const NAMESERVERS: u8 = 6;
pub const HOSTNAME: u8 = 12;
pub const DOMAIN: u8 = 15;
pub const MTU: u8 = 26;
pub const REQUESTED_ADDRESS: u8 = 50;
pub const LEASE_TIME: u8 = 51;
const OVERLOAD: u8 = 52;
pub const MESSAGE_TYPE: u8 = 53;
pub const SERVER: u8 = 54;
pub const PARAMETERS: u8 = 55;
pub const REASON: u8 = 56;
pub const MAX_SIZE: u8 = 57;
pub const RENEWAL_TIME: u8 = 58;
pub const REBINDING_TIME: u8 = 59;
pub const VENDOR_CLASS: u8 = 60;
pub const CLIENT_ID: u8 = 61;
/// A full host name, RFC 4702.
pub const FULL_NAME: u8 = 81;
/// Domain search, RFC 3397.
pub const SEARCH: u8 = 119;
/// Classless static routes, RFC 3442.
pub const ROUTES: u8 = 121;
const PAD: u8 = 0;
const END: u8 = 255;

pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const OPTIONS: usize = 240;
/// In the first byte of the flags.
const BROADCAST: u8 = 0x80;
/// Relays and old servers drop what is shorter than a BOOTP message (RFC 1542 section 2.1).
const SHORTEST: usize = 300;

/// A message between a client with an Ethernet address and a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// From a server (BOOTREPLY), or else from a client.
    pub reply: bool,
    /// Transaction number that ties an answer to its question.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The client wants its answer sent to everybody (the one flag that there is).
    pub broadcast: bool,
    /// The address that the client has already (`ciaddr`).
    pub client: Ipv4Addr,
    /// The address that the server gives (`yiaddr`).
    pub yours: Ipv4Addr,
    pub mac: [u8; 6],
    /// By code; parts of a long option joined (RFC 3396).
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Message {
    /// `None` for whatever is not a DHCP message about an Ethernet client.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; OPTIONS] = bytes.first_chunk()?;
        let [operation @ 1..=2, 1, 6, ..] = *header else { return None };
        if header[236..] != COOKIE {
            return None;
        }
        let mut options = BTreeMap::new();
        read_options(&bytes[OPTIONS..], &mut options);
        // RFC 2132 section 9.3: options may go on in the fields `file` (1), `sname` (2) or both (3), in this order.
        if let Some([overload]) = options.remove(&OVERLOAD).as_deref() {
            if overload & 1 != 0 {
                read_options(&header[FILE], &mut options);
            }
            if overload & 2 != 0 {
                read_options(&header[SNAME], &mut options);
            }
        }
        Some(Self {
            reply: operation == 2,
            xid: u32::from_be_bytes(*header[4..].first_chunk()?),
            secs: u16::from_be_bytes(*header[8..].first_chunk()?),
            broadcast: header[10] & BROADCAST != 0,
            client: Ipv4Addr::from(*header[12..].first_chunk::<4>()?),
            yours: Ipv4Addr::from(*header[16..].first_chunk::<4>()?),
            mac: *header[28..].first_chunk()?,
            options,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; OPTIONS];
        bytes[..3].copy_from_slice(&[1 + u8::from(self.reply), 1, 6]);
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.secs.to_be_bytes());
        bytes[10] = if self.broadcast { BROADCAST } else { 0 };
        bytes[12..16].copy_from_slice(&self.client.octets());
        bytes[16..20].copy_from_slice(&self.yours.octets());
        bytes[28..34].copy_from_slice(&self.mac);
        bytes[236..].copy_from_slice(&COOKIE);
        for (code, value) in &self.options {
            let parts: Vec<&[u8]> = if value.is_empty() { vec![&[]] } else { value.chunks(255).collect() };
            for part in parts {
                bytes.extend([*code, part.len() as u8]);
                bytes.extend(part);
            }
        }
        bytes.push(END);
        bytes.resize(bytes.len().max(SHORTEST), PAD);
        bytes
    }

    pub fn message_type(&self) -> Option<u8> {
        self.byte(MESSAGE_TYPE)
    }

    pub fn byte(&self, code: u8) -> Option<u8> {
        self.options.get(&code)?.first().copied()
    }

    pub fn number(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(*self.options.get(&code)?.first_chunk()?))
    }

    pub fn short(&self, code: u8) -> Option<u16> {
        Some(u16::from_be_bytes(*self.options.get(&code)?.first_chunk()?))
    }

    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.addresses(code).next()
    }

    pub fn addresses(&self, code: u8) -> impl Iterator<Item = Ipv4Addr> {
        let value = self.options.get(&code).map_or(&[][..], Vec::as_slice);
        value.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets))
    }

    /// The netmask as a prefix length.
    pub fn prefix(&self) -> Option<u8> {
        let bits = self.number(MASK)?;
        (bits.leading_ones() + bits.trailing_zeros() >= 32).then_some(bits.leading_ones() as u8)
    }

    /// The domains in which a name without dots is looked for: the search list, or else the domain name.
    pub fn search(&self) -> Vec<String> {
        let listed = self.options.get(&SEARCH).map(|bytes| domain::list(bytes)).unwrap_or_default();
        // Some servers end the domain name with a zero (RFC 2132 section 2 says that they should not).
        let name = self.options.get(&DOMAIN).and_then(|bytes| str::from_utf8(bytes).ok());
        let name = name.map(|name| name.trim_end_matches(['\0', '.'])).filter(|name| domain::is_sensible(name));
        if listed.is_empty() { name.map(str::to_owned).into_iter().collect() } else { listed }
    }

    /// Classless static routes: destination, prefix length, gateway; `None` when there are none or they are malformed.
    pub fn routes(&self) -> Option<Vec<(Ipv4Addr, u8, Ipv4Addr)>> {
        let mut rest = self.options.get(&ROUTES)?.as_slice();
        let mut routes = Vec::new();
        while let [prefix @ 0..=32, after @ ..] = rest {
            let significant = usize::from(prefix.div_ceil(8));
            let (network, after) = after.split_at_checked(significant)?;
            let (gateway, after) = after.split_first_chunk::<4>()?;
            let mut octets = [0; 4];
            octets[..significant].copy_from_slice(network);
            // RFC 3442: bits beyond the prefix are ignored.
            let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
            let destination = Ipv4Addr::from_bits(u32::from_be_bytes(octets) & mask);
            routes.push((destination, *prefix, Ipv4Addr::from(*gateway)));
            rest = after;
        }
        (rest.is_empty() && !routes.is_empty()).then_some(routes)
    }
}

/// Reads as far as the options make sense.
fn read_options(mut bytes: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) {
    loop {
        match bytes {
            [PAD, rest @ ..] => bytes = rest,
            [END, ..] | [] => return,
            [code, length, rest @ ..] => {
                let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { return };
                options.entry(*code).or_default().extend(value);
                bytes = rest;
            }
            [_] => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(options: impl IntoIterator<Item = (u8, Vec<u8>)>) -> Message {
        Message {
            reply: true,
            xid: 0x1234_5678,
            secs: 9,
            broadcast: false,
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::new(192, 0, 2, 7),
            mac: [2, 0, 0, 0, 0, 1],
            options: options.into_iter().collect(),
        }
    }

    #[test]
    fn classless_routes() {
        let routes = |bytes: &[u8]| message([(ROUTES, bytes.to_vec())]).routes();
        let gateway = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(routes(&[0, 192, 0, 2, 1]), Some(vec![(Ipv4Addr::UNSPECIFIED, 0, gateway)]));
        assert_eq!(routes(&[20, 10, 1, 255, 192, 0, 2, 1]), Some(vec![(Ipv4Addr::new(10, 1, 240, 0), 20, gateway)]));
        assert_eq!(routes(&[32, 10, 0, 0, 1, 0, 0, 0, 0, 0, 192, 0, 2, 1]).unwrap().len(), 2);
        for malformed in [&[33, 1, 2, 3, 4, 5, 6, 7, 8][..], &[24, 10, 0, 0, 192, 0, 2], &[24, 10], &[]] {
            assert_eq!(routes(malformed), None, "{malformed:?}");
        }
    }

    #[test]
    fn search() {
        let search = |options: &[(u8, &[u8])]| message(options.iter().map(|(code, it)| (*code, it.to_vec()))).search();
        let listed = (SEARCH, &b"\x03lab\x07example\0\x01b\xc0\x04"[..]);
        assert_eq!(search(&[]), [""; 0]);
        assert_eq!(search(&[listed]), ["lab.example", "b.example"]);
        assert_eq!(search(&[(DOMAIN, b"example.org\0")]), ["example.org"]);
        assert_eq!(search(&[(DOMAIN, b"example.org"), listed]), ["lab.example", "b.example"]);
        assert_eq!(search(&[(DOMAIN, b"example.org"), (SEARCH, b"\xff")]), ["example.org"]);
        assert_eq!(search(&[(DOMAIN, b"a\nnameserver 203.0.113.1")]), [""; 0]);
    }

    #[test]
    fn masks() {
        let prefix = |bytes: [u8; 4]| message([(MASK, bytes.to_vec())]).prefix();
        assert_eq!(prefix([255, 255, 255, 0]), Some(24));
        assert_eq!(prefix([255, 255, 255, 255]), Some(32));
        assert_eq!(prefix([0, 0, 0, 0]), Some(0));
        assert_eq!(prefix([255, 0, 255, 0]), None);
    }

    #[test]
    fn options_go_on_in_file_and_server_name() {
        let mut bytes = message([(OVERLOAD, vec![3]), (MESSAGE_TYPE, vec![OFFER])]).encode();
        bytes[FILE][..6].copy_from_slice(&[SERVER, 4, 192, 0, 2, 1]);
        bytes[SNAME][..7].copy_from_slice(&[LEASE_TIME, 4, 0, 0, 0, 60, END]);
        let decoded = Message::decode(&bytes).unwrap();
        assert_eq!(decoded.address(SERVER), Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(decoded.number(LEASE_TIME), Some(60));
    }

    #[test]
    fn something_else_is_refused() {
        let good = message([(MESSAGE_TYPE, vec![OFFER])]).encode();
        assert!(Message::decode(&good).is_some());
        for (at, value) in [(0, 3), (1, 6), (2, 16), (236, 0)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Message::decode(&bad), None, "byte {at}");
        }
        assert_eq!(Message::decode(&good[..239]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            reply: bool, xid: u32, secs: u16, broadcast: bool, client: u32, yours: u32, mac: [u8; 6],
            options in prop::collection::btree_map((1u8..=254).prop_filter("not overload", |code| *code != OVERLOAD),
                                                   prop::collection::vec(any::<u8>(), 0..600), 0..8),
        ) {
            let message = Message { reply, xid, secs, broadcast, client: client.into(), yours: yours.into(), mac, options };
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }

        #[test]
        fn hostile_bytes_are_survived(tail in prop::collection::vec(any::<u8>(), 0..400), cut in 0usize..700) {
            let mut bytes = message([]).encode();
            bytes.truncate(OPTIONS);
            bytes.extend(tail);
            bytes.truncate(cut);
            if let Some(message) = Message::decode(&bytes) {
                let _ = (message.prefix(), message.routes(), message.number(LEASE_TIME), message.address(SERVER), message.search());
            }
        }
    }
}
