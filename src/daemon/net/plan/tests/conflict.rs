use std::net::Ipv4Addr;

use super::{super::super::arp::Arp, *};

const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 0xee];
const ROUTER: (u8, &[u8]) = (dhcp::ROUTERS, &[192, 0, 2, 1]);

impl Story {
    /// With ARP shown.
    fn watched(command_line: &str) -> Self {
        Self { all: true, ..Self::new(command_line) }
    }

    /// A station says that it has an address.
    fn claim(&mut self, mac: [u8; 6], address: Ipv4Addr) -> Vec<String> {
        let message = Arp { request: false, mac, sender: address, target: Ipv4Addr::UNSPECIFIED };
        self.event(Event::Arp { index: 2, message })
    }

    fn note(&self) -> Option<String> {
        self.plan.links()[0].note.clone()
    }

    /// With a lease that is not checked to the end yet.
    fn leased() -> Self {
        let mut story = Self::watched("ip=dhcp");
        story.link(eth0(true, true));
        story.answer(dhcp::OFFER, &[]);
        story.answer(dhcp::ACK, &[ROUTER]);
        story
    }
}

#[test]
fn probed_from_the_offer_on_and_used_when_confirmed() {
    let mut story = Story::watched("ip=dhcp");
    assert_eq!(story.link(eth0(true, true)), ["listen 2", "broadcast 2 1"]);
    let did = story.answer(dhcp::OFFER, &[]);
    assert_eq!(did, ["broadcast 2 3", "listen-arp 2 192.0.2.7", "probe 2 192.0.2.7"]);
    let did = story.answer(dhcp::ACK, &[ROUTER]);
    assert_eq!(did[0], "+192.0.2.7/24", "nothing is waited for");
    let (probe, announce) = ("probe 2 192.0.2.7", "announce 2 192.0.2.7");
    assert_eq!(story.pass(SECOND * 59), [probe, probe, announce, announce]);
}

#[test]
fn what_another_has_before_the_server_confirms_is_declined() {
    let mut story = Story::watched("ip=dhcp");
    story.link(eth0(true, true));
    story.answer(dhcp::OFFER, &[]);
    let declined =
        "“eth0: 192.0.2.7 is declined, and another asked for in a moment: the station 02:00:00:00:00:ee has it”";
    assert_eq!(story.claim(THEIRS, OURS), [declined, "broadcast 2 4", "silence-arp 2"]);
    let decline = story.question.clone().unwrap();
    let options: Vec<u8> = decline.options.keys().copied().collect();
    assert_eq!(options, [dhcp::REQUESTED_ADDRESS, dhcp::MESSAGE_TYPE, dhcp::SERVER, dhcp::CLIENT_ID]);
    assert_eq!(decline.options[&dhcp::REQUESTED_ADDRESS], OURS.octets());
    assert_eq!(story.answer(dhcp::ACK, &[]), [""; 0], "comes too late");
    let note = "192.0.2.7 was declined: the station 02:00:00:00:00:ee has it; another is asked for";
    assert_eq!(story.note().as_deref(), Some(note));
    assert_eq!(story.pass(SECOND * 9), [""; 0], "RFC 2131: ten seconds");
    assert_eq!(story.pass(SECOND), ["broadcast 2 1"]);
    story.answer(dhcp::OFFER, &[]);
    story.answer(dhcp::ACK, &[ROUTER]);
    assert_eq!(story.note(), None);
}

#[test]
fn what_another_has_turns_out_after_it_is_used() {
    let mut story = Story::leased();
    let did = story.claim(THEIRS, OURS);
    assert_eq!(
        did[1..],
        [
            "-0.0.0.0/0 via 192.0.2.1 metric 2050",
            "-192.0.2.7/24",
            "listen 2",
            "“eth0: 192.0.2.7 is lost: the station 02:00:00:00:00:ee has it”",
            "broadcast 2 4",
            "silence-arp 2",
        ]
    );
}

#[test]
fn what_is_ours_is_defended_once() {
    let mut story = Story::leased();
    story.pass(SECOND * 20);
    let did = story.claim(THEIRS, OURS);
    let said = "“eth0: 192.0.2.7 is used by the station 02:00:00:00:00:ee too; it stays, as it was ours first”";
    assert_eq!(did, ["announce 2 192.0.2.7", said]);
    assert!(story.claim(THEIRS, OURS).contains(&"broadcast 2 4".to_owned()), "two can't have it");
}

#[test]
fn a_router_that_answers_for_everybody_is_not_believed() {
    let mut story = Story::leased();
    story.claim(THEIRS, OURS);
    story.pass(SECOND * 10);
    let offer = |story: &mut Story, kind| {
        let question = story.question.clone().unwrap();
        let mut message = Message { reply: true, yours: [192, 0, 2, 8].into(), ..question };
        message.options = [(dhcp::MESSAGE_TYPE, vec![kind]), (dhcp::SERVER, vec![192, 0, 2, 1])].into();
        story.event(Event::Message { index: 2, message })
    };
    offer(&mut story, dhcp::OFFER);
    let said = "“eth0: 02:00:00:00:00:ee answers for other stations (proxy ARP), and is not believed”";
    assert_eq!(story.claim(THEIRS, [192, 0, 2, 8].into()), [said]);
    assert_eq!(offer(&mut story, dhcp::ACK)[0], "+192.0.2.8/24");
    assert_eq!(story.claim(THEIRS, [192, 0, 2, 8].into()), [""; 0]);
}

#[test]
fn a_static_address_stays_and_the_conflict_is_told() {
    let mut story = Story::watched("ip=192.0.2.7:::24::eth0:none");
    let did = story.link(eth0(true, true));
    assert_eq!(did[2..], ["listen-arp 2 192.0.2.7", "probe 2 192.0.2.7"]);
    let text = "192.0.2.7 is used by the station 02:00:00:00:00:ee too; it stays, as it is a static one; give one of \
        them another";
    assert_eq!(story.claim(THEIRS, OURS), [format!("“eth0: {text}”")]);
    assert_eq!(story.note().as_deref(), Some(text));
    assert_eq!(story.claim(THEIRS, OURS), [""; 0], "said once");
    let did = story.pass(SECOND * 70);
    assert!(did.contains(&"“eth0: no other station has our address any more”".to_owned()), "{did:?}");
    assert_eq!(story.note(), None);
}

#[test]
fn our_own_second_interface_is_no_other_station() {
    let mut story = Story::leased();
    story.link(link(3, "eth1", true, true));
    assert_eq!(story.claim([2, 0, 0, 0, 0, 3], OURS), [""; 0]);
}

#[test]
fn after_each_time_without_a_cable_it_is_asked_again() {
    let mut story = Story::watched("ip=192.0.2.7:::24::eth0:none");
    assert_eq!(story.link(eth0(true, false))[2..], [""; 0], "nobody would hear it");
    assert_eq!(story.link(eth0(true, true)), ["listen-arp 2 192.0.2.7", "probe 2 192.0.2.7"]);
    assert_eq!(story.link(eth0(true, false)), ["silence-arp 2"]);
    assert_eq!(story.link(eth0(true, true)), ["listen-arp 2 192.0.2.7", "probe 2 192.0.2.7"]);
}
