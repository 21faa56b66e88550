//! Programs without a terminal.

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use vestibule::control::message::{Exit, Start, What};

use crate::lab::{Lab, processes, terminal};

#[test]
fn output_errors_and_status_are_apart() {
    let lab = Lab::new("exec");
    let (out, err, exit) = lab.output("echo out; echo err >&2; exit 7");
    assert_eq!((&*out, &*err, exit), ("out\n", "err\n", Exit::Status(7)));
}

#[test]
fn megabytes_go_through_unchanged_and_wait_for_their_reader() {
    const SIZE: usize = 50 << 20;
    let lab = Lab::new("bulk");
    let mut program = lab.exec("cat");
    let (mut input, mut output) = (program.files.remove(0), program.files.remove(0));
    let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = written.clone();
    let writer = std::thread::spawn(move || {
        for start in (0..SIZE).step_by(64 << 10) {
            let piece: Vec<u8> = (start..start + (64 << 10)).map(byte).collect();
            input.write_all(&piece).unwrap();
            count.store(start + piece.len(), std::sync::atomic::Ordering::Relaxed);
        }
    });
    // Nobody reads: both pipes and what cat has in hand fill up, and then nothing moves.
    let mut before = usize::MAX;
    let now = || written.load(std::sync::atomic::Ordering::Relaxed);
    lab.machine.wait_for("the pipes to fill", || now() >= 1 << 20);
    let deadline = Instant::now() + Duration::from_secs(10);
    while before != now() && Instant::now() < deadline {
        before = now();
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!((1 << 20..4 << 20).contains(&now()), "{} bytes on their way", now());
    let mut received = Vec::with_capacity(SIZE);
    output.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert_eq!(received.len(), SIZE);
    assert!(received.iter().enumerate().all(|(at, got)| *got == byte(at)), "the same bytes");
    assert_eq!(program.exit(), Exit::Status(0));
}

#[test]
fn signals_and_lost_connections_end_programs() {
    let mut lab = Lab::new("ends");
    let mut program = lab.exec("sleep 4711.5");
    program.signal("TERM");
    assert_eq!(program.exit(), Exit::Signal { name: "TERM".to_owned(), core_dumped: false });
    let mut program = lab.exec("trap 'echo usr1; exit 1' USR1; echo ready; while :; do sleep 0.1; done");
    let mut line = [0; 6];
    program.files[1].read_exact(&mut line).unwrap();
    program.signal("NOSUCH"); // ignored
    program.signal("USR1");
    program.files[1].read_exact(&mut line[..5]).unwrap();
    assert_eq!((&line[..5], program.exit()), (&b"usr1\n"[..], Exit::Status(1)));
    let left = lab.exec("trap '' HUP; sleep 4711.25; sleep 4711.25");
    lab.machine.wait_for("it to run", || !processes("sleep\x004711.25").is_empty());
    drop(left);
    lab.disconnect();
    lab.machine.wait_for("it to end", || processes("sleep\x004711.25").is_empty());
}

#[test]
fn jobs_in_the_background_may_go_on() {
    let lab = Lab::new("jobs");
    let mut program = lab.exec("sleep 4712.5 > /dev/null 2>&1 < /dev/null & exit 4");
    assert_eq!(program.exit(), Exit::Status(4));
    drop(program);
    let job = || processes("sleep\x004712.5");
    lab.machine.wait_for("the job, as after ssh HOST 'program &'", || job().len() == 1);
    // Its leader is reaped when nothing is left of its session.
    let zombies = || {
        let ps = Command::new("ps").args(["-o", "stat=", "--ppid", &lab.machine.pid().to_string()]).output().unwrap();
        String::from_utf8_lossy(&ps.stdout).lines().filter(|line| line.starts_with('Z')).count()
    };
    assert_eq!(zombies(), 1);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(job()[0]), nix::sys::signal::Signal::SIGKILL).unwrap();
    lab.machine.wait_for("the leader to be reaped", || zombies() == 0);
}

