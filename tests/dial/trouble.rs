//! What goes wrong is said, and mended as soon as it can be.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::hub::{PATIENCE, banner, behind_nat, until};
use crate::{answers, listening, machine, problem, status_of};

/// The longest pause before a hub is dialled again, and then as long as anything may take.
const NEXT_TRY: Duration = PATIENCE.saturating_add(Duration::from_secs(60));

#[test]
fn what_the_hub_refuses_is_said_until_it_does_not() {
    behind_nat("trouble::what_the_hub_refuses_is_said_until_it_does_not", |mut hub| {
        hub.new_key("other");
        let other = std::fs::read_to_string(hub.directory.join("other.pub")).unwrap();
        let changed = format!("name = \"changed\"\nlisten = 20501\nhost-key = \"{}\"", other.trim());
        let ways = ["name = \"office\"\nlisten = 20500", &changed];
        let (mut machine, lines) = machine(&hub, &ways);
        hub.admit("");
        hub.start();
        machine.start_in("box");
        // Each once, in the order in which a person meets them.
        problem(&machine, "office", "put the line that `vestibule keys` prints", PATIENCE);
        hub.admit(&lines[0].replace(":20500", ":1"));
        problem(&machine, "office", "permitlisten", NEXT_TRY);
        hub.admit(&lines[0]);
        assert_eq!(listening(&machine, "office", NEXT_TRY), "localhost:20500");

        // The hub with another key was dialled all the while, and got nothing.
        let hub_says = status_of(&machine, "changed");
        assert!(hub_says["listening"].is_null(), "{hub_says}");
        problem(&machine, "changed", "NOT THE PINNED ONE", NEXT_TRY);
        let log = machine.log();
        // Not for each of the tries, of which the other hub needed three: what is said is not said again at once.
        let said: Vec<_> =
            log.lines().filter_map(|line| line.split_once("hub changed: ")).map(|(_, why)| why).collect();
        assert!(said.windows(2).all(|pair| pair[0] != pair[1]), "{log}");
        assert!(log.contains(&fingerprint(&hub, "host")) && log.contains(&fingerprint(&hub, "other")), "{log}");

        // The same when a hub gets another key while the machine is up.
        hub.stop();
        hub.new_key("host");
        hub.start();
        problem(&machine, "office", "NOT THE PINNED ONE", NEXT_TRY);
        assert_eq!(machine.stop(), Some(0));
    });
}

/// A port that is taken gets the same answer of OpenSSH's, and is free one day.
#[test]
fn a_port_that_is_taken_is_waited_for() {
    behind_nat("trouble::a_port_that_is_taken_is_waited_for", |mut hub| {
        let (mut machine, lines) = machine(&hub, &["name = \"taken\"\nlisten = 20500"]);
        let taken = [TcpListener::bind("127.0.0.1:20500").unwrap(), TcpListener::bind("[::1]:20500").unwrap()];
        hub.admit(&lines[0]);
        hub.start();
        machine.start_in("box");
        problem(&machine, "taken", "either that port is taken there", PATIENCE);
        drop(taken);
        listening(&machine, "taken", NEXT_TRY);
        answers("127.0.0.1:20500", &machine);
        assert_eq!(machine.stop(), Some(0));
    });
}

#[test]
fn a_cable_that_is_pulled_is_noticed_at_both_ends() {
    behind_nat("trouble::a_cable_that_is_pulled_is_noticed_at_both_ends", |mut hub| {
        let (mut machine, lines) = machine(&hub, &["name = \"office\"\nlisten = 20500"]);
        hub.admit(&lines[0]);
        hub.start();
        machine.start_in("box");
        listening(&machine, "office", PATIENCE);
        cable("down");
        // Nobody says goodbye: 28 s here, 15 s there (ClientAliveInterval), and whatever a busy machine takes.
        problem(&machine, "office", "", 3 * PATIENCE);
        until("the hub to give the port back", 3 * PATIENCE, || match banner("127.0.0.1:20500") {
            Ok(line) => Err(line),
            Err(error) if error.contains("refused") => Ok(()),
            Err(other) => Err(other),
        });
        cable("up");
        listening(&machine, "office", NEXT_TRY);
        answers("127.0.0.1:20500", &machine);
        assert_eq!(machine.stop(), Some(0));
    });
}

/// The machine's own network comes up late, and nothing is said of a hub before.
#[test]
fn a_hub_is_dialled_as_soon_as_there_is_a_network() {
    behind_nat("trouble::a_hub_is_dialled_as_soon_as_there_is_a_network", |mut hub| {
        let (mut machine, lines) = machine(&hub, &["name = \"office\"\nlisten = \"from-address\""]);
        hub.admit(&lines[0]);
        hub.start();
        let config = std::fs::read_to_string(machine.root.join("etc/vestibule/config.toml")).unwrap();
        let interface = "[[network.interface]]\nname = \"b0\"\naddress = \"10.0.0.9/24\"\ngateway = \"10.0.0.1\"\n";
        machine.write("etc/vestibule/config.toml", &(config.replace("network = false\n", "") + interface));
        // What the kernel says of interfaces is the namespace's own; its command line is not.
        std::fs::remove_dir_all(machine.root.join("sys")).unwrap();
        for real in ["sys", "proc/sys"] {
            std::os::unix::fs::symlink(format!("/{real}"), machine.root.join(real)).unwrap();
        }
        machine.write("proc/cmdline", "");
        ip(&["-n", "box", "address", "flush", "dev", "b0"]);
        cable("down");
        machine.start_in("box");
        problem(&machine, "office", "there is no network", PATIENCE);
        assert!(!machine.log().contains("hub office: "), "{}", machine.log());
        cable("up");
        assert_eq!(listening(&machine, "office", PATIENCE), "localhost:20009");
        assert_eq!(machine.stop(), Some(0));
    });
}

/// Between the machine and its router.
fn cable(state: &str) {
    ip(&["-n", "nat", "link", "set", "n1", state]);
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).stdin(Stdio::null()).status().unwrap().success(), "{arguments:?}");
}

fn fingerprint(hub: &crate::common::hub::Hub, key: &str) -> String {
    let shown = Command::new("ssh-keygen").arg("-lf").arg(hub.directory.join(format!("{key}.pub"))).output().unwrap();
    String::from_utf8(shown.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}
