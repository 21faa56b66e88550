//! Options of lines.

use std::process::Stdio;

use super::{machine, ssh, status, text, write_lines};
use crate::common::Machine;

#[test]
fn from_and_expiry_decide_by_address_and_time() {
    let machine = machine(
        "from",
        &[
            ("from=\"127.0.0.0/30,!127.0.0.2\"", "near"),
            ("from=\"10.*\"", "far"),
            ("from=\"home.example.com,127.0.0.1\"", "named"),
            ("from=\"home.example.com\"", "onlynamed"),
            ("expiry-time=\"20200101\"", "old"),
            ("expiry-time=\"99991231235959Z\"", "young"),
            ("no-such-option", "unknown"),
            ("verify-required", "verified"),
        ],
    );
    for (key, expected) in [
        ("near", 0),
        ("far", 255),
        ("named", 0),
        ("onlynamed", 255),
        ("old", 255),
        ("young", 0),
        ("unknown", 255),
        ("verified", 255),
        ("id", 255),
    ] {
        assert_eq!(status(&machine, key, "peek"), Some(expected), "{key}");
    }
    for (source, expected) in [("127.0.0.1", 0), ("127.0.0.2", 255), ("127.0.0.3", 0), ("127.0.0.4", 255)] {
        let output = ssh(&machine, "near", "peek", &["-b", source, "--", "status"]);
        assert_eq!(output.status.code(), Some(expected), "from {source}: {output:?}");
    }
    let log = machine.log();
    for said in [
        "line 2 is not for this address (from=)",
        "line 5 has expired (expiry-time=)",
        "authorized_keys:4: from= has only host names",
        "authorized_keys:7: the option \"no-such-option\" is not known; this line admits nobody",
        "authorized_keys:8: verify-required: ",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert_eq!(machine.status()["problems"].as_array().unwrap().len(), 4, "three lines, and a name");
}

#[test]
fn a_forced_command_is_all_that_there_is() {
    let machine = machine("forced", &[("command=\"status --json\"", "forced"), ("restrict", "restricted")]);
    for words in [&["unlock"][..], &["peek"], &["reboot"], &[], &["status"], &["-tt", "--", "unlock"]] {
        let output = ssh(&machine, "forced", "root", words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
        assert!(output.stdout.starts_with(b"{"), "{words:?}: {output:?}");
    }
    let terminal = ssh(&machine, "restricted", "root", &["-tt", "--", "status"]);
    assert!(text(&terminal.stderr).contains("PTY allocation request failed"), "{terminal:?}");
    assert_eq!(status(&machine, "restricted", "root"), Some(0));
}

#[test]
fn a_key_for_a_single_login() {
    let mut machine = Machine::new("once");
    machine.new_key("single", "ed25519");
    write_lines(&machine, &[("once", "single"), ("", "id")]);
    machine.start();
    machine.wait_for_ssh();
    assert_eq!(status(&machine, "single", "peek"), Some(0));
    for user in ["peek", "root"] {
        assert_eq!(status(&machine, "single", user), Some(255), "{user}");
    }
    assert!(machine.log().contains("refused: the key is good for a single login, and was used"), "{}", machine.log());
    assert_eq!(status(&machine, "id", "peek"), Some(0), "others are not affected");
    // In the same connection, another key may still be tried.
    let id = machine.root.join("id");
    let both = ssh(&machine, "single", "peek", &["-i", id.to_str().unwrap(), "--", "status"]);
    assert_eq!(both.status.code(), Some(0), "{both:?}");
    // A daemon that crashed and is started again knows it.
    machine.kill();
    machine.start();
    machine.wait_for_ssh();
    assert_eq!((status(&machine, "single", "peek"), status(&machine, "id", "peek")), (Some(255), Some(0)));
}

#[test]
fn of_two_logins_at_once_with_a_single_use_key_one_gets_in() {
    let machine = machine("race", &[("once", "single")]);
    let start = || {
        let mut ssh = machine.ssh_with_key("single", "peek", &["status"]);
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut clients: Vec<_> = (0..4).map(|_| start()).collect();
    let admitted = clients.iter_mut().filter_map(|ssh| ssh.wait().unwrap().code()).filter(|code| *code == 0).count();
    assert_eq!(admitted, 1);
}
