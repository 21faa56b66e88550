//! Mounts of others, on ours, before them, and beside them: what is theirs stays, and is not left behind silently.

use std::fs;
use std::process::{Command, Stdio};

use crate::lab::{Beside, on_own_machine, outcome, run, table, until};
use crate::mounts::{QUIET, bind, mounted};

#[test]
fn what_others_mount_and_keep_busy() {
    on_own_machine("strangers::what_others_mount_and_keep_busy", |lab| {
        let tree = |path: &str| lab.tree().join(path).to_str().unwrap().to_owned();
        fs::create_dir(tree("run")).unwrap();
        run("mount", &["-t", "tmpfs", "others", &tree("run")]);
        lab.define("x", QUIET);
        let before = table();
        let started = lab.well(&["start", "x"]);
        assert!(started.err.contains("/run is a mount point already (tmpfs of others)"), "{}", started.err);
        assert!(lab.well(&["status", "x"]).out.contains("mounted by somebody else"));

        // On one of ours, and on it: somebody from outside who stands there.
        fs::create_dir(tree("tmp/on")).unwrap();
        run("mount", &["-t", "tmpfs", "above", &tree("tmp/on")]);
        let mut sleeper = Command::new("sleep");
        sleeper.arg("1000").current_dir(tree("tmp")).stdin(Stdio::null());
        let sleeper = Beside(sleeper.spawn().unwrap());
        // It is the shell's until then, and so is its name.
        let name = format!("/proc/{}/comm", sleeper.0.id());
        until("sleep runs", || fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n"));
        // Where one stands oneself does not count.
        let stopped = outcome(lab.command(&["stop", "x"]).current_dir(tree("proc")));
        assert!(stopped.status == Some(0) && !stopped.err.contains("tree/proc"), "{stopped:?}");
        assert!(stopped.err.contains("tmp/on (tmpfs), which somebody has mounted"), "{}", stopped.err);
        let busy = format!("tree/tmp was still in use by sleep ({})", sleeper.0.id());
        assert!(stopped.err.contains(&busy), "{}", stopped.err);
        assert_eq!(table(), before, "what was there stays");
    });
}

#[test]
fn what_was_renamed_or_is_others_is_not_left_behind_silently() {
    on_own_machine("strangers::what_was_renamed_or_is_others_is_not_left_behind_silently", |lab| {
        lab.put("media/photo", "p");
        lab.define("x", &format!("{QUIET}{}", bind(lab.path("media").to_str().unwrap(), "/home/phone/all", "")));
        let before = table();
        lab.well(&["start", "x"]);
        fs::rename(lab.tree().join("home/phone"), lab.tree().join("home/other")).unwrap();
        assert!(mounted(&lab, "/home/other/all").is_some());
        let up = table();
        let refused = lab.ill(1, &["start", "x"]);
        assert!(refused.contains("is at ") && refused.contains("tree/home/other/all now"), "{refused}");
        assert_eq!(table(), up, "a start that fails undoes nothing that is up");
        let stopped = lab.well(&["stop", "x"]);
        assert_eq!((&*stopped.out, &*stopped.err, table()), ("x is down\n", "", before));

        lab.well(&["start", "x"]);
        let theirs = lab.tree().join("srv/on");
        fs::create_dir_all(&theirs).unwrap();
        run("mount", &["-t", "tmpfs", "theirs", theirs.to_str().unwrap()]);
        let stopped = lab.well(&["stop", "x"]);
        let told = format!("not by vestibule: {0}; before anything in it is removed: umount {0}\n", theirs.display());
        assert!(stopped.err.contains(&told), "{}", stopped.err);
    });
}

#[test]
fn nothing_appears_outside_through_what_others_have_bound() {
    on_own_machine("strangers::nothing_appears_outside_through_what_others_have_bound", |lab| {
        let shared = |path: &str, also: &str| {
            let [path, also] = [path, also].map(|path| lab.path(path).to_str().unwrap().to_owned());
            fs::create_dir_all(&path).unwrap();
            fs::create_dir_all(&also).unwrap();
            run("mount", &["-t", "tmpfs", "theirs", &path]);
            run("mount", &["--bind", &path, &also]);
            also
        };
        let bound = shared("media", "tree/media");
        let mount = "[[mount]]\ntype = \"tmpfs\"\ntarget = \"/media/on\"\n";
        let define = |more: &str| lab.define("x", &format!("standard-mounts = false\n{QUIET}{mount}{more}"));
        let before = table();
        define("");
        let refused = lab.ill(1, &["start", "x"]);
        let said = format!("is shared with {}", lab.path("media").display());
        assert!(refused.contains(&said) && refused.contains("mount --make-private"), "{refused}");
        define("optional = true\n");
        let skipped = lab.well(&["start", "x"]);
        assert!(skipped.err.contains(&said), "{}", skipped.err);
        assert_eq!(table(), before);
        lab.well(&["stop", "x"]);

        run("mount", &["--make-private", &bound]);
        define("");
        lab.well(&["start", "x"]);
        assert!(
            mounted(&lab, "/media/on").is_some() && !table().contains(&format!(" {}/on ", lab.path("media").display()))
        );
    });
}

#[test]
fn one_that_another_hides_is_not_mistaken_for_it() {
    on_own_machine("strangers::one_that_another_hides_is_not_mistaken_for_it", |lab| {
        let path = |path: &str| lab.path(path).to_str().unwrap().to_owned();
        lab.put("media/photo", "p");
        fs::create_dir_all(path("theirs")).unwrap();
        run("mount", &["-t", "tmpfs", "theirs", &path("theirs")]);
        fs::create_dir_all(path("theirs/storage")).unwrap();
        run("mount", &["-t", "tmpfs", "inner", &path("theirs/storage")]);
        let mount = bind(&path("media"), "/mnt/storage", "");
        lab.define("x", &format!("standard-mounts = false\n{QUIET}{mount}"));
        let before = table();
        lab.well(&["start", "x"]);
        // Of theirs, at the place of ours: what is unmounted there goes in theirs, too, as they are shared.
        run("mount", &["--rbind", &path("theirs"), &path("tree/mnt")]);
        let hidden = table();
        let refused = lab.ill(1, &["stop", "x"]);
        assert!(refused.contains("tree/mnt/storage can't be reached"), "{refused}");
        assert_eq!(table(), hidden, "nothing of theirs has gone");
        run("mount", &["--make-rprivate", &path("tree/mnt")]);
        run("umount", &["--recursive", &path("tree/mnt")]);
        lab.well(&["stop", "x"]);
        assert_eq!(table(), before);
    });
}
