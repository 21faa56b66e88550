//! What is started inside goes out by itself, as root can (`chroot /proc/1/root`): it doesn't belong to the chroot any more.

use std::fs;
use std::time::Instant;

use nix::sys::signal::Signal;
use vestibule::chroot::processes::{self, Running};

use crate::lab::{DEADLINE, Lab, on_own_machine, until};
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
