//! Programs inside: who they are, what they find, and what becomes of their input, output and exit status.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::lab::{Beside, Lab, on_own_machine, outcome, table, until};
use crate::trees;

/// Mounts alone.
const QUIET: &str = "ssh = false\n";

/// What the program prints; it must succeed.
fn printed(lab: &Lab, arguments: &[&str]) -> String {
    lab.well(arguments).out
}

#[test]
fn a_program_has_the_users_rights_and_nothing_of_outside() {
    let tree = trees::find("busybox");
    on_own_machine("inside::a_program_has_the_users_rights_and_nothing_of_outside", |lab| {
        trees::put(&lab, &tree);
        lab.define("x", &[QUIET, "[environment]\nLANG = \"C.UTF-8\"\n"].concat());
        let before = table();
        let first = lab.well(&["exec", "x", "--", "id", "-u"]);
        assert_eq!(first.out, "0\n");
        assert!(first.err.contains("its mounts are made, and stay"), "{}", first.err);
        let up = table();
        assert!(up.contains("/tree/proc "), "{up}");

        let id = lab.well(&["exec", "--user", "anna", "x", "--", "id"]);
        assert_eq!(id.out, "uid=1000(anna) gid=1000(anna) groups=100(users),1000(anna)\n");
        assert_eq!((id.err.as_str(), table()), ("", up), "the second time nothing is made or said");
        assert_eq!(printed(&lab, &["exec", "--user", "1234", "x", "--", "id", "-G"]), "1234\n");
        let said = lab.ill(1, &["exec", "--user", "nobody-there", "x", "--", "id"]);
        assert!(said.contains("has no user \"nobody-there\" in its /etc/passwd"), "{said}");

        // As env -i; whoever calls has more.
        let mut env = lab.command(&["exec", "--user", "anna", "x", "--", "env"]);
        let env = outcome(env.env("TERM", "screen").env("LD_PRELOAD_OF_OUTSIDE", "x").env("HOME", "/outside"));
        let mut env: Vec<&str> = env.out.lines().collect();
        env.sort_unstable();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let expected =
            ["HOME=/home/anna", "LANG=C.UTF-8", "LOGNAME=anna", path, "SHELL=/bin/sh", "TERM=screen", "USER=anna"];
        assert_eq!(env, expected);

        // What the caller has open, ignores and masks stays with the caller, but for nohup(1).
        let careless = |program: &[&str]| {
            let script = "trap '' HUP INT QUIT TERM; umask 077; exec \"$@\" 7< /etc/passwd";
            let mut caller = Command::new("sh");
            caller.args(["-c", script, "sh", env!("CARGO_BIN_EXE_vestibule"), "--root"]).arg(&lab.directory);
            caller.args(["chroot", "exec", "--user", "anna", "x", "--"]).args(program).stdin(Stdio::null());
            outcome(&mut caller).out
        };
        // 3 is the listing's own.
        let clean = careless(&["sh", "-c", "pwd; umask; ls /proc/self/fd"]);
        assert_eq!(clean, "/home/anna\n0022\n0\n1\n2\n3\n");
        let ignored = careless(&["grep", "SigIgn", "/proc/self/status"]);
        let ignored = u64::from_str_radix(ignored.trim().trim_start_matches("SigIgn:\t"), 16).unwrap();
        let bits = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM].map(|signal| 1u64 << (signal as i32 - 1));
        assert_eq!(ignored & bits.iter().sum::<u64>(), 0);
        assert_ne!(ignored & 1 << (Signal::SIGHUP as i32 - 1), 0);

        assert_eq!(lab.well(&["stop", "x"]).out, "x is down\n");
        assert_eq!(table(), before);
    });
}

