//! A flood never keeps the owner out.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::common::Machine;
use crate::network::with_own_network;
use crate::peers::{Flood, Says};

/// One flood at a time: with another one beside it, the machine is what is tested.
static ONE: Mutex<()> = Mutex::new(());
const OWNER: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
const PEERS: usize = 300;
/// Twice the time that a login may take.
const TWO_LOGINS: Duration = Duration::from_secs(120);

/// Another address of the same /24.
fn neighbours(count: u8) -> Vec<Ipv4Addr> {
    (2..2 + count).map(|n| Ipv4Addr::new(127, 0, 1, n)).collect()
}

/// A machine with the login deadline that users have: a flood does not end by it while the test runs.
fn machine(name: &str) -> Machine {
    let mut machine = Machine::new(name);
    machine.write("etc/vestibule/config.toml", &format!("port = {}\nnetwork = false\n", machine.port));
    machine.start();
    machine.wait_for_ssh();
    machine
}

/// The owner logs in. Beside a flood from one other address, at the first try; where the flood is no different from the owner
/// (the same address, or one for each peer) and the machine is too busy for a login in time, a second one may be needed.
fn owner_gets_in(machine: &Machine, flood: &Flood, alike: bool) {
    for _ in 0..3 {
        let started = Instant::now();
        let mut tries = 1;
        loop {
            let owner = machine.ssh("peek", &["-b", &OWNER.to_string(), "--", "status"], b"");
            if owner.status.code() == Some(0) {
                break;
            }
            assert!(alike && started.elapsed() < TWO_LOGINS, "try {tries}: {owner:?}");
            tries += 1;
        }
        let connections = flood.connections.load(Ordering::Relaxed);
        eprintln!("owner in after {:?}, {tries} tries, beside {connections} connections", started.elapsed());
    }
}

fn withstands(says: Says) {
    let machine = machine("flood");
    for (sources, alike) in [(neighbours(1), false), (neighbours(250), true), (vec![OWNER], true)] {
        let flood = Flood::start(&machine, PEERS, &sources, says);
        owner_gets_in(&machine, &flood, alike);
    }
    assert!(!machine.log().contains("accepting an SSH connection failed"), "{}", machine.log());
}

fn alone(test: &str, body: impl FnOnce()) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    with_own_network(test, body);
}

#[test]
fn of_peers_that_say_nothing() {
    alone("flood::of_peers_that_say_nothing", || withstands(Says::Nothing));
}

#[test]
fn of_peers_that_say_half_a_line() {
    alone("flood::of_peers_that_say_half_a_line", || withstands(Says::HalfALine));
}

#[test]
fn of_peers_that_say_who_they_are_and_nothing_else() {
    alone("flood::of_peers_that_say_who_they_are_and_nothing_else", || withstands(Says::ALine));
}

#[test]
fn of_peers_that_begin_the_key_exchange() {
    alone("flood::of_peers_that_begin_the_key_exchange", || withstands(Says::Algorithms));
}

#[test]
fn of_clients_with_wrong_keys() {
    alone("flood::of_clients_with_wrong_keys", || {
        let began = Instant::now();
        let machine = machine("flood-keys");
        machine.new_key("wrong", "ed25519");
        for (sources, alike) in [(neighbours(4), false), (vec![OWNER; 4], true)] {
            let flood = Flood::of_wrong_keys(&machine, &sources);
            owner_gets_in(&machine, &flood, alike);
        }
        let refusals = machine.log().matches("key not authorized").count();
        // Six in ten seconds.
        let most = 6 * (1 + began.elapsed().as_secs() as usize / 10);
        assert!((1..=most).contains(&refusals), "{refusals} lines of strangers in the log, of {most}");
    });
}

#[test]
fn silent_peers_cost_no_process() {
    alone("flood::silent_peers_cost_no_process", || {
        let machine = machine("flood-cost");
        machine.wait_for("the probe's end", || machine.children().is_empty());
        for says in [Says::Nothing, Says::HalfALine] {
            let _flood = Flood::start(&machine, PEERS, &neighbours(10), says);
            assert_eq!(machine.children(), [0; 0]);
        }
        let _flood = Flood::start(&machine, 1, &neighbours(1), Says::ALine);
        machine.wait_for("the process of one that speaks", || machine.children().len() == 1);
    });
}
