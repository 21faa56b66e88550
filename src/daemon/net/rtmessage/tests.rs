use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{
    super::step::{Address, NewLink, Route},
    *,
};
use crate::config::network::{BondMode, BondNumber, BondOptions};

const OURS: Address = Address {
    index: 7,
    address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
    prefix: 24,
    peer: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    valid: Some(120),
};

/// A message as from the kernel.
fn message(kind: u16, payload: &[u32]) -> Request {
    Request { kind, flags: 0, payload: payload.iter().copied().flat_map(u32::to_ne_bytes).collect() }
}

/// An Ethernet interface with this number and these flags.
fn ethernet(kind: u16, flags: i32) -> Request {
    let mut message = message(kind, &[0, 7, flags as u32, 0]);
    message.payload[2..4].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
    message
        .with(libc::IFLA_IFNAME, "eth0\0")
        .with(libc::IFLA_MTU, 1500_u32.to_ne_bytes())
        .with(libc::IFLA_ADDRESS, [2, 0, 0, 0, 0, 1])
        .with(4321, "what only a newer kernel knows")
}

fn change(message: &Request) -> Option<Change> {
    match messages(&message.encode(1)).next()?.body? {
        Body::Change(change) => Some(change),
        Body::End(_) => None,
    }
}

fn seen(message: &Request) -> LinkSeen {
    let Some(Change::Link(link)) = change(message) else { panic!("no interface") };
    link
}

