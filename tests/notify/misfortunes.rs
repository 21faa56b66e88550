//! Servers that don't do as they should.

use std::time::{Duration, Instant};

use crate::server::{OK, Server, Way};
use crate::{Question, entry, machine, prepared, start, until, until_failed, until_sent, wait_until};

/// Each spoils its own message, and says how; the others get theirs.
#[test]
fn every_misfortune_is_told_and_keeps_nobody_else_waiting() {
    let away = Server::start(&[OK]);
    let redirect = format!("HTTP/1.1 307 Over There\r\nLocation: http://127.0.0.1:{}/\r\n\r\n", away.port);
    let servers = [
        Server::start(&[Way::Silent]),
        Server::start(&[Way::Answers("HTTP/1.1 500 Oh\r\n\r\n"), OK]),
        Server::start(&[Way::Closes]),
        Server::start(&[Way::Endless]),
        Server::start(&[Way::Answers(redirect.leak())]),
        Server::start(&[Way::Answers("SSH-2.0-OpenSSH_9.2\r\n")]),
        Server::start(&[Way::Answers("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n")]),
    ];
    let entries: String = servers.iter().map(|server| entry(server, "/secret", "after = 0")).collect();
    let nowhere = "[[notify]]\nurl = \"http://nowhere.example/secret\"\nafter = 0\n";
    let machine = machine("misfortunes", &(entries + nowhere));
    let _question = Question::ask(&machine);

    // The process that waits for the silent server is confined; it has been when the server had its request.
    servers[0].wait_for(1);
    let confined = |status: &String| {
        let filtered = vestibule::hardening::confinement().is_err() || status.contains("Seccomp:\t2\n");
        status.contains("NoNewPrivs:\t1") && status.contains("Threads:\t1\n") && filtered
    };
    wait_until(&machine, "a confined process", || {
        let statuses = machine.children().into_iter().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")));
        statuses.filter_map(Result::ok).any(|status| confined(&status))
    });

    let recovered = until_sent(&machine, 1, 1);
    assert_eq!((recovered["state"].as_str(), &recovered["problem"]), (Some("sent"), &serde_json::Value::Null));
    assert!(servers[1].requests().len() >= 2, "once in vain, once with success");
    until_failed(&machine, 2, "the server closed the connection without an answer");
    until_failed(&machine, 3, "no answer of HTTP: its headers don't end");
    until_failed(&machine, 4, "the server answers 307, a redirect, which is not followed");
    until_failed(&machine, 5, "no answer of HTTP: it does not begin as HTTP/1.1 does");
    until_failed(&machine, 6, "the server answers 403: look at the token");
    until_failed(&machine, 7, "nowhere.example port 80 can't be reached: nowhere.example: no name server is known");
    until_failed(&machine, 0, "the server has not answered within 20 s");
    assert_eq!(away.requests().len(), 0, "a redirect is not followed");

    let text = String::from_utf8(machine.vestibule(&["status"]).stdout).unwrap();
    let line =
        "  notify    http://127.0.0.1: the server answers 403: look at the token, and at what it is allowed (0 sent)";
    assert!(text.lines().any(|it| it == line), "{text}");
    assert!(!(text + &machine.log()).contains("secret"), "the path is told");
    assert_eq!(machine.status()["phase"], "asking", "and the question stands");
}

/// The end of the daemon doesn't wait for a server that hangs: it would for 20 s, and may for 2.
#[test]
fn a_server_that_hangs_does_not_hold_up_the_hand_over() {
    let server = Server::start(&[Way::Silent]);
    let mut machine = machine("hanging", &entry(&server, "/", "after = 0"));
    let asker = machine.ask("root", "pw");
    let unlocked = machine.ssh("unlock", &["unlock"], b"pw");
    assert_eq!(unlocked.status.code(), Some(0), "{unlocked:?}");
    asker.answers();
    until(&machine, 0, |it| it["state"] == "sending");
    let started = Instant::now();
    assert_eq!(machine.stop(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(machine.log().contains("has not taken the last message within 2 s"), "{}", machine.log());
}

/// One entry is wrong: the machine goes on, the other entry counts, and the image build says so.
#[test]
fn a_mistake_in_an_entry_is_its_own() {
    let server = Server::start(&[OK]);
    let wrong = "[[notify]]\nurl = \"http://127.0.0.1/secret\"\nkind = \"mail\"\n";
    let mut machine = prepared("mistake", &(wrong.to_owned() + &entry(&server, "/", "after = 0")));
    let check = machine.vestibule(&["check"]);
    let said = String::from_utf8(check.stderr).unwrap();
    assert!(said.contains("line 6: [notify] kind: “mail” is not known") && !check.status.success(), "{said}");
    start(&mut machine);
    let _question = Question::ask(&machine);
    until_sent(&machine, 0, 1);
    assert!(machine.status()["problems"][0].as_str().unwrap().contains("nobody is told by this entry"));
}
