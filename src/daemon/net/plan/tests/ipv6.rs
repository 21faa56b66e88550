//! IPv6.

use super::*;

const STATIC: &str = "ip=[2001:db8::7]::[2001:db8::1]:64::eth0:none";

fn v6(text: &str, check: Check) -> AddressSeen {
    AddressSeen { prefix: 64, check, ..address(2, text) }
}

fn note(story: &Story) -> Option<String> {
    story.plan.links()[0].note.clone()
}

#[test]
fn a_static_address_is_checked_by_the_kernel_and_nothing_waits() {
    let mut story = Story::new(STATIC);
    let did = story.link(eth0(false, false));
    let settings = ["set 2 AddrGenMode true", "set 2 DisableIpv6 false"];
    assert_eq!(did[..2], settings);
    assert_eq!(did[2..5], ["up 2", "+2001:db8::7/64", "+::/0 via 2001:db8::1 metric 2050"]);
    story.link(eth0(true, true));
    story.event(Event::Address(v6("2001:db8::7", Check::Running)));
    assert!(story.plan.links()[0].addresses.is_empty() && note(&story).unwrap().contains("is tentative"));
    story.event(Event::Address(v6("2001:db8::7", Check::Passed)));
    assert_eq!((story.plan.links()[0].addresses.len(), note(&story)), (1, None));
    let did = story.event(Event::Address(v6("2001:db8::7", Check::Failed)));
    assert_eq!(did, ["“eth0: 2001:db8::7 is not usable: another station on this link has it”"]);
    assert_eq!(story.event(Event::Address(v6("2001:db8::7", Check::Failed))), [""; 0], "said once");
}

#[test]
fn what_the_kernel_forgets_while_an_interface_is_down_comes_back() {
    let mut story = Story::new(STATIC);
    story.link(eth0(true, true));
    story.event(Event::Address(v6("2001:db8::7", Check::Passed)));
    story.link(eth0(false, false));
    assert_eq!(story.event(Event::AddressGone(v6("2001:db8::7", Check::Passed))), [""; 0]);
    let did = story.link(eth0(true, true));
    assert_eq!(did[..2], ["+2001:db8::7/64", "+::/0 via 2001:db8::1 metric 2050"]);
}

#[test]
fn gateways() {
    for (gateway, route) in
        [("fe80::1", "+::/0 via fe80::1 metric 2050"), ("2001:db8:1::1", "+::/0 via 2001:db8:1::1 onlink metric 2050")]
    {
        let did = Story::new(&format!("ip=[2001:db8::7]::[{gateway}]:64::eth0:none")).link(eth0(true, true));
        assert_eq!(did[3], route);
    }
}

#[test]
fn both_families_on_one_interface_are_independent() {
    let mut story = Story::new(&format!("ip=eth0:dhcp {STATIC}"));
    let did = story.link(eth0(true, true));
    assert_eq!(did[2..4], ["listen 2", "broadcast 2 1"]);
    assert_eq!(did[4], "+2001:db8::7/64");
    story.answer(dhcp::OFFER, &[]);
    assert_eq!(story.answer(dhcp::ACK, &[])[0], "+192.0.2.7/24");
    let did = story.event(Event::AddressGone(address(2, "192.0.2.7")));
    assert_eq!(did[2..], ["listen 2", "broadcast 2 1"], "the other one stays as it is");
    assert_eq!(story.plan.links()[0].configured_by.as_deref(), Some("static"));
}

#[test]
fn what_the_kernel_is_told() {
    let all = ["set 2 AddrGenMode true", "set 2 Autoconf true", "set 2 AcceptRa true", "set 2 DisableIpv6 false"];
    for (method, settings) in [
        ("auto6", &all[..]),
        ("either6", &all),
        ("dhcp6", &[all[0], all[2], all[3]]),
        ("link6", &["set 2 AcceptRa false", all[0], all[3]]),
        ("dhcp", &[]),
    ] {
        let did = Story::new(&format!("ip=eth0:{method}")).link(eth0(false, false));
        assert_eq!(did, [settings, &["up 2"]].concat(), "{method}");
    }
}

#[test]
fn advertised_addresses_are_shown_when_they_come() {
    let mut story = Story::new("ip=eth0:auto6 nameserver=192.0.2.53");
    story.link(eth0(true, true));
    assert_eq!(note(&story).as_deref(), Some("waiting for a router advertisement"));
    let advertised = AddressSeen { permanent: false, advertised: true, ..v6("2001:db8::9", Check::Passed) };
    assert_eq!(story.event(Event::Address(advertised)), ["resolver [192.0.2.53]"]);
    assert_eq!((story.configured_by().as_deref(), note(&story)), (Some("ra"), None));
}
