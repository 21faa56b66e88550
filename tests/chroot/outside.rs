//! What is started inside goes out by itself, as root can (`chroot /proc/1/root`): it doesn't belong to the chroot any more.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use vestibule::chroot::processes::{self, Running};

use crate::lab::{Beside, DEADLINE, Lab, on_own_machine, outcome, table, until};
use crate::server::{Client, HOST_KEY, LOG, PORT, answer, put_needs_of_the_test};
use crate::trees;

#[test]
fn what_was_started_outside_is_left_alone() {
    let tree = trees::find("busybox");
    on_own_machine("outside::what_was_started_outside_is_left_alone", |lab| {
        trees::put(&lab, &tree);
        // Each leaves a daemon outside, and goes on when that is there; the second ends then, and runs on the second time.
        let leave = |count: u32, mark: &str| {
            let daemon = format!("touch {}; exec sleep {count}", lab.tree().join(mark).display());
            format!(
                "(setsid chroot /proc/1/root sh -c '{daemon}' < /proc/1/root/dev/null &); until [ -e /{mark} ]; do sleep 0.1; done"
            )
        };
        let keeps = format!("{}; exec sleep 1001", leave(1002, "first"));
        let ends = format!("[ -e /second ] && exec sleep 1003; {}; exit 0", leave(1004, "second"));
        let service = |name: &str, line: &str| {
            format!("[[service]]\nname = \"{name}\"\ncommand = [\"/bin/sh\", \"-c\", {line:?}]\n")
        };
        let services = [service("keeps", &keeps), service("ends", &ends)].concat();
        lab.define("x", &format!("ssh = false\nlog.file = \"/log\"\n{services}"));
        lab.well(&["start", "x"]);
        until("what is to run", || (1001..=1004).all(|count| sleeper(count).is_some()));
        let outside = [1002, 1004].map(|count| sleeper(count).unwrap());
        assert!(!log(&lab).contains("counts as running"), "{}", log(&lab));

        let said = lab.well(&["stop", "x"]);
        assert_eq!((&*said.err, sleeper(1001), sleeper(1003)), ("", None, None));
        assert!(outside.iter().all(|daemon| daemon.lives()), "{said:?} {}", log(&lab));
        for daemon in outside {
            assert!(daemon.signal(Signal::SIGKILL) && daemon.ended_by(Instant::now() + DEADLINE));
        }
    });
}

/// By a login of our own server inside, whose session is killed when the server is ended; and at a terminal, which is hung up.
#[test]
fn a_restart_from_inside_is_completed() {
    let tree = trees::find("busybox");
    on_own_machine("outside::a_restart_from_inside_is_completed", |lab| {
        trees::put(&lab, &tree);
        put_needs_of_the_test(&lab);
        lab.define("x", LOG);
        let before = table();
        let client = Client::new(&lab, PORT);
        client.is_let_in();
        lab.well(&["start", "x"]);
        until("the host key to be made", || lab.tree().join(HOST_KEY).exists());
        client.knows(HOST_KEY);
        until("the first login", || answer(&client, "true").is_some());
        let action = |action: &str| {
            let vestibule = env!("CARGO_BIN_EXE_vestibule");
            format!("chroot /proc/1/root {vestibule} --root {} chroot {action} x", lab.directory.display())
        };

        // A second command of the shell, so that it doesn't become the first.
        let login = |line: &str| outcome(&mut client.command("ssh", &["root@127.0.0.1", &format!("{line}; true")]));
        let first = supervisor(&lab);
        login(&action("restart"));
        let is_up = || lab.chroot(&["status", "x"]).status == Some(0);
        until("it is up again", || is_up() && supervisor(&lab) != first);
        let second = supervisor(&lab);
        until("a login after the restart", || answer(&client, "true").is_some());

        let mut script = Command::new("script");
        let enter = lab.command(&["enter", "x"]);
        let words = [enter.get_program()].into_iter().chain(enter.get_args()).map(|word| word.to_str().unwrap());
        let line = words.collect::<Vec<_>>().join(" ");
        script.args(["--quiet", "--command", &line, "/dev/null"]);
        let script = script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut script = Beside(script.expect("script, from bsdutils"));
        script.0.stdin.as_mut().unwrap().write_all(format!("{}\n", action("restart")).as_bytes()).unwrap();
        script.0.wait().unwrap();
        until("it is up once more", || is_up() && supervisor(&lab) != second);

        until("a login after that", || answer(&client, "true").is_some());
        login(&action("stop"));
        until("it is down, and its mounts are undone", || table() == before);
        lab.well(&["stop", "x"]); // when nobody holds the lock any more
        assert_eq!(table(), before);
    });
}

/// Whose mounts are private has to go out of its namespace, too.
#[test]
fn private_mounts_are_left_first() {
    let tree = trees::find("busybox");
    on_own_machine("outside::private_mounts_are_left_first", |lab| {
        trees::put(&lab, &tree);
        lab.define("x", "ssh = false\nprivate = true\nlog.file = \"/log\"\n");
        let before = table();
        lab.well(&["start", "x"]);
        let first = supervisor(&lab);
        let from_inside = |way: &str| {
            let vestibule = format!("{} --root {}", env!("CARGO_BIN_EXE_vestibule"), lab.directory.display());
            let line = format!("{way} {vestibule} chroot restart x; exit $?");
            lab.chroot(&["exec", "x", "--", "sh", "-c", &line])
        };
        let refused = from_inside("chroot /proc/1/root");
        assert!(refused.status == Some(1) && refused.err.contains("nsenter --mount --target 1"), "{refused:?}");
        assert_eq!(supervisor(&lab), first);

        from_inside("nsenter --mount --target 1");
        let is_up = || lab.chroot(&["status", "x"]).status == Some(0);
        until("it is up again", || is_up() && supervisor(&lab) != first);
        lab.well(&["stop", "x"]);
        assert_eq!(table(), before);
    });
}

/// The number of the one who keeps the services running.
fn supervisor(lab: &Lab) -> Option<i64> {
    let status: serde_json::Value = serde_json::from_str(&lab.chroot(&["status", "x", "--json"]).out).unwrap();
    status["supervisor"].as_i64()
}

fn log(lab: &Lab) -> String {
    fs::read_to_string(lab.path("log")).unwrap_or_default()
}

/// The process that sleeps that long.
fn sleeper(count: u32) -> Option<Running> {
    let line = format!("sleep\0{count}\0");
    let is_it = |running: &Running| {
        fs::read(format!("/proc/{}/cmdline", running.pid)).is_ok_and(|found| found == line.as_bytes())
    };
    processes::all().into_iter().map(|seen| seen.running).find(is_it)
}
