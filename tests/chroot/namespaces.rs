//! Mounts that only some processes see: found again, and not mistaken for others.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::{Lab, on_own_machine, run, table, table_of, until};

/// A chroot with private mounts and one service.
struct Private(Lab);

impl Private {
    fn new(lab: Lab) -> Self {
        fs::create_dir_all(lab.path("tree/bin")).unwrap();
        fs::copy("/bin/busybox", lab.path("tree/bin/busybox")).expect("busybox, from Debian's busybox-static");
        ["sleep", "readlink"].iter().for_each(|name| symlink("busybox", lab.path("tree/bin").join(name)).unwrap());
        let service = "[[service]]\nname = \"sleeper\"\ncommand = [\"/bin/sleep\", \"1001\"]\n";
        lab.define("x", &format!("private = true\nssh = false\nlog.file = \"/log\"\n{service}"));
        Self(lab)
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.0.chroot(&["status", "x", "--json"]).out).unwrap()
    }

    /// Starts it, and returns the supervisor and the service, when that runs.
    fn start(&self) -> (i64, i64) {
        self.0.well(&["start", "x"]);
        let line = |pid: &i64| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut found = None;
        until("the service runs", || {
            let status = self.status();
            let pid = |of: &Value| of.as_i64();
            found = pid(&status["supervisor"]).zip(pid(&status["services"][0]["pid"]));
            found.is_some_and(|(_, service)| line(&service) == b"/bin/sleep\x001001\0")
        });
        found.unwrap()
    }

    /// Both must not be in the status afterwards.
    fn kill(&self, process: i64, is_there: impl Fn(&Value) -> bool) {
        kill(Pid::from_raw(process.try_into().unwrap()), Signal::SIGKILL).unwrap();
        until("it is gone", || !is_there(&self.status()));
    }

    fn kill_supervisor(&self, process: i64) {
        self.kill(process, |status| !status["supervisor"].is_null());
    }
}

/// What the kernel calls a process's; a zombie has none.
fn namespace_of(process: impl std::fmt::Display) -> Option<String> {
    Some(fs::read_link(format!("/proc/{process}/ns/mnt")).ok()?.to_str().unwrap().to_owned())
}

fn holders(namespace: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let pids = all.filter(|name| name.parse::<u32>().is_ok());
    pids.filter(|pid| namespace_of(pid).is_some_and(|of_it| of_it == namespace)).count()
}

#[test]
fn one_whose_supervisor_was_killed_is_found() {
    on_own_machine("namespaces::one_whose_supervisor_was_killed_is_found", |lab| {
        let before = table();
        let private = Private::new(lab);
        let (supervisor, service) = private.start();
        let namespace = namespace_of(supervisor).unwrap();
        assert_ne!(namespace, namespace_of("self").unwrap());

        // The service sees the mounts at /dev and the like, not at the tree's.
        private.kill_supervisor(supervisor);
        let states = private.status();
        let states = states["mounts"].as_array().unwrap().iter().map(|mount| mount["state"].as_str().unwrap());
        assert!(states.clone().count() > 3 && states.clone().all(|state| state == "mounted"), "{:?}", private.status());
        let exec = private.0.well(&["exec", "x", "--", "readlink", "/proc/self/ns/mnt"]);
        assert_eq!((exec.out.trim_end(), &*exec.err), (&*namespace, ""));
        let (second, still) = private.start();
        assert_ne!(second, supervisor);
        assert_eq!((namespace_of(second).as_ref(), still), (Some(&namespace), service));

        private.kill_supervisor(second);
        private.0.well(&["stop", "x"]);
        assert_eq!((holders(&namespace), table()), (0, before));
    });
}

#[test]
fn mounts_made_by_hand_after_it_has_gone_are_not_ours() {
    on_own_machine("namespaces::mounts_made_by_hand_after_it_has_gone_are_not_ours", |lab| {
        let private = Private::new(lab);
        let (supervisor, service) = private.start();
        private.kill_supervisor(supervisor);
        private.kill(service, |status| !status["services"][0]["pid"].is_null());
        let device = private.0.tree().join("dev");
        run("mount", &["--bind", "/dev", device.to_str().unwrap()]);
        let by_hand = table();

        let started = private.0.well(&["start", "x"]);
        assert!(started.err.contains("tree/dev is a mount point already"), "{started:?}");
        assert_eq!(table(), by_hand, "what is private is seen by nobody");
        let supervisor = private.status()["supervisor"].as_i64().unwrap().to_string();
        assert!(table_of(&supervisor).contains("/tree/proc "));
        private.0.well(&["stop", "x"]);
        assert_eq!(table(), by_hand, "and nothing of others is undone");
    });
}
