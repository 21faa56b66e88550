//! Single fields: addresses, prefixes, names, numbers. Each error says what is wrong and how it is written.

use std::net::{IpAddr, Ipv4Addr};

use super::Mac;

/// Fields between colons; an IPv6 address stands in brackets and comes out without them, as in dracut's `ip_to_var`
/// (net-lib.sh).
pub fn split(value: &str) -> Result<Vec<&str>, String> {
    let mut fields = Vec::new();
    let mut rest = value;
    loop {
        let (field, after) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']').ok_or("a bracket is not closed; write [ADDRESS]")?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        fields.push(field);
        match after.strip_prefix(':') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(format!("“{after}” follows a bracket; a colon belongs there")),
        }
    }
}

/// With or without brackets.
pub fn address(text: &str) -> Result<IpAddr, String> {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    inside.parse().map_err(|_| format!("“{text}” is not an address; write it as 192.0.2.7 or [2001:db8::7]"))
}

/// `ADDRESS/PREFIX`, with or without brackets; the prefix may be a dotted quad, and may be left out.
pub fn address_and_prefix(text: &str) -> Result<(IpAddr, Option<u8>), String> {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match inside.split_once('/') {
        None => Ok((address(inside)?, None)),
        Some((before, after)) => {
            let address = address(before)?;
            Ok((address, Some(prefix(after, address)?)))
        }
    }
}

/// The netmask of `address`: a prefix length or, for IPv4, a dotted quad.
pub fn prefix(text: &str, address: IpAddr) -> Result<u8, String> {
    let (longest, example) = match address {
        IpAddr::V4(_) => (32, "255.255.255.0 or 24"),
        IpAddr::V6(_) => (128, "64"),
    };
    let wrong = || format!("“{text}” is no netmask; write it as {example}");
    match (address, text.parse::<Ipv4Addr>()) {
        (IpAddr::V4(_), Ok(mask)) => {
            let bits = mask.to_bits();
            let whole = bits.leading_ones() + bits.trailing_zeros() >= 32;
            whole.then_some(bits.leading_ones() as u8).ok_or_else(wrong)
        }
        _ => number(text).filter(|prefix| *prefix <= longest).map(|prefix| prefix as u8).ok_or_else(wrong),
    }
}

/// Decimal digits only (the standard library also takes a plus sign).
pub fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// 68 bytes is the least that IPv4 allows (RFC 791), 65535 the most that a packet can have.
pub fn mtu(text: &str) -> Result<u32, String> {
    number(text)
        .filter(|bytes| (68..=65535).contains(bytes))
        .ok_or_else(|| format!("“{text}” is no MTU; write a number of bytes such as 1500, or nothing"))
}

/// Six pairs of hexadecimal digits with colons or dashes between them; not a multicast address and not zero, which no
/// interface can have (`is_valid_ether_addr` in linux/etherdevice.h).
pub fn mac(text: &str) -> Result<Mac, String> {
    let wrong = || format!("“{text}” is no MAC address; write it as 52:54:00:12:34:56");
    let mut bytes = [0; 6];
    let mut pairs = text.split([':', '-']);
    for byte in &mut bytes {
        let pair = pairs.next().filter(|pair| pair.len() == 2 && !pair.starts_with('+')).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    let fits = pairs.next().is_none() && bytes[0] & 1 == 0 && bytes != [0; 6];
    fits.then_some(bytes).ok_or_else(wrong)
}

/// What `dev_valid_name` of the kernel (net/core/dev.c) takes; the length is IFNAMSIZ in linux/if.h, less its final
/// zero byte.
pub fn name(text: &str) -> Result<String, String> {
    const LONGEST: usize = 15;
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    match text {
        "" => Err("the name of an interface is missing; see ip link".to_owned()),
        "." | ".." => Err(format!("“{text}” can't be the name of an interface; see ip link")),
        text if text.len() > LONGEST || text.contains(bad) => {
            Err(format!("“{text}” can't be the name of an interface; see ip link"))
        }
        text => Ok(text.to_owned()),
    }
}

/// Names between commas, each once.
pub fn names(text: &str) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = Vec::new();
    for part in text.split(',') {
        let name = name(part)?;
        if all.contains(&name) {
            return Err(format!("“{name}” stands there twice; remove one"));
        }
        all.push(name);
    }
    Ok(all)
}

/// A host or domain name as it may stand in a DHCP message and in resolv.conf (RFC 1123 section 2.1, with the
/// underscore that many have); the length is RFC 1035's.
pub fn host(text: &str) -> Result<String, String> {
    const LONGEST: usize = 253;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    match !text.is_empty() && text.len() <= LONGEST && text.bytes().all(good) {
        true => Ok(text.to_owned()),
        false => Err(format!("“{text}” can't be a host name; write letters, digits, dashes and dots")),
    }
}
