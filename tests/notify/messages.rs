//! What is posted, to the letter.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::server::{OK, Server};
use crate::{entry, machine, prepared, start, until_sent, wait_until};

/// The host's name is that of the machine that runs the test.
fn host(machine: &crate::common::Machine) -> String {
    machine.status()["host"].as_str().unwrap().to_owned()
}

fn fingerprint(machine: &crate::common::Machine) -> String {
    let keys = String::from_utf8(machine.vestibule(&["keys"]).stdout).unwrap();
    keys.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
}

fn split(request: &str) -> (Vec<&str>, &str) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.split("\r\n").collect(), body)
}

/// Three kinds of servers, from the question to the open volume; and nothing secret in any request.
#[test]
fn from_waiting_to_unlocked() {
    let servers = [(); 3].map(|()| Server::start(&[OK]));
    let [ntfy, gotify, webhook] = &servers;
    let entries = [
        entry(ntfy, "/topic", "kind = \"ntfy\"\nafter = 0\ntoken-file = \"/etc/vestibule/token\""),
        entry(gotify, "/message", "kind = \"gotify\"\nafter = 0\ntoken-file = \"/etc/vestibule/token\""),
        entry(webhook, "/hook?a=b", "after = 0\nheaders-file = \"/etc/vestibule/headers\""),
    ];
    let mut machine = prepared("told", &entries.concat());
    machine.write("etc/vestibule/token", "tk_12\n");
    machine.write("etc/vestibule/headers", "X-One: 1\nX-Two: two words\n");
    start(&mut machine);
    let (host, key) = (host(&machine), fingerprint(&machine));
    let login = format!("ssh -p {} root@{host}", machine.port);
    let asker = machine.ask("root", "correct horse");
    for index in 0..3 {
        until_sent(&machine, index, 1);
    }
    let wrong = machine.ssh("unlock", &["unlock"], b"battery staple\n");
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    let right = machine.ssh("unlock", &["unlock"], b"correct horse\n");
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    asker.answers();
    for index in 0..3 {
        until_sent(&machine, index, 2);
    }

    let text = format!("root (/dev/disk-root) wants a passphrase\nlog in: {login}\nhost key: {key}");
    let agent = format!("User-Agent: vestibule/{}", env!("CARGO_PKG_VERSION"));
    let length = |body: &str| format!("Content-Length: {}", body.len());
    let address = |server: &Server| format!("Host: 127.0.0.1:{}", server.port);

    let [waiting, unlocked] = &ntfy.requests()[..] else { panic!("{:?}", ntfy.requests()) };
    let (head, body) = split(waiting);
    let titled = format!("Title: {host} waits for a passphrase");
    let (sent_to, long) = (address(ntfy), length(&text));
    let expected =
        ["POST /topic HTTP/1.1", &sent_to, &agent, "Connection: close", "Content-Type: text/plain; charset=utf-8"];
    let expected =
        [&expected[..], &[&long, &titled, "Priority: high", "Tags: lock", "Authorization: Bearer tk_12"]].concat();
    assert_eq!((head, body), (expected, text.as_str()));
    let (head, body) = split(unlocked);
    assert_eq!(body, "root is open");
    assert!(
        head.contains(&format!("Title: {host} is unlocked").as_str()) && head.contains(&"Tags: unlock"),
        "{head:?}"
    );

    let [waiting, unlocked] = &gotify.requests()[..] else { panic!("{:?}", gotify.requests()) };
    let (head, body) = split(waiting);
    let (sent_to, long) = (address(gotify), length(body));
    let expected = ["POST /message HTTP/1.1", &sent_to, &agent, "Connection: close", "Content-Type: application/json"];
    assert_eq!(head, [&expected[..], &[&long, "X-Gotify-Key: tk_12"]].concat());
    let expected = json!({"title": format!("{host} waits for a passphrase"), "message": text, "priority": 8});
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
    let unlocked: Value = serde_json::from_str(split(unlocked).1).unwrap();
    assert_eq!(unlocked, json!({"title": format!("{host} is unlocked"), "message": "root is open", "priority": 4}));

    let [waiting, unlocked] = &webhook.requests()[..] else { panic!("{:?}", webhook.requests()) };
    let (head, body) = split(waiting);
    let (sent_to, long) = (address(webhook), length(body));
    let expected = ["POST /hook?a=b HTTP/1.1", &sent_to, &agent, "Connection: close", "Content-Type: application/json"];
    assert_eq!(head, [&expected[..], &[&long, "X-One: 1", "X-Two: two words"]].concat());
    let asked = json!({
        "kind": "passphrase", "volume": "root", "device": "/dev/disk-root",
        "message": "Please enter passphrase for disk root:",
    });
    let expected = json!({
        "event": "waiting", "host": host, "title": format!("{host} waits for a passphrase"), "message": text,
        "questions": [asked], "gave_up": [], "emergency": null, "unlocked": [], "addresses": [], "login": [login],
        "host_key": key,
    });
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
    let unlocked: Value = serde_json::from_str(split(unlocked).1).unwrap();
    assert_eq!((&unlocked["event"], &unlocked["unlocked"]), (&json!("unlocked"), &json!(["root"])));

    for request in servers.iter().flat_map(Server::requests) {
        assert!(!request.contains("horse") && !request.contains("staple"), "a passphrase: {request}");
        let private = std::fs::read_to_string(machine.root.join("etc/vestibule/ssh_host_ed25519_key")).unwrap();
        assert!(private.lines().filter(|line| line.len() > 40).all(|line| !request.contains(line)), "the host key");
    }
    // Nor is the way to the servers told to anybody who may look.
    let shown = machine.status()["notifications"].to_string() + &machine.log();
    for secret in ["topic", "hook", "tk_12", "two words"] {
        assert!(!shown.contains(secret), "{secret} is shown: {shown}");
    }
    let first = &machine.status()["notifications"][0];
    assert_eq!(*first, json!({"to": "http://127.0.0.1", "state": "sent", "problem": null, "sent": 2}));
}

