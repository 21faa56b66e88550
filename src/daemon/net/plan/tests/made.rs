//! VLANs, bonds and bridges.

use super::*;

fn made(index: u32, name: &str, up: bool) -> LinkSeen {
    LinkSeen { sort: Sort::Made, ..link(index, name, up, up) }
}

fn part_of(master: u32, seen: LinkSeen) -> LinkSeen {
    LinkSeen { master: Some(master), sort: Sort::Unfit, ..seen }
}

fn note(story: &Story, name: &str) -> Option<String> {
    story.plan.links().into_iter().find(|link| link.name == name).expect(name).note
}

#[test]
fn a_vlan_comes_after_what_it_is_on_is_up() {
    let mut story = Story::new("vlan=eth0.5:eth0 ip=192.0.2.7:::24::eth0.5:none");
    assert_eq!(note(&story, "eth0.5").as_deref(), Some("not made yet: waiting for eth0"));
    assert_eq!(story.link(eth0(false, false)), ["up 2"], "though no argument gives it an address");
    assert_eq!(story.link(eth0(true, false)), ["make eth0.5 Vlan { parent: 2, id: 5 }"]);
    assert_eq!(story.link(eth0(true, true)), [""; 0], "once");
    let did = story.link(made(3, "eth0.5", false));
    assert_eq!(did, ["up 3", "+192.0.2.7/24", "“eth0.5: 192.0.2.7/24, static”", "“eth0.5: made”"]);
    // The kernel takes it away with the card, and it comes back with it.
    story.event(Event::LinkGone(3));
    story.event(Event::LinkGone(2));
    story.link(link(4, "eth0", false, false));
    assert_eq!(story.link(link(4, "eth0", true, true)), ["make eth0.5 Vlan { parent: 4, id: 5 }"]);
}

#[test]
fn a_bond_takes_its_slaves_as_they_come() {
    let mut story = Story::new("bond=bond0:eth0,eth1:mode=active-backup,primary=eth1 ip=dhcp");
    let did = story.link(eth0(false, false));
    assert!(did.len() == 1 && did[0].starts_with("make bond0 Bond"), "{did:?}");
    assert_eq!(story.link(made(9, "bond0", false)), ["“bond0: made”", "join 2 to 9", "up 9"]);
    assert_eq!(story.link(part_of(9, eth0(true, true))), [""; 0]);
    assert_eq!(note(&story, "eth0").as_deref(), Some("part of bond0"));
    let did = story.link(link(3, "eth1", true, true));
    assert_eq!(did, ["down 3", "join 3 to 9", "prefer 3 in 9"], "the kernel takes it only when it is down");
    assert_eq!(story.link(made(9, "bond0", true)), ["listen 9", "broadcast 9 1"], "ip=dhcp is about it too");
    // Somebody takes a slave out: that is for them to say.
    assert_eq!(story.link(eth0(true, true)), [""; 0]);
    // The card is pulled, and plugged in again.
    story.event(Event::LinkGone(3));
    assert_eq!(story.link(link(4, "eth1", false, false)), ["join 4 to 9", "prefer 4 in 9"]);
}

#[test]
fn a_bridge_is_made_again_with_all_its_ports() {
    let mut story = Story::new("bridge=br0:eth0,eth1 ip=br0:dhcp");
    assert_eq!(story.link(eth0(true, true)), ["make br0 Bridge"]);
    assert_eq!(story.link(made(9, "br0", false)), ["up 9", "“br0: made”", "join 2 to 9"]);
    assert_eq!(story.link(link(3, "eth1", false, false)), ["join 3 to 9", "up 3"]);
    assert_eq!(story.event(Event::LinkGone(9)), ["silence 9", "forget 9", "“br0: gone”", "make br0 Bridge"]);
    assert_eq!(story.link(made(10, "br0", false))[2..], ["join 2 to 10", "join 3 to 10", "up 3"]);
}

#[test]
fn what_somebody_else_holds_is_no_part_and_what_they_have_made_stays() {
    let configured = Facts { networkd: Networkd::Says("configured".into()), ..hardware() };
    let mut story = Story::new("bridge=br0:eth0 ip=br0:dhcp");
    let did = story.event(Event::Link(eth0(true, true), configured));
    assert!(did[0].contains("left to systemd-networkd") && did.iter().all(|it| !it.starts_with("make")), "{did:?}");
    let mut story = Story::new("bridge=br0:eth0 ip=br0:dhcp");
    let did = story.link(made(9, "br0", true));
    let theirs = "“br0: is there already; vestibule does not change what it is”";
    assert_eq!(did, ["listen 9", "broadcast 9 1", theirs], "an address may be asked for on it");
    assert_eq!(story.link(eth0(true, true)), [""; 0]);
}

#[test]
fn what_can_not_be_made_is_said_once_and_shown() {
    let mut story = Story::new("bridge=br0:eth0 ip=dhcp");
    story.link(eth0(true, true));
    let why = || Event::NotMade { name: "br0".into(), why: "no such thing".into() };
    assert_eq!(story.event(why()), ["“br0: no such thing”"]);
    assert_eq!(note(&story, "br0").as_deref(), Some("no such thing"));
    assert_eq!(story.pass(SECOND * 60), [""; 0]);
    assert_eq!(story.link(eth0(true, true)), [""; 0], "a part has no address, whatever became of the whole");
}
