use proptest::prelude::*;

use super::{lease::Leased, message::*, *};

mod days;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0x51];
const OTHER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0x52];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn address(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

fn start(want: Want) -> (Client, Message) {
    let (client, actions) = Client::start(Duration::ZERO, MAC, Some("box".into()), want, 4711);
    (client, only(actions))
}

/// The one question that was asked.
fn only(actions: Vec<Action>) -> Message {
    match actions.as_slice() {
        // As it comes out at the other end.
        [Action::Send(question)] => Message::decode(&question.encode()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What a server answers: one address for 120 s, or none if `last` is zero.
fn answer(question: &Message, kind: u8, server: &[u8], last: u16) -> Message {
    let (preferred, valid) = (100, 120);
    let addresses = if last == 0 { Vec::new() } else { vec![Granted { address: address(last), preferred, valid }] };
    let status = if last == 0 { NO_BINDING } else { SUCCESS };
    let mut options = vec![
        (CLIENT_ID, question.option(CLIENT_ID).unwrap().to_vec()),
        (SERVER_ID, server.to_vec()),
        (NAMESERVERS, address(53).octets().to_vec()),
        (message::SEARCH, b"\x03lab\x07example\0".to_vec()),
    ];
    options.extend(question.associations().map(|it| {
        let association = Association { id: it.id, renew: 0, rebind: 0, addresses: addresses.clone(), status };
        (IA_NA, association.encode())
    }));
    Message { kind, xid: question.xid, options }
}

/// A client that has an address since time zero: T1 after 50 s, T2 after 80 s, the end after 120 s.
fn bound() -> Client {
    let (mut client, solicit) = start(Want::Addresses);
    let mut reply = answer(&solicit, REPLY, SERVER, 7);
    reply.options.push((RAPID_COMMIT, Vec::new()));
    let actions = client.message(Duration::ZERO, &reply);
    assert!(matches!(actions.as_slice(), [Action::Bound(_)]), "{actions:?}");
    client
}

/// Lets time pass until the client asks something.
fn wait(client: &mut Client) -> (Duration, Message) {
    let now = client.deadline().unwrap();
    assert_eq!(client.timer(now - Duration::from_millis(1)), [], "not before its time");
    (now, only(client.timer(now)))
}

#[test]
fn solicit_advertise_request_reply() {
    let (mut client, solicit) = start(Want::Addresses);
    assert_eq!(solicit.kind, SOLICIT);
    assert_eq!(solicit.option(CLIENT_ID), Some(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 1][..]));
    assert_eq!(solicit.option(WANTED), Some(&[0, 23, 0, 24][..]));
    assert_eq!(solicit.option(FULL_NAME), Some(&b"\x01\x03box"[..]));
    assert_eq!((solicit.option(RAPID_COMMIT), solicit.option(ELAPSED)), (Some(&[][..]), Some(&[0, 0][..])));
    assert_eq!(client.message(secs(0), &answer(&solicit, ADVERTISE, SERVER, 7)), [], "is there a better one?");
    let mut better = answer(&solicit, ADVERTISE, OTHER, 8);
    better.options.push((PREFERENCE, vec![9]));
    assert_eq!(client.message(secs(0), &better), []);
    assert_eq!(client.message(secs(0), &answer(&solicit, ADVERTISE, SERVER, 9)), []);
    let (now, request) = wait(&mut client);
    assert_eq!(now, BETTER);
    assert_eq!((request.kind, request.option(SERVER_ID)), (REQUEST, Some(OTHER)));
    assert_eq!(request.associations().next().unwrap().addresses[0].address, address(8));
    assert_ne!(request.xid, solicit.xid);
    for not_ours in [answer(&solicit, REPLY, OTHER, 8), answer(&request, REPLY, SERVER, 8)] {
        assert_eq!(client.message(now, &not_ours), []);
    }
    let actions = client.message(now, &answer(&request, REPLY, OTHER, 8));
    let [Action::Bound(lease)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(lease.addresses, [Leased { address: address(8), valid: Some(secs(120)) }]);
    assert_eq!((&lease.nameservers[..], &lease.search[..]), (&[address(53)][..], &["lab.example".to_owned()][..]));
    assert_eq!(client.message(now, &answer(&request, REPLY, OTHER, 8)), [], "twice");
    assert_eq!(client.deadline(), Some(now + secs(50)));
}

#[test]
fn the_best_preference_and_rapid_commit_wait_for_nobody() {
    let (mut client, solicit) = start(Want::Addresses);
    assert_eq!(client.message(secs(0), &answer(&solicit, REPLY, SERVER, 7)), [], "not a rapid one");
    let mut best = answer(&solicit, ADVERTISE, SERVER, 7);
    best.options.push((PREFERENCE, vec![255]));
    assert_eq!(only(client.message(secs(0), &best)).kind, REQUEST);
    bound();
}

#[test]
fn servers_are_asked_ever_more_slowly() {
    for (want, kind) in [(Want::Addresses, SOLICIT), (Want::Information, INFORMATION_REQUEST)] {
        let (mut client, first) = start(want);
        let mut before = Duration::ZERO;
        for least in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0] {
            let (now, question) = wait(&mut client);
            assert_eq!((question.kind, question.xid), (kind, first.xid));
            assert!((least..=least * 1.1).contains(&(now - before).as_secs_f32()), "{least} {before:?} {now:?}");
            before = now;
        }
    }
}

#[test]
fn a_request_without_answer_starts_over() {
    let (mut client, solicit) = start(Want::Addresses);
    client.message(secs(0), &answer(&solicit, ADVERTISE, SERVER, 7));
    for _ in 0..REQUEST_TRIES {
        assert_eq!(wait(&mut client).1.kind, REQUEST);
    }
    assert_eq!(wait(&mut client).1.kind, SOLICIT);
}

#[test]
fn renewed_then_rebound_then_lost() {
    let mut client = bound();
    let (now, renew) = wait(&mut client);
    assert_eq!((now, renew.kind, renew.option(SERVER_ID)), (secs(50), RENEW, Some(SERVER)));
    assert_eq!(renew.associations().next().unwrap().addresses[0].address, address(7));
    assert_eq!(wait(&mut client).1.kind, RENEW);
    let (now, rebind) = wait(&mut client);
    assert_eq!((now, rebind.kind, rebind.option(SERVER_ID)), (secs(80), REBIND, None));
    let mut other = client;
    let mut client = bound();
    while client.deadline() < Some(secs(120)) {
        wait(&mut client);
    }
    let actions = client.timer(secs(120));
    assert!(matches!(actions.as_slice(), [Action::Lost(_), Action::Send(it)] if it.kind == SOLICIT), "{actions:?}");
    // Another server than the first may answer a REBIND.
    let actions = other.message(now, &answer(&rebind, REPLY, OTHER, 7));
    assert!(matches!(actions.as_slice(), [Action::Bound(_)]), "{actions:?}");
    assert_eq!(wait(&mut other).1.option(SERVER_ID), Some(OTHER));
}

#[test]
fn a_server_that_has_forgotten_is_asked_for_the_same_address() {
    let mut client = bound();
    let (now, renew) = wait(&mut client);
    let request = only(client.message(now, &answer(&renew, REPLY, SERVER, 0)));
    assert_eq!((request.kind, request.option(SERVER_ID)), (REQUEST, Some(SERVER)));
    assert_eq!(request.associations().next().unwrap().addresses[0].address, address(7));
    assert!(client.lease().is_some(), "until somebody says no");
    let mut refused = bound();
    let (now, renew) = wait(&mut refused);
    let again = only(refused.message(now, &answer(&renew, REPLY, SERVER, 0)));
    let actions = refused.message(now, &answer(&again, REPLY, SERVER, 0));
    assert!(matches!(actions.as_slice(), [Action::Lost(_), Action::Send(_)]), "{actions:?}");
    let actions = client.message(now, &answer(&request, REPLY, SERVER, 7));
    assert!(matches!(actions.as_slice(), [Action::Bound(_)]), "{actions:?}");
}

#[test]
fn an_address_without_time_is_taken_back() {
    let mut client = bound();
    let (now, renew) = wait(&mut client);
    let mut reply = answer(&renew, REPLY, SERVER, 7);
    let ended = Granted { address: address(7), preferred: 0, valid: 0 };
    let association = renew.associations().next().unwrap();
    reply.options.retain(|(code, _)| *code != IA_NA);
    reply.options.push((IA_NA, Association { addresses: vec![ended], ..association }.encode()));
    let actions = client.message(now, &reply);
    assert!(matches!(actions.as_slice(), [Action::Lost(_), Action::Send(_)]), "{actions:?}");
}

#[test]
fn a_cable_that_was_out() {
    let mut client = bound();
    let confirm = only(client.verify(secs(10)));
    assert_eq!(confirm.kind, CONFIRM);
    let yes = Message {
        options: answer(&confirm, REPLY, OTHER, 0).options[..2].to_vec(),
        ..answer(&confirm, REPLY, OTHER, 0)
    };
    assert_eq!(client.message(secs(10), &yes), []);
    assert_eq!(client.deadline(), Some(secs(50)));
    let confirm = only(client.verify(secs(20)));
    let mut no = Message { xid: confirm.xid, ..yes };
    no.options.push((STATUS, NOT_ON_LINK.to_be_bytes().to_vec()));
    let actions = client.message(secs(20), &no);
    assert!(matches!(actions.as_slice(), [Action::Lost(_), Action::Send(it)] if it.kind == SOLICIT), "{actions:?}");
    let mut silent = bound();
    silent.verify(secs(10));
    for _ in 1..CONFIRM_TRIES {
        assert_eq!(wait(&mut silent).1.kind, CONFIRM);
    }
    let last = silent.deadline().unwrap();
    assert_eq!((silent.timer(last), silent.deadline()), (vec![], Some(secs(50))), "nobody said no");
}

#[test]
fn information_only() {
    let (mut client, question) = start(Want::Information);
    assert_eq!((question.kind, question.option(WANTED)), (INFORMATION_REQUEST, Some(&[0, 23, 0, 24, 0, 32][..])));
    assert_eq!(question.associations().count(), 0);
    let mut reply = answer(&question, REPLY, SERVER, 0);
    reply.options.push((REFRESH_TIME, 900u32.to_be_bytes().to_vec()));
    let actions = client.message(secs(1), &reply);
    let [Action::Bound(told)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((told.addresses.len(), &told.nameservers[..]), (0, &[address(53)][..]));
    assert_eq!(client.deadline(), Some(secs(901)));
    let (_, again) = wait(&mut client);
    assert_eq!(again.kind, INFORMATION_REQUEST);
    assert!(client.lease().is_some(), "good until something else is told");
    assert_eq!(only(client.verify(secs(1000))).kind, INFORMATION_REQUEST);
}

#[test]
fn what_is_for_others_is_ignored() {
    let (mut client, solicit) = start(Want::Addresses);
    let good = answer(&solicit, ADVERTISE, SERVER, 7);
    let without = |code: u16| {
        let options = good.options.iter().filter(|(it, _)| *it != code).cloned().collect();
        Message { options, ..good.clone() }
    };
    let mut others = without(CLIENT_ID);
    others.options.push((CLIENT_ID, vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 2]));
    for bad in [
        Message { xid: good.xid ^ 1, ..good.clone() },
        Message { kind: SOLICIT, ..good.clone() },
        without(SERVER_ID),
        without(IA_NA),
        answer(&solicit, ADVERTISE, SERVER, 0),
        others,
    ] {
        client.message(secs(0), &bad);
        assert!(client.exchange.as_ref().unwrap().offer.is_none(), "{bad:?}");
    }
}

#[test]
fn what_a_lease_says() {
    let lease = |renew, rebind, granted: &[(u16, u32, u32)]| {
        let granted = granted.iter().map(|(last, preferred, valid)| {
            let address = if *last == 0 { "fe80::1".parse().unwrap() } else { address(*last) };
            Granted { address, preferred: *preferred, valid: *valid }
        });
        let association = Association { id: 1, renew, rebind, addresses: granted.collect(), status: SUCCESS };
        Lease6::read(&Message { kind: REPLY, xid: 0, options: vec![(IA_NA, association.encode())] }, 1)
    };
    let times = |renew, rebind, granted: &[(u16, u32, u32)]| {
        let lease = lease(renew, rebind, granted).unwrap();
        [lease.renew, lease.rebind, lease.valid()].map(|time| time.map(|time| time.as_secs()))
    };
    let one = [(7, 100, 200)];
    assert_eq!(times(30, 60, &one), [Some(30), Some(60), Some(200)]);
    assert_eq!(times(0, 0, &one), [Some(50), Some(80), Some(200)]);
    assert_eq!(times(u32::MAX, u32::MAX, &one), [None, None, Some(200)]);
    assert_eq!(times(0, 0, &[(7, u32::MAX, u32::MAX)]), [None, None, None]);
    assert_eq!(times(1, 2, &[(7, 3, 4)]), [Some(1), Some(2), Some(4)]);
    assert_eq!(times(0, 0, &[(7, 0, 1)]), [Some(1), Some(1), Some(2)]);
    assert_eq!(times(0, 0, &[(7, 0, 100)]), [Some(50), Some(80), Some(100)], "deprecated");
    assert_eq!(times(0, 0, &[(7, 100, 200), (8, 20, 400)]), [Some(10), Some(16), Some(400)]);
    assert_eq!(lease(61, 60, &one), None);
    assert_eq!(lease(0, 0, &[(7, 0, 0)]), None);
    assert_eq!(lease(0, 0, &[(0, 100, 200)]), None, "link-local");
    assert_eq!(lease(0, 0, &[(7, 9, 9); 9]).unwrap().addresses.len(), 4);
}
