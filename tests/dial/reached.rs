//! From anywhere through the hub to the machine.

use std::process::Stdio;

use crate::common::hub::{HUB, PATIENCE, banner, behind_nat, until};
use crate::{answers, listening, machine};

#[test]
fn a_machine_behind_nat_is_unlocked_through_its_hub() {
    behind_nat("reached::a_machine_behind_nat_is_unlocked_through_its_hub", |mut hub| {
        let (mut machine, lines) = machine(&hub, &["name = \"office\"\nlisten = \"from-address\""]);
        hub.admit(&lines[0]);
        hub.start();
        // A line that is for the hub's own network only: nobody who comes through the hub has an address.
        machine.new_key("near", "ed25519");
        let [id, near] = ["id.pub", "near.pub"].map(|name| std::fs::read_to_string(machine.root.join(name)).unwrap());
        machine.write("etc/vestibule/authorized_keys", &format!("{id}from=\"0.0.0.0/0,::/0\" {near}"));
        machine.start_in("box");
        assert_eq!(listening(&machine, "office", PATIENCE), "localhost:20007", "20000 and the 7 of 10.0.0.7");

        hub.ssh_until(&machine, 20_007, &["status"], b"");
        let asker = machine.ask("root", "hunter2");
        hub.ssh_until(&machine, 20_007, &["unlock", "--wait", "30"], b"hunter2\n");
        assert_eq!(asker.answers(), [b"+hunter2"]);
        until("the log to tell the way", PATIENCE, || {
            let log = machine.log();
            if log.contains("root logged in from 127.0.0.1 through hub office") { Ok(()) } else { Err(log) }
        });
        until("the other key to be refused", PATIENCE, || {
            let refused = hub.ssh(&machine, "near", 20_007, &["status"]).stdin(Stdio::null()).output().unwrap();
            assert!(!refused.status.success(), "{refused:?}");
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            if said.contains("Permission denied") { Ok(()) } else { Err(said) }
        });

        // The hub is restarted: dialled again.
        hub.stop();
        until("the loss to be seen", PATIENCE, || {
            let hub = crate::status_of(&machine, "office");
            if hub["listening"].is_null() && hub["problem"].is_string() { Ok(()) } else { Err(hub.to_string()) }
        });
        hub.start();
        listening(&machine, "office", PATIENCE);
        hub.ssh_until(&machine, 20_007, &["status"], b"");

        // Hand-over: who is there is told, and so is the hub, whose port is free at once.
        let logins = || machine.log().matches("root logged in from 127.0.0.1 through hub office").count();
        let before = logins();
        let look = || {
            let mut screen = hub.ssh(&machine, "id", 20_007, &["peek", "--follow"]);
            screen.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut screen = look();
        until("another session", PATIENCE, || {
            if screen.try_wait().unwrap().is_some() {
                screen = look(); // it came too late, on a busy machine
            }
            if logins() > before { Ok(()) } else { Err(machine.log()) }
        });
        assert_eq!(machine.stop(), Some(0));
        let told = screen.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&told.stderr).contains("boot continues"), "{told:?}");
        until("the hub to hear it", PATIENCE, || {
            let log = hub.log();
            if log.contains("Received disconnect") && log.contains("the boot continues") { Ok(()) } else { Err(log) }
        });
        until("the port to be free", PATIENCE, || match banner("127.0.0.1:20007") {
            Ok(line) => Err(line),
            Err(_) => Ok(()),
        });
    });
}

#[test]
fn a_hub_listens_in_every_way() {
    behind_nat("reached::a_hub_listens_in_every_way", |mut hub| {
        let socket = format!("name = \"socket\"\nlisten = \"{}/sockets/{{machine}}\"", hub.directory.display());
        let ways = [
            "name = \"fixed\"\nlisten = 20500",
            "name = \"machine\"\nlisten = \"from-machine\"\nbase = 30000",
            &socket,
        ];
        let (mut machine, lines) = machine(&hub, &ways);
        // One line for one key: what each way needs, in one.
        let options: Vec<&str> =
            lines.iter().filter_map(|line| line.split(',').find(|word| word.starts_with("permitlisten"))).collect();
        let key = lines[0].split_once("command=\"/bin/false\" ").unwrap().1;
        hub.admit(&format!("restrict,port-forwarding,{},permitopen=\"localhost:1\" {key}", options.join(",")));
        hub.start();
        machine.start_in("box");
        assert_eq!(listening(&machine, "fixed", PATIENCE), "localhost:20500");
        let derived = listening(&machine, "machine", PATIENCE);
        assert!(options[1].contains(&derived), "{derived} was not told: {options:?}");
        let path = listening(&machine, "socket", PATIENCE);
        for place in ["127.0.0.1:20500", &derived.replace("localhost", "127.0.0.1"), &path] {
            answers(place, &machine);
        }
        assert_eq!(machine.stop(), Some(0));
    });
}

/// Windows, queues and sockets between the two ends: nothing is lost, and nothing stops.
#[test]
fn much_passes_through_a_hub_both_ways() {
    behind_nat("reached::much_passes_through_a_hub_both_ways", |mut hub| {
        let (mut machine, lines) = machine(&hub, &["listen = 20500"]);
        let config = std::fs::read_to_string(machine.root.join("etc/vestibule/config.toml")).unwrap();
        machine.write("etc/vestibule/config.toml", &format!("{config}\n[[role]]\nname = \"root\"\nexec = true\n"));
        hub.admit(&lines[0]);
        hub.start();
        machine.start_in("box");
        listening(&machine, HUB, PATIENCE);
        let much: Vec<u8> = (0..24_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let back = hub.ssh_until(&machine, 20_500, &["cat"], &much).stdout;
        assert!(back == much, "{} bytes of {}", back.len(), much.len());
        assert_eq!(machine.stop(), Some(0));
    });
}

#[test]
fn a_hub_chooses_a_port() {
    behind_nat("reached::a_hub_chooses_a_port", |mut hub| {
        let (mut machine, lines) = machine(&hub, &["name = \"any\"\nlisten = \"choose\""]);
        hub.admit(&lines[0]);
        hub.start();
        machine.start_in("box");
        let place = listening(&machine, "any", PATIENCE).replace("localhost", "127.0.0.1");
        answers(&place, &machine);
        // What speaks with the hub has nothing to lose.
        let status = |pid| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let speaks =
            |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("dial-session");
        let process = machine.children().into_iter().find(speaks).map(status).expect("a process for the hub");
        let user = process.lines().find_map(|line| line.strip_prefix("Uid:\t19")).is_some();
        assert!(user && process.contains("Seccomp:\t2") && process.contains("NoNewPrivs:\t1"), "{process}");
        assert_eq!(machine.stop(), Some(0));
    });
}
