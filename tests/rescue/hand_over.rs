//! What becomes of programs when the boot continues, and holding it.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vestibule::control::message::{Event, Exit, Request};

use crate::common::{DEADLINE, Machine};
use crate::lab::{Lab, processes};

impl Lab {
    fn signal_daemon(&self, signal: Signal) {
        kill(Pid::from_raw(self.machine.pid() as i32), signal).unwrap();
    }

    fn hold(&self) -> String {
        self.machine.status()["hold"].as_str().unwrap_or_default().to_owned()
    }

    fn is_running(&self) -> bool {
        self.machine.root.join("run/vestibule/control").exists()
    }

    fn command(&self, arguments: &[&str]) {
        let done = self.machine.vestibule(arguments);
        assert!(done.status.success(), "{done:?}");
    }

    /// `vestibule stop`, as a hook runs it.
    fn stop(&self) -> std::process::Child {
        let mut stop = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        stop.args(["stop", "--root"]).arg(&self.machine.root).stderr(Stdio::piped()).spawn().unwrap()
    }
}

#[test]
fn shells_are_told_and_ended_with_all_that_they_have_started() {
    let lab = Lab::new("farewell");
    let mut shell = lab.shell();
    // One that stays when it is hung up on, one that is told to end by its shell, one in the foreground.
    shell.type_text("(trap '' HUP; exec sleep 4720.5) & sleep 4721.5 & sleep 4722.5\n");
    lab.machine.wait_for("its jobs", || (20..23).all(|n| !processes(&format!("sleep\x0047{n}.5")).is_empty()));
    let mut left = lab.exec("nohup sleep 4723.5 > /dev/null 2>&1 & exit 0");
    assert_eq!(left.exit(), Exit::Status(0));
    lab.machine.wait_for("the job that was left", || !processes("sleep\x004723.5").is_empty());

    lab.signal_daemon(Signal::SIGTERM);
    shell.expect("vestibule: the boot continues; this ends in 1 s");
    lab.machine.wait_for("the daemon to end", || !lab.is_running());
    for number in 20..24 {
        assert_eq!(processes(&format!("sleep\x0047{number}.5")), [0; 0], "nothing of ours is left");
    }
}

#[test]
fn a_held_boot_waits_until_it_is_released() {
    let lab = Lab::new("hold");
    assert_eq!(lab.hold(), "");
    lab.command(&["hold", "--seconds", "300"]);
    assert_eq!(lab.hold(), "the boot will wait at hand-over until it is released, for 5 minutes at most");
    let mut stop = lab.stop();
    lab.machine
        .wait_for("the hand-over", || lab.hold() == "the boot waits until it is released, for 5 minutes at most");
    assert_eq!(lab.output("echo still here").0, "still here\n");
    assert!(stop.try_wait().unwrap().is_none() && lab.machine.log().contains("vestibule release lets it go on"));
    lab.command(&["release"]);
    assert!(stop.wait().unwrap().success());
    assert!(!lab.is_running());
    let mut said = String::new();
    stop.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "vestibule: the boot waits until it is released, for 5 minutes at most (vestibule release)\n");
}

#[test]
fn a_hold_of_a_session_ends_with_it() {
    let mut lab = Lab::new("bound");
    let mut events = lab.request(Request::HoldWhile { seconds: 300 });
    assert!(matches!(lab.wait(events.next()), Ok(Event::Holding)));
    assert!(!lab.hold().is_empty());
    drop(events);
    lab.disconnect();
    lab.machine.wait_for("the hold to end", || lab.hold().is_empty());
}

#[test]
fn systemd_is_asked_for_time_and_a_second_signal_is_enough() {
    let mut machine = Machine::new("notify");
    let systemd = UnixDatagram::bind(machine.root.join("notify")).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let heard = || {
        let mut buffer = [0; 100];
        let length = systemd.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    machine.start();
    let lab = Lab::on(machine);
    assert_eq!(heard(), "READY=1");
    lab.command(&["hold"]);
    let first = Instant::now();
    lab.signal_daemon(Signal::SIGTERM);
    assert_eq!(
        (heard(), heard()),
        ("EXTEND_TIMEOUT_USEC=30000000".to_owned(), "EXTEND_TIMEOUT_USEC=30000000".to_owned())
    );
    assert!(first.elapsed() > Duration::from_secs(4), "now and then, not all the time");
    assert!(lab.is_running());
    lab.signal_daemon(Signal::SIGTERM);
    lab.machine.wait_for("the daemon to end", || !lab.is_running());
}

#[test]
fn a_daemon_that_hangs_while_it_holds_the_boot_is_killed() {
    let lab = Lab::new("hangs");
    lab.command(&["hold"]);
    let mut stop = lab.stop();
    lab.machine.wait_for("the hand-over", || lab.hold().starts_with("the boot waits"));
    lab.signal_daemon(Signal::SIGSTOP);
    let frozen = Instant::now();
    assert!(!stop.wait().unwrap().success(), "it says that it had to kill it");
    assert!(frozen.elapsed() > Duration::from_secs(10) && frozen.elapsed() < 5 * Duration::from_secs(20));
    assert!(!lab.is_running());
}
