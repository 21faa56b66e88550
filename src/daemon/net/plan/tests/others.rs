//! Addresses of others, and what others do to ours.

use super::*;

#[test]
fn an_address_of_somebody_else_while_we_ask() {
    let mut story = Story::new("ip=dhcp");
    story.link(eth0(true, true));
    let did = story.event(Event::Address(address(2, "192.0.2.99")));
    assert_eq!(did, ["“eth0: it has an address already; vestibule leaves it alone”", "silence 2", "leave-up 2"]);
    assert_eq!(story.pass(SECOND * 3600), [""; 0]);
    assert_eq!(story.event(Event::AddressGone(address(2, "192.0.2.99"))), ["listen 2", "broadcast 2 1"]);
}

#[test]
fn addresses_that_say_nothing() {
    let mut story = Story::new("ip=dhcp");
    story.link(eth0(true, true));
    let advertised = AddressSeen { permanent: false, advertised: true, ..address(2, "2001:db8::7") };
    let link_local = AddressSeen { global: false, ..address(2, "fe80::7") };
    for seen in [advertised, link_local, address(3, "192.0.2.99")] {
        assert_eq!(story.event(Event::Address(seen)), [""; 0], "{seen:?}");
    }
    assert_eq!(story.plan.links()[0].addresses, ["2001:db8::7/24"], "but it is shown");
    assert_eq!(story.event(Event::Address(address(2, "2001:db8::8"))).len(), 3, "somebody's");
}

#[test]
fn an_address_of_somebody_else_beside_ours() {
    let mut story = Story::bound();
    assert_eq!(story.event(Event::Address(address(2, "192.0.2.99"))), ["leave-up 2"]);
    assert_eq!(story.event(Event::Address(address(2, "192.0.2.98"))), [""; 0]);
    assert_eq!(story.configured_by().as_deref(), Some("dhcp"));
    assert_eq!(story.pass(SECOND * 60), ["send 2 3 to 192.0.2.1"], "it is still renewed");
}

#[test]
fn a_configurator_that_takes_over_what_we_have_set_up_keeps_it() {
    let facts = |state: &str| Facts { networkd: Networkd::Says(state.into()), ..hardware() };
    let mut story = Story::bound();
    assert_eq!(story.event(Event::Link(eth0(true, true), facts("pending"))), [""; 0]);
    let did = story.event(Event::Link(eth0(true, true), facts("configured")));
    let told = "“eth0: left to systemd-networkd now; it stays up with its address when vestibule ends”";
    assert_eq!(did, ["leave-all 2", told]);
    assert_eq!(story.event(Event::Link(eth0(true, true), facts("configured"))), [""; 0], "once");
    assert_eq!(story.pass(SECOND * 60), ["send 2 3 to 192.0.2.1"], "sessions may depend on it still");
    let did = story.answer(dhcp::ACK, &[(dhcp::ROUTERS, &[192, 0, 2, 1]), (dhcp::NAMESERVERS, &[192, 0, 2, 53])]);
    assert_eq!(did, ["+192.0.2.7/24", "leave-all 2"]);
    story.pass(SECOND * 60);
    let did = story.answer(dhcp::NAK, &[]);
    assert_eq!(did[..2], ["-0.0.0.0/0 via 192.0.2.1 metric 2050", "listen 2"], "the address stays: {did:?}");
}

#[test]
fn an_address_that_somebody_removes_is_got_anew() {
    let mut story = Story::bound();
    let did = story.event(Event::AddressGone(address(2, "192.0.2.7")));
    let expected = ["silence 2", "“eth0: 192.0.2.7 was removed by somebody else”", "listen 2", "broadcast 2 1"];
    assert_eq!(did, expected);
    let mut story = Story::bound();
    story.link(eth0(false, false));
    assert_eq!(story.event(Event::AddressGone(address(2, "192.0.2.7"))), ["silence 2"], "it is being pulled");
}

#[test]
fn the_late_news_of_our_own_removal_is_no_removal() {
    let mut story = Story::bound();
    story.pass(SECOND * 60);
    story.answer(dhcp::NAK, &[]);
    story.answer(dhcp::OFFER, &[]);
    story.answer(dhcp::ACK, &[]);
    assert_eq!(story.event(Event::AddressGone(address(2, "192.0.2.7"))), [""; 0]);
    assert_eq!(story.event(Event::Address(address(2, "192.0.2.7"))), [""; 0]);
    assert_eq!(story.configured_by().as_deref(), Some("dhcp"));
}
