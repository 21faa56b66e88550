//! Services: kept running, ended wholly, and found again by another supervisor.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vestibule::chroot::place::Place;
use vestibule::chroot::processes::{self, Seen};
use vestibule::chroot::supervise::{self, Condition};

use crate::house::{alone, kill, line_of, others, process_of, running};
use crate::lab::{Beside, DEADLINE, outcome, run, until};

/// Somebody's: without any, our server is not started.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n";

#[test]
fn one_that_ends_at_once_is_started_again_with_longer_and_longer_pauses() {
    alone("services::one_that_ends_at_once_is_started_again_with_longer_and_longer_pauses", |house| {
        let fails = "echo out; echo err >&2; printf 'half \\033[2J'; exit 3";
        // By a real-time signal.
        house.define(&[("fails", fails, 10), ("missing", "", 10), ("signal", "kill -40 $$; exec sleep 1001", 10)]);
        // Whoever starts it may have passed on that children are not to be told of.
        let start = house.lab.command(&["start", "test"]);
        let mut careless = Command::new("env");
        careless.arg("--ignore-signal=CHLD").arg(start.get_program()).args(start.get_args()).stdin(Stdio::null());
        let begin = Instant::now();
        assert_eq!(outcome(&mut careless).status, Some(0));
        let fails = || house.service("fails");
        until("two restarts", || fails().restarts >= 2);
        assert!(begin.elapsed() >= Duration::from_secs(3), "the pauses are 1 s, 2 s: {:?}", begin.elapsed());
        until("the third run's end in the log", || house.said("supervisor: fails: is started again in 4 s"));
        assert_eq!(fails().last_exit.as_deref(), Some("ended with status 3"));
        let how = || house.service("signal").last_exit;
        until("the end by that signal", || how().as_deref() == Some("was ended by signal 40"));
        let supervisor = house.status().pid.unwrap();
        assert!(ticks(supervisor) < 100, "it has worked for {} s in all", ticks(supervisor) / 100);

        house.run("stop");
        let log = house.log();
        let of_it = |line: &&str| ["fails: ", "supervisor: fails: "].iter().any(|who| line.starts_with(who));
        let lines: Vec<String> = log.lines().filter(of_it).map(without_numbers).take(10).collect();
        let round = |pause| {
            let ended = "supervisor: fails: process N ended with status N, after N s".to_owned();
            let printed = ["fails: out", "fails: err", "fails: half \\xNb[NJ"].map(str::to_owned);
            let again = format!("supervisor: fails: is started again in {pause} s");
            let started = "supervisor: fails: started as process N".to_owned();
            [started].into_iter().chain(printed).chain([ended, again])
        };
        let expected: Vec<String> = round("N").chain(round("N")).take(10).collect();
        assert_eq!(lines, expected, "{log}");
        let pauses = log.lines().filter_map(|line| line.strip_prefix("supervisor: fails: is started again in "));
        assert_eq!(pauses.take(3).collect::<Vec<_>>(), ["1 s", "2 s", "4 s"]);
        assert!(log.contains("missing: vestibule: /nowhere is not in the chroot"), "{log}");
        assert!(log.contains("supervisor: missing: process "), "{log}");
        assert_eq!(others(), [""; 0]);
    });
}

#[test]
fn one_that_ignores_to_be_ended_is_killed_with_all_that_it_has_started() {
    alone("services::one_that_ignores_to_be_ended_is_killed_with_all_that_it_has_started", |house| {
        let stubborn = "trap '' TERM HUP; sleep 1001 & setsid sleep 1002 & (sleep 1003 & sleep 1004) & echo up; \
                        while :; do sleep 1005; done";
        house.define(&[
            ("polite", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 1 & wait; done", 60),
            ("stubborn", stubborn, 1),
        ]);
        house.run("start");
        until("both are up", || house.said("polite: up") && house.said("stubborn: up"));
        until("all that it starts", || (1001..=1005).all(|count| others().contains(&format!("sleep {count}"))));
        let before = house.status();

        assert_eq!(house.run("start"), "test is up already\n");
        assert_eq!(house.status(), before, "a second start changes nothing");

        let said = house.run("stop");
        assert!(!said.contains("was still in it"), "the supervisor leaves nothing: {said}");
        assert_eq!(others(), [""; 0], "{}", house.log());
        let log = house.log();
        assert!(log.matches("(sleep) did not end within 1 s, and is killed").count() >= 4, "{log}");
        let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what} is not in the log:\n{log}"));
        assert!(
            at("(sh) did not end within 1 s, and is killed") < at("polite: bye"),
            "the last is ended first:\n{log}"
        );
        assert!(at("polite: bye") < at("supervisor: polite: process "), "last words go before the end:\n{log}");
        assert!(log.contains("(sleep) had left its service"), "{log}");
        assert!(supervise::status(&house.state()).unwrap().is_none());
        house.run("stop");
    });
}

