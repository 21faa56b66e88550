//! Machines behind NAT that dial a hub, which is OpenSSH's own server: reached through it, in trouble with it, and without it.

#[path = "../common/mod.rs"]
#[allow(dead_code)] // other tests use the rest of it
mod common;
mod reached;
mod trouble;

use std::time::Duration;

use common::Machine;
use common::hub::{HUB, Hub, PATIENCE, banner, until};
use serde_json::Value;

/// A machine that will dial this hub, with a `[[dial]]` of each of these lines; and the lines for the hub, as it prints them.
fn machine(hub: &Hub, dials: &[&str]) -> (Machine, Vec<String>) {
    let machine = Machine::new("dial");
    let config = std::fs::read_to_string(machine.root.join("etc/vestibule/config.toml")).unwrap();
    let entry = |lines: &&str| {
        let pinned = format!("host-key = \"{}\"\n", hub.host_key());
        let pinned = if lines.contains("host-key") { "" } else { &pinned };
        format!("[[dial]]\nhub = \"boxes@{HUB}\"\n{pinned}{lines}\n")
    };
    machine.write("etc/vestibule/config.toml", &(config + &dials.iter().map(entry).collect::<String>()));
    let keys = machine.vestibule(&["keys"]);
    assert!(keys.status.success(), "{keys:?}");
    let printed = String::from_utf8(keys.stdout).unwrap();
    let lines = printed.lines().filter_map(|line| line.strip_prefix(&format!("authorized_keys of boxes@{HUB}:22: ")));
    let lines: Vec<String> = lines.map(|line| format!("{line}\n")).collect();
    assert_eq!(lines.len(), dials.len(), "{printed}");
    let checked = machine.vestibule(&["check"]);
    assert!(checked.status.success(), "{checked:?}");
    (machine, lines)
}

fn status_of(machine: &Machine, name: &str) -> Value {
    let status = machine.status();
    status["hubs"].as_array().unwrap().iter().find(|hub| hub["name"] == name).expect(name).clone()
}

/// Until the hub listens for the machine: where.
fn listening(machine: &Machine, name: &str, patience: Duration) -> String {
    until(&format!("{name} to listen"), patience, || {
        let hub = status_of(machine, name);
        match hub["listening"].as_str() {
            Some(place) => Ok(place.to_owned()),
            None => Err(format!("{hub}; log:\n{}", machine.log())),
        }
    })
}

/// Until the status tells of trouble with these words.
fn problem(machine: &Machine, name: &str, words: &str, patience: Duration) {
    until(&format!("{name} to be in trouble"), patience, || {
        let hub = status_of(machine, name);
        let said = hub["problem"].as_str().is_some_and(|problem| problem.contains(words));
        if said { Ok(()) } else { Err(format!("{hub}; log:\n{}", machine.log())) }
    });
}

/// Until the machine's server answers at a place on the hub.
fn answers(place: &str, machine: &Machine) {
    until(&format!("an answer at {place}"), PATIENCE, || match banner(place) {
        Ok(line) if line.starts_with("SSH-2.0-vestibule") => Ok(()),
        other => Err(format!("{other:?}; log:\n{}", machine.log())),
    });
}
