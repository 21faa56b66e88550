use proptest::prelude::*;

use super::{lease::*, message::*, *};

mod days;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn start() -> (Client, Message) {
    let (client, actions) = Client::start(Duration::ZERO, MAC, Some("box".into()), 4711);
    let [Action::Broadcast(question)] = actions.as_slice() else { panic!("{actions:?}") };
    (client, question.clone())
}

/// What a server answers to a question; a lease of 120 s.
fn answer(question: &Message, kind: u8, server: Ipv4Addr) -> Message {
    let options = [
        (MESSAGE_TYPE, vec![kind]),
        (SERVER, server.octets().to_vec()),
        (LEASE_TIME, 120u32.to_be_bytes().to_vec()),
        (MASK, vec![255, 255, 255, 0]),
        (ROUTERS, vec![192, 0, 2, 1, 192, 0, 2, 254]),
    ];
    let yours = if kind == NAK { Ipv4Addr::UNSPECIFIED } else { ADDRESS };
    Message { reply: true, xid: question.xid, yours, options: options.into(), ..question.clone() }
}

/// A client that has a lease since time zero.
fn bound() -> Client {
    let (mut client, discover) = start();
    let actions = client.message(Duration::ZERO, &answer(&discover, OFFER, SERVER_ADDRESS));
    let [Action::Broadcast(request)] = actions.as_slice() else { panic!("{actions:?}") };
    let actions = client.message(Duration::ZERO, &answer(request, ACK, SERVER_ADDRESS));
    assert!(matches!(actions.as_slice(), [Action::Bound(_)]), "{actions:?}");
    client
}

