//! Certificates that ssh-keygen signs.

use std::process::Command;

use super::{machine, ssh, ssh_keygen, status, text};
use crate::common::Machine;

/// A machine whose `id` admits nobody by itself: only what `ca` certifies. The second authority is for one role.
fn authorities(test: &str) -> Machine {
    let lines = [("cert-authority", "ca"), ("cert-authority,principals=\"operators\",restrict", "ops")];
    let machine = machine(test, &lines);
    machine.new_key("stranger", "ed25519");
    machine
}

/// Signs a key of its own, `name`, by `ca`, with more words for ssh-keygen.
fn certify(machine: &Machine, ca: &str, name: &str, words: &[&str]) {
    machine.new_key(name, "ed25519");
    let public = format!("{name}.pub");
    ssh_keygen(machine, &[&["-q", "-s", ca, "-I", "alice laptop", "-z", "42"], words, &[public.as_str()]].concat());
}

#[test]
fn a_certificate_admits_to_its_principals() {
    let machine = authorities("cert");
    certify(&machine, "ca", "alice", &["-n", "root,peek", "-V", "-1h:+1h"]);
    for (user, expected) in [("root", 0), ("peek", 0), ("unlock", 255)] {
        assert_eq!(status(&machine, "alice", user), Some(expected), "{user}");
    }
    let log = machine.log();
    assert!(log.contains("root logged in from 127.0.0.1 with SHA256:"), "{log}");
    assert!(log.contains("(certificate \"alice laptop\", serial 42, by SHA256:"), "{log}");
    assert!(log.contains("unlock is not among the certificate's principals"), "{log}");
    let terminal = ssh(&machine, "alice", "root", &["-tt", "--", "status"]);
    assert!(!text(&terminal.stderr).contains("PTY"), "ssh-keygen permits a terminal: {terminal:?}");
    for (ca, principals, user, expected) in
        [("ops", "operators", "root", 0), ("ops", "root", "root", 255), ("stranger", "root", "root", 255)]
    {
        let name = format!("{ca}-{principals}");
        certify(&machine, ca, &name, &["-n", principals]);
        assert_eq!(status(&machine, &name, user), Some(expected), "{name}");
    }
    let restricted = ssh(&machine, "ops-operators", "root", &["-tt", "--", "status"]);
    assert!(text(&restricted.stderr).contains("PTY allocation request failed"), "{restricted:?}");
    // Neither the certified key without its certificate, nor the authority's own key, nor one that nobody certified.
    std::fs::remove_file(machine.root.join("alice-cert.pub")).unwrap();
    for key in ["alice", "ca", "stranger"] {
        assert_eq!(status(&machine, key, "root"), Some(255), "{key}");
    }
}

#[test]
fn certificates_that_admit_nobody() {
    let machine = authorities("nocert");
    certify(&machine, "ca", "unknown", &["-n", "root", "-O", "critical:something@example.com=x"]);
    assert_eq!(status(&machine, "unknown", "root"), Some(255));
    let log = machine.log(); // now, as it takes only so many lines about strangers
    assert!(log.contains("critical option \"something@example.com\" is not known"), "{log}");
    for (name, words) in [
        ("expired", &["-n", "root", "-V", "-2h:-1h"][..]),
        ("future", &["-n", "root", "-V", "+1h:+2h"]),
        ("nobody", &[]),
        ("host", &["-h", "-n", "root"]),
        ("verified", &["-n", "root", "-O", "verify-required"]),
        ("elsewhere", &["-n", "root", "-O", "source-address=10.0.0.0/8"]),
    ] {
        certify(&machine, "ca", name, words);
        assert_eq!(status(&machine, name, "root"), Some(255), "{name}");
    }
}

#[test]
fn what_a_certificate_takes_away() {
    let machine = authorities("certoptions");
    certify(&machine, "ca", "forced", &["-n", "root", "-O", "force-command=status --json"]);
    let forced = ssh(&machine, "forced", "root", &["unlock"]);
    assert!(forced.status.success() && forced.stdout.starts_with(b"{"), "{forced:?}");
    certify(&machine, "ca", "here", &["-n", "root", "-O", "source-address=127.0.0.1/32,::1/128"]);
    assert_eq!(status(&machine, "here", "root"), Some(0));
    let there = ssh(&machine, "here", "root", &["-b", "127.0.0.2", "--", "status"]);
    assert_eq!(there.status.code(), Some(255), "{there:?}");
    certify(&machine, "ca", "plain", &["-n", "root", "-O", "no-pty"]);
    let plain = ssh(&machine, "plain", "root", &["-tt", "--", "status"]);
    assert!(text(&plain.stderr).contains("PTY allocation request failed"), "{plain:?}");
}