#[test]
fn interfaces() {
    let up = libc::IFF_UP | libc::IFF_LOWER_UP;
    let expected = LinkSeen {
        index: 7,
        name: "eth0".into(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        own_mac: Some([2, 0, 0, 0, 0, 1]),
        master: None,
        sort: Sort::Ethernet,
        up: true,
        carrier: true,
        mtu: 1500,
        router: None,
    };
    assert_eq!(seen(&ethernet(libc::RTM_NEWLINK, up)), expected);
    let down = seen(&ethernet(libc::RTM_NEWLINK, libc::IFF_LOWER_UP));
    assert!(!down.up && !down.carrier);
    assert_eq!(change(&ethernet(libc::RTM_DELLINK, up)), Some(Change::LinkGone(7)));
}

#[test]
fn sorts_of_interfaces() {
    let kind = |kind: &str| {
        let nested = message(0, &[]).with(libc::IFLA_INFO_KIND, kind).payload;
        ethernet(libc::RTM_NEWLINK, 0).with(libc::IFLA_LINKINFO | libc::NLA_F_NESTED as u16, nested)
    };
    assert_eq!(seen(&kind("veth\0")).sort, Sort::Veth);
    assert_eq!(seen(&kind("bridge\0")).sort, Sort::Made);
    let part = seen(&kind("veth\0").with(libc::IFLA_MASTER, 9_u32.to_ne_bytes()));
    assert_eq!((part.sort, part.master), (Sort::Unfit, Some(9)));
    assert_eq!(seen(&ethernet(libc::RTM_NEWLINK, libc::IFF_LOOPBACK)).sort, Sort::Unfit);
    let mut tunnel = ethernet(libc::RTM_NEWLINK, 0);
    tunnel.payload[2..4].copy_from_slice(&libc::ARPHRD_NONE.to_ne_bytes());
    assert_eq!(seen(&tunnel).sort, Sort::Unfit);
}

#[test]
fn what_is_not_about_a_whole_interface_is_passed_over() {
    for kind in [libc::RTM_NEWLINK, libc::RTM_DELLINK] {
        let mut bridge_port = ethernet(kind, 0);
        bridge_port.payload[0] = libc::AF_BRIDGE as u8;
        assert_eq!(change(&bridge_port), None);
    }
    let radio = message(libc::RTM_NEWLINK, &[0, 7, 0, 0]).with(libc::IFLA_IFNAME, "wlan0\0");
    assert_eq!(change(&radio), None);
    assert_eq!(change(&message(libc::RTM_NEWRULE, &[0; 9])), None);
}

#[test]
fn addresses() {
    let address = |[family, flags, scope]: [u8; 3]| {
        let mut message = message(libc::RTM_NEWADDR, &[0, 7]);
        message.payload[..4].copy_from_slice(&[family, 64, flags, scope]);
        message
    };
    let ipv6 = address([libc::AF_INET6 as u8, libc::IFA_F_PERMANENT as u8, libc::RT_SCOPE_LINK]);
    let local: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
    let ipv6 = ipv6.with(libc::IFA_ADDRESS, local.octets());
    let expected = AddressSeen {
        index: 7,
        address: local.into(),
        prefix: 64,
        global: false,
        permanent: true,
        advertised: false,
        check: Check::Passed,
    };
    assert_eq!(change(&ipv6), Some(Change::Address(expected)));
    for (flags, check) in [
        (libc::IFA_F_TENTATIVE, Check::Running),
        (libc::IFA_F_TENTATIVE | libc::IFA_F_OPTIMISTIC, Check::Passed),
        (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED, Check::Failed),
    ] {
        let message = address([libc::AF_INET6 as u8, flags as u8, 0]).with(libc::IFA_ADDRESS, local.octets());
        let Some(Change::Address(seen)) = change(&message) else { panic!("no address") };
        assert_eq!(seen.check, check, "{flags:#x}");
    }
    let short = address([libc::AF_INET6 as u8, 0, 0]).with(libc::IFA_ADDRESS, [192, 0, 2, 1]);
    assert_eq!(change(&short), None);
    assert_eq!(change(&address([libc::AF_INET as u8, 0, 0])), None);
}

#[test]
fn our_own_address_not_the_peer() {
    let (address, check, advertised) = (OURS.address, Check::Passed, false);
    let expected = AddressSeen { index: 7, address, prefix: 24, global: true, permanent: false, advertised, check };
    assert_eq!(change(&Request::add_address(&OURS)), Some(Change::Address(expected)));
    assert_eq!(change(&Request::remove_address(&OURS)), Some(Change::AddressGone(expected)));
}

/// Byte by byte, with the numbers of linux/rtnetlink.h written out.
#[test]
fn requests() {
    let number = u32::to_ne_bytes;
    let head = |kind: u16, flags: u16| [kind.to_ne_bytes(), flags.to_ne_bytes()].concat();
    let attribute = |kind: u16, value: [u8; 4]| [&head(8, kind)[..], &value].concat();
    let whole = |length: u32, head: Vec<u8>, rest: &[Vec<u8>]| {
        [&number(length)[..], &head, &number(5), &number(0), &rest.concat()].concat()
    };
    let up = whole(32, head(19, 0x5), &[[0, 7, 1, 1].map(number).concat()]);
    assert_eq!(Request::set_up(7, true).encode(5), up);

    let with_broadcast = Address { peer: None, valid: None, ..OURS };
    let ends = [attribute(2, [192, 0, 2, 10]), attribute(1, [192, 0, 2, 10]), attribute(4, [192, 0, 2, 255])].concat();
    let added = whole(48, head(20, 0x505), &[vec![2, 24, 0, 0], number(7).to_vec(), ends]);
    assert_eq!(Request::add_address(&with_broadcast).encode(5), added);

    let time = [head(20, 6), [120, 120, 0, 0].map(number).concat()].concat();
    let ends = [attribute(2, [192, 0, 2, 10]), attribute(1, [192, 0, 2, 1]), time].concat();
    let removed = whole(60, head(21, 0x5), &[vec![2, 24, 0, 0], number(7).to_vec(), ends]);
    assert_eq!(Request::remove_address(&OURS).encode(5), removed);

    let route = Route {
        index: 7,
        destination: Ipv4Addr::UNSPECIFIED.into(),
        prefix: 0,
        gateway: Some(Ipv4Addr::new(198, 51, 100, 1).into()),
        onlink: true,
        source: Some(Ipv4Addr::new(192, 0, 2, 10)),
        metric: 2048,
    };
    let parts = [(1, [0; 4]), (4, number(7)), (6, number(2048)), (7, [192, 0, 2, 10]), (5, [198, 51, 100, 1])];
    let parts = parts.map(|(kind, value)| attribute(kind, value)).concat();
    let added = whole(68, head(24, 0xc05), &[vec![2, 0, 0, 0, 254, 3, 0, 1], number(4).to_vec(), parts]);
    assert_eq!(Request::add_route(&route).encode(5), added);
    let direct = Request::remove_route(&Route { gateway: None, onlink: false, ..route }).encode(5);
    assert_eq!((direct.len(), &direct[20..28]), (60, &[254, 3, 253, 1, 0, 0, 0, 0][..]));
}

#[test]
fn requests_of_ipv6() {
    let ours: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let added = Request::add_address(&Address { address: ours.into(), prefix: 64, peer: None, valid: None, ..OURS });
    assert_eq!(added.payload[..8], [&[10, 64, 0, 0][..], &7_u32.to_ne_bytes()].concat());
    assert_eq!((added.payload.len(), find(&added.payload[8..], libc::IFA_LOCAL)), (48, Some(&ours.octets()[..])));
    let route = Route {
        index: 7,
        destination: Ipv6Addr::UNSPECIFIED.into(),
        prefix: 0,
        gateway: Some(ours.into()),
        onlink: false,
        source: None,
        metric: 2048,
    };
    let added = Request::add_route(&route);
    assert_eq!(added.payload[..12], [10, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
    assert_eq!(find(&added.payload[12..], libc::RTA_GATEWAY), Some(&ours.octets()[..]));
    assert_eq!(find(&added.payload[12..], libc::RTA_PREFSRC), None);
}

/// Byte by byte, with the numbers of linux/if_link.h.
#[test]
fn interfaces_to_make() {
    let tail = |name: &str, link: NewLink| Request::make(name, &link).payload[LINK + 8..].to_vec();
    let vlan = tail("v.5", NewLink::Vlan { parent: 7, id: 5 });
    let info = b"\x1c\0\x12\x80\x09\0\x01\0vlan\0\0\0\0\x0c\0\x02\x80\x06\0\x01\0\x05\0\0\0";
    assert_eq!(vlan, [&b"\x08\0\x05\0\x07\0\0\0"[..], info].concat());
    let bridge = tail("br0", NewLink::Bridge);
    assert_eq!(bridge, b"\x1c\0\x12\x80\x0b\0\x01\0bridge\0\0\x0c\0\x02\x80\x08\0\x01\0\0\0\0\0");
    let options = BondOptions {
        mode: BondMode::ActiveBackup,
        numbers: vec![(3, BondNumber::U32(100))],
        arp_ip_target: vec![Ipv4Addr::new(192, 0, 2, 1)],
        ..BondOptions::default()
    };
    let bond = tail("b", NewLink::Bond { options, mtu: Some(9000) });
    let data = b"\x20\0\x02\x80\x05\0\x01\0\x01\0\0\0\x08\0\x03\0\x64\0\0\0\x0c\0\x08\x80\x08\0\0\0\xc0\0\x02\x01";
    let info = [&b"\x08\0\x04\0\x28\x23\0\0\x30\0\x12\x80\x09\0\x01\0bond\0\0\0\0"[..], data].concat();
    assert_eq!(bond, info);
}

#[test]
fn routes_of_routers() {
    let route = |protocol, left: u32| {
        let mut message = message(libc::RTM_NEWROUTE, &[0; 3]);
        message.payload[..8].copy_from_slice(&[10, 64, 0, 0, libc::RT_TABLE_MAIN, protocol, 0, libc::RTN_UNICAST]);
        let times = [0, 0, left, 0].map(u32::to_ne_bytes).concat();
        let message = message.with(libc::RTA_OIF, 7_u32.to_ne_bytes()).with(libc::RTA_CACHEINFO, times);
        match change(&message) {
            Some(Change::Route(route)) => (route.index, route.by),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(route(RTPROT_RA, 0), (7, Maker::Router));
    assert_eq!(route(libc::RTPROT_KERNEL, 30), (7, Maker::Router));
    assert_eq!(route(libc::RTPROT_KERNEL, 0), (7, Maker::Address));
    assert_eq!(route(libc::RTPROT_BOOT, 30), (7, Maker::Other));
}

#[test]
fn ends() {
    let end = |kind: i32, error: i32| {
        let bytes = message(kind as u16, &[error as u32]).encode(5);
        let Some(Body::End(end)) = messages(&bytes).next().unwrap().body else { panic!("no end") };
        end.map_err(|error| error.raw_os_error())
    };
    assert_eq!(end(libc::NLMSG_ERROR, 0), Ok(()));
    assert_eq!(end(libc::NLMSG_ERROR, -libc::EPERM), Err(Some(libc::EPERM)));
    assert_eq!(end(libc::NLMSG_DONE, 0), Ok(()));
    assert_eq!(end(libc::NLMSG_DONE, -libc::EMSGSIZE), Err(Some(libc::EMSGSIZE)));
    assert!(end(libc::NLMSG_ERROR, i32::MIN).is_err());
}

#[test]
fn several_messages_in_one() {
    let list = Request { flags: libc::NLM_F_MULTI | libc::NLM_F_DUMP_INTR, ..Request::addresses() };
    let mut bytes = [list.encode(4), ethernet(libc::RTM_NEWLINK, 0).encode(5)].concat();
    let all: Vec<_> = messages(&bytes).map(|it| (it.sequence, it.listed, it.interrupted)).collect();
    assert_eq!(all, [(4, true, true), (5, false, false)]);
    bytes.pop();
    assert_eq!(messages(&bytes).count(), 1, "the second is cut off");
}

proptest! {
    #[test]
    fn hostile_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 14_u16..30) {
        messages(&bytes).count();
        body(kind, &bytes);
        attributes(&bytes).count();
    }

    /// Damage where it matters: a good message with a few bytes changed, and its end cut off.
    #[test]
    fn damage_is_survived(
        damage in prop::collection::vec((0_usize..200, any::<u8>()), 0..4),
        length in 0_usize..200,
        is_link in any::<bool>(),
    ) {
        let good = if is_link { ethernet(libc::RTM_NEWLINK, 0) } else { Request::add_address(&OURS) };
        let mut bytes = good.encode(1);
        for (at, byte) in damage {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(length);
        messages(&bytes).count();
        // With a length that is right, so that the damage behind it is looked at too.
        bytes.get(HEADER..).and_then(|payload| body(good.kind, payload));
    }
}
