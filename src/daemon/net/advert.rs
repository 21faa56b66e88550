//! What routers advertise beside addresses, as the kernel passes it on. Pure.
//!
//! The kernel makes the addresses and routes itself. The options that it has no use for, name servers and domains
//! (RFC 8106), it hands to whoever listens (`RTM_NEWNDUSEROPT`, `ndisc_ra_useropt` in net/ipv6/ndisc.c); whether
//! DHCPv6 is to be asked it keeps in the flags of the interface (`inet6_fill_ifla6_attrs` in net/ipv6/addrconf.c), and
//! tells when they change. So no socket of our own is needed, and nothing is missed that it has seen.

use std::{net::Ipv6Addr, time::Duration};

use nix::libc;

use super::{dhcp6::Want, domain};

/// `struct nduseroptmsg` of linux/rtnetlink.h: family, padding, length of the options, index, ICMP type and code, and
/// six bytes of padding.
const HEADER: usize = 16;
/// ICMPv6 type of a router advertisement (RFC 4861 section 4.2).
const ROUTER_ADVERTISEMENT: u8 = 134;
/// Recursive DNS Server, and DNS Search List (RFC 8106 section 5).
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;
/// Bytes before the addresses or names: type, length, two that are not used, lifetime.
const OPTION: usize = 8;
/// For ever.
const FOREVER: u32 = u32::MAX;
/// `IF_RA_OTHERCONF`, `IF_RA_MANAGED` of include/net/if_inet6.h.
const OTHER: u32 = 0x80;
const MANAGED: u32 = 0x40;
/// More from one link are of no use (RFC 8106 section 5.3.1 asks for three at least).
const MOST: usize = 6;

/// What was advertised on an interface, each with the time for which it is good: `None` for ever, zero for not any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advert {
    pub nameservers: Vec<(Ipv6Addr, Option<Duration>)>,
    pub search: Vec<(String, Option<Duration>)>,
}

impl Advert {
    /// From the payload of an `RTM_NEWNDUSEROPT`: the interface's index, and what came there.
    pub fn read(payload: &[u8]) -> Option<(u32, Self)> {
        let (header, rest) = payload.split_first_chunk::<HEADER>()?;
        let [family, _, a, b, index @ .., icmp, _, _, _, _, _, _, _] = *header;
        if i32::from(family) != libc::AF_INET6 || icmp != ROUTER_ADVERTISEMENT {
            return None;
        }
        let mut options = rest.get(..u16::from_ne_bytes([a, b]).into())?;
        let mut advert = Self::default();
        while let [kind, length, ..] = *options {
            // In units of eight bytes; zero is an error (RFC 4861 section 4.6).
            let Some((option, rest)) = options.split_at_checked(usize::from(length) * 8).filter(|_| length > 0) else {
                break;
            };
            advert.option(kind, option);
            options = rest;
        }
        Some((u32::from_ne_bytes(index), advert))
    }

    fn option(&mut self, kind: u8, option: &[u8]) {
        let Some((header, value)) = option.split_first_chunk::<OPTION>() else { return };
        let [.., a, b, c, d] = *header;
        let seconds = u32::from_be_bytes([a, b, c, d]);
        let lifetime = (seconds != FOREVER).then(|| Duration::from_secs(seconds.into()));
        match kind {
            RDNSS => {
                let servers = value.as_chunks::<16>().0.iter().map(|octets| Ipv6Addr::from(*octets));
                let servers = servers.filter(|it| !it.is_unspecified() && !it.is_multicast() && !it.is_loopback());
                self.nameservers.extend(servers.map(|server| (server, lifetime)));
            }
            DNSSL => self.search.extend(domain::list(value).into_iter().map(|name| (name, lifetime))),
            _ => {}
        }
    }
}

/// What is known from advertisements on one interface.
#[derive(Clone, Debug, Default)]
pub struct Advertised {
    nameservers: Vec<(Ipv6Addr, Option<Duration>)>,
    search: Vec<(String, Option<Duration>)>,
}

impl Advertised {
    pub fn take(&mut self, now: Duration, advert: Advert) {
        update(&mut self.nameservers, now, advert.nameservers);
        update(&mut self.search, now, advert.search);
    }

    /// Forgets what has not been advertised for too long.
    pub fn expire(&mut self, now: Duration) {
        self.nameservers.retain(|(_, until)| until.is_none_or(|until| now < until));
        self.search.retain(|(_, until)| until.is_none_or(|until| now < until));
    }

    /// When there is next something to forget.
    pub fn deadline(&self) -> Option<Duration> {
        let untils = self.nameservers.iter().filter_map(|it| it.1);
        untils.chain(self.search.iter().filter_map(|it| it.1)).min()
    }

