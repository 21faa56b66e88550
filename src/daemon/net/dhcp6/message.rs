//! DHCPv6 messages between a client and a server as bytes (RFC 8415 sections 8 and 21). Pure, and never panics on what
//! a network sends.

use std::net::Ipv6Addr;

pub const SOLICIT: u8 = 1;
pub const ADVERTISE: u8 = 2;
pub const REQUEST: u8 = 3;
pub const CONFIRM: u8 = 4;
pub const RENEW: u8 = 5;
pub const REBIND: u8 = 6;
pub const REPLY: u8 = 7;
pub const DECLINE: u8 = 9;
pub const INFORMATION_REQUEST: u8 = 11;

pub const CLIENT_ID: u16 = 1;
pub const SERVER_ID: u16 = 2;
pub const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
pub const WANTED: u16 = 6;
pub const PREFERENCE: u16 = 7;
pub const ELAPSED: u16 = 8;
pub const STATUS: u16 = 13;
pub const RAPID_COMMIT: u16 = 14;
/// RFC 3646.
pub const NAMESERVERS: u16 = 23;
pub const SEARCH: u16 = 24;
pub const REFRESH_TIME: u16 = 32;
/// RFC 4704.
pub const FULL_NAME: u16 = 39;

/// Status codes (RFC 8415 section 21.13).
pub const SUCCESS: u16 = 0;
pub const NO_BINDING: u16 = 3;
pub const NOT_ON_LINK: u16 = 4;

/// The transaction number has three bytes.
pub const XID: u32 = 0x00ff_ffff;
/// `IAADDR` less its options: address, and two times.
const LEAST_ADDRESS: usize = 24;
/// `IA_NA` less its options: IAID, T1, T2.
const LEAST_IA: usize = 12;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    /// Ties an answer to its question; at most [`XID`].
    pub xid: u32,
    /// In the order in which they stand.
    pub options: Options,
}

/// Options with their codes.
pub type Options = Vec<(u16, Vec<u8>)>;

/// An identity association for addresses, as far as it is of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    pub id: u32,
    /// In seconds; zero leaves it to the client.
    pub renew: u32,
    pub rebind: u32,
    pub addresses: Vec<Granted>,
    pub status: u16,
}

/// An address with the seconds for which it is preferred, and valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    pub address: Ipv6Addr,
    pub preferred: u32,
    pub valid: u32,
}

impl Message {
    /// `None` for what has no header. Options are read as far as they make sense.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<4>()?;
        let [kind, xid @ ..] = *header;
        Some(Self { kind, xid: u32::from_be_bytes([0, xid[0], xid[1], xid[2]]), options: read_options(rest) })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = (self.xid & XID).to_be_bytes().to_vec();
        bytes[0] = self.kind;
        write_options(&self.options, &mut bytes);
        bytes
    }

    pub fn option(&self, code: u16) -> Option<&[u8]> {
        option(&self.options, code)
    }

    /// Of the message as a whole; that there is none means success (RFC 8415 section 21.13).
    pub fn status(&self) -> u16 {
        status(&self.options)
    }

    pub fn number(&self, code: u16) -> Option<u32> {
        Some(u32::from_be_bytes(*self.option(code)?.first_chunk()?))
    }

    pub fn addresses(&self, code: u16) -> impl Iterator<Item = Ipv6Addr> {
        self.option(code).unwrap_or_default().as_chunks::<16>().0.iter().map(|octets| Ipv6Addr::from(*octets))
    }

    pub fn associations(&self) -> impl Iterator<Item = Association> {
        let all = self.options.iter().filter(|(code, _)| *code == IA_NA);
        all.filter_map(|(_, bytes)| Association::decode(bytes))
    }
}

impl Association {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let options = read_options(bytes.get(LEAST_IA..)?);
        let addresses = options.iter().filter(|(code, _)| *code == IA_ADDRESS);
        Some(Self {
            id: number(0)?,
            renew: number(4)?,
            rebind: number(8)?,
            addresses: addresses.filter_map(|(_, bytes)| Granted::decode(bytes)).collect(),
            status: status(&options),
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.id, self.renew, self.rebind].map(u32::to_be_bytes).concat();
        let options: Options = self.addresses.iter().map(|it| (IA_ADDRESS, it.encode())).collect();
        write_options(&options, &mut bytes);
        if self.status != SUCCESS {
            write_options(&[(STATUS, self.status.to_be_bytes().to_vec())], &mut bytes);
        }
        bytes
    }
}

