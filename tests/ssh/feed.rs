//! `ssh HOST feed VOLUME < keyfile`, from OpenSSH to a socket that an asker reads its key from. Needs root: the daemon
//! serves keys to nobody else.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};

use crate::common::{self, Machine};

const KEY_FILE: &str = "run/cryptsetup-keys.d/data.key";
/// Binary, and nothing else contains it.
const KEY: &[u8] = b"\0\n\xffZyxwvutsrqponm\n";

/// A machine whose volume `data` is fed; `None` for a user who can't run this.
fn machine(test: &str) -> Option<Machine> {
    if !may_run(test) {
        return None;
    }
    let mut machine = Machine::new("feed");
    let config = fs::read_to_string(machine.root.join("etc/vestibule/config.toml")).unwrap();
    machine.write("etc/vestibule/config.toml", &format!("{config}[[key]]\nvolume = \"data\"\nwait-seconds = 60\n"));
    machine.start();
    machine.wait_for_ssh();
    Some(machine)
}

fn may_run(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        // Not eprintln!(): that is shown only for tests that fail.
        std::io::stderr().write_all(format!("SKIPPED {test}: not root\n").as_bytes()).unwrap();
    }
    root
}

/// Connects as systemd-cryptsetup does.
fn asker(machine: &Machine, random: &str) -> UnixStream {
    let end = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let name = format!("{random}{:x}/cryptsetup/data", std::process::id());
    bind(end.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
    connect(end.as_raw_fd(), &UnixAddr::new(&machine.root.join(KEY_FILE)).unwrap()).unwrap();
    let stream = UnixStream::from(end);
    machine.wait_for("the question", || !machine.status()["questions"].as_array().unwrap().is_empty());
    stream
}

/// Reads the key to its end; then the volume is open.
fn open(machine: &Machine, mut end: UnixStream) -> Vec<u8> {
    let mut key = Vec::new();
    end.read_to_end(&mut key).unwrap();
    let block = machine.root.join("sys/block/dm-data");
    fs::create_dir_all(block.join("dm")).unwrap();
    fs::write(block.join("size"), "8192\n").unwrap();
    fs::write(block.join("dm/uuid"), "CRYPT-LUKS2-0-data\n").unwrap();
    fs::write(block.join("dm/name"), "data\n").unwrap();
    key
}

fn says(output: &Output, expected: &str) {
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_key_is_fed_and_its_verdict_told() {
    let Some(mut machine) = machine("a_key_is_fed_and_its_verdict_told") else { return };
    let nothing = machine.ssh("unlock", &["feed", "data", "--wait", "0"], KEY);
    assert_eq!(nothing.status.code(), Some(3));
    says(&nothing, "nothing is asking");
    let end = asker(&machine, "a");
    let question = machine.status()["questions"][0].clone();
    assert_eq!((&question["kind"], &question["source"]), (&"key".into(), &"feed".into()), "{question}");
    says(&machine.vestibule(&["status"]), "data waits for its key (ssh HOST feed data < keyfile)");
    for (role, words, input, status) in [
        ("peek", &["feed", "data"][..], KEY, 6),
        ("unlock", &["feed"], KEY, 2),
        ("unlock", &["feed", "data"], b"", 2),
        ("unlock", &["feed", "data"], &[7; (64 << 10) + 1], 2),
        ("unlock", &["feed", "root", "--wait", "0"], KEY, 3),
        ("unlock", &["unlock", "data", "--wait", "0"], KEY, 3),
        ("unlock", &["unlock", "--wait", "0"], KEY, 3),
    ] {
        let output = machine.ssh(role, words, input);
        assert_eq!(output.status.code(), Some(status), "{role} {words:?}: {output:?}");
    }
    let (fed, key) = std::thread::scope(|scope| {
        let opening = scope.spawn(|| open(&machine, end));
        (machine.ssh("unlock", &["feed", "data"], KEY), opening.join().unwrap())
    });
    assert_eq!((fed.status.code(), &*key), (Some(0), KEY));
    says(&fed, "data: unlocked");
    assert_eq!(machine.ssh("unlock", &["feed", "data"], KEY).status.code(), Some(0), "it is open");
    assert!(!crate::clean_room::memory_holds(&machine.pid().to_string(), &KEY[3..]), "the daemon still holds the key");
    assert_eq!(machine.stop(), Some(0));
    assert!(!machine.root.join("run/cryptsetup-keys.d").exists(), "nothing is left");
}

#[test]
fn half_a_key_is_given_to_nobody() {
    let Some(machine) = machine("half_a_key_is_given_to_nobody") else { return };
    let end = asker(&machine, "b");
    let mut ssh = machine.ssh_command("unlock", &["feed", "data"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    stdin.write_all(&KEY[..3]).unwrap();
    machine.wait_for("the login", || machine.log().contains("logged in"));
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    drop(stdin);
    machine.wait_for("the session's end", || machine.log().contains("has ended"));
    assert_eq!(machine.status()["questions"][0]["stage"], "asking");
    let key = std::thread::scope(|scope| {
        let opening = scope.spawn(|| open(&machine, end));
        assert_eq!(machine.ssh("root", &["feed", "data"], KEY).status.code(), Some(0));
        opening.join().unwrap()
    });
    assert_eq!(key, KEY);
}

#[test]
fn a_killed_daemon_leaves_no_socket_that_nobody_answers() {
    let Some(mut machine) = machine("a_killed_daemon_leaves_no_socket_that_nobody_answers") else { return };
    machine.kill();
    assert!(machine.root.join(KEY_FILE).exists());
    assert!(machine.vestibule(&["stop"]).status.success());
    assert!(!machine.root.join(KEY_FILE).exists());
}

#[test]
fn systemd_is_told_when_the_sockets_are_there() {
    if !may_run("systemd_is_told_when_the_sockets_are_there") {
        return;
    }
    let machine = Machine::new("ready");
    machine.write("etc/vestibule/config.toml", "port = 1\nnetwork = false\n[[key]]\nvolume = \"data\"\n");
    let path = machine.root.join("notify");
    let notify = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    notify.set_read_timeout(Some(common::DEADLINE)).unwrap();
    let mut daemon = std::process::Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .args(["serve", "--root"])
        .arg(&machine.root)
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = [0; 64];
    let length = notify.recv(&mut said);
    let there = machine.root.join(KEY_FILE).exists();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!((&said[..length.unwrap()], there), (&b"READY=1"[..], true));
}

#[test]
fn only_images_with_keys_have_systemd_wait_for_us() {
    let machine = Machine::new("files");
    fs::create_dir_all(machine.root.join("usr/lib/vestibule")).unwrap();
    machine.write("usr/lib/vestibule/keys.conf", "");
    let files = || String::from_utf8(machine.vestibule(&["check", "--files"]).stdout).unwrap();
    assert!(!files().contains("keys.conf"), "{}", files());
    machine.write("etc/vestibule/config.toml", "[[key]]\nvolume = \"data\"\n");
    let destination = "\t/usr/lib/systemd/system/vestibule.service.d/10-keys.conf\n";
    assert!(files().contains(destination), "{}", files());
}
