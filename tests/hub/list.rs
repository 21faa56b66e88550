//! `vestibule hub list`: machines that wait behind their tunnels.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::common::Machine;
use crate::network::with_own_network;
use crate::stock::{DEADLINE, Hub};
use crate::tunnel::Tunnel;

/// One comes through a real tunnel, one by its own port; one doesn't answer, one has no tunnel, one is not who it should be.
#[test]
fn machines_that_wait() {
    with_own_network("list::machines_that_wait", || {
        let hub = Hub::started("list", &["web1"]);
        let (web1, mut web2) = (Machine::started("web1"), Machine::new("web2"));
        // One person's key for both.
        web2.write("etc/vestibule/authorized_keys", &fs::read_to_string(web1.root.join("id.pub")).unwrap());
        web2.start();
        web1.wait_for_ssh();
        web2.wait_for_ssh();
        let asker = web1.ask("root", "correct horse");
        web1.wait_for("the question", || web1.status()["phase"] == "asking");
        let tunnel = Tunnel::start(&hub, "vestibule", &["-R", &format!("20001:127.0.0.1:{}", web1.port)]);
        tunnel.wait_for("connected to");
        let mute = TcpListener::bind("127.0.0.1:0").unwrap(); // nobody accepts
        let silent = format!("silent={}", mute.local_addr().unwrap().port());
        let (one, two) = (key(&web1), key(&web2));
        let known = hub.place.join("machines");
        fs::write(
            &known,
            format!("web1 {one}\n[localhost]:{} {two}\nwrong {one}\nsilent {one}\nabsent {one}\n", web2.port),
        )
        .unwrap();

        // On a machine with other work, one that is well may take longer than it is given: then it is asked again.
        let all = until(
            || list(&web1, &known, &["--json", "web1=20001", &format!("web2={}", web2.port)]),
            |output| output.status.code() == Some(0),
        );
        let all: Value = serde_json::from_slice(&all.stdout).unwrap();
        assert_eq!(all["machines"][0]["status"]["questions"][0]["volume"], "root", "{all}");
        assert_eq!(all["machines"][1]["status"]["phase"], "booting", "{all}");

        let keys = hub.place.join("etc/ssh/hub-vestibule.keys");
        let wrong = format!("wrong={}", web2.port);
        let unknown =
            "has no host key for [unknown]:2222 or unknown or [localhost]:20001; an unknown one is never accepted";
        let some = until(
            || list(&web1, &known, &["--keys", keys.to_str().unwrap(), &silent, "absent=1", &wrong, "unknown=20001"]),
            |output| {
                let table = String::from_utf8_lossy(&output.stdout);
                let row = table.lines().find(|line| line.starts_with("web1 ")).unwrap_or_default();
                row.split_whitespace().skip(1).take(3).eq(["localhost:20001", "asking", "root"])
                    && table.contains("\nsilent: no answer within 10 s\n")
                    && table
                        .contains("\nabsent: nothing listens at localhost:1: the machine is not connected to this hub")
                    && table.contains("\nwrong: ITS HOST KEY IS NOT THE PINNED ONE")
                    && table.contains(unknown)
            },
        );
        assert_eq!(some.status.code(), Some(3), "{some:?}");
        assert_eq!(list(&web1, &known, &["web1=x"]).status.code(), Some(2));
        drop((asker, tunnel));
    });
}

/// Asks again until it is as expected.
fn until(ask: impl Fn() -> Output, expected: impl Fn(&Output) -> bool) -> Output {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let output = ask();
        if expected(&output) {
            return output;
        }
        assert!(Instant::now() < deadline, "{}\n{output:?}", String::from_utf8_lossy(&output.stdout));
    }
}

fn list(identity: &Machine, known: &Path, more: &[&str]) -> Output {
    let mut list = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    list.args(["hub", "list", "-i"]).arg(identity.root.join("id")).arg("--known-hosts").arg(known).args(more);
    list.stdin(Stdio::null()).output().unwrap()
}

/// A machine's host key.
fn key(machine: &Machine) -> String {
    let line = fs::read_to_string(machine.root.join("known_hosts")).unwrap();
    line.split_once(' ').unwrap().1.trim().to_owned()
}