#[test]
fn a_killed_supervisor_is_followed_by_one_that_takes_over() {
    alone("services::a_killed_supervisor_is_followed_by_one_that_takes_over", |house| {
        // What is written to the pipe is printed, so that it can be said when.
        let echo = "mkfifo /pipe; echo up; while :; do cat /pipe; done";
        // Its main process has closed what it was given.
        let apart = "mkfifo /apart; while :; do cat /apart; done & echo up; exec >/dev/null 2>&1; wait";
        house.define(&[
            ("echo", echo, 10),
            ("apart", apart, 10),
            ("goes", "echo up; exec sleep 1001", 10),
            ("ends", "exec sleep 1002", 10),
        ]);
        house.run("start");
        until("they are up", || ["echo", "apart", "goes"].iter().all(|name| house.said(&format!("\n{name}: up"))));
        let before = house.status();
        let [echo, goes, ends] = ["echo", "goes", "ends"].map(|name| process_of(&before, name));

        kill(running(before.pid.unwrap()));
        let between = house.status();
        assert_eq!((between.pid, process_of(&between, "echo")), (None, echo));
        assert!(!between.is_up());
        // Nobody reads what it prints now; once it has printed, it reads on.
        let reader = || processes::all().into_iter().find(|seen| line_of(seen.running.pid) == "cat /pipe");
        until("it reads", || reader().is_some());
        let first = reader().map(|seen| seen.running);
        fs::write(house.tree.join("pipe"), "printed while nobody was there\n").unwrap();
        until("it has printed", || reader().is_some_and(|seen| Some(seen.running) != first));
        kill(ends);

        house.run("start");
        let after = house.status();
        assert!(after.pid.is_some_and(|pid| Some(pid) != before.pid));
        assert_eq!((process_of(&after, "echo"), process_of(&after, "goes")), (echo, goes));
        until("what was printed arrives", || house.said("echo: printed while nobody was there"));
        fs::write(house.tree.join("apart"), "printed by what it has started\n").unwrap();
        until("what that printed arrives", || house.said("apart: printed by what it has started"));
        until("what had ended is started again", || house.service("ends").pid.is_some());
        assert_eq!(house.service("ends").last_exit.as_deref(), Some("ended, status unknown"));
        assert_eq!(others().iter().filter(|line| *line == "sleep 1001").count(), 1, "nothing runs twice");
        kill(goes);
        until("it is started again", || house.service("goes").pid.is_some_and(|pid| pid != goes.pid));
        assert_eq!(house.service("goes").last_exit.as_deref(), Some("ended, status unknown"));

        kill(running(house.status().pid.unwrap()));
        let said = house.run("stop");
        assert_eq!(others(), [""; 0]);
        assert!(said.contains("the supervisor had been killed") && said.contains("echo: process "), "{said}");
        assert!(supervise::status(&house.state()).unwrap().is_none());
    });
}

