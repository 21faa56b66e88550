use super::*;
use crate::session::ssh::authorized_keys::parse;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{HashAlg, PrivateKey};

const ED: Algorithm = Algorithm::Ed25519;
const NOW: u64 = 1_800_000_000;

fn key(seed: u8) -> PublicKey {
    let pair = Ed25519Keypair::from_seed(&[seed; 32]);
    PrivateKey::new(KeypairData::Ed25519(pair), "").unwrap().public_key().clone()
}

/// A policy for lines, each of them options and the number of a key.
fn policy(lines: &[(&str, u8)]) -> Policy {
    let text =
        lines.iter().map(|(options, seed)| format!("{options} {} key{seed}\n", key(*seed).to_openssh().unwrap()));
    let (keys, problems) = parse("f", &text.collect::<String>());
    assert_eq!(problems, []);
    Policy { keys, roles: Roles::default(), address: "192.0.2.7".parse().ok(), built: 0 }
}

#[test]
fn only_a_listed_key_with_a_role_for_name_gets_in() {
    let policy = policy(&[("no-pty", 1)]);
    let admitted = policy.key("unlock", (&key(1), &ED), NOW).unwrap();
    assert_eq!((admitted.role.as_str(), admitted.narrowing.no_pty, admitted.grants.pty), ("unlock", true, false));
    assert!(admitted.key.starts_with("SHA256:") && admitted.key.ends_with(" key1"));
    let sha1 = Algorithm::Rsa { hash: None };
    for (user, key, algorithm) in
        [("unlock", key(2), &ED), ("nobody", key(1), &ED), ("", key(1), &ED), ("root", key(1), &sha1)]
    {
        assert!(policy.key(user, (&key, algorithm), NOW).is_err(), "{user} {algorithm:?}");
        assert!(policy.offer(user, (&key, algorithm), NOW).is_err(), "{user} {algorithm:?}");
    }
    let sha2 = Algorithm::Rsa { hash: Some(HashAlg::Sha256) };
    assert!(self::policy(&[]).key("root", (&key(1), &sha2), NOW).is_err());
}

#[test]
fn a_key_may_be_for_some_roles_only() {
    let policy = policy(&[("roles=\"unlock,peek\"", 1), ("roles=\"root\"", 2)]);
    for (user, seed, admitted) in [
        ("unlock", 1, true),
        ("peek", 1, true),
        ("root", 1, false),
        ("sftp", 1, false),
        ("root", 2, true),
        ("unlock", 2, false),
    ] {
        let admission = policy.key(user, (&key(seed), &ED), NOW);
        assert_eq!(admission.is_ok(), admitted, "{user} {seed}: {admission:?}");
        assert_eq!(policy.offer(user, (&key(seed), &ED), NOW).is_ok(), admitted, "{user} {seed}");
    }
    let why = policy.key("root", (&key(1), &ED), NOW).unwrap_err();
    assert!(why.contains("line 1 is not for this role"), "{why}");
}

#[test]
fn the_first_line_that_counts_here_and_now() {
    for (lines, address, expected) in [
        (&[("command=\"a\"", 1), ("command=\"b\"", 1)][..], "192.0.2.7", Ok("a")),
        (&[("from=\"10.*\",command=\"a\"", 1), ("command=\"b\"", 1)], "192.0.2.7", Ok("b")),
        (&[("from=\"10.*\",command=\"a\"", 1), ("command=\"b\"", 1)], "10.0.0.1", Ok("a")),
        (&[("expiry-time=\"20200101\",command=\"a\"", 1), ("command=\"b\"", 1)], "192.0.2.7", Ok("b")),
        (&[("expiry-time=\"20200101\"", 1)], "192.0.2.7", Err("line 1 has expired")),
        (&[("", 2), ("from=\"10.*\"", 1)], "192.0.2.7", Err("line 2 is not for this address")),
        (&[("from=\"*\",command=\"a\"", 1)], "unknown", Err("not for this address")),
        (&[("cert-authority", 1)], "192.0.2.7", Err("key not authorized")),
        (&[("cert-authority", 1), ("command=\"b\"", 1)], "192.0.2.7", Ok("b")),
    ] {
        let policy = Policy { address: address.parse().ok(), ..policy(lines) };
        let admission = policy.key("root", (&key(1), &ED), NOW);
        match (admission, expected) {
            (Ok(admission), Ok(command)) => assert_eq!(admission.grants.command.as_deref(), Some(command), "{lines:?}"),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{lines:?}: {why}"),
            (admission, _) => panic!("{lines:?}: {admission:?}"),
        }
    }
}

#[test]
fn a_line_counts_until_its_time_and_a_clock_that_is_behind_does_not_prolong_it() {
    let expires = 1_785_456_000;
    let policy = policy(&[("expiry-time=\"20260731\"", 1)]);
    for (now, built, admitted) in
        [(expires, 0, true), (expires + 1, 0, false), (0, 0, true), (0, expires, true), (0, expires + 1, false)]
    {
        let policy = Policy { built, keys: policy.keys.clone(), roles: Roles::default(), address: None };
        assert_eq!(policy.key("peek", (&key(1), &ED), now).is_ok(), admitted, "{now} {built}");
    }
}

#[test]
fn where_there_is_an_authority_any_key_may_be_offered_but_none_gets_in() {
    let policy = policy(&[("cert-authority", 1)]);
    assert_eq!(policy.offer("root", (&key(2), &ED), NOW), Ok(()));
    assert!(policy.offer("nobody", (&key(2), &ED), NOW).is_err());
    assert!(policy.offer("root", (&key(2), &Algorithm::Rsa { hash: None }), NOW).is_err());
    assert!(policy.key("root", (&key(2), &ED), NOW).is_err());
}
