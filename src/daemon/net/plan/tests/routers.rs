//! DHCPv6 and router advertisements.

use super::*;
use crate::daemon::net::{
    advert::Advert,
    dhcp6::{
        Want,
        message::{self as wire, Association, Granted},
    },
};

fn link_local(check: Check) -> AddressSeen {
    AddressSeen { prefix: 64, global: false, check, ..address(2, "fe80::ff:fe00:2") }
}

/// A plan for eth0 that has carrier and a link-local address.
pub fn ready(line: &str) -> Story {
    let mut story = Story::new(line);
    story.link(eth0(true, true));
    assert_eq!(story.event(Event::Address(link_local(Check::Running))), [""; 0], "not usable yet");
    story
}

pub fn usable(story: &mut Story) -> Vec<String> {
    story.event(Event::Address(link_local(Check::Passed)))
}

/// A server's answer to the last question.
pub fn reply(story: &mut Story, addresses: &[&str]) -> Vec<String> {
    let question = story.question6.clone().expect("a question");
    let granted = |text: &&str| Granted { address: text.parse().unwrap(), preferred: 100, valid: 120 };
    let addresses: Vec<_> = addresses.iter().map(granted).collect();
    let mut options = vec![
        (wire::SERVER_ID, vec![1; 10]),
        (wire::RAPID_COMMIT, Vec::new()),
        (wire::NAMESERVERS, "2001:db8::53".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec()),
    ];
    options.extend(
        question.associations().map(|it| (wire::IA_NA, Association { addresses: addresses.clone(), ..it }.encode())),
    );
    let message = wire::Message { kind: wire::REPLY, xid: question.xid, options };
    story.event(Event::Message6 { index: 2, message })
}

#[test]
fn asked_from_a_link_local_address_that_is_usable() {
    let mut story = ready("ip=eth0:dhcp6");
    assert_eq!(usable(&mut story), ["listen6 2", "send6 2 1"]);
    assert_eq!(usable(&mut story), [""; 0], "once");
    let did = reply(&mut story, &["2001:db8::7"]);
    let said = "“eth0: 2001:db8::7 by DHCPv6, lease 120 s”";
    assert_eq!(did, ["+2001:db8::7/128", said, "resolver [2001:db8::53]"]);
    story.event(Event::Address(AddressSeen { prefix: 128, permanent: false, ..address(2, "2001:db8::7") }));
    assert_eq!(story.configured_by().as_deref(), Some("dhcp6"));
    assert_eq!(story.pass(SECOND * 50), ["send6 2 5"], "renewed");
    assert_eq!(reply(&mut story, &["2001:db8::7"]), ["+2001:db8::7/128"], "its time only");
    story.pass(SECOND * 50);
    let did = reply(&mut story, &["2001:db8::8"]);
    assert_eq!(did[..2], ["-2001:db8::7/128", "+2001:db8::8/128"]);
    assert_eq!(story.pass(SECOND * 120).iter().filter(|step| step.starts_with("-2001:db8::8")).count(), 1, "expired");
}

#[test]
fn routers_say_what_is_asked() {
    for (line, wants, asked) in [
        ("ip=eth0:auto6", None, None),
        ("ip=eth0:auto6", Some(Want::Information), Some("send6 2 11")),
        ("ip=eth0:auto6", Some(Want::Addresses), Some("send6 2 1")),
        ("ip=eth0:either6", Some(Want::Information), Some("send6 2 11")),
        ("ip=dhcp", Some(Want::Addresses), Some("send6 2 1")),
        ("ip=eth0:link6", Some(Want::Addresses), None),
        ("ip=192.0.2.7:::24::eth0:none", None, None),
    ] {
        let mut story = ready(line);
        assert_eq!(usable(&mut story), [""; 0], "{line}");
        let did = story.event(Event::Router { index: 2, wants });
        assert_eq!(did.get(1).map(String::as_str), asked, "{line} {wants:?}: {did:?}");
    }
}

#[test]
fn names_alone_need_an_address_first() {
    let mut story = ready("ip=eth0:auto6");
    usable(&mut story);
    story.event(Event::Router { index: 2, wants: Some(Want::Information) });
    assert_eq!(reply(&mut story, &[]), [""; 0]);
    let advertised = AddressSeen { permanent: false, advertised: true, ..address(2, "2001:db8::99") };
    assert_eq!(story.event(Event::Address(advertised)), ["resolver [2001:db8::53]"]);
    // A router that begins to give addresses by DHCPv6 is heard.
    let did = story.event(Event::Router { index: 2, wants: Some(Want::Addresses) });
    assert_eq!(did[..2], ["listen6 2", "send6 2 1"]);
}

#[test]
fn either_waits_for_a_router_and_not_for_ever() {
    let mut story = ready("ip=eth0:either6");
    usable(&mut story);
    assert_eq!(story.pass(SECOND * 4), [""; 0]);
    assert_eq!(story.pass(SECOND), ["listen6 2", "send6 2 1"]);
    let mut story = ready("ip=eth0:either6");
    usable(&mut story);
    story.event(Event::Address(AddressSeen { permanent: false, advertised: true, ..address(2, "2001:db8::99") }));
    assert_eq!(story.pass(SECOND * 60), [""; 0]);
}

#[test]
fn routers_name_servers_come_and_go() {
    let mut story = ready("ip=eth0:auto6");
    usable(&mut story);
    story.event(Event::Address(AddressSeen { permanent: false, advertised: true, ..address(2, "2001:db8::99") }));
    let server = |text: &str| (text.parse().unwrap(), Some(SECOND * 30));
    let nameservers = vec![server("fe80::1"), server("2001:db8::53")];
    let advert = Advert { nameservers, search: vec![("lab.example".into(), None)] };
    let did = story.event(Event::Advert { index: 2, advert });
    assert_eq!(did, ["resolver [2001:db8::53] [\"lab.example\"]"], "one without its link is none");
    assert_eq!(story.pass(SECOND * 30), ["resolver [] [\"lab.example\"]"]);
}

#[test]
fn a_cable_out_ends_a_question_and_not_a_lease() {
    let mut story = ready("ip=eth0:dhcp6");
    usable(&mut story);
    assert_eq!(story.link(eth0(true, false)), ["silence6 2"]);
    assert_eq!(story.link(eth0(true, true)), ["listen6 2", "send6 2 1"]);
    reply(&mut story, &["2001:db8::7"]);
    assert_eq!(story.link(eth0(true, false)), [""; 0]);
    assert_eq!(story.link(eth0(true, true)), ["send6 2 4"], "is it still good here?");
    assert_eq!(story.event(Event::LinkGone(2)), ["silence 2", "silence6 2", "forget 2", "“eth0: gone”"]);
}