#[test]
fn input_output_and_exit_status_are_the_programs() {
    let tree = trees::find("busybox");
    on_own_machine("inside::input_output_and_exit_status_are_the_programs", |lab| {
        trees::put(&lab, &tree);
        let root = lab.tree().to_str().unwrap().to_owned();
        for (line, status) in [("exit 0", Some(0)), ("exit 7", Some(7)), ("kill -TERM $$", None)] {
            assert_eq!(lab.chroot(&["exec", "--root", &root, "--", "sh", "-c", line]).status, status, "{line}");
        }
        let said = lab.ill(127, &["exec", "--root", &root, "--", "nothing-of-that-name"]);
        assert!(said.contains("nothing-of-that-name is not in the chroot"), "{said}");
        let said = lab.ill(126, &["exec", "--root", &root, "--", "/etc/passwd"]);
        assert!(said.contains("/etc/passwd can't be run in the chroot: Permission denied"), "{said}");
        fs::write(lab.tree().join("bin/foreign"), "#!/system/bin/sh\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(lab.tree().join("bin/foreign"), mode).unwrap();
        let said = lab.ill(127, &["exec", "--root", &root, "--", "/bin/foreign"]);
        assert!(said.contains("/bin/foreign is there, but not what runs it"), "{said}");

        let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let mut cat = lab.command(&["exec", "--root", &root, "--", "cat"]);
        let mut cat = Beside(cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let (mut input, sent) = (cat.0.stdin.take().unwrap(), bytes.clone());
        let writer = std::thread::spawn(move || input.write_all(&sent).unwrap());
        let mut back = Vec::new();
        cat.0.stdout.take().unwrap().read_to_end(&mut back).unwrap();
        writer.join().unwrap();
        assert!(back == bytes && cat.0.wait().unwrap().success());

        // The process that was started is the program: signals need nobody in between.
        let mut sleep = lab.command(&["exec", "--root", &root, "--", "sleep", "1000"]);
        let mut sleep = Beside(sleep.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let pid = sleep.0.id();
        until("the program to run", || fs::read(format!("/proc/{pid}/cmdline")).unwrap() == b"sleep\x001000\0");
        assert_eq!(fs::read_link(format!("/proc/{pid}/root")).unwrap(), lab.tree());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), Signal::SIGINT).unwrap();
        assert_eq!(sleep.0.wait().unwrap().signal(), Some(Signal::SIGINT as i32));
    });
}

/// Types these lines at a terminal of `vestibule chroot enter`, and returns what it showed.
pub fn typed(lab: &Lab, arguments: &str, lines: &str) -> String {
    let line =
        format!("{} --root {} chroot enter {arguments}", env!("CARGO_BIN_EXE_vestibule"), lab.directory.display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    let spawned = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut script = Beside(spawned.expect("script, from bsdutils"));
    let mut keyboard = script.0.stdin.take().unwrap();
    keyboard.write_all(lines.as_bytes()).unwrap();
    let mut shown = String::new();
    script.0.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    drop(keyboard);
    assert_eq!(script.0.wait().unwrap().code(), Some(5), "{shown}");
    shown
}

/// From a shell with job control, whose terminal root has to itself: tty_nr, the seventh of proc_pid_stat(5), is 0 without one.
fn exec_at_a_terminal(lab: &Lab) {
    let exec = format!("{} --root {} chroot exec x", env!("CARGO_BIN_EXE_vestibule"), lab.directory.display());
    let look = "read -r pid name state parent group session tty rest < /proc/self/stat; echo $tty:$(tty); \
                (: < /dev/tty) 2> /dev/null; echo $?";
    let line = format!("set -m; for user in root anna; do {exec} --user $user -- sh -c '{look}'; done");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let spawned = script.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut script = Beside(spawned.expect("script, from bsdutils"));
    let mut shown = String::new();
    script.0.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    let [root, opened, anna, refused] = lines[..] else { panic!("{shown}") };
    assert!(!root.starts_with("0:") && root.contains(":/dev/pts/"), "{shown}");
    assert!(anna.starts_with("0:/dev/pts/"), "it has the terminal for its input still: {shown}");
    assert_eq!((opened, refused), ("0", "1"), "{shown}");
}

#[test]
fn entering_is_a_login_at_the_same_terminal() {
    let tree = trees::find("busybox");
    on_own_machine("inside::entering_is_a_login_at_the_same_terminal", |lab| {
        trees::put(&lab, &tree);
        lab.define("x", QUIET);
        lab.define("own", &[QUIET, "private = true\n"].concat());
        // Results are put together by the shell, so that they can't be the echo of what is typed.
        let questions = "echo is:$0:$(pwd):$FROM_PROFILE:$SHELL; tty; set -m; sleep 0.01 & wait; echo job$?; exit 5\n";
        let shown = typed(&lab, "x", questions);
        assert!(shown.contains("is:-ash:/root:yes:/bin/ash"), "{shown}");
        assert!(shown.contains("/dev/pts/") && shown.contains("job0"), "{shown}");
        assert!(!shown.contains("job control turned off"), "{shown}");
        let shown = typed(&lab, "x --user anna", "echo is:$0:$(pwd); exit 5\n");
        assert!(shown.contains("is:-sh:/home/anna"), "{shown}");
        exec_at_a_terminal(&lab);
        fs::write(lab.tree().join("etc/passwd"), "root:x:0:0::/nowhere:/bin/zsh\n").unwrap();
        let shown = typed(&lab, "x", "echo is:$0:$(pwd); exit 5\n");
        assert!(shown.contains("is:-sh:/") && shown.contains("/bin/zsh, the login shell"), "{shown}");
        assert!(shown.contains("/nowhere can't be entered"), "{shown}");
        fs::remove_file(lab.tree().join("etc/passwd")).unwrap();
        let by_directory = format!("--root {}", lab.tree().display());
        let shown = typed(&lab, &by_directory, "echo is:$0:$(pwd):$USER; exit 5\n");
        assert!(shown.contains("is:-sh:/root:root"), "{shown}");
        lab.well(&["stop", "x"]);

        let before = table();
        let shown = typed(&lab, "own", "ls /proc/self > /mine; exit 5\n");
        assert!(shown.contains("it has its mounts for this program alone"), "{shown}");
        assert!(fs::read_to_string(lab.tree().join("mine")).unwrap().contains("cmdline"));
        assert_eq!(table(), before);
        // And one that is up: they are where its supervisor is.
        lab.well(&["start", "own"]);
        let joined = lab.well(&["exec", "own", "--", "sh", "-c", "echo /proc/[1-9]* /dev/null"]);
        assert!(joined.out.contains("/proc/1 ") && joined.err.is_empty(), "{joined:?}");
        assert_eq!(table(), before);
        lab.well(&["stop", "own"]);
    });
}
