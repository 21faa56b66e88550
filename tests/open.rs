//! `vestibule open`: one question, at a console and over SSH. `cryptsetup` is a script here, which knows one passphrase and
//! makes the fixture's device mapper show the volume; the real one is in the boot tests.

#[allow(dead_code)] // it also has what other tests need
mod common;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::terminal::Reader;
use common::{DEADLINE, Machine};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

const PASSPHRASE: &str = "hunter2 \u{e4}";
const CRYPTSETUP: &str = r#"#!/bin/sh
root=${0%/bin/cryptsetup}
echo "$@" >> "$root/arguments"
[ "$(/bin/cat)" = "hunter2 ä" ] || exit 2
/bin/mkdir -p "$root/sys/block/dm-0/dm"
echo 8192 > "$root/sys/block/dm-0/size"
echo CRYPT-LUKS2-0-root > "$root/sys/block/dm-0/dm/uuid"
echo root > "$root/sys/block/dm-0/dm/name"
"#;
const QUESTION: &str = "Enter passphrase for /dev/sda2: ";
const CRYPTDEVICE: [&str; 4] = ["--cryptdevice", "UUID=1f2d:root:allow-discards", "--device", "/dev/sda2"];

/// A machine without a daemon, on which cryptsetup is the script.
fn machine(name: &str) -> Machine {
    let machine = Machine::new(name);
    let program = machine.root.join("bin/cryptsetup");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, CRYPTSETUP).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    machine
}

/// `vestibule open` on a terminal of its own.
struct Console {
    terminal: File,
    screen: Reader,
    open: Child,
}

impl Console {
    fn new(machine: &Machine, arguments: &[&str]) -> Self {
        let pty = openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let open = Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .arg("open")
            .arg("--root")
            .arg(&machine.root)
            .args(arguments)
            .env("PATH", machine.root.join("bin"))
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let terminal = File::from(pty.master);
        Self { screen: Reader::new(terminal.try_clone().unwrap()), terminal, open }
    }