#[test]
fn the_environment_is_ours_and_nothing_else() {
    let lab = Lab::new("environment");
    let words = [
        ("SSH_ORIGINAL_COMMAND", "rsync --server"),
        ("LC_ALL", "C"),
        ("LANG", "de_DE"),
        ("LD_PRELOAD", "/x"),
        ("EDITOR", "vi"),
    ];
    let environment = words.map(|(name, value)| (name.to_owned(), value.into())).to_vec();
    let what = What::Exec(b"exec cat /proc/self/environ".to_vec());
    let mut program = lab.try_start(Start { what, terminal: None, environment }).unwrap();
    let mut text = String::new();
    program.files[1].read_to_string(&mut text).unwrap();
    // Shells add these by themselves.
    let own = |line: &&str| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|name| line.starts_with(name));
    let mut lines: Vec<_> = text.split_terminator('\0').filter(own).collect();
    lines.sort_unstable();
    let shell = format!("SHELL={}", lab.machine.root.join("bin/bash").display());
    let path = lines.iter().find_map(|line| line.strip_prefix("PATH=")).unwrap();
    assert!(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().all(|place| path.split(':').any(|it| it == *place)));
    let path = format!("PATH={path}");
    let expected = [
        "HOME=/",
        "LANG=de_DE",
        "LC_ALL=C",
        "LOGNAME=root",
        &path,
        &shell,
        "SSH_ORIGINAL_COMMAND=rsync --server",
        "USER=root",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn nothing_of_the_daemons_comes_along() {
    let lab = Lab::new("inherited");
    let (out, _, _) = lab
        .output("ls -l /proc/self/fd | sed -n 's/.* \\([0-9]*\\) -> \\(.*\\):.*/\\1 \\2/p'; ls /proc/self/fd | wc -l");
    assert_eq!(out, "0 pipe\n1 pipe\n2 pipe\n4\n", "and the directory that ls reads");
    let (out, ..) = lab.output("umask; pwd; cat /proc/self/oom_score_adj; grep VmLck /proc/self/status; cut -d' ' -f5,6 /proc/$$/stat; echo $$");
    let lines: Vec<_> = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[..4], ["0022", "/", "0", "VmLck: 0 kB"], "{out}");
    assert_eq!(lines[4], format!("{0} {0}", lines[5]), "it leads a group and a session of its own");
}

#[test]
fn signals_are_as_at_the_beginning() {
    // As of a daemon that a shell script has started in the background.
    let line = "trap '' INT QUIT TSTP HUP; exec \"$0\" launch --name=sh -- /bin/sh -c 'grep -E \"Sig(Ign|Blk)\" /proc/self/status'";
    let program = env!("CARGO_BIN_EXE_vestibule");
    let output = Command::new("sh").args(["-c", line, program]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // Two that the C library keeps for itself (nptl(7)) can't be changed.
    let set = |line: &str| u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap() & !(3 << 31);
    assert_eq!(text.lines().map(set).collect::<Vec<_>>(), [0, 0], "{output:?}");
}

#[test]
fn what_can_not_be_started_says_why() {
    let lab = Lab::new("absent");
    for shell in ["bin/sh", "bin/bash"] {
        std::fs::remove_file(lab.machine.root.join(shell)).unwrap();
    }
    for (what, why) in [
        (What::Shell, "this image has no shell"),
        (What::Exec(b"id".to_vec()), "this image has no shell"),
        (What::Sftp, "no directory"),
    ] {
        let start = Start { what, terminal: Some(terminal()), environment: vec![] };
        let error = lab.try_start(start).err().expect("refused");
        assert!(error.contains(why), "{error}");
    }
    // A program that is a shell by its name: a busybox as the only one.
    std::os::unix::fs::symlink("/bin/sh", lab.machine.root.join("bin/busybox")).unwrap();
    assert_eq!(lab.output("echo $0").0, "sh\n");
}

#[test]
fn there_are_not_more_than_so_many() {
    let lab = Lab::new("many");
    let other = lab.connect();
    let mut all: Vec<_> = (0..60).map(|_| lab.exec("exec cat")).collect();
    let more: Vec<_> = (0..8).map(|_| lab.start_of(&other, "exec cat")).collect();
    assert_eq!(
        more.iter().filter(|it| it.is_ok()).count(),
        4,
        "{:?}",
        more.iter().filter_map(|it| it.as_ref().err()).next()
    );
    let refused = more.into_iter().find_map(Result::err).unwrap();
    assert_eq!(refused, "64 programs are running already");
    drop(all.remove(0).files);
    lab.machine.wait_for("a place", || lab.start_of(&other, "exit 0").is_ok());
}
