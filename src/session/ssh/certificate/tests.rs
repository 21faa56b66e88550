use super::super::auth::{Admission, Policy};
use super::super::authorized_keys::{fingerprint, parse};
use crate::config::role::Roles;
use proptest::prelude::*;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey};

const NOW: u64 = 1_800_000_000;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

/// What an authority signs, changed by `change`: by default for root and peek, an hour before and after now, with what
/// ssh-keygen puts in.
fn certificate(change: impl FnOnce(&mut Builder)) -> Certificate {
    signed(7, CertType::User, &["root", "peek"], change)
}

fn signed(authority: u8, kind: CertType, principals: &[&str], change: impl FnOnce(&mut Builder)) -> Certificate {
    let mut builder = Builder::new([1; 16], key(2).public_key().key_data().clone(), NOW - 3600, NOW + 3600).unwrap();
    builder.serial(5).unwrap().cert_type(kind).unwrap();
    match principals {
        [] => {
            builder.all_principals_valid().unwrap();
        }
        names => names.iter().for_each(|name| {
            builder.valid_principal(*name).unwrap();
        }),
    }
    change(&mut builder);
    builder.sign(&key(authority)).unwrap()
}

fn critical(name: &str, value: &str) -> impl FnOnce(&mut Builder) {
    move |builder| {
        builder.critical_option(name, value).unwrap();
    }
}

fn with_extensions(builder: &mut Builder) {
    for name in ["permit-X11-forwarding", "permit-port-forwarding", "permit-pty", "unknown@example.com"] {
        builder.extension(name, "").unwrap();
    }
}

/// What comes of a certificate where the authority stands in lines with these options.
fn log_in(options: &[&str], user: &str, certificate: &Certificate, now: u64) -> Result<Admission, String> {
    let ca = key(7).public_key().to_openssh().unwrap();
    let text: String = options.iter().map(|options| format!("{options} {ca} the office\n")).collect();
    let (keys, problems) = parse("f", &text);
    assert_eq!(problems, []);
    let policy = Policy { keys, roles: Roles::default(), address: "192.0.2.7".parse().ok(), built: 0 };
    policy.certificate(user, certificate, now)
}

#[test]
fn a_good_certificate() {
    let good = certificate(|builder| with_extensions(builder.key_id("laptop").unwrap()));
    let admission = log_in(&["cert-authority"], "root", &good, NOW).unwrap();
    assert_eq!(
        (admission.role.as_str(), admission.narrowing.no_pty, admission.narrowing.no_forwarding),
        ("root", false, false)
    );
    let expected = format!(
        "{} (certificate \"laptop\", serial 5, by {} the office)",
        fingerprint(key(2).public_key()),
        fingerprint(key(7).public_key())
    );
    assert_eq!(admission.key, expected);
    let bare = log_in(&["cert-authority"], "root", &certificate(|_| ()), NOW).unwrap();
    assert!(
        bare.narrowing.no_pty && bare.narrowing.no_forwarding && !bare.grants.pty,
        "what is not there is not granted"
    );
}

#[test]
fn what_a_certificate_and_its_line_say_together() {
    let forced = certificate(critical("force-command", "status"));
    let from = |list: &str| certificate(critical("source-address", list));
    for (options, certificate, expected) in [
        (&["cert-authority"][..], &forced, Ok(Some("status"))),
        (&["cert-authority,command=\"status\""], &forced, Ok(Some("status"))),
        (&["cert-authority,command=\"peek\""], &forced, Err("different commands")),
        (&["cert-authority,command=\"peek\"", "cert-authority"], &forced, Ok(Some("status"))),
        (&["cert-authority,command=\"peek\""], &certificate(|_| ()), Ok(Some("peek"))),
        (&["cert-authority,principals=\"ops,root\""], &certificate(|_| ()), Ok(None)),
        (&["cert-authority,principals=\"ops\""], &certificate(|_| ()), Err("none of the line's principals")),
        (&["cert-authority,principals=\"ops\"", "cert-authority,principals=\"peek\""], &certificate(|_| ()), Ok(None)),
        (&["cert-authority,expiry-time=\"20200101\""], &certificate(|_| ()), Err("line 1 has expired")),
        (&["cert-authority,from=\"10.*\""], &certificate(|_| ()), Err("not for this address")),
        (&["cert-authority"], &from("192.0.2.0/24,10.0.0.1"), Ok(None)),
        (&["cert-authority"], &from("10.0.0.0/8"), Err("source-address")),
        (&["cert-authority"], &from("192.0.2.*"), Err("neither an address nor a network")),
        (&["cert-authority"], &from("*"), Err("neither an address nor a network")),
        (&[""], &certificate(|_| ()), Err("by nobody who is known")),
        (&[], &certificate(|_| ()), Err("by nobody who is known")),
    ] {
        match (log_in(options, "root", certificate, NOW), expected) {
            (Ok(admission), Ok(command)) => assert_eq!(admission.grants.command.as_deref(), command, "{options:?}"),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{options:?}: {why}"),
            (admission, _) => panic!("{options:?}: {admission:?}"),
        }
    }
    let pty = log_in(&["cert-authority,restrict"], "root", &certificate(with_extensions), NOW).unwrap();
    assert!(pty.narrowing.no_pty && pty.narrowing.no_forwarding, "the line takes away what the certificate has");
}

#[test]
fn certificates_that_admit_nobody() {
    let option = |name: &str, value: &str| certificate(critical(name, value));
    let extension = certificate(|builder| {
        builder.extension("permit-pty", "yes").unwrap();
    });
    for (certificate, user, now, why) in [
        (signed(8, CertType::User, &["root"], |_| ()), "root", NOW, "by nobody who is known"),
        (signed(7, CertType::Host, &["root"], |_| ()), "root", NOW, "not a user's"),
        (signed(7, CertType::User, &[], |_| ()), "root", NOW, "lists no principal"),
        (signed(7, CertType::User, &["roo", "rootx"], |_| ()), "root", NOW, "root is not among"),
        (certificate(|_| ()), "unlock", NOW, "unlock is not among"),
        (certificate(|_| ()), "nobody", NOW, "no such role"),
        (certificate(|_| ()), "root", NOW - 3601, "not valid yet"),
        (certificate(|_| ()), "root", NOW + 3600, "has expired"),
        (option("verify-required", ""), "root", NOW, "verify-required"),
        (option("force-command", ""), "root", NOW, "force-command is empty"),
        (option("something@example.com", ""), "root", NOW, "\"something@example.com\" is not known"),
        (extension, "root", NOW, "has a value"),
    ] {
        let refused = log_in(&["cert-authority"], user, &certificate, now).expect_err(why);
        assert!(refused.contains(why), "{refused}");
    }
    assert!(log_in(&["cert-authority"], "root", &certificate(|_| ()), NOW + 3599).is_ok());
}

#[test]
fn an_identity_can_not_write_into_the_log() {
    let identity = format!("a\nb\u{1b}[2J{}", "x".repeat(300));
    let certificate = certificate(|builder| {
        builder.key_id(identity).unwrap();
    });
    let key = log_in(&["cert-authority"], "root", &certificate, NOW).unwrap().key;
    assert!(!key.contains(char::is_control) && key.len() < 400, "{key}");
}

proptest! {
    #[test]
    fn an_unknown_critical_option_admits_nobody(name in "[a-z@.-]{1,20}", value in "[ -~]{0,9}") {
        prop_assume!(name != "force-command" && name != "source-address");
        let certificate = certificate(critical(&name, &value));
        prop_assert!(log_in(&["cert-authority"], "root", &certificate, NOW).is_err());
    }
}
