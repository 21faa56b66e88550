//! Which argument is about which interface, and what it is called.

use super::*;

#[test]
fn an_interface_by_its_address() {
    let line = "ip=02-00-00-00-00-03:dhcp";
    let mut story = Story::new(line);
    assert_eq!(story.link(eth0(true, true)), [""; 0]);
    let bonded_before = LinkSeen { mac: Some([2, 0, 0, 0, 0, 99]), ..link(3, "eth1", true, true) };
    assert_eq!(story.link(bonded_before), ["listen 3", "broadcast 3 1"], "what it has by itself counts");
}

#[test]
fn a_name_is_given_before_anything_else() {
    let line = "ifname=lan0:02:00:00:00:00:02 ip=lan0:dhcp";
    let mut story = Story::new(line);
    assert_eq!(story.link(eth0(false, false)), ["rename 2 lan0"]);
    assert_eq!(story.link(link(2, "lan0", false, false)), ["“lan0: renamed from eth0”", "up 2"]);
    // udev has done it, by dracut's rule.
    assert_eq!(Story::new(line).link(link(2, "lan0", false, false)), ["up 2"]);
    // The kernel refuses it: the network comes up nevertheless.
    let mut story = Story::new(line);
    story.link(eth0(false, false));
    let did = story.event(Event::Failed { index: 2, why: "there is one".into() });
    assert_eq!(did, ["“eth0: there is one”", "up 2"]);
    // Somebody gives it another name while we hold it.
    let mut story = Story::new(line);
    story.link(eth0(false, false));
    story.link(link(2, "lan0", true, true));
    assert_eq!(story.link(link(2, "enp1s0", true, true)), ["“enp1s0: renamed from lan0”"]);
}

#[test]
fn an_address_of_the_interface() {
    let mut story = Story::new("ip=eth0:dhcp:1400:02:00:00:00:00:57");
    assert_eq!(story.link(eth0(false, false)), ["mtu 2 1500→1400", "mac 2 57", "up 2"]);
    let did = story.link(LinkSeen { mac: Some([2, 0, 0, 0, 0, 0x57]), ..eth0(true, true) });
    assert_eq!(did, ["listen 2", "broadcast 2 1"]);
    assert_eq!(story.question.unwrap().mac, [2, 0, 0, 0, 0, 0x57]);
}

#[test]
fn the_first_lease_wins_and_the_others_are_let_go() {
    let mut story = Story::new("ip=single-dhcp");
    assert_eq!(story.link(link(3, "eth1", true, true)), ["listen 3", "broadcast 3 1"]);
    assert_eq!(story.link(eth0(true, true)), ["listen 2", "broadcast 2 1"]);
    story.answer(dhcp::OFFER, &[]);
    let did = story.answer(dhcp::ACK, &[]);
    assert_eq!((did[0].as_str(), did.contains(&"silence 3".to_owned())), ("+192.0.2.7/24", true), "{did:?}");
    assert_eq!(story.plan.links()[1].note.as_deref(), Some("not used: another interface was first"));
    let did = story.event(Event::LinkGone(2));
    assert_eq!(did[3..], ["listen 3", "broadcast 3 1"]);
}

#[test]
fn one_is_preferred() {
    let mut story = Story::new("ip=192.0.2.7::192.0.2.1:24::eth0:none ip=eth1:dhcp bootdev=eth0");
    assert!(story.link(eth0(true, true)).contains(&"+0.0.0.0/0 via 192.0.2.1 metric 2048".to_owned()));
}

#[test]
fn an_interface_that_is_to_be_left_alone() {
    assert_eq!(Story::new("ip=eth0:off ip=dhcp").link(eth0(true, true)), [""; 0]);
}
