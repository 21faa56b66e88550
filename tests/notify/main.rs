//! The daemon tells servers that the machine waits, over loopback.

#[path = "../common/mod.rs"]
#[allow(dead_code)] // other tests use the rest of it
mod common;
mod messages;
mod misfortunes;
mod server;
#[cfg(feature = "tls")]
mod tls;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use common::Machine;
use serde_json::Value;
use server::{DEADLINE, Server};

/// A machine that tells these entries of `[[notify]]`; running.
fn machine(name: &str, entries: &str) -> Machine {
    let mut machine = prepared(name, entries);
    start(&mut machine);
    machine
}

/// Until SSH listens as well.
fn start(machine: &mut Machine) {
    machine.start();
    machine.wait_for_ssh();
}

fn prepared(name: &str, entries: &str) -> Machine {
    let machine = Machine::new(name);
    let port = machine.port;
    machine
        .write("etc/vestibule/config.toml", &format!("port = {port}\nnetwork = false\nlogin-seconds = 60\n{entries}"));
    machine
}

/// A question that nobody answers, for as long as this lives: askers of [`Machine::ask`] have a deadline.
struct Question(#[allow(dead_code)] UnixDatagram); // its socket

impl Question {
    fn ask(machine: &Machine) -> Self {
        let directory = machine.root.join("run/systemd/ask-password");
        let socket = UnixDatagram::bind(directory.join("sck.1")).unwrap();
        let pid = std::process::id();
        std::os::unix::fs::symlink(format!("/proc/{pid}"), machine.root.join(format!("proc/{pid}"))).unwrap();
        let text = format!(
            "[Ask]\nPID={pid}\nSocket=/run/systemd/ask-password/sck.1\nNotAfter=0\nMessage=Password, please:\nId=x\n"
        );
        std::fs::write(directory.join("tmp.1"), text).unwrap();
        std::fs::rename(directory.join("tmp.1"), directory.join("ask.1")).unwrap();
        Self(socket)
    }
}

fn entry(server: &Server, path: &str, lines: &str) -> String {
    format!("[[notify]]\nurl = \"http://127.0.0.1:{}{path}\"\n{lines}\n", server.port)
}

fn wait_until(machine: &Machine, what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain for {what}; log:\n{}", machine.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Until the notification number `index` in the status is as wanted.
fn until(machine: &Machine, index: usize, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut is = Value::Null;
    wait_until(machine, &format!("notification {index}"), || {
        is = machine.status()["notifications"][index].clone();
        wanted(&is)
    });
    is
}

fn until_sent(machine: &Machine, index: usize, count: u64) -> Value {
    until(machine, index, |it| it["sent"] == count)
}

/// Until it has failed with a problem that contains this, which stays while it is tried again.
fn until_failed(machine: &Machine, index: usize, problem: &str) -> Value {
    until(machine, index, |it| it["problem"].as_str().unwrap_or_default().contains(problem))
}
