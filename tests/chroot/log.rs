//! The log on a disk that is full.

use std::fs;
use std::io::Write;
use std::process::Command;

use vestibule::chroot::definition::LogTo;
use vestibule::chroot::log::Log;
use vestibule::root::Root;

/// Tells the second run that it has a mount namespace of its own, and which directory.
const VARIABLE: &str = "VESTIBULE_TEST_FULL_DISK";

/// Lines that the disk has no room for go to the kernel's log, the one that was written in part as well; nothing ends, and
/// what comes when there is room again stands on lines of its own.
#[test]
fn a_full_disk() {
    let Some(directory) = std::env::var_os(VARIABLE) else { return in_a_namespace("log::a_full_disk") };
    let root = Root::new(directory);
    for path in ["/dev", "/disk"] {
        fs::create_dir(root.join(path)).unwrap();
    }
    fs::write(root.join("/dev/kmsg"), "").unwrap();
    // Of sixteen pages.
    let options = ["-t", "tmpfs", "-o", "size=64k", "none"];
    let mounted = Command::new("mount").args(options).arg(root.join("/disk")).status().unwrap();
    assert!(mounted.success());
    fs::write(root.join("/disk/fill"), [0; 32 << 10]).unwrap();

    let to = LogTo::File { path: "/disk/log".into(), rotate_at: 1 << 20 };
    let mut log = Log::open(&to, "debian", &root);
    let line = |number| format!("{number} {}", "x".repeat(1000));
    (0..50).for_each(|number| log.line("ssh", line(number).as_bytes()));
    let kernel = fs::read_to_string(root.join("/dev/kmsg")).unwrap();
    let mut told = kernel.lines();
    assert!(told.next().unwrap().contains("/disk/log: No space left on device"), "{kernel}");
    let first = told.next().unwrap().strip_prefix("<30>vestibule-debian: ssh: ").unwrap();
    let first: usize = first.split(' ').next().unwrap().parse().unwrap();
    assert!((1..50).contains(&first) && told.count() == 50 - first - 1, "{first} is the first: {kernel}");

    fs::remove_file(root.join("/disk/fill")).unwrap();
    log.line("ssh", b"there is room");
    let file = fs::read_to_string(root.join("/disk/log")).unwrap();
    let lines: Vec<_> = file.lines().collect();
    for (number, written) in lines[..first].iter().enumerate() {
        assert!(written.ends_with(&format!("Z ssh: {}", line(number))), "{written}");
    }
    assert!(lines.last().unwrap().ends_with("Z ssh: there is room"), "{:?}", lines.last());
    // At most the beginning of one more line is between them.
    assert!(lines.len() <= first + 2);
    assert_eq!(fs::read_to_string(root.join("/dev/kmsg")).unwrap(), kernel);
}

/// Runs the test again, where its mounts are nobody else's. Only root can; others see a line that says so.
fn in_a_namespace(test: &str) {
    if !nix::unistd::geteuid().is_root() {
        // Not `eprintln!`, which the test harness hides when a test passes.
        let line = format!("SKIPPED {test}: needs root, for a mount namespace\n");
        return std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    let directory = std::env::temp_dir().join(format!("vestibule-full-disk-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory); // of one that was killed and had the same number
    fs::create_dir(&directory).unwrap();
    let again = Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, &directory)
        .output()
        .expect("unshare, from util-linux");
    fs::remove_dir_all(&directory).unwrap();
    let [out, err] = [&again.stdout, &again.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(again.status.success() && out.contains("1 passed"), "{out}{err}");
}
