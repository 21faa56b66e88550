//! `from=` of a key's line (PATTERNS in ssh_config(5)) and `source-address` of a certificate. Pure.
//!
//! As `match_host_and_ip()` in OpenSSH's match.c and `addr_match_list()` in its addrmatch.c, but for host names: nothing
//! looks up the name of a peer here, as it could lie and would take time.

use std::net::IpAddr;

/// From where a key may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    negated: bool,
    pattern: Pattern,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// An address and how many of its bits count.
    Network(IpAddr, u8),
    /// An address as text, with `*` and `?`.
    Wildcard(String),
}

impl Sources {
    /// Reads a list, and returns the host names in it, which match nobody. An error if a part can't be understood, if a
    /// host name is negated (somebody would get in who is to be kept out), and if the list matches nobody at all.
    pub fn parse(list: &str) -> Result<(Self, Vec<String>), String> {
        let (mut sources, mut names) = (Vec::new(), Vec::new());
        for part in list.split(',').map(str::trim) {
            let (negated, text) = part.strip_prefix('!').map_or((false, part), |rest| (true, rest));
            match pattern(text)? {
                Some(pattern) => sources.push(Source { negated, pattern }),
                None if negated => {
                    return Err(format!("from= excludes {text:?}, and host names can't be looked up here"));
                }
                None => names.push(text.to_owned()),
            }
        }
        match sources.iter().any(|source| !source.negated) {
            true => Ok((Self(sources), names)),
            false if names.is_empty() => Err("from= only excludes, so it matches nobody; add \"*\"".to_owned()),
            false => Err("from= has only host names, which can't be looked up here; write addresses".to_owned()),
        }
    }

    /// The list in a certificate: only addresses and networks (`addr_match_cidr_list()`).
    pub fn networks(list: &str) -> Result<Self, String> {
        let source = |text| match pattern(text)? {
            Some(pattern @ Pattern::Network(..)) => Ok(Source { negated: false, pattern }),
            _ => Err(format!("{text:?} is neither an address nor a network")),
        };
        list.split(',').map(source).collect::<Result<_, String>>().map(Self)
    }

    /// An address that is not known is none of these.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address.map(|address| address.to_canonical()) else { return false };
        let text = address.to_string();
        let matches = |source: &&Source| match &source.pattern {
            Pattern::Network(network, bits) => contains(*network, *bits, address),
            Pattern::Wildcard(pattern) => wildcard(pattern.as_bytes(), text.as_bytes()),
        };
        let mut matching = self.0.iter().filter(matches).peekable();
        matching.peek().is_some() && matching.all(|source| !source.negated)
    }
}

#[cfg(test)]
impl Sources {
    /// As it stands in a line.
    pub fn written(&self) -> String {
        let one = |Source { negated, pattern }: &Source| match pattern {
            Pattern::Network(address, bits) => format!("{}{address}/{bits}", if *negated { "!" } else { "" }),
            Pattern::Wildcard(text) => format!("{}{text}", if *negated { "!" } else { "" }),
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(",")
    }
}

/// `None` for a host name.
fn pattern(text: &str) -> Result<Option<Pattern>, String> {
    if text.is_empty() {
        return Err("an address is missing between two commas".to_owned());
    }
    let (before, bits) = text.split_once('/').map_or((text, None), |(before, bits)| (before, Some(bits)));
    if let Ok(address) = before.parse::<IpAddr>() {
        return network(address, bits, text).map(Some);
    }
    let only = |good: &str| text.bytes().all(|byte| good.as_bytes().contains(&byte));
    let wild = text.contains(['*', '?']);
    match wild && (only("0123456789.*?") || (text.contains(':') && only("0123456789abcdefABCDEF:.*?"))) {
        true => Ok(Some(Pattern::Wildcard(text.to_ascii_lowercase()))),
        false if bits.is_some() || text.contains([':', '%']) => Err(format!("{text:?} is no address or network")),
        false if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            Err(format!("{text:?} is no address; a network is written as 192.0.2.0/24 or 192.0.2.*"))
        }
        false => Ok(None),
    }
}

fn network(address: IpAddr, bits: Option<&str>, text: &str) -> Result<Pattern, String> {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => longest,
        Some(bits) => Some(bits)
            .filter(|bits| bits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|bits| bits.parse().ok())
            .filter(|bits| *bits <= longest)
            .ok_or_else(|| format!("{text:?} has no prefix length from 0 to {longest}"))?,
    };
    // As in sshd: whoever writes 192.0.2.7/24 may have meant something else.
    let beyond = match address {
        IpAddr::V4(address) => address.to_bits() & !mask(bits, 32) as u32 != 0,
        IpAddr::V6(address) => address.to_bits() & !mask(bits, 128) != 0,
    };
    match beyond {
        true => Err(format!("{text:?} has bits beyond its prefix length")),
        false => Ok(Pattern::Network(address, bits)),
    }
}

