//! Mounts that only some processes see: found again, and not mistaken for others.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::{Beside, Lab, on_own_machine, outcome, run, table, table_of, until};

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

/// What a chroot of its own needs of the machine for vestibule to run there. Its `/` is no mount point.
fn outer(lab: &Lab) -> String {
    let outer = lab.path("outer");
    for path in ["inner", "run", "etc/vestibule/chroots"] {
        fs::create_dir_all(outer.join(path)).unwrap();
    }
    for name in ["bin", "lib", "lib64", "usr", "proc", "dev", "sys"] {
        let (path, inside) = (Path::new("/").join(name), outer.join(name));
        match fs::read_link(&path) {
            Ok(link) => symlink(link, inside).unwrap(),
            Err(_) if path.is_dir() => {
                fs::create_dir_all(&inside).unwrap();
                run("mount", &["--rbind", path.to_str().unwrap(), inside.to_str().unwrap()]);
            }
            Err(_) => {} // not every machine has a /lib64
        }
    }
    let program = lab.path("outer/vestibule");
    fs::write(&program, "").unwrap();
    run("mount", &["--bind", env!("CARGO_BIN_EXE_vestibule"), program.to_str().unwrap()]);
    outer.to_str().unwrap().to_owned()
}

#[test]
fn one_who_is_in_a_chroot_stays_there() {
    on_own_machine("namespaces::one_who_is_in_a_chroot_stays_there", |lab| {
        let outer = outer(&lab);
        let define = |more: &str| {
            let text = format!("root = \"/inner\"\nssh = false\n{more}");
            fs::write(lab.path("outer/etc/vestibule/chroots/x.toml"), text).unwrap();
        };
        let inside = |through: &[&str], action: &str| {
            let words = [through, &["chroot", &outer, "/vestibule", "chroot", action, "x"]].concat();
            outcome(Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()))
        };
        let well = |through: &[&str], action: &str| {
            let outcome = inside(through, action);
            assert_eq!(outcome.status, Some(0), "{action}: {outcome:?}");
        };
        let before = table();
        define("");
        ["start", "restart", "stop"].iter().for_each(|action| well(&[], action));
        assert_eq!(table(), before);

        define("private = true\n");
        let refused = inside(&[], "start");
        assert!(refused.status == Some(1) && refused.err.contains("/ is no mount point here"), "{refused:?}");

        // Its mounts are where a process of the same chroot sees them, in a namespace of its own.
        define("");
        let mut app = Command::new("unshare");
        app.args(["--mount", "--propagation", "private", "chroot", &outer, "sleep", "1000"]).stdin(Stdio::null());
        let app = Beside(app.spawn().unwrap());
        let process = app.0.id().to_string();
        let name = format!("/proc/{process}/comm");
        until("the app runs", || fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n"));
        let there = table_of(&process);
        let app_mounts = ["nsenter", "--mount", "--target", &process];
        well(&app_mounts, "start");
        assert!(table_of(&process).contains(" /inner/proc ") && table() == before);
        ["status", "start", "restart"].iter().for_each(|action| well(&[], action));
        assert!(table().contains("/outer/inner/proc "), "it is started again here");
        well(&[], "stop");
        assert_eq!((table(), table_of(&process)), (before, there));
    });
}