/// SHA-1 is what `ssh-rsa` signs with; OpenSSH 8.2 and later only when told to.
#[test]
fn kinds_of_authorities() {
    let mut machine = Machine::new("cakinds");
    for (name, kind) in [("rsa", "rsa"), ("ecdsa", "ecdsa")] {
        machine.new_key(name, kind);
    }
    super::write_lines(&machine, &[("cert-authority", "rsa"), ("cert-authority", "ecdsa")]);
    machine.start();
    machine.wait_for_ssh();
    for (ca, name, words, expected) in [
        ("rsa", "sha512", &["-n", "root", "-t", "rsa-sha2-512"][..], 0),
        ("rsa", "sha256", &["-n", "root", "-t", "rsa-sha2-256"], 0),
        ("rsa", "sha1", &["-n", "root", "-t", "ssh-rsa"], 255),
        ("ecdsa", "curve", &["-n", "root"], 0),
    ] {
        certify(&machine, ca, name, words);
        assert_eq!(status(&machine, name, "root"), Some(expected), "{name}");
    }
    // Certified keys of other kinds.
    for (name, kind) in [("rsauser", "rsa"), ("ecdsauser", "ecdsa")] {
        machine.new_key(name, kind);
        ssh_keygen(&machine, &["-q", "-s", "ecdsa", "-I", name, "-n", "root", &format!("{name}.pub")]);
        assert_eq!(status(&machine, name, "root"), Some(0), "{name}");
    }
}

/// A host with a certificate that `hostca` has signed with these words of ssh-keygen's.
fn certified_host(test: &str, words: &[&str]) -> Machine {
    let mut machine = Machine::new(test);
    machine.new_key("hostca", "ed25519");
    let public = Command::new("ssh-keygen").current_dir(&machine.root).args(["-y", "-f", HOST_KEY]).output().unwrap();
    machine.write("host.pub", &text(&public.stdout));
    ssh_keygen(&machine, &[&["-q", "-s", "hostca", "-I", "web1"], words, &["host.pub"]].concat());
    std::fs::rename(machine.root.join("host-cert.pub"), machine.root.join(format!("{HOST_KEY}-cert.pub"))).unwrap();
    machine.start();
    machine.wait_for_ssh();
    machine
}

const HOST_KEY: &str = "etc/vestibule/ssh_host_ed25519_key";

#[test]
fn a_host_is_known_by_its_certificate() {
    let machine = certified_host("hostcert", &["-h", "-n", "127.0.0.1,web1"]);
    let known = std::fs::read_to_string(machine.root.join("known_hosts")).unwrap();
    assert_eq!(status(&machine, "id", "peek"), Some(0), "by its key, as before");
    let ca = std::fs::read_to_string(machine.root.join("hostca.pub")).unwrap();
    machine.write("known_hosts", &format!("@cert-authority [127.0.0.1]:{} {ca}", machine.port));
    assert_eq!(status(&machine, "id", "peek"), Some(0), "by its authority");
    let other = ssh(&machine, "id", "peek", &["-o", "HostKeyAlias=other", "--", "status"]);
    assert_eq!(other.status.code(), Some(255), "for this name only: {other:?}");
    machine.write("known_hosts", &known);
    let check = text(&machine.vestibule(&["check", "--files"]).stdout);
    assert!(check.contains("-cert.pub\t/etc/vestibule/ssh_host_ed25519_key-cert.pub"), "{check}");
}

#[test]
fn a_host_certificate_that_is_none_is_a_problem_and_the_key_serves() {
    let machine = certified_host("usercert", &["-n", "root"]);
    assert_eq!(status(&machine, "id", "peek"), Some(0));
    let said = "it is a user's certificate";
    assert!(machine.status()["problems"].to_string().contains(said), "{}", machine.status());
    let check = machine.vestibule(&["check"]);
    assert!(!check.status.success() && text(&check.stderr).contains(said), "{check:?}");
    let machine = certified_host("oldcert", &["-h", "-n", "127.0.0.1", "-V", "-2h:-1h"]);
    let check = machine.vestibule(&["check"]);
    assert!(check.status.success() && text(&check.stderr).contains("has expired"), "{check:?}");
    let mut other = certified_host("othercert", &["-h", "-n", "127.0.0.1"]);
    other.kill();
    std::fs::remove_file(other.root.join(HOST_KEY)).unwrap();
    assert!(other.vestibule(&["keys"]).status.success());
    let check = other.vestibule(&["check"]);
    assert!(!check.status.success() && text(&check.stderr).contains("it is for another key"), "{check:?}");
}
