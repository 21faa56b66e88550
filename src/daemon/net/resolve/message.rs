//! The two messages of a stub resolver (RFC 1035 section 4): a question to a server that recurses, and its answer. Pure,
//! and never panics on what a network sends.

use std::net::IpAddr;

use super::super::domain;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `A`
    V4,
    /// `AAAA` (RFC 3596)
    V6,
}

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// None: there is the name, and nothing of this kind.
    Addresses(Vec<IpAddr>),
    /// `NXDOMAIN`
    NoSuchName,
    /// Another code; the server can't or won't say.
    Refused(u8),
}

const HEADER: usize = 12;
const INTERNET: u16 = 1;
/// A flag of the header: it is an answer; recursion is desired.
const ANSWER: u8 = 0x80;
const RECURSE: u8 = 0x01;
/// Type, class, time to live and length, after the name of a record.
const RECORD: usize = 10;
/// More are of no use to somebody who wants one that answers.
const MOST: usize = 8;

impl Kind {
    fn code(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// `None` if this is no name.
pub fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let head = [id.to_be_bytes(), [RECURSE, 0], [0, 1], [0, 0], [0, 0], [0, 0]].concat();
    let tail = [kind.code().to_be_bytes(), INTERNET.to_be_bytes()].concat();
    Some([head, domain::encode(name)?, tail].concat())
}

/// `None` if this is no answer to the question, which is given as it was sent. One that was cut to fit a datagram counts as
/// far as it goes: a single address is enough.
pub fn answer(question: &[u8], bytes: &[u8]) -> Option<Answer> {
    let asked = question.get(HEADER..)?;
    let same = bytes.get(..2)? == question.get(..2)? && bytes.get(2)? & ANSWER != 0;
    let echoed = bytes.get(HEADER..HEADER + asked.len())?;
    if !same || !echoed.eq_ignore_ascii_case(asked) {
        return None;
    }
    match bytes.get(3)? & 0x0f {
        0 => {}
        3 => return Some(Answer::NoSuchName),
        code => return Some(Answer::Refused(code)),
    }
    let kind = asked.get(asked.len().checked_sub(4)?..)?;
    let mut addresses = Vec::new();
    let mut rest = &bytes[HEADER + asked.len()..];
    // Behind an alias (CNAME) there are the addresses of what it stands for: whatever the names, they are the answer.
    for _ in 0..u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) {
        let Some((is, data, after)) = record(rest) else { break };
        addresses.extend(address(data).filter(|_| is == kind));
        rest = after;
    }
    addresses.truncate(MOST);
    Some(Answer::Addresses(addresses))
}

/// Type and class, data, and what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let bytes = skip_name(bytes)?;
    let head = bytes.get(..RECORD)?;
    let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
    let data = bytes.get(RECORD..)?;
    Some((&head[..4], data.get(..length)?, &data[length..]))
}

/// Names end with an empty label, or go on elsewhere (section 4.1.4).
fn skip_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        match *bytes.first()? {
            0 => return bytes.get(1..),
            0xc0.. => return bytes.get(2..),
            length @ 1..64 => bytes = bytes.get(1 + usize::from(length)..)?,
            _ => return None,
        }
    }
}

fn address(data: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(data).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(data).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer to the question with these records, each with a pointer to the name.
    fn reply(question: &[u8], code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2..4].copy_from_slice(&[0x81, 0x80 | code]);
        bytes[7] = records.len() as u8;
        for (kind, data) in records {
            let head = [&[0xc0, 12][..], &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 60], &(data.len() as u16).to_be_bytes()];
            bytes.extend(head.concat());
            bytes.extend(*data);
        }
        bytes
    }

    #[test]
    fn answers() {
        let asked = question(0x1234, "box.example", Kind::V4).unwrap();
        assert_eq!(asked, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03box\x07example\0\0\x01\0\x01");
        let addresses = |bytes: &[u8]| answer(&asked, bytes);
        let (alias, own) = ((5, &b"\x01a\xc0\x10"[..]), (1, &[192, 0, 2, 7][..]));
        let found = Some(Answer::Addresses(vec!["192.0.2.7".parse().unwrap()]));
        assert_eq!(addresses(&reply(&asked, 0, &[alias, own, (28, &[0; 16])])), found);
        assert_eq!(addresses(&reply(&asked, 0, &[])), Some(Answer::Addresses(vec![])));
        assert_eq!(addresses(&reply(&asked, 3, &[])), Some(Answer::NoSuchName));
        assert_eq!(addresses(&reply(&asked, 2, &[])), Some(Answer::Refused(2)));
        let mut other = reply(&asked, 0, &[own]);
        other[1] ^= 1;
        assert_eq!(addresses(&other), None, "another transaction");
        let elsewhere = question(0x1234, "fox.example", Kind::V4).unwrap();
        assert_eq!(addresses(&reply(&elsewhere, 0, &[own])), None, "another question");
        assert_eq!(addresses(&asked), None, "a question");
        let upper = reply(&asked, 0, &[own]).iter().map(u8::to_ascii_uppercase).collect::<Vec<_>>();
        assert_eq!(addresses(&upper), found, "servers may change the case");
        assert_eq!(question(1, "no name", Kind::V6), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_survived(
            tail in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..4, Just(0xc0)], 0..200),
            count in any::<u8>(), cut in 0usize..300,
        ) {
            let asked = question(7, "box.example", Kind::V6).unwrap();
            let mut bytes = reply(&asked, 0, &[]);
            bytes[7] = count;
            bytes.extend(tail);
            bytes.truncate(cut);
            let _ = answer(&asked, &bytes);
        }
    }
}