#[test]
fn a_start_after_a_stop_that_was_interrupted_starts_anew() {
    alone("services::a_start_after_a_stop_that_was_interrupted_starts_anew", |house| {
        let slow = "trap 'until [ -e /go ]; do sleep 0.1; done; exit' TERM; echo up; while :; do sleep 0.1; done";
        house.define(&[("slow", slow, 600)]);
        house.run("start");
        until("it is up", || house.said("slow: up"));
        let before = house.status();
        let first = process_of(&before, "slow");
        let spawn = |action| {
            let mut command = house.lab.command(&[action, "test"]);
            Beside(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        };
        let stop = spawn("stop");
        until("it is being ended", || house.service("slow").state == Condition::Ending);
        drop(stop);
        let mut start = spawn("start");
        until("somebody starts it", || house.state().lock(Duration::ZERO).is_err());
        house.lab.put("tree/go", "");
        assert!(start.0.wait().unwrap().success());
        let after = house.status();
        assert!(after.pid.is_some_and(|pid| Some(pid) != before.pid), "{before:?} {after:?}");
        assert_ne!(process_of(&after, "slow"), first);
        house.run("stop");
        assert_eq!(others(), [""; 0]);
    });
}

#[test]
fn one_that_goes_into_the_background_counts_as_running_while_it_lives() {
    alone("services::one_that_goes_into_the_background_counts_as_running_while_it_lives", |house| {
        house.define(&[("daemon", "setsid sleep 1001 & echo started; exit 0", 10)]);
        house.run("start");
        let of_name = || house.service("daemon");
        until("it is in the background", || of_name().state == Condition::Background);
        let first = running(of_name().pid.unwrap());
        until("it is the one that was left", || line_of(first.pid) == "sleep 1001");
        assert_eq!((of_name().pid, of_name().restarts), (Some(first.pid), 0));
        kill(first);
        until("it is started again", || of_name().pid.is_some_and(|pid| pid != first.pid) && of_name().restarts == 1);
        until("it is in the background again", || others().contains(&"sleep 1001".to_owned()));
        house.run("stop");
        assert_eq!(others(), [""; 0]);
    });
}

#[test]
fn one_that_is_not_root_can_open_its_standard_output() {
    alone("services::one_that_is_not_root_can_open_its_standard_output", |house| {
        house.lab.put("tree/etc/passwd", "somebody:x:1000:1000::/:/bin/sh\n");
        let definition = "standard-mounts = false\nlog.file = \"/log/test\"\n\
            [[mount]]\ntype = \"proc\"\ntarget = \"/proc\"\n\
            [[service]]\nname = \"prints\"\nuser = \"somebody\"\n\
            command = [\"/bin/sh\", \"-c\", \"echo through > /proc/self/fd/1; echo on; exec sleep 1001\"]\n";
        house.lab.define("test", definition);
        house.run("start");
        until("it has printed", || house.said("\nprints: on"));
        assert!(house.said("\nprints: through"), "{}", house.log());
        house.run("stop");
        assert_eq!(others(), [""; 0]);
    });
}

#[test]
fn host_keys_that_could_not_be_made_are_made_before_a_later_start() {
    alone("services::host_keys_that_could_not_be_made_are_made_before_a_later_start", |house| {
        house.put_program("ssh-keygen", "[ -e /ready ] && : > /etc/ssh/ssh_host_x_key");
        house.put_program("sshd", "[ -e /etc/ssh/ssh_host_x_key ] && exec sleep 1001");
        fs::create_dir_all(house.tree.join("etc/ssh")).unwrap();
        let service = "[[service]]\nname = \"server\"\ncommand = [\"/bin/sshd\"]\n";
        house.lab.define("test", &format!("standard-mounts = false\nlog.file = \"/log/test\"\n{service}"));
        house.run("start");
        until("the first start without", || house.said("server: is started again in 2 s"));
        assert!(house.said("what prepares its start did not end well"), "{}", house.log());
        house.lab.put("tree/ready", "");
        until("it runs", || others().contains(&"sleep 1001".to_owned()));
        house.run("stop");
        assert_eq!(others(), [""; 0]);
    });
}

#[test]
fn what_another_service_leaves_is_not_taken_for_one_in_the_background() {
    alone("services::what_another_service_leaves_is_not_taken_for_one_in_the_background", |house| {
        let other = "mkfifo /pipe; echo up; cat /pipe; (setsid sleep 1002 &); echo left; exec sleep 1003";
        house.define(&[("daemon", "setsid sleep 1001 & exit 0", 10), ("other", other, 10)]);
        house.run("start");
        let of_name = || house.service("daemon");
        until("it is in the background", || of_name().state == Condition::Background && house.said("other: up"));
        let first = running(of_name().pid.unwrap());
        until("it is the one that was left", || line_of(first.pid) == "sleep 1001");
        fs::write(house.tree.join("pipe"), "now\n").unwrap();
        let supervisor = house.status().pid.unwrap();
        let is_left = |seen: &Seen| line_of(seen.running.pid) == "sleep 1002" && seen.parent == supervisor;
        until("it has left one to the supervisor", || processes::all().iter().any(is_left));
        kill(first);
        until("it is started again", || of_name().pid.is_some_and(|pid| pid != first.pid) && of_name().restarts == 1);
        house.run("stop");
        assert_eq!(others(), [""; 0]);
    });
}

#[test]
fn our_own_server_keeps_its_sockets() {
    alone("services::our_own_server_keeps_its_sockets", |house| {
        house.lab.put_libraries();
        house.lab.define("test", "log.file = \"/log/test\"\n[ssh]\nlisten = [\"127.0.0.1\"]\n");
        let said = house.run("start");
        assert!(said.contains("put your public key into"), "{said}");
        house.run("stop");

        house.lab.put("tree/root/.ssh/authorized_keys", KEY);
        house.run("start");
        assert!(greeting().starts_with("SSH-2.0-"));
        assert!(house.said("ssh: known_hosts: "), "the host key is told before anybody needs it:\n{}", house.log());

        // The next one reads what came while there was none.
        let server = || house.service("ssh");
        until("the server is known", || server().state == Condition::Running);
        let first = running(server().pid.unwrap());
        kill(first);
        assert!(greeting().starts_with("SSH-2.0-"));
        until("another one is known", || server().pid.is_some_and(|pid| pid != first.pid));
        let second = running(server().pid.unwrap());

        // The next supervisor leaves the port to the server that lives, and has it when that has gone.
        kill(running(house.status().pid.unwrap()));
        house.run("start");
        assert_eq!(process_of(&house.status(), "ssh"), second);
        assert!(greeting().starts_with("SSH-2.0-"));
        kill(second);
        until("another one runs", || server().pid.is_some_and(|pid| pid != second.pid));
        assert!(greeting().starts_with("SSH-2.0-"));
        house.run("stop");
        assert_eq!(others(), [""; 0]);
    });
}

#[test]
fn nothing_ends_because_nothing_can_be_written_down() {
    alone("services::nothing_ends_because_nothing_can_be_written_down", |house| {
        house.define(&[("goes", "echo up; exec sleep 1001", 10)]);
        house.run("start");
        let sleeper = || processes::all().into_iter().find(|seen| line_of(seen.running.pid) == "sleep 1001");
        until("it is up", || sleeper().is_some());
        let before = house.status();
        let places = ["run", "log"].map(|name| house.lab.path(name));
        for place in &places {
            run("mount", &["-t", "tmpfs", "-o", "ro", "tmpfs", place.to_str().unwrap()]);
        }
        let first = process_of(&before, "goes");
        kill(first);
        until("it is started again", || sleeper().is_some_and(|seen| seen.running != first));
        for place in &places {
            run("umount", &["--lazy", place.to_str().unwrap()]); // the supervisor may just be trying
        }
        let second = sleeper().unwrap().running;
        until("it is written down", || house.service("goes").pid == Some(second.pid));
        assert_eq!(house.status().pid, before.pid);
        house.run("stop");
        assert_eq!(others(), [""; 0]);
        assert!(house.said("lines before this one are lost"), "{}", house.log());
    });
}

#[test]
fn whatever_has_its_root_in_the_chroot_is_found_and_ended() {
    alone("services::whatever_has_its_root_in_the_chroot_is_found_and_ended", |house| {
        fs::create_dir_all(house.tree.join("below/bin")).unwrap();
        fs::copy(house.tree.join("bin/busybox"), house.tree.join("below/bin/busybox")).unwrap();
        let elsewhere = house.lab.path("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        run("mount", &["--bind", house.tree.to_str().unwrap(), elsewhere.to_str().unwrap()]);
        let start = |root: &Path, line: &str| {
            let mut command = Command::new("chroot");
            command.arg(root).args(["/bin/busybox", "sh", "-c", line]).stdin(Stdio::null()).stdout(Stdio::null());
            command.spawn().unwrap()
        };
        let mut inside = vec![
            start(&house.tree, "exec sleep 1001"),
            start(&house.tree.join("below"), "exec /bin/busybox sleep 1002"),
            start(&elsewhere, "while :; do sleep 1003; done"),
        ];
        let mut outside = Command::new("sleep").arg("1004").current_dir(&house.tree).spawn().unwrap();
        // Not before it is in the chroot: what brings it there has its name at the end of its own.
        let is_up = |count: u32| {
            others().iter().any(|line| line.trim_start_matches("/bin/busybox ") == format!("sleep {count}"))
        };
        until("all are up", || (1001..=1004).all(is_up));

        let place = Place::open(&house.tree).unwrap();
        let pids = |found: Vec<Seen>| found.into_iter().map(|seen| seen.running.pid).collect::<BTreeSet<_>>();
        let found = pids(processes::within(&place));
        assert!(inside.iter().all(|child| found.contains(&child.id().cast_signed())), "{found:?}");
        assert_eq!(found.len(), 4, "and the sleep of the shell");
        let told = processes::end_all(&place, DEADLINE);
        assert!(told.len() >= 4 && told.iter().all(|line| line.ends_with("it was told to end, and did")), "{told:?}");

        inside.push(start(&house.tree, "trap '' TERM HUP; while :; do sleep 1005; done"));
        until("one that does not want to is up", || is_up(1005));
        let told = processes::end_all(&place, Duration::from_millis(100));
        assert!(told.iter().all(|line| line.ends_with("did not end when it was told to, and was killed")), "{told:?}");
        assert!(told.len() >= 2 && others() == ["sleep 1004"], "{told:?}");
        assert_eq!(processes::end_all(&place, Duration::ZERO), [""; 0]);

        outside.kill().unwrap();
        outside.wait().unwrap();
        for mut child in inside {
            child.wait().unwrap();
        }
    });
}

/// What the server says first, as soon as it says it.
fn greeting() -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", 2222)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut start = [0; 8];
    stream.read_exact(&mut start).unwrap();
    String::from_utf8_lossy(&start).into_owned()
}

/// Hundredths of a second for which a process has had a processor.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    for c in line.chars() {
        match c.is_ascii_digit() {
            true if text.ends_with('N') => {}
            true => text.push('N'),
            false => text.push(c),
        }
    }
    text
}