    fn type_in(&mut self, text: &str) {
        use std::io::Write;
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    fn is_as_before(&self) -> bool {
        let flags = tcgetattr(self.terminal.as_fd()).unwrap().local_flags;
        flags.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.open.try_wait().unwrap() {
                Some(status) => return status,
                None if Instant::now() > deadline => panic!("it does not end; seen: {}", self.screen.all()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.open.kill();
        let _ = self.open.wait();
    }
}

#[test]
fn the_console_answers() {
    let mut machine = machine("open-console");
    machine.start();
    let mut console = Console::new(&machine, &CRYPTDEVICE);
    console.screen.until(QUESTION);
    let question = &machine.status()["questions"][0];
    assert_eq!((&question["volume"], &question["source"]), (&"root".into(), &"hook".into()), "{question}");
    assert!(!console.is_as_before(), "the echo must be off");

    console.type_in("wrong\x7f!\n");
    console.screen.until("root (/dev/sda2): wrong passphrase");
    console.screen.until(QUESTION);
    console.type_in("\n"); // nothing typed is nothing tried
    console.screen.until(QUESTION);
    console.type_in(&format!("half\x03{PASSPHRASE}\r"));
    console.screen.until("root (/dev/sda2): unlocked");
    assert!(console.end().success());
    assert!(console.is_as_before(), "the terminal must be as it was");
    assert!(!console.screen.all().contains("hunter2") && !console.screen.all().contains("wron!"));

    let run = "-T1 --key-file=- open --type luks /dev/sda2 root --allow-discards\n";
    assert_eq!(fs::read_to_string(machine.root.join("arguments")).unwrap(), run.repeat(2));
    let status = machine.status();
    assert_eq!((&status["phase"], &status["questions"]), (&"unlocked".into(), &serde_json::json!([])));
}

#[test]
fn ssh_answers_while_the_console_waits() {
    let mut machine = machine("open-ssh");
    machine.start();
    machine.wait_for_ssh();
    let mut console = Console::new(&machine, &["--", "open", "--type", "luks", "/dev/sda2", "root"]);
    console.screen.until(QUESTION);
    console.type_in("half of a");
    assert_eq!(machine.ssh("unlock", &["unlock"], b"wrong").status.code(), Some(1));
    console.screen.until("wrong passphrase");
    console.screen.until(QUESTION);
    assert_eq!(machine.ssh("unlock", &["unlock"], PASSPHRASE.as_bytes()).status.code(), Some(0));
    console.screen.until("unlocked");
    assert!(console.end().success());
    assert!(console.is_as_before());
}

#[test]
fn without_a_daemon_the_caller_asks_by_itself() {
    let machine = machine("open-alone");
    let mut console = Console::new(&machine, &CRYPTDEVICE);
    assert!(!console.end().success());
    assert!(console.is_as_before());
    assert!(console.screen.all().is_empty() || !console.screen.all().contains("passphrase"));
}

#[test]
fn what_is_not_to_be_asked_is_refused_at_once() {
    let mut machine = machine("open-refused");
    machine.start();
    for (arguments, reason) in [
        (&["--", "open", "--type", "plain", "/dev/sda2", "root"][..], "only at the console"),
        (&["--", "open", "--key-file=/k", "/dev/sda2", "root"], "asks for no passphrase"),
        (&["--", "isLuks", "/dev/sda2"], "asks for no passphrase"),
        (&["--cryptdevice", "/dev/sda2", "--device", "/dev/sda2"], "write cryptdevice=DEVICE:NAME"),
    ] {
        let mut console = Console::new(&machine, arguments);
        console.screen.until(reason);
        assert!(!console.end().success(), "{arguments:?}");
        assert!(console.is_as_before(), "{arguments:?}");
    }
    assert!(machine.status()["questions"].as_array().unwrap().is_empty());

    machine.write("proc/cmdline", "rd.vestibule=0\n");
    let mut console = Console::new(&machine, &CRYPTDEVICE);
    assert!(!console.end().success());
}

#[test]
fn a_signal_restores_the_terminal_and_takes_the_question_down() {
    let mut machine = machine("open-signal");
    machine.start();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut console = Console::new(&machine, &CRYPTDEVICE);
        console.screen.until(QUESTION);
        console.type_in("half");
        kill(Pid::from_raw(console.open.id() as i32), signal).unwrap();
        assert!(!console.end().success());
        assert!(console.is_as_before(), "{signal}");
        let gone = || machine.status()["questions"].as_array().unwrap().iter().all(|it| it["source"] != "hook");
        machine.wait_for("the question to go", gone);
        assert_eq!(machine.status()["gave_up"][0]["name"], "root");
    }
}

#[test]
fn a_daemon_that_is_killed_and_comes_back_asks_again() {
    let mut machine = machine("open-killed");
    machine.start();
    let mut console = Console::new(&machine, &CRYPTDEVICE);
    console.screen.until(QUESTION);
    machine.kill();
    console.screen.until("vestibule ended while it was asking");
    machine.start();
    console.screen.until(QUESTION);
    console.type_in(&format!("{PASSPHRASE}\n"));
    console.screen.until("unlocked");
    assert!(console.end().success());
    assert!(console.is_as_before());
}

#[test]
fn a_daemon_that_stays_away_leaves_the_console_to_the_caller() {
    let mut machine = machine("open-gone");
    machine.start();
    let mut console = Console::new(&machine, &CRYPTDEVICE);
    console.screen.until(QUESTION);
    assert_eq!(machine.stop(), Some(0));
    assert!(!console.end().success());
    assert!(console.is_as_before());
}

/// `serve --family mkinitcpio`: see `config::family`.
#[test]
fn the_hook_can_name_its_family() {
    let serve = |family| {
        let machine = machine("open-family");
        machine.write("proc/cmdline", "rd.vestibule=0\n"); // it ends at once
        machine.vestibule(&["serve", "--family", family]).status.code()
    };
    assert_eq!((serve("mkinitcpio"), serve("unheard-of")), (Some(0), Some(2)));
}
