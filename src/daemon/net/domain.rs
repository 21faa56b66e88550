//! Domain names as DNS and the options of DHCP and router advertisements have them (RFC 1035 section 3.1): to text and
//! back. Pure, and never panics on what a network sends.

/// RFC 1035 section 2.3.4.
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 253;
/// More are of no use: older resolvers read six (resolv.conf(5)).
const MOST: usize = 6;

/// A list of names, each ended by an empty label; as far as it makes sense. Names may go on at an earlier place of the
/// list (RFC 3397 section 2 for DHCPv4; nobody else writes that). Names that no file should contain are left out.
pub fn list(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() && names.len() < MOST {
        let Some((name, end)) = one(bytes, at) else { break };
        if is_sensible(&name) && !names.contains(&name) {
            names.push(name);
        }
        at = end;
    }
    names
}

/// The name that begins at a place, and where the next one begins.
fn one(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut name, mut at, mut earliest, mut end) = (String::new(), start, start, None);
    loop {
        match *bytes.get(at)? {
            0 => return Some((name, end.unwrap_or(at + 1))),
            length @ 1..64 => {
                let label = bytes.get(at + 1..)?.get(..length.into())?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| char::from(*byte)));
                if name.len() > 2 * LONGEST_NAME {
                    return None; // two bytes at most are made of one
                }
                at += 1 + usize::from(length);
            }
            high @ 0xc0.. => {
                let to = usize::from(high & 0x3f) << 8 | usize::from(*bytes.get(at + 1)?);
                if to >= earliest {
                    return None; // only ever backwards, or it would go round in circles
                }
                end = end.or(Some(at + 2));
                (at, earliest) = (to, to);
            }
            _ => return None,
        }
    }
}

/// As the bytes of one name; `None` for what is none.
pub fn encode(name: &str) -> Option<Vec<u8>> {
    if !is_sensible(name) {
        return None;
    }
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    Some(labels.chain([0]).collect())
}

/// Whether it is a name that may stand in `/etc/resolv.conf`: whatever a network says, it adds no line there.
pub fn is_sensible(name: &str) -> bool {
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(inside)
    };
    name.len() <= LONGEST_NAME && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists() {
        let plain = b"\x03eng\x05apple\x03com\0\x09marketing\x05apple\x03com\0";
        // The example of RFC 3397 section 2.
        let packed = b"\x03eng\x05apple\x03com\0\x09marketing\xc0\x04";
        for bytes in [&plain[..], packed] {
            assert_eq!(list(bytes), ["eng.apple.com", "marketing.apple.com"]);
        }
        for (bytes, names) in [
            (&b""[..], &[][..]),
            (b"\x01a\0\0\0\0", &["a"]),     // padded, as in a router advertisement
            (b"\x01a\0\x01b", &["a"]),      // the second is cut off
            (b"\x01a\0\x01b\xc0", &["a"]),  // and here
            (b"\xc0\x00", &[]),             // itself
            (b"\x01a\xc0\x00", &[]),        // a circle
            (b"\x01a\xc0\x04\x01b\0", &[]), // forwards
            (b"\x01a\0\x04b\ncc\0\x01d\0", &["a", "d"]), // a line of its own
            (b"\x01a\0\x01a\0\x01b\0", &["a", "b"]), // twice
            (b"\x01a\0\x80\x01b\0", &["a"]), // RFC 6891 section 5 took these lengths back
        ] {
            assert_eq!(list(bytes), names, "{bytes:?}");
        }
        assert_eq!(list(&b"\x01a\0\x01b\0\x01c\0\x01d\0\x01e\0\x01f\0\x01g\0"[..]).len(), MOST);
    }

    #[test]
    fn names() {
        assert_eq!(encode("box.example").as_deref(), Some(&b"\x03box\x07example\0"[..]));
        for nonsense in ["", ".", "a..b", "a b", "a\nnameserver 203.0.113.1", "é", "a.", &"a".repeat(64)] {
            assert_eq!(encode(nonsense), None, "{nonsense:?}");
        }
        assert_eq!(encode(&["a"; 127].join(".")).map(|bytes| bytes.len()), Some(255));
        assert_eq!(encode(&["a"; 128].join(".")), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(names in prop::collection::btree_set("[a-z0-9_-]{1,20}(\\.[a-z0-9]{1,9}){0,3}", 0..6)) {
            let bytes: Vec<u8> = names.iter().flat_map(|name| encode(name).unwrap()).collect();
            prop_assert_eq!(list(&bytes), names.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn hostile_bytes_are_survived(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..4, Just(0xc0)], 0..600)) {
            prop_assert!(list(&bytes).iter().all(|name| is_sensible(name)));
        }
    }
}