    pub fn nameservers(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.nameservers.iter().map(|it| it.0)
    }

    pub fn search(&self) -> impl Iterator<Item = &String> {
        self.search.iter().map(|it| &it.0)
    }
}

/// What is advertised again keeps its place, so that a file of them does not change for nothing.
fn update<T: PartialEq>(known: &mut Vec<(T, Option<Duration>)>, now: Duration, news: Vec<(T, Option<Duration>)>) {
    for (it, lifetime) in news {
        let until = lifetime.map(|lifetime| now.saturating_add(lifetime));
        match known.iter().position(|(old, _)| *old == it) {
            Some(at) => known[at].1 = until,
            None if known.len() < MOST => known.push((it, until)),
            None => {}
        }
    }
    known.retain(|(_, until)| until.is_none_or(|until| now < until));
}

/// What routers say about DHCPv6, from an interface's flags (`IFLA_INET6_FLAGS`): that it gives addresses, or at least
/// tells other things. `None`: nothing of either, or there was no router yet.
pub fn wants(flags: u32) -> Option<Want> {
    match (flags & MANAGED != 0, flags & OTHER != 0) {
        (true, _) => Some(Want::Addresses),
        (false, true) => Some(Want::Information),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// About interface 7, by `icmp`.
    fn payload(icmp: u8, options: &[u8]) -> Vec<u8> {
        let length = (options.len() as u16).to_ne_bytes();
        let header = [&[libc::AF_INET6 as u8, 0], &length[..], &7u32.to_ne_bytes(), &[icmp], &[0; 7]].concat();
        [&header, options].concat()
    }

    fn option(kind: u8, seconds: u32, value: &[u8]) -> Vec<u8> {
        let units = (OPTION + value.len()).div_ceil(8);
        let mut option = [&[kind, units as u8, 0, 0], &seconds.to_be_bytes()[..], value].concat();
        option.resize(units * 8, 0);
        option
    }

    fn server(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
    }

    #[test]
    fn name_servers_and_domains() {
        let servers = option(RDNSS, 600, &[server(1).octets(), server(2).octets(), [0; 16]].concat());
        let domains = option(DNSSL, FOREVER, b"\x03lab\x07example\0\x01b\0");
        let (index, advert) =
            Advert::read(&payload(134, &[servers, option(99, 1, &[1; 9]), domains].concat())).unwrap();
        let time = Some(Duration::from_secs(600));
        assert_eq!((index, &advert.nameservers[..]), (7, &[(server(1), time), (server(2), time)][..]));
        assert_eq!(advert.search, [("lab.example".to_owned(), None), ("b".to_owned(), None)]);
        assert_eq!(Advert::read(&payload(137, &[])), None, "a redirect");
        assert_eq!(Advert::read(&payload(134, &[RDNSS, 0, 0, 0])), Some((7, Advert::default())), "no length");
        let cut = payload(134, &option(RDNSS, 1, &[9; 16]));
        assert_eq!(Advert::read(&cut[..cut.len() - 1]), None);
    }

    #[test]
    fn what_is_advertised_no_more_is_forgotten() {
        let second = Duration::from_secs(1);
        let advert = |last, seconds: u64| Advert {
            nameservers: vec![(server(last), Some(second * seconds as u32))],
            ..Advert::default()
        };
        let mut known = Advertised::default();
        known.take(Duration::ZERO, advert(1, 10));
        known.take(second, advert(2, 30));
        known.take(second * 5, advert(1, 10));
        assert_eq!(known.nameservers().collect::<Vec<_>>(), [server(1), server(2)], "in the old order");
        assert_eq!(known.deadline(), Some(second * 15));
        known.expire(second * 15);
        assert_eq!(known.nameservers().collect::<Vec<_>>(), [server(2)]);
        known.take(second * 16, advert(2, 0));
        assert_eq!((known.nameservers().count(), known.deadline()), (0, None));
    }

    #[test]
    fn flags() {
        for (flags, wanted) in [
            (0, None),
            (0x8000_0030, None),
            (OTHER, Some(Want::Information)),
            (MANAGED, Some(Want::Addresses)),
            (OTHER | MANAGED, Some(Want::Addresses)),
        ] {
            assert_eq!(wants(flags), wanted);
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_survived(options in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..4, Just(25), Just(31)], 0..200)) {
            Advert::read(&options);
            let (_, advert) = Advert::read(&payload(134, &options)).unwrap();
            let mut known = Advertised::default();
            known.take(Duration::ZERO, advert);
            prop_assert!(known.nameservers().count() <= MOST && known.search().count() <= MOST);
        }
    }
}