/// Lets time pass until the client has something to say, which is one message.
fn wait(client: &mut Client) -> (Duration, Ipv4Addr, Message) {
    let now = client.deadline().unwrap();
    assert_eq!(client.timer(now - Duration::from_millis(1)), [], "not before its time");
    let actions = client.timer(now);
    match actions.as_slice() {
        [Action::Broadcast(message)] => (now, Ipv4Addr::BROADCAST, message.clone()),
        [Action::Send { to, message }] => (now, *to, message.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn discover_offer_request_ack() {
    let (mut client, discover) = start();
    assert_eq!(discover.message_type(), Some(DISCOVER));
    assert_eq!(discover.options[&HOSTNAME], b"box");
    assert_eq!(discover.options[&CLIENT_ID], [1, 2, 0, 0, 0, 0, 1]);
    assert_eq!(discover.options[&message::VENDOR_CLASS], b"vestibule");
    assert!(!discover.broadcast);
    let actions = client.message(secs(1), &answer(&discover, OFFER, SERVER_ADDRESS));
    let [Action::Broadcast(request)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(request.message_type(), Some(REQUEST));
    assert_eq!(request.address(REQUESTED_ADDRESS), Some(ADDRESS));
    assert_eq!(request.address(SERVER), Some(SERVER_ADDRESS));
    assert_eq!(request.client, Ipv4Addr::UNSPECIFIED);
    // The slower server's offer comes too late.
    assert_eq!(client.message(secs(1), &answer(&discover, OFFER, OTHER)), []);
    let actions = client.message(secs(1), &answer(request, ACK, SERVER_ADDRESS));
    let [Action::Bound(lease)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((lease.address, lease.prefix, lease.server), (ADDRESS, 24, SERVER_ADDRESS));
    let by = |router| (Ipv4Addr::UNSPECIFIED, 0, router);
    assert_eq!(lease.routes, [by(SERVER_ADDRESS), by([192, 0, 2, 254].into())], "in this order");
    assert_eq!(client.deadline(), Some(secs(61)));
    assert_eq!(client.message(secs(9), &answer(request, ACK, SERVER_ADDRESS)), [], "the same once more");
    assert_eq!(client.message(secs(9), &answer(request, NAK, SERVER_ADDRESS)), [], "nobody has asked");
    assert_eq!(client.deadline(), Some(secs(61)));
}

#[test]
fn questions_are_repeated_ever_more_slowly() {
    let (mut client, first) = start();
    let (mut before, mut pauses, mut last) = (Duration::ZERO, Vec::new(), first);
    for _ in 0..8 {
        let (now, _, question) = wait(&mut client);
        assert_eq!(question.message_type(), Some(DISCOVER));
        assert_eq!(question.xid, last.xid, "a late offer is one still");
        assert_eq!(question.broadcast, !last.broadcast, "by turns");
        assert_eq!(u64::from(question.secs), now.as_secs());
        pauses.push((now - before).as_secs_f32());
        (before, last) = (now, question);
    }
    assert!(matches!(client.message(before, &answer(&last, OFFER, OTHER)).as_slice(), [Action::Broadcast(_)]));
    for (pause, least) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 32.0, 32.0]) {
        assert!((least..=least * 1.25).contains(pause), "{pauses:?}");
    }
}

#[test]
fn a_request_without_answer_starts_over() {
    let (mut client, discover) = start();
    client.message(Duration::ZERO, &answer(&discover, OFFER, SERVER_ADDRESS));
    for to_all in [true, false, true] {
        let (_, _, request) = wait(&mut client);
        assert_eq!((request.message_type(), request.broadcast), (Some(REQUEST), to_all));
    }
    let (now, _, anew) = wait(&mut client);
    assert_eq!(anew.message_type(), Some(DISCOVER));
    assert_eq!(client.message(now, &answer(&discover, OFFER, SERVER_ADDRESS)), [], "that one doesn't answer requests");
}

#[test]
fn a_refusal_starts_over_but_not_at_once_and_more_slowly_each_time() {
    let (mut client, mut discover) = start();
    let (mut now, mut pauses) = (Duration::ZERO, Vec::new());
    for _ in 0..3 {
        let actions = client.message(now, &answer(&discover, OFFER, SERVER_ADDRESS));
        let [Action::Broadcast(request)] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!(client.message(now, &answer(request, NAK, OTHER)), [], "not from the server that was asked");
        assert_eq!(client.message(now, &answer(request, NAK, SERVER_ADDRESS)), []);
        assert_eq!(client.message(now, &answer(&discover, OFFER, SERVER_ADDRESS)), [], "the offer once more");
        let (next, _, question) = wait(&mut client);
        assert_eq!(question.message_type(), Some(DISCOVER));
        pauses.push(next - now);
        (now, discover) = (next, question);
    }
    assert!(pauses[0] >= FIRST_RETRY && pauses[1] > pauses[0] && pauses[2] > pauses[1], "{pauses:?}");
}

#[test]
fn a_lease_is_renewed_from_its_server() {
    let mut client = bound();
    let (now, to, request) = wait(&mut client);
    assert_eq!((now, to), (secs(60), SERVER_ADDRESS));
    assert_eq!(request.client, ADDRESS);
    assert_eq!((request.address(SERVER), request.address(REQUESTED_ADDRESS)), (None, None));
    let actions = client.message(now, &answer(&request, ACK, SERVER_ADDRESS));
    assert!(matches!(actions.as_slice(), [Action::Bound(lease)] if lease.address == ADDRESS), "{actions:?}");
    assert_eq!(client.deadline(), Some(now + secs(60)));
}

#[test]
fn then_from_any_server_and_then_it_is_given_up() {
    let mut client = bound();
    let (mut asked, mut now) = (Vec::new(), Duration::ZERO);
    while now < secs(105) {
        let (when, to, request) = wait(&mut client);
        now = when;
        asked.push(to);
        assert_eq!(request.client, ADDRESS);
    }
    assert_eq!(now, secs(105), "T2");
    assert_eq!(asked.pop(), Some(Ipv4Addr::BROADCAST));
    assert!(asked.len() > 2 && asked.iter().all(|to| *to == SERVER_ADDRESS), "{asked:?}");
    while client.deadline() < Some(secs(120)) {
        assert_eq!(wait(&mut client).1, Ipv4Addr::BROADCAST);
    }
    let actions = client.timer(secs(120));
    assert!(matches!(actions.as_slice(), [Action::Lost(_), Action::Broadcast(_)]), "{actions:?}");
    assert_eq!(client.lease(), None);
}

#[test]
fn a_lease_that_is_taken_back_is_lost() {
    let mut client = bound();
    let (now, _, request) = wait(&mut client);
    let actions = client.message(now, &answer(&request, NAK, OTHER));
    let [Action::Lost(why), Action::Broadcast(discover)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(why, "192.0.2.2 took it back");
    assert_eq!(discover.message_type(), Some(DISCOVER));
}

#[test]
fn another_address_replaces_the_old_one() {
    let mut client = bound();
    let (now, _, request) = wait(&mut client);
    let moved = Message { yours: OTHER, ..answer(&request, ACK, SERVER_ADDRESS) };
    let actions = client.message(now, &moved);
    assert!(matches!(actions.as_slice(), [Action::Lost(_), Action::Bound(lease)] if lease.address == OTHER));
}

#[test]
fn a_cable_that_was_out_makes_it_ask() {
    let mut client = bound();
    let question = |actions: Vec<Action>| match actions.as_slice() {
        [Action::Send { to: Ipv4Addr::BROADCAST, message }] if message.client == ADDRESS => message.clone(),
        other => panic!("{other:?}"),
    };
    let first = question(client.verify(secs(10)));
    let actions = client.message(secs(11), &answer(&first, ACK, OTHER));
    assert!(matches!(actions.as_slice(), [Action::Bound(_)]));
    assert_eq!(client.deadline(), Some(secs(70)));
    // The first packets through a cable are lost often.
    question(client.verify(secs(20)));
    let now = client.deadline().unwrap();
    assert!(now <= secs(22));
    let second = question(client.timer(now));
    let actions = client.message(now, &answer(&second, NAK, OTHER));
    assert!(matches!(actions.as_slice(), [Action::Lost(_), Action::Broadcast(_)]));
}

#[test]
fn a_lease_that_nobody_knows_any_more_is_kept_as_long_as_it_is_one() {
    let (mut client, discover) = start();
    client.message(secs(0), &answer(&discover, OFFER, SERVER_ADDRESS));
    let mut ack = answer(&discover, ACK, SERVER_ADDRESS);
    ack.options.insert(LEASE_TIME, vec![255; 4]);
    client.message(secs(0), &ack);
    assert_eq!(client.deadline(), None, "for ever");
    client.verify(secs(10));
    for _ in 1..DOUBT_TRIES {
        assert_eq!(wait(&mut client).1, Ipv4Addr::BROADCAST);
    }
    let last = client.deadline().unwrap();
    assert!(last > secs(60), "{last:?}");
    assert_eq!(client.timer(last), []);
    assert_eq!((client.deadline(), client.lease().is_some()), (None, true));
}

#[test]
fn names() {
    let told = |name: &str| Client::start(secs(0), MAC, Some(name.into()), 1).1;
    for (name, short, full) in [
        ("box", Some(&b"box"[..]), None),
        ("box.example.org", None, Some(&b"\x05\0\0\x03box\x07example\x03org\0"[..])),
        ("a box", None, None),
        ("", None, None),
    ] {
        let [Action::Broadcast(question)] = &told(name)[..] else { panic!() };
        let option = |code| question.options.get(&code).map(Vec::as_slice);
        assert_eq!((option(HOSTNAME), option(FULL_NAME)), (short, full), "{name}");
    }
}

#[test]
fn what_is_for_others_is_ignored() {
    let (mut client, discover) = start();
    let good = answer(&discover, OFFER, SERVER_ADDRESS);
    let mut nameless = good.clone();
    nameless.options.remove(&SERVER);
    for bad in [
        Message { xid: good.xid ^ 1, ..good.clone() },
        Message { mac: [2, 0, 0, 0, 0, 2], ..good.clone() },
        Message { reply: false, ..good.clone() },
        Message { yours: Ipv4Addr::UNSPECIFIED, ..good.clone() },
        Message { yours: Ipv4Addr::BROADCAST, ..good.clone() },
        Message { yours: Ipv4Addr::LOCALHOST, ..good.clone() },
        nameless,
        answer(&discover, ACK, SERVER_ADDRESS),
        answer(&discover, NAK, SERVER_ADDRESS),
    ] {
        assert_eq!(client.message(Duration::ZERO, &bad), [], "{bad:?}");
    }
}

#[test]
fn what_a_lease_says() {
    let (_, question) = start();
    let with = |options: &[(u8, &[u8])]| {
        let mut message = answer(&question, ACK, SERVER_ADDRESS);
        message.options.extend(options.iter().map(|(code, value)| (*code, value.to_vec())));
        Lease::read(&message, SERVER_ADDRESS).unwrap()
    };
    assert_eq!(with(&[(LEASE_TIME, &[255; 4])]).valid, None);
    assert_eq!(with(&[(LEASE_TIME, &[0; 4])]).valid, Some(secs(SHORTEST_LEASE.into())));
    assert_eq!(with(&[(LEASE_TIME, &[])]).valid, Some(secs(FORGOTTEN_LEASE.into())));
    assert_eq!(with(&[(MASK, &[])]).prefix, 24);
    assert_eq!(with(&[(ROUTES, &[0, 192, 0, 2, 9])]).routes, [(Ipv4Addr::UNSPECIFIED, 0, [192, 0, 2, 9].into())]);
    assert_eq!(with(&[(NAMESERVERS, &[0, 0, 0, 0, 192, 0, 2, 53])]).nameservers, [Ipv4Addr::new(192, 0, 2, 53)]);
    assert_eq!(with(&[(SEARCH, b"\x03lab\0")]).search, ["lab"]);
    for (said, mtu) in [(1460u16, Some(1460)), (576, None), (0, None), (1280, Some(1280))] {
        assert_eq!(with(&[(MTU, &said.to_be_bytes())]).mtu, mtu);
    }
    assert_eq!(with(&[(MTU, &[5])]).mtu, None);
    let routers = [9, 9, 0, 8, 7, 6, 5].map(|last| if last == 0 { [0; 4] } else { [192, 0, 2, last] });
    let routes = with(&[(ROUTERS, &routers.concat())]).routes;
    assert_eq!(routes.iter().map(|route| route.2.octets()[3]).collect::<Vec<_>>(), [9, 8, 7, 6]);
    let times = |t1: u32, t2: u32| {
        let lease = with(&[(RENEWAL_TIME, &t1.to_be_bytes()), (REBINDING_TIME, &t2.to_be_bytes())]);
        (lease.renew.as_secs(), lease.rebind.as_secs())
    };
    assert_eq!(times(5, 9), (5, 9));
    for nonsense in [(0, 9), (9, 5), (5, 121)] {
        assert_eq!(times(nonsense.0, nonsense.1), (60, 105));
    }
}

proptest! {
    /// Whatever servers say and whenever: no panic, no busy loop, and an address is lost only after it was had.
    #[test]
    fn any_conversation(
        seed: u64,
        script in prop::collection::vec((any::<bool>(), 0u64..200, 0u8..9, any::<bool>(),
                                         prop::collection::btree_map(any::<u8>(), prop::collection::vec(any::<u8>(), 0..9), 0..5)), 0..60),
    ) {
        let (mut client, _) = Client::start(Duration::ZERO, MAC, None, seed);
        let mut now = Duration::ZERO;
        let mut has = false;
        for (pass, seconds, kind, verify, extra) in script {
            let actions = if pass {
                now += secs(seconds);
                client.timer(now)
            } else if verify {
                client.verify(now)
            } else if kind == message::DECLINE {
                client.decline(now, String::new())
            } else {
                let question = Message { xid: client.xid, ..bound().question(0, now, ADDRESS) };
                let mut message = answer(&question, kind, SERVER_ADDRESS);
                message.options.extend(extra);
                client.message(now, &message)
            };
            for action in actions {
                match action {
                    Action::Bound(_) => has = true,
                    Action::Lost(_) => prop_assert!(std::mem::take(&mut has)),
                    Action::Broadcast(_) => prop_assert!(!has),
                    Action::Send { .. } => prop_assert!(has),
                }
            }
            prop_assert_eq!(client.lease().is_some(), has);
            if let Some(deadline) = client.deadline().filter(|deadline| *deadline <= now) {
                client.timer(now);
                has = client.lease().is_some();
                prop_assert!(client.deadline().is_none_or(|next| next > now), "{deadline:?} at {now:?}");
            }
        }
    }
}
