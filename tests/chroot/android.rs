//! What Android's own shells make of the boot script, and where it is put. There is no Android here: its shells are mksh and
//! BusyBox's ash, its other programs fakes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use vestibule::chroot::android::script::boot_script;

/// Nothing here takes longer on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// The shells that run it on phones: SuperSU's and init.d's, and that of Magisk and KernelSU.
const SHELLS: [&[&str]; 2] = [&["mksh"], &["busybox", "ash"]];

/// Android has booted when it is asked the third time. Answers nothing else.
const GETPROP: &str = r#"#!/bin/sh
echo "$@" >> asked
[ "$(wc -l < asked)" -lt 3 ] || echo 1
"#;
/// Says how it was called, after all else is done.
const VESTIBULE: &str = r#"#!/bin/sh
echo started
echo "$(wc -l < asked): $*" > called.new
mv called.new called
"#;

#[test]
fn the_script_waits_for_android() {
    for shell in SHELLS {
        let phone = Phone::new("waits");
        phone.run(shell, &phone.script());
        assert_eq!(phone.called(), "3: chroot start debian\n", "{shell:?}");
        assert_eq!(phone.read("asked"), "sys.boot_completed\n".repeat(3));
        // Beside the program, whose directory has a name that shells find hard.
        let log = phone.program().with_file_name("boot-debian.log");
        assert_eq!(fs::read_to_string(&log).unwrap(), "started\n");
        assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// Android never comes up, and the log can't be written: it is started all the same.
#[test]
fn the_script_waits_for_nothing_for_ever() {
    for shell in SHELLS {
        let phone = Phone::new("deadline");
        fs::create_dir(phone.program().with_file_name("boot-debian.log")).unwrap();
        let script = phone.script();
        assert!(script.contains("\ndeadline=300 "));
        phone.run(shell, &script.replace("\ndeadline=300 ", "\ndeadline=0 "));
        assert_eq!(phone.called(), "1: chroot start debian\n", "{shell:?}");
    }
}

#[test]
fn it_is_put_where_it_is_run() {
    if !nix::unistd::geteuid().is_root() {
        // Not `eprintln!`, which the test harness hides when a test passes.
        let line = b"SKIPPED android::it_is_put_where_it_is_run: needs root, as the command does\n";
        return std::io::stderr().write_all(line).unwrap();
    }
    let phone = Phone::new("install");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let install = |arguments: &[&str]| phone.vestibule(&[&["install", "android"][..], arguments].concat(), "");
    let unknown = install(&["debian"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("there is no"), "{unknown:?}");

    phone.put("data/vestibule/chroots/debian.12.toml", b"root = \"/data/vestibule/debian\"\n");
    let script = install(&["debian.12", "--print"]);
    assert!(script.status.success() && text(&script.stdout).contains("\nname='debian.12'\n"), "{script:?}");

    // Nobody runs anything at boot.
    let nowhere = install(&["debian.12"]);
    assert_eq!((nowhere.status.code(), &nowhere.stdout), (Some(1), &script.stdout));
    assert!(text(&nowhere.stderr).contains("/data/adb/service.d (Magisk, KernelSU or APatch)"), "{nowhere:?}");

    let there = |directory: &str| phone.path(directory).join("vestibule-debian_12");
    let put = |directory: &str, output: &Output| {
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output.stdout).contains(directory), "{output:?}");
        assert_eq!(fs::read(there(directory)).unwrap(), script.stdout);
        assert_eq!(there(directory).metadata().unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_dir(phone.path(directory)).unwrap().count(), 1, "nothing else is left there");
    };
    fs::create_dir_all(phone.path("system/etc/init.d")).unwrap();
    fs::create_dir_all(phone.path("data/adb/service.d")).unwrap();
    fs::create_dir_all(phone.path("elsewhere")).unwrap();
    let elsewhere = phone.path("elsewhere");
    put("elsewhere", &install(&["debian.12", "--to", elsewhere.to_str().unwrap()]));
    assert!(!there("data/adb/service.d").exists() && !there("system/etc/init.d").exists());
    // Twice is harmless.
    put("data/adb/service.d", &install(&["debian.12"]));
    put("data/adb/service.d", &install(&["debian.12"]));
    assert!(!there("system/etc/init.d").exists());

    // Its file would have the same name.
    phone.put("data/vestibule/chroots/debian_12.toml", b"root = \"/data/vestibule/other\"\n");
    let other = install(&["debian_12"]);
    assert_eq!((other.status.code(), text(&other.stdout).as_str()), (Some(1), ""), "{other:?}");
    assert!(
        text(&other.stderr).contains("data/adb/service.d/vestibule-debian_12 is there and starts another chroot"),
        "{other:?}"
    );
    put("data/adb/service.d", &install(&["debian.12"]));

    // A place that can't be written to is passed by; where all are so, that is said.
    let frozen = |place: &str| format!("mount --bind {place} {place}; mount -o remount,bind,ro {place};");
    let [magisk, init] =
        ["data/adb/service.d", "system/etc/init.d"].map(|place| phone.path(place).display().to_string());
    fs::remove_file(there("data/adb/service.d")).unwrap();
    let first = phone.vestibule(&["install", "android", "debian.12"], &frozen(&magisk));
    put("system/etc/init.d", &first);
    let none = phone.vestibule(&["install", "android", "debian.12"], &(frozen(&magisk) + &frozen(&init)));
    assert_eq!((none.status.code(), &none.stdout), (Some(1), &script.stdout));
    assert_eq!(text(&none.stderr).matches("Read-only file system").count(), 2, "{none:?}");
}

#[test]
fn a_context_that_may_not_mount_is_warned_of() {
    if !nix::unistd::geteuid().is_root() {
        let line = b"SKIPPED android::a_context_that_may_not_mount_is_warned_of: needs root, as the command does\n";
        return std::io::stderr().write_all(line).unwrap();
    }
    let phone = Phone::new("context");
    fs::create_dir(phone.path("tree")).unwrap();
    let definition = format!("root = {:?}\n", phone.path("tree"));
    phone.put("data/vestibule/chroots/debian.toml", definition.as_bytes());
    let shown = |context: &str| {
        phone.put("proc/self/attr/current", context.as_bytes());
        let status = phone.vestibule(&["status", "debian"], "");
        assert_eq!(status.status.code(), Some(3), "{status:?}");
        String::from_utf8([status.stdout, status.stderr].concat()).unwrap()
    };
    let shell = shown("u:r:shell:s0\0");
    assert!(
        shell.contains("SELinux context: u:r:shell:s0 (enforcing)") && shell.contains("may not make mounts"),
        "{shell}"
    );
    let magisk = shown("u:r:magisk:s0\0");
    assert!(magisk.contains("u:r:magisk:s0 (enforcing)") && !magisk.contains("may not make mounts"), "{magisk}");
}

/// A directory that stands for a phone.
struct Phone(PathBuf);

impl Phone {
    fn new(name: &str) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("vestibule-phone-{name}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&directory); // of one that was killed and had the same number
        fs::create_dir(&directory).unwrap();
        let phone = Self(directory);
        phone.put_program(&phone.path("bin/getprop"), GETPROP);
        phone.put_program(&phone.program(), VESTIBULE);
        phone
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn program(&self) -> PathBuf {
        self.path("it's $HOME \"here\"/vestibule")
    }

    fn script(&self) -> String {
        boot_script(&self.program(), "debian").unwrap()
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Written by another process: a child of another test could still have a file open that this one has written, and then
    /// nobody could run it (ETXTBSY).
    fn put_program(&self, path: &Path, text: &str) {
        let mut install = Command::new("install");
        install.args(["-D", "-m", "0755", "/dev/stdin"]).arg(path).stdin(Stdio::piped());
        let mut running = install.spawn().expect("install, from coreutils");
        running.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(running.wait().unwrap().success());
    }

    /// Runs the script as a boot does. It ends at once, with nothing to say.
    fn run(&self, shell: &[&str], script: &str) {
        self.put("script", script.as_bytes());
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg(self.path("script")).current_dir(&self.0).env("PATH", path).stdin(Stdio::null());
        let ended = command.output().expect("mksh and busybox, which scripts/deps installs");
        assert!(ended.status.success() && ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended:?}");
    }

    /// How the chroot was started, when it has been.
    fn called(&self) -> String {
        let since = Instant::now();
        while !self.path("called").exists() {
            assert!(since.elapsed() < DEADLINE, "nothing was started");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.read("called")
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Runs `vestibule chroot ARGUMENTS` on this phone, after these lines of shell, in a mount namespace of its own.
    fn vestibule(&self, arguments: &[&str], before: &str) -> Output {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", &format!("{before} exec \"$@\""), "sh", env!("CARGO_BIN_EXE_vestibule")]);
        command.arg("--root").arg(&self.0).arg("chroot").args(arguments).stdin(Stdio::null());
        command.output().expect("unshare, from util-linux")
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.0);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}
