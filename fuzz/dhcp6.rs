//! What DHCPv6 servers and routers say.

use std::time::Duration;

use crate::daemon::net::{
    advert::{Advert, Advertised},
    dhcp6::{Action, Client, Want, message::Message},
};

/// A conversation. The first byte says what is wanted (even: addresses). Each message is a byte that says how it is
/// made, a length, and so many bytes: the whole message (0), or the options of an advertisement (1) or a reply (2) to
/// the question before. After a message of even length, nothing comes until the client does something by itself.
pub fn version6(input: &[u8]) {
    const ADVERTISE: u8 = 2;
    const REPLY: u8 = 7;
    let Some((want, mut rest)) = input.split_first() else { return };
    let want = if want % 2 == 0 { Want::Addresses } else { Want::Information };
    let mut now = Duration::ZERO;
    let (mut client, actions) = Client::start(now, [2, 0, 0, 0, 0, 1], None, want, 1);
    let mut has = false;
    let mut xid = follow(&actions, 0, &mut has);
    while let [made, length, after @ ..] = rest {
        let (bytes, next) = after.split_at(after.len().min(usize::from(*length)));
        rest = next;
        let answer = |kind| Message::decode(&[&[kind], &u32::to_be_bytes(xid)[1..], bytes].concat());
        let message = match made % 3 {
            0 => Message::decode(bytes),
            1 => answer(ADVERTISE),
            _ => answer(REPLY),
        };
        if let Some(message) = message {
            assert!(Message::decode(&message.encode()).is_some(), "what we write can be read");
            let _ = message.associations().count();
            xid = follow(&client.message(now, &message), xid, &mut has);
        }
        if length % 2 == 0 {
            now = client.deadline().unwrap_or(now).max(now);
            xid = follow(&client.timer(now), xid, &mut has);
            assert!(client.deadline().is_none_or(|next| next > now), "due again at once");
        }
        assert_eq!(client.lease().is_some_and(|lease| !lease.addresses.is_empty()), has);
    }
}

/// The number of the last question, and whether there are addresses: nothing is lost that was not had.
fn follow(actions: &[Action], mut xid: u32, has: &mut bool) -> u32 {
    for action in actions {
        match action {
            Action::Send(message) => xid = message.xid,
            Action::Bound(lease) => *has = !lease.addresses.is_empty(),
            Action::Lost(_) => assert!(std::mem::take(has)),
        }
    }
    xid
}

/// The options of a router advertisement, as the kernel hands them on.
pub fn router(input: &[u8]) {
    let length = u16::try_from(input.len()).unwrap_or(u16::MAX);
    let mut payload = vec![nix::libc::AF_INET6 as u8, 0];
    payload.extend(length.to_ne_bytes());
    payload.extend([7, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend(input);
    let Some((_, advert)) = Advert::read(&payload) else { return };
    let mut known = Advertised::default();
    known.take(Duration::ZERO, advert);
    assert!(known.search().all(|name| !name.is_empty() && !name.contains(|c: char| c.is_control() || c == ' ')));
    while let Some(deadline) = known.deadline() {
        known.expire(deadline);
        assert!(known.deadline().is_none_or(|next| next > deadline));
    }
}
