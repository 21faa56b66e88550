//! IPv4 and UDP headers for a client that has no address yet (RFC 791, RFC 768). Pure.

use std::net::Ipv4Addr;

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
const UDP: u8 = 17;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// A packet from no address to everybody, from the DHCP client's port to the server's.
pub fn broadcast(payload: &[u8]) -> Vec<u8> {
    let udp_length = (UDP_HEADER + payload.len()) as u16;
    let total = (IP_HEADER as u16 + udp_length).to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, UDP, 0, 0];
    packet.extend(Ipv4Addr::UNSPECIFIED.octets());
    packet.extend(Ipv4Addr::BROADCAST.octets());
    let checksum = !sum(0, &packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    for number in [CLIENT_PORT, SERVER_PORT, udp_length, 0] {
        packet.extend(number.to_be_bytes());
    }
    packet.extend(payload);
    let checksum = match !sum(pseudo_header(&packet, udp_length), &packet[IP_HEADER..]) {
        0 => u16::MAX, // zero would mean: no checksum
        checksum => checksum,
    };
    packet[IP_HEADER + 6..IP_HEADER + 8].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// What a UDP packet to the DHCP client's port carries; `None` for anything else, and for what is damaged.
pub fn payload(packet: &[u8]) -> Option<&[u8]> {
    let header_length = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(be16(packet, 2)?);
    if packet[0] >> 4 != 4 || header_length < IP_HEADER || total < header_length + UDP_HEADER {
        return None;
    }
    let packet = packet.get(..total)?; // short frames are padded
    let fragment = be16(packet, 6)? & 0x3fff != 0;
    if packet[9] != UDP || fragment || sum(0, &packet[..header_length]) != u16::MAX {
        return None;
    }
    let udp = &packet[header_length..];
    let length = be16(udp, 4)?;
    let udp = udp.get(..usize::from(length))?;
    if be16(udp, 2)? != CLIENT_PORT {
        return None;
    }
    let pseudo = pseudo_header(packet, length);
    let checksum = be16(udp, 6)?;
    // A packet from this very machine (a container, a virtual machine's bridge) has its checksum left for a device
    // that never comes: the field then holds the sum over the pseudo header alone (`CHECKSUM_PARTIAL`,
    // Documentation/networking/checksum-offloads.rst).
    let left_to_device = checksum == sum(pseudo, &[]);
    if checksum != 0 && !left_to_device && sum(pseudo, udp) != u16::MAX {
        return None;
    }
    udp.get(UDP_HEADER..)
}

fn pseudo_header(packet: &[u8], udp_length: u16) -> u32 {
    u32::from(sum(u32::from(UDP) + u32::from(udp_length), &packet[12..20]))
}

/// The ones' complement sum that all Internet checksums are made of (RFC 1071).
fn sum(start: u32, bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum = words.fold(start, |sum, word| sum + word);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet as a server would send it.
    fn answer(payload: &[u8]) -> Vec<u8> {
        let mut packet = broadcast(payload);
        packet[IP_HEADER..IP_HEADER + 4].copy_from_slice(&[0, 67, 0, 68]); // the sum stays the same
        packet
    }

    #[test]
    fn damage_is_noticed() {
        let good = answer(b"hello");
        assert_eq!(payload(&good), Some(&b"hello"[..]));
        assert_eq!(payload(&[good.clone(), vec![0; 13]].concat()), Some(&b"hello"[..]), "padded frame");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(payload(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn a_checksum_may_be_absent_or_left_to_the_device() {
        let mut packet = answer(b"hello");
        packet[26..28].copy_from_slice(&[0, 0]);
        assert_eq!(payload(&packet), Some(&b"hello"[..]));
        let partial = sum(pseudo_header(&packet, 13), &[]);
        packet[26..28].copy_from_slice(&partial.to_be_bytes());
        assert_eq!(payload(&packet), Some(&b"hello"[..]));
        packet[26..28].copy_from_slice(&(partial ^ 1).to_be_bytes());
        assert_eq!(payload(&packet), None);
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let packet = answer(&bytes);
            prop_assert_eq!(payload(&packet), Some(bytes.as_slice()));
        }

        #[test]
        fn hostile_packets_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            payload(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = 0x45;
            }
            payload(&bytes);
        }
    }
}
