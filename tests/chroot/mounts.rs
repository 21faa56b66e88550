//! Mounts: made, not made twice, undone, and never half there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::lab::{Beside, Lab, on_own_machine, outcome, run, table, table_of, until};

/// Mounts alone.
pub const QUIET: &str = "ssh = false\n";

pub fn bind(source: &str, target: &str, more: &str) -> String {
    format!("[[mount]]\nsource = {source:?}\ntarget = {target:?}\n{more}\n")
}

/// What is mounted at a directory of the tree, as a line of the table, if anything is.
pub fn mounted(lab: &Lab, target: &str) -> Option<String> {
    let target = format!(" {}{target} ", lab.tree().display());
    table().lines().find(|line| line.contains(&target)).map(str::to_owned)
}

#[test]
fn the_table_is_as_it_was() {
    on_own_machine("mounts::the_table_is_as_it_was", |lab| {
        lab.put("media/photo", "p");
        lab.put("hosts", "h");
        run("mount", &["-t", "tmpfs", "-o", "noexec,nodev", "tmpfs", lab.path("media").to_str().unwrap()]);
        lab.put("media/photo", "p");
        let path = |name: &str| lab.path(name).to_str().unwrap().to_owned();
        lab.define(
            "x",
            &[
                QUIET.to_owned(),
                bind(&path("media"), "/mnt/storage", "options = \"ro,nosuid\""),
                bind(&path("hosts"), "/etc/hosts", ""),
                bind("/nowhere", "/mnt/none", "optional = true"),
            ]
            .concat(),
        );
        let before = table();
        assert_eq!(lab.chroot(&["status", "x"]).status, Some(3));

        let started = lab.well(&["start", "x"]);
        assert_eq!(started.out, "x is up\n");
        assert!(started.err.contains("/nowhere") && started.err.contains("optional"), "{}", started.err);
        let up = table();
        for target in ["/dev", "/dev/pts", "/proc", "/sys", "/tmp", "/run", "/mnt/storage", "/etc/hosts"] {
            let line = mounted(&lab, target).unwrap_or_else(|| panic!("{target} is missing in\n{up}"));
            assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
        }
        let storage = mounted(&lab, "/mnt/storage").unwrap();
        assert!(storage.contains(" ro,nosuid,nodev,noexec"), "what the source has stays: {storage}");
        assert!(mounted(&lab, "/run").unwrap().contains(" rw,nosuid,nodev"));
        let mode = |path: &str| fs::metadata(lab.tree().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("tmp"), mode("run")), (0o1777, 0o755));
        assert_eq!(fs::read(lab.tree().join("mnt/storage/photo")).unwrap(), b"p");
        assert_eq!(fs::read(lab.tree().join("etc/hosts")).unwrap(), b"h");
        assert!(fs::write(lab.tree().join("mnt/storage/new"), "").is_err());

        let again = lab.well(&["start", "x"]);
        assert_eq!((&*again.out, table()), ("x is up already\n", up));
        let status = lab.well(&["status", "x", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
        assert_eq!(status["up"], true);
        assert_eq!(status["mounts"][0]["target"], "/dev");
        assert_eq!(status["mounts"][0]["state"], "mounted");
        run("umount", &[lab.tree().join("sys").to_str().unwrap()]);
        let status = lab.chroot(&["status", "x"]);
        assert_eq!(status.status, Some(3), "{status:?}");
        assert!(status.out.contains("not wholly up"), "{}", status.out);
        assert_eq!(lab.well(&["restart", "x"]).out, "x is up again\n");

        let stopped = lab.well(&["stop", "x"]);
        assert_eq!((&*stopped.out, &*stopped.err, table()), ("x is down\n", "", before));
        // Nobody can be told.
        let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut stop = lab.command(&["stop", "x"]);
        assert_eq!(stop.stdout(full()).stderr(full()).status().unwrap().code(), Some(0));
        assert_eq!(lab.well(&["stop", "x"]).out, "x is down already\n");
        assert_eq!(lab.chroot(&["status", "x"]).status, Some(3));
    });
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    on_own_machine("mounts::a_start_that_fails_leaves_nothing", |lab| {
        lab.put("outside/file", "");
        symlink(lab.path("outside"), lab.tree().join("run")).unwrap();
        lab.define("x", QUIET);
        let before = table();
        let said = lab.ill(1, &["start", "x"]);
        assert!(said.contains("tree/run is a symbolic link to") && said.contains("/outside"), "{said}");
        assert_eq!(table(), before);

        fs::remove_file(lab.tree().join("run")).unwrap();
        lab.well(&["start", "x"]);
        let up = table();
        // What is up stays up when there is something wrong with what is new.
        let more = bind(lab.path("outside").to_str().unwrap(), "/mnt/one", "");
        lab.define("x", &[QUIET, &more, &bind("/nowhere", "/mnt/two", "")].concat());
        let said = lab.ill(1, &["start", "x"]);
        assert!(said.contains("/nowhere") && said.contains("must be there"), "{said}");
        assert_eq!(table(), up);
        lab.well(&["stop", "x"]);
        assert_eq!(table(), before);
    });
}

#[test]
fn killed_in_the_middle_and_run_again() {
    on_own_machine("mounts::killed_in_the_middle_and_run_again", |lab| {
        lab.define("x", QUIET);
        let before = table();
        let (mut killed, mut partly) = (0, 0);
        // The kernel kills whoever writes more than so much to a file: the journal grows before and after each mount.
        for most in (40..).step_by(23) {
            let mut start = lab.command(&["start", "x"]);
            // SAFETY: setrlimit and sigaction are system calls alone, without memory or locks (signal-safety(7)).
            unsafe {
                start.pre_exec(move || {
                    signal(Signal::SIGXFSZ, SigHandler::SigDfl)?; // ignored by what Python starts
                    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
                    Ok(setrlimit(Resource::RLIMIT_FSIZE, most, most)?)
                });
            }
            let first = outcome(&mut start);
            if first.status == Some(0) {
                break;
            }
            assert_eq!(first.status, None, "{first:?}");
            killed += 1;
            partly += usize::from(table() != before);
            assert_eq!(lab.chroot(&["status", "x"]).status, Some(3));
            if killed % 2 == 0 {
                let again = lab.well(&["start", "x"]);
                assert!(again.out == "x is up\n" && !again.err.contains("mount point already"), "{again:?}");
                assert!(mounted(&lab, "/run").is_some_and(|line| line.contains("nosuid,nodev")));
                assert_eq!(lab.chroot(&["status", "x"]).status, Some(0));
            }
            lab.well(&["stop", "x"]);
            assert_eq!(table(), before, "after at most {most} bytes");
        }
        assert!(partly >= 6, "killed {killed} times, {partly} times with something mounted");
        lab.well(&["stop", "x"]);
        assert_eq!(table(), before);
    });
}

#[test]
fn many_at_once_wait_for_each_other() {
    on_own_machine("mounts::many_at_once_wait_for_each_other", |lab| {
        lab.define("x", QUIET);
        let before = table();
        let all = |action: &str| {
            let start = |_| lab.command(&[action, "x"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let begun: Vec<_> = (0..6).map(start).collect();
            let ended = begun.into_iter().map(|child| child.wait_with_output().unwrap());
            let mut said: Vec<_> = ended.map(|output| String::from_utf8(output.stdout).unwrap()).collect();
            said.sort();
            said
        };
        assert_eq!(all("start"), [vec!["x is up\n"], vec!["x is up already\n"; 5]].concat());
        let proc = format!(" {} ", lab.tree().join("proc").display());
        assert_eq!(table().matches(&proc).count(), 1);
        assert_eq!(all("stop"), [vec!["x is down\n"], vec!["x is down already\n"; 5]].concat());
        assert_eq!(table(), before);
    });
}

#[test]
fn what_was_made_by_half_is_made_anew() {
    on_own_machine("mounts::what_was_made_by_half_is_made_anew", |lab| {
        lab.put("media/photo", "p");
        let storage = bind(lab.path("media").to_str().unwrap(), "/mnt/storage", "options = \"ro,noexec\"");
        lab.define("x", &format!("{QUIET}{storage}"));
        let before = table();
        lab.well(&["start", "x"]);
        // As if it had been killed between the bind and its options, whose mark is then missing, too.
        let target = lab.tree().join("mnt/storage");
        run("mount", &["-o", "remount,bind,rw,exec", target.to_str().unwrap()]);
        let states = fs::read_dir(lab.path("run/vestibule-chroots")).unwrap();
        let state = states.map(|entry| entry.unwrap().path()).next().unwrap();
        let journal = fs::read_to_string(state.join("mounts")).unwrap();
        let (most, last) = journal.rsplit_once("\"made\":").unwrap();
        assert!(last.contains("\"id\""), "{journal}");
        fs::write(state.join("mounts"), format!("{most}\"made\":null}}]}}")).unwrap();
        fs::remove_file(state.join("up")).unwrap();
        assert_eq!(lab.chroot(&["status", "x"]).status, Some(3));
        assert!(mounted(&lab, "/mnt/storage").unwrap().contains(" rw"));

        assert_eq!(lab.well(&["start", "x"]).out, "x is up\n");
        assert!(mounted(&lab, "/mnt/storage").unwrap().contains(" ro,noexec"));
        lab.well(&["stop", "x"]);
        assert_eq!(table(), before);
    });
}

#[test]
fn what_can_not_be_is_said() {
    on_own_machine("mounts::what_can_not_be_is_said", |lab| {
        let directory = |name: &str, options: &str| {
            let path = lab.path(name).to_str().unwrap().to_owned();
            fs::create_dir(&path).unwrap();
            run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &path]);
            path
        };
        let (safe, still) = (directory("safe", "nosuid,nodev"), directory("still", "noexec"));
        lab.put("tree/etc/hosts", "");
        lab.put("file", "");
        let file = lab.path("file").to_str().unwrap().to_owned();
        let before = table();
        for (root, said) in [
            ("/", "is the running system's own /"),
            ("/nowhere", "does not exist"),
            (&file, "is no directory"),
            (&still, "mounted noexec, so that no program in it can be run"),
        ] {
            let heard = lab.ill(1, &["start", "--root", root]);
            assert!(heard.contains(said), "{root}: {heard}");
        }
        for (text, said) in [
            (bind("/etc", "/etc/hosts", ""), "tree/etc/hosts is no directory"),
            (bind(&file, "/etc", ""), "tree/etc is a directory, and the source a file"),
            (bind("/nowhere", "/mnt", ""), "the source /nowhere, which must be there"),
            ("[[mount]]\ntype = \"nosuchfs\"\ntarget = \"/mnt\"".to_owned(), "does not know the file system nosuchfs"),
            (
                "[[mount]]\ntype = \"tmpfs\"\ntarget = \"/mnt\"\noptions = \"nonsense\"".to_owned(),
                "options are “nonsense”",
            ),
            ("\nstandard-mount = false".to_owned(), "x.toml: line 4: unknown field `standard-mount`"),
        ] {
            lab.define("x", &[QUIET, &text].concat());
            let heard = lab.ill(1, &["start", "x"]);
            assert!(heard.contains(said), "{text}: {heard}");
            assert_eq!(table(), before, "{text}");
        }
        assert!(lab.ill(1, &["start", "none"]).contains("/etc/vestibule/chroots/none.toml"));
        assert!(lab.ill(1, &["start", "../x"]).contains("write --root ../x"));
        lab.ill(2, &["start"]);

        fs::write(lab.path("etc/vestibule/chroots/safe.toml"), format!("root = {safe:?}\n{QUIET}")).unwrap();
        let warned = lab.well(&["start", "safe"]).err;
        assert!(warned.contains("mounted nosuid: sudo") && warned.contains("mounted nodev: device files"), "{warned}");
        lab.well(&["stop", "safe"]);
        assert_eq!(table(), before);
    });
}

#[test]
fn started_where_other_mounts_are_seen() {
    on_own_machine("mounts::started_where_other_mounts_are_seen", |lab| {
        lab.define("x", QUIET);
        let before = table();
        // As an app of Android: it has mounts of its own, and lives on.
        let mut app = Command::new("unshare");
        app.args(["--mount", "--propagation", "private", "sleep", "1000"]).stdin(Stdio::null());
        let app = Beside(app.spawn().unwrap());
        let process = app.0.id().to_string();
        let name = format!("/proc/{process}/comm");
        until("the app runs", || fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n"));
        let there = table_of(&process);
        let start = lab.command(&["start", "x"]);
        let started = outcome(
            Command::new("nsenter")
                .args(["--mount", "--target", &process])
                .arg(start.get_program())
                .args(start.get_args()),
        );
        assert_eq!((started.status, &*started.out), (Some(0), "x is up\n"), "{started:?}");
        assert_eq!(table(), before);
        assert!(table_of(&process).contains("tree/proc"));

        assert_eq!(lab.chroot(&["status", "x"]).status, Some(0), "it is looked for there");
        assert_eq!(lab.well(&["start", "x"]).out, "x is up already\n");
        lab.well(&["stop", "x"]);
        assert_eq!((table(), table_of(&process)), (before, there));
    });
}

#[test]
fn private_mounts_are_seen_by_nobody() {
    on_own_machine("mounts::private_mounts_are_seen_by_nobody", |lab| {
        lab.define("x", &format!("private = true\n{QUIET}"));
        let before = table();
        let supervisor = || {
            let status = lab.well(&["status", "x", "--json"]).out;
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            status["supervisor"].as_i64().unwrap().to_string()
        };
        assert_eq!(lab.well(&["start", "x"]).out, "x is up\n");
        let first = supervisor();
        assert!(table_of(&first).contains("tree/proc"));
        assert_eq!((&*lab.well(&["start", "x"]).out, supervisor()), ("x is up already\n", first.clone()));
        lab.well(&["restart", "x"]);
        let second = supervisor();
        assert_ne!(second, first);

        // With the one who holds them the mounts go.
        let process = nix::unistd::Pid::from_raw(second.parse().unwrap());
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
        until("it is gone", || lab.chroot(&["status", "x"]).status == Some(3));
        assert_eq!(lab.well(&["start", "x"]).out, "x is up\n");
        let third = supervisor();
        assert!(table_of(&third).contains("tree/run"));
        assert_eq!(table(), before);
        lab.well(&["stop", "--root", lab.tree().to_str().unwrap()]);
        assert_eq!(table(), before);
        let left = |process| fs::read_link(format!("/proc/{process}/exe")).is_ok();
        assert!(![first, second, third].iter().any(left));
    });
}
