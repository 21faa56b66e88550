//! A chroot of BusyBox with services, and what is asked about the processes in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::Signal;
use vestibule::chroot::place::Place;
use vestibule::chroot::processes::{self, Running};
use vestibule::chroot::state::State;
use vestibule::chroot::supervise::{self, Supervised, SupervisedService};
use vestibule::root::Root;

use crate::lab::{DEADLINE, Lab, on_own_machine};

/// What the services of these tests need of a system.
const APPLETS: [&str; 6] = ["sh", "sleep", "cat", "setsid", "mkfifo", "kill"];

/// A lab, and what runs in the chroot there.
pub struct House {
    pub lab: Lab,
    pub tree: PathBuf,
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}{:?}", self.log(), others());
        }
    }
}

pub fn alone(test: &str, body: impl FnOnce(&House)) {
    on_own_machine(test, |lab| {
        let tree = lab.tree();
        for path in ["tree/bin", "tree/etc", "tree/dev", "log"] {
            fs::create_dir_all(lab.path(path)).unwrap();
        }
        fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox, from Debian's busybox-static");
        APPLETS.iter().for_each(|applet| symlink("busybox", tree.join("bin").join(applet)).unwrap());
        lab.put("tree/dev/null", "");
        body(&House { lab, tree });
    });
}

impl House {
    /// Services: name, line of shell (none: a program that isn't there), seconds until they are killed.
    pub fn define(&self, services: &[(&str, &str, u64)]) {
        let mut text = "standard-mounts = false\nlog.file = \"/log/test\"\n".to_owned();
        for (name, line, stop) in services {
            let command = match *line {
                "" => vec!["/nowhere"],
                line => vec!["/bin/sh", "-c", line],
            };
            let command = serde_json::to_string(&command).unwrap(); // TOML has the same strings
            text += &format!("[[service]]\nname = {name:?}\ncommand = {command}\nstop-seconds = {stop}\n");
        }
        self.lab.define("test", &text);
    }

    /// A script of the shell, in /bin.
    pub fn put_program(&self, name: &str, text: &str) {
        self.lab.put(&format!("tree/bin/{name}"), format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(self.tree.join("bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `vestibule chroot ACTION test`; what it says.
    pub fn run(&self, action: &str) -> String {
        let outcome = self.lab.chroot(&[action, "test"]);
        assert_eq!(outcome.status, Some(0), "{action}: {outcome:?}\n{}", self.log());
        outcome.out + &outcome.err
    }

    pub fn state(&self) -> State {
        State::open(&Place::open(&self.tree).unwrap(), &Root::new(&self.lab.directory)).unwrap()
    }

    pub fn status(&self) -> Supervised {
        supervise::status(&self.state()).unwrap().expect("it was started")
    }

    pub fn service(&self, name: &str) -> SupervisedService {
        self.status().services.into_iter().find(|service| service.name == name).unwrap()
    }

    /// Without times.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.lab.path("log/test")).unwrap_or_default();
        text.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned() + "\n")).collect()
    }

    pub fn said(&self, what: &str) -> bool {
        self.log().contains(what)
    }
}

/// The command lines of all living processes but this one.
pub fn others() -> Vec<String> {
    let this = std::process::id().cast_signed();
    let others = processes::all().into_iter().map(|seen| seen.running.pid).filter(|pid| *pid != this);
    others.map(line_of).filter(|line| !line.is_empty()).collect()
}

pub fn line_of(pid: i32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ")
}

pub fn process_of(supervised: &Supervised, name: &str) -> Running {
    running(supervised.services.iter().find(|service| service.name == name).unwrap().pid.unwrap())
}

pub fn running(pid: i32) -> Running {
    Running::of(pid).unwrap()
}

pub fn kill(process: Running) {
    assert!(process.signal(Signal::SIGKILL));
    assert!(process.ended_by(Instant::now() + DEADLINE));
}