/// Tries used up, without an address to log in at being known; and what wasn't wanted isn't sent.
#[test]
fn failure_is_told_and_only_what_was_wanted() {
    let [failures, successes] = [(); 2].map(|()| Server::start(&[OK]));
    let entries = [
        entry(&failures, "/", "after = 0\non = [\"failed\"]"),
        entry(&successes, "/", "after = 0\non = [\"unlocked\"]"),
    ];
    let machine = machine("gave-up", &entries.concat());
    let asker = machine.ask("root", "right");
    for _ in 0..3 {
        machine.ssh("unlock", &["unlock"], b"wrong");
    }
    asker.answers();
    until_sent(&machine, 0, 1);
    let told: Value = serde_json::from_str(split(&failures.requests()[0]).1).unwrap();
    assert_eq!((&told["event"], &told["gave_up"]), (&json!("failed"), &json!(["root"])));
    let message = told["message"].as_str().unwrap();
    assert!(message.starts_with("root was given up") && message.contains("log in: ssh -p "), "{message}");
    assert_eq!((failures.requests().len(), successes.requests().len()), (1, 0));
}

/// Everything is open, and the boot goes on at once.
#[test]
fn the_last_message_gets_out_at_hand_over() {
    let server = Server::start(&[OK]);
    let mut machine = machine("farewell", &entry(&server, "/", "after = 3600"));
    let asker = machine.ask("root", "pw");
    let unlock = machine.ssh_command("unlock", &["unlock"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut unlock = unlock.unwrap(); // it stays for some seconds, as another question might come
    unlock.stdin.take().unwrap().write_all(b"pw").unwrap();
    wait_until(&machine, "the open volume", || machine.status()["phase"] == "unlocked");
    assert_eq!(machine.stop(), Some(0));
    unlock.wait().unwrap(); // whether it has heard of it in time is not what is looked at here
    asker.answers();
    let requests = server.requests();
    if requests.is_empty() && machine.log().contains("has not taken the last message within 2 s") {
        return; // a machine that is too busy for it, and says so
    }
    assert_eq!(requests.len(), 1, "{requests:?}; log:\n{}", machine.log());
    let told: Value = serde_json::from_str(split(&requests[0]).1).unwrap();
    assert_eq!(told["event"], "unlocked", "no word of waiting, as nobody waited for long");
}