/// The upper `bits` of `width`.
fn mask(bits: u8, width: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(width));
    all & !all.checked_shr(u32::from(bits)).unwrap_or(0)
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()) & mask(bits, 32) as u32 == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits() ^ address.to_bits()) & mask(bits, 128) == 0,
        _ => false,
    }
}

/// `*` is any text, `?` any character. Of several stars only the last has to be tried again, so this is quick.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p, t));
                p += 1;
            }
            (Some(one), _) if *one == b'?' || *one == text[t] => (p, t) = (p + 1, t + 1),
            (_, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
            (_, None) => return false,
        }
    }
    pattern[p..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn admits(list: &str, address: &str) -> bool {
        Sources::parse(list).unwrap_or_else(|why| panic!("{list}: {why}")).0.admits(Some(address.parse().unwrap()))
    }

    #[test]
    fn lists() {
        for (list, address, expected) in [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.70", false),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("192.168.*", "192.168.1.1", true),
            ("192.168.?.?", "192.168.1.1", true),
            ("192.168.?.?", "192.168.1.10", false),
            ("*", "2001:db8::1", true),
            ("2001:DB8:*", "2001:db8::1", true),
            ("*,!10.0.0.1", "10.0.0.1", false),
            ("!10.0.0.1,*", "10.0.0.1", false),
            ("!10.0.0.1,*", "10.0.0.2", true),
            ("!10.0.0.0/24,10.0.0.0/8", "10.0.0.2", false),
            ("192.0.2.1, 192.0.2.2", "192.0.2.2", true),
            ("home.example.com,192.0.2.1", "192.0.2.1", true),
            ("home.example.com,192.0.2.1", "192.0.2.2", false),
        ] {
            assert_eq!(admits(list, address), expected, "{list} {address}");
        }
        assert!(!Sources::parse("*").unwrap().0.admits(None), "an unknown address is nowhere");
        assert_eq!(Sources::parse("a.example,*.example.com,10.*").unwrap().1, ["a.example", "*.example.com"]);
    }

    #[test]
    fn lists_that_admit_nobody_or_say_too_little() {
        for (list, why) in [
            ("", "missing"),
            ("10.0.0.1,,10.0.0.2", "missing"),
            ("!", "missing"),
            ("10.0.0.1/8", "beyond"),
            ("2001:db8::1/64", "beyond"),
            ("10.0.0.0/33", "prefix length"),
            ("10.0.0.0/+8", "prefix length"),
            ("10.0.0.0/", "prefix length"),
            ("10.0.0", "no address"),
            ("fe80::1%eth0", "no address"),
            ("name/24", "no address"),
            ("!bad.example.com,*", "excludes"),
            ("!bad.*,*", "excludes"),
            ("home.example.com", "only host names"),
            ("!10.0.0.1", "only excludes"),
        ] {
            let error = Sources::parse(list).expect_err(list);
            assert!(error.contains(why), "{list}: {error}");
        }
        for list in ["10.0.0.*", "!10.0.0.1", "name", "10.0.0.1,", ""] {
            assert!(Sources::networks(list).is_err(), "{list}");
        }
        assert!(Sources::networks("10.0.0.0/8,2001:db8::1").unwrap().admits("2001:db8::1".parse().ok()));
    }

    proptest! {
        #[test]
        fn a_network_has_its_addresses(bits: u128, length in 0u8..=128, other: u128) {
            let network = bits & mask(length, 128);
            let list = format!("{}/{length}", std::net::Ipv6Addr::from_bits(network));
            let inside = std::net::Ipv6Addr::from_bits(network | other & !mask(length, 128));
            // Addresses that stand for IPv4 are compared as such.
            prop_assume!(inside.to_ipv4_mapped().is_none());
            prop_assert!(admits(&list, &inside.to_string()), "{list} {inside}");
        }

        #[test]
        fn wildcards_are_like_regular_expressions(pattern in "[ab*?]{0,7}", text in "[ab]{0,7}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern, text) {
                    ([], text) => text.is_empty(),
                    ([b'*', rest @ ..], text) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
                    ([b'?', rest @ ..], [_, text @ ..]) => slow(rest, text),
                    ([one, rest @ ..], [other, text @ ..]) => one == other && slow(rest, text),
                    (_, []) => false,
                }
            }
            prop_assert_eq!(wildcard(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
