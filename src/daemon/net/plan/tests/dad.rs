//! Checks of IPv6 addresses that fail, and questions to routers.

use super::{
    routers::{ready, reply, usable},
    *,
};
use crate::daemon::net::dhcp6::message::{self as wire};

const STATIC: &str = "ip=[2001:db8::7]::[2001:db8::1]:64::eth0:none";

fn seen(text: &str, check: Check) -> AddressSeen {
    AddressSeen { prefix: 64, check, ..address(2, text) }
}

fn note(story: &Story) -> Option<String> {
    story.plan.links()[0].note.clone()
}

#[test]
fn a_static_address_that_another_station_has_is_tried_again() {
    let refused = "2001:db8::7 is not usable: another station on this link has it";
    let mut story = Story::new(STATIC);
    story.link(eth0(true, true));
    assert_eq!(story.event(Event::Address(seen("2001:db8::7", Check::Failed))), [format!("“eth0: {refused}”")]);
    assert_eq!(note(&story).as_deref(), Some(refused));
    assert_eq!(story.pass(SECOND * 59), [""; 0]);
    let again = ["-2001:db8::7/64", "+2001:db8::7/64", "+::/0 via 2001:db8::1 metric 2050"];
    assert_eq!(story.pass(SECOND), again);
    // The kernel tells of our own removal, with the flags that the address had.
    assert_eq!(story.event(Event::AddressGone(seen("2001:db8::7", Check::Failed))), [""; 0]);
    story.event(Event::Address(seen("2001:db8::7", Check::Running)));
    assert_eq!(story.event(Event::Address(seen("2001:db8::7", Check::Failed))), [""; 0], "said once");
    assert_eq!(story.pass(SECOND * 60), again);
    story.event(Event::AddressGone(seen("2001:db8::7", Check::Failed)));
    let did = story.event(Event::Address(seen("2001:db8::7", Check::Passed)));
    assert_eq!(did, ["“eth0: 2001:db8::7 is usable now: no other station has it any more”"]);
    assert_eq!((note(&story), story.plan.deadline()), (None, None));
}

#[test]
fn what_is_gone_is_not_tried_again_and_nothing_is_due_for_ever() {
    let mut story = Story::new(STATIC);
    story.link(eth0(true, true));
    story.event(Event::Address(seen("2001:db8::7", Check::Failed)));
    story.event(Event::Address(seen("2001:db8::7", Check::Running)));
    story.pass(SECOND * 60);
    assert!(story.plan.deadline().unwrap() > story.now);
}

#[test]
fn a_leased_address_that_another_station_has_is_declined() {
    let mut story = ready("ip=eth0:dhcp6");
    usable(&mut story);
    reply(&mut story, &["2001:db8::7"]);
    // It has an end, and so the kernel removes it.
    let failed = AddressSeen { prefix: 128, permanent: false, ..seen("2001:db8::7", Check::Failed) };
    let did = story.event(Event::AddressGone(failed));
    assert_eq!(did, ["“eth0: 2001:db8::7 is not usable: another station on this link has it”", "send6 2 9"]);
    assert_eq!(
        note(&story).unwrap(),
        "2001:db8::7 was declined: another station on this link has it; another is asked for"
    );
    let decline = story.question6.clone().unwrap();
    assert_eq!(decline.option(wire::SERVER_ID), Some(&[1; 10][..]));
    let declined: Vec<_> = decline.associations().flat_map(|it| it.addresses).map(|it| it.address).collect();
    assert_eq!(declined, ["2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap()]);
    assert_eq!(decline.option(wire::WANTED), None);
    assert_eq!(reply(&mut story, &[]), [""; 0]);
    assert_eq!(story.pass(SECOND * 9), [""; 0], "not in a tight loop");
    assert_eq!(story.pass(SECOND), ["send6 2 1"]);
    let did = reply(&mut story, &["2001:db8::8"]);
    assert_eq!(did[0], "+2001:db8::8/128");
    assert_eq!(note(&story), None);
}

#[test]
fn a_decline_that_nobody_answers_is_repeated_and_then_it_goes_on() {
    let mut story = ready("ip=eth0:dhcp6");
    usable(&mut story);
    reply(&mut story, &["2001:db8::7"]);
    story.event(Event::Address(AddressSeen { prefix: 128, ..seen("2001:db8::7", Check::Failed) }));
    assert_eq!(story.pass(SECOND * 14), ["send6 2 9", "send6 2 9", "send6 2 9"], "four in all");
    assert_eq!(story.pass(SECOND * 15)[0], "send6 2 1");
}

#[test]
fn an_advertised_one_is_told_until_it_works() {
    let mut story = Story::new("ip=eth0:auto6");
    story.link(eth0(true, true));
    let advertised = |check| AddressSeen { permanent: false, advertised: true, ..seen("2001:db8::9", check) };
    let said = "“eth0: 2001:db8::9 is not usable: another station on this link has it”";
    assert_eq!(story.event(Event::AddressGone(advertised(Check::Failed))), [said]);
    assert!(note(&story).unwrap().contains("another station"));
    assert_eq!(story.event(Event::AddressGone(advertised(Check::Failed))), [""; 0], "with each advertisement");
    story.event(Event::Address(advertised(Check::Passed)));
    assert_eq!(note(&story), None);
}

#[test]
fn routers_are_asked_where_the_kernel_does_not() {
    let solicited = |line: &str, before: LinkSeen| {
        let mut story = Story { all: true, ..Story::new(line) };
        story.link(before);
        story.link(eth0(true, true));
        let mut did = usable(&mut story);
        did.extend(story.pass(SECOND * 30));
        did.iter().filter(|it| *it == "solicit 2").count()
    };
    for line in ["ip=eth0:auto6", "ip=eth0:either6", "ip=eth0:dhcp6", "ip=eth0:dhcp"] {
        assert_eq!(solicited(line, eth0(true, true)), 3, "{line}");
        assert_eq!(solicited(line, eth0(false, false)), 0, "{line}: the kernel does when it comes up");
    }
    assert_eq!(solicited("ip=eth0:link6", eth0(true, true)), 0);
    let mut story = Story { all: true, ..ready("ip=eth0:auto6") };
    assert_eq!(usable(&mut story), ["solicit 2"]);
    let advertised = AddressSeen { permanent: false, advertised: true, ..seen("2001:db8::9", Check::Passed) };
    story.event(Event::Address(advertised));
    assert_eq!(story.pass(SECOND * 30), [""; 0], "one has answered");
}