impl Granted {
    /// `None` also for an address that the server takes back in the same breath.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (octets, times) = bytes.split_first_chunk::<16>()?;
        let (preferred, rest) = times.split_first_chunk::<4>()?;
        let valid = rest.first_chunk::<4>()?;
        let granted = Self {
            address: Ipv6Addr::from(*octets),
            preferred: u32::from_be_bytes(*preferred),
            valid: u32::from_be_bytes(*valid),
        };
        let refused = status(&read_options(&bytes[LEAST_ADDRESS..])) != SUCCESS;
        // RFC 8415 section 21.6: preferred for longer than valid is to be ignored.
        (!refused && granted.preferred <= granted.valid).then_some(granted)
    }

    fn encode(&self) -> Vec<u8> {
        [&self.address.octets()[..], &self.preferred.to_be_bytes(), &self.valid.to_be_bytes()].concat()
    }
}

fn option(options: &Options, wanted: u16) -> Option<&[u8]> {
    options.iter().find_map(|(code, value)| (*code == wanted).then_some(value.as_slice()))
}

fn status(options: &Options) -> u16 {
    let code = option(options, STATUS).and_then(|bytes| bytes.first_chunk());
    code.map_or(SUCCESS, |code| u16::from_be_bytes(*code))
}

fn read_options(mut bytes: &[u8]) -> Options {
    let mut options = Vec::new();
    while let [a, b, c, d, rest @ ..] = bytes {
        let Some((value, rest)) = rest.split_at_checked(u16::from_be_bytes([*c, *d]).into()) else { break };
        options.push((u16::from_be_bytes([*a, *b]), value.to_vec()));
        bytes = rest;
    }
    options
}

fn write_options(options: &[(u16, Vec<u8>)], bytes: &mut Vec<u8>) {
    for (code, value) in options {
        bytes.extend([*code, value.len() as u16].map(u16::to_be_bytes).concat());
        bytes.extend(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_association_in_a_message() {
        let granted = Granted { address: "2001:db8::7".parse().unwrap(), preferred: 60, valid: 120 };
        let association = Association { id: 7, renew: 30, rebind: 48, addresses: vec![granted], status: NO_BINDING };
        let options = vec![(IA_NA, association.encode()), (PREFERENCE, vec![255])];
        let message = Message { kind: REPLY, xid: 0x12_3456, options };
        let bytes = message.encode();
        assert_eq!(bytes[..8], [7, 0x12, 0x34, 0x56, 0, 3, 0, 12 + 28 + 6]);
        let decoded = Message::decode(&bytes).unwrap();
        assert_eq!(decoded, message);
        assert_eq!(decoded.associations().collect::<Vec<_>>(), [association]);
        assert_eq!(decoded.option(PREFERENCE), Some(&[255][..]));
    }

    #[test]
    fn addresses_that_are_none() {
        let granted = |preferred, valid, more: &[u8]| {
            let address = Granted { address: "2001:db8::7".parse().unwrap(), preferred, valid };
            Granted::decode(&[&address.encode(), more].concat()).is_some()
        };
        assert!(granted(60, 120, &[]) && granted(60, 60, &[0, 13, 0, 2, 0, 0]));
        assert!(!granted(61, 60, &[]) && !granted(60, 60, &[0, 13, 0, 2, 0, 2]));
        assert_eq!(Granted::decode(&[0; LEAST_ADDRESS - 1]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            kind: u8, xid in 0..=XID,
            options in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..60)), 0..8),
        ) {
            let message = Message { kind, xid, options };
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }

        #[test]
        fn hostile_bytes_are_survived(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..14], 0..300)) {
            if let Some(message) = Message::decode(&bytes) {
                let _ = (message.associations().count(), message.status(), message.addresses(NAMESERVERS).count());
            }
        }
    }
}
