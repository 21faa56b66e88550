//! What was given up and is opened all the same. systemd itself can't run here: a script stands in for `systemctl`, and
//! the unit's questions are asked by the test. The shells that are ended are real ones.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use vestibule::daemon::prompt::broker::Broker;
use vestibule::daemon::prompt::emergency;
use vestibule::daemon::prompt::recipe::Recipes;
use vestibule::daemon::prompt::recovery::Recovery;
use vestibule::daemon::prompt::{Kind, Source, Verdict};

use crate::fixture::*;

const NOW: Duration = Duration::ZERO;
const STARTED: &str = "started";

/// A machine with systemd, where `systemctl` says what it is told and then does `then`.
fn machine(then: &str) -> Machine {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.directory.join("run/systemd/system")).unwrap();
    let started = machine.directory.join(STARTED);
    machine.put("usr/bin/systemctl", format!("#!/bin/sh\necho \"$@\" >> {}\n{then}\n", started.display()));
    let executable = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(machine.directory.join("usr/bin/systemctl"), executable).unwrap();
    machine
}

fn broker(machine: &Machine) -> Broker {
    let broker = machine.broker();
    let (root, hold) = (machine.root(), emergency::watch(machine.root()));
    broker.add(Recovery { root, recipes: Recipes::default(), broker: broker.clone(), hold }.spawn());
    broker
}

/// Its asker ends without having opened it.
async fn give_up(machine: &Machine, broker: &Broker, volume: &str) {
    let mut asker = machine.cryptsetup(volume);
    let asked = asker.ask();
    until(broker, |view| view.questions.iter().any(|question| question.volume.as_deref() == Some(volume))).await;
    asker.end();
    asked.withdraw();
    recovery_question(broker, volume).await;
}

async fn recovery_question(broker: &Broker, volume: &str) -> vestibule::control::message::Question {
    let ours = |question: &&vestibule::control::message::Question| {
        question.is_recovery() && question.volume.as_deref() == Some(volume)
    };
    until(broker, |view| view.questions.iter().any(|question| ours(&question)))
        .await
        .questions
        .iter()
        .find(ours)
        .unwrap()
        .clone()
}

async fn told(machine: &Machine) -> String {
    let path = machine.directory.join(STARTED);
    let written = async {
        loop {
            match std::fs::read_to_string(&path) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(SOON, written).await.expect("systemctl is run")
}

#[tokio::test]
async fn the_unit_is_started_again_and_its_question_answered() {
    let machine = machine("exec sleep 1000");
    let broker = broker(&machine);
    give_up(&machine, &broker, "my-root").await;
    let view = broker.view().borrow().clone();
    assert_eq!(view.gave_up[0].name, "my-root", "it stays given up while the question stands");
    assert_eq!((view.questions.len(), view.questions[0].kind), (1, Kind::Passphrase));
    assert!(view.questions[0].message.contains("given up"), "{}", view.questions[0].message);

    let submission = broker.submit(all(), secret("hunter2"), NOW);
    assert_eq!(told(&machine).await, "--no-ask-password --quiet start systemd-cryptsetup@my\\x2droot.service\n");
    let mut asker = machine.cryptsetup("my-root");
    assert_eq!(asker.ask().answer().await, "+hunter2");
    machine.open_volume("my-root");
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
    let view = until(&broker, |view| view.questions.is_empty()).await;
    assert!(view.gave_up.is_empty() && view.opened > 0, "{view:?}");
}

#[tokio::test]
async fn a_wrong_one_leaves_the_question_to_the_unit() {
    let machine = machine("exec sleep 1000");
    let broker = broker(&machine);
    give_up(&machine, &broker, "root").await;
    let submission = broker.submit(all(), secret("wrong"), NOW);
    let mut asker = machine.cryptsetup("root");
    assert_eq!(asker.ask().answer().await, "+wrong");
    let again = asker.ask();
    assert_eq!(verdict(submission).await, Verdict::Wrong { tries_left: Some(2) });
    let view = until(&broker, |view| view.questions.len() == 1).await;
    assert!(!view.questions[0].is_recovery() && view.gave_up.is_empty(), "{view:?}");
    // The unit gives up again, and it is still no dead end.
    asker.end();
    again.withdraw();
    recovery_question(&broker, "root").await;
}

/// As when the kernel's keyring still has a wrong passphrase, which uses up the tries before anybody is asked.
#[tokio::test]
async fn a_unit_that_fails_unasked_is_started_once_more() {
    let machine = machine("[ \"$(wc -l < \"${0%/usr/bin/systemctl}/started\")\" -gt 1 ] || exit 1; exec sleep 1000");
    let broker = broker(&machine);
    give_up(&machine, &broker, "root").await;
    let submission = broker.submit(all(), secret("hunter2"), NOW);
    let twice = async {
        while told(&machine).await.lines().count() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, twice).await.expect("a second start");
    let mut asker = machine.cryptsetup("root");
    assert_eq!(asker.ask().answer().await, "+hunter2");
    machine.open_volume("root");
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
}

#[tokio::test]
async fn the_units_last_try_is_not_the_last() {
    let machine = machine("exec sleep 1000");
    let broker = broker(&machine);
    give_up(&machine, &broker, "root").await;
    let submission = broker.submit(all(), secret("wrong"), NOW);
    let mut asker = machine.cryptsetup("root");
    assert_eq!(asker.ask().answer().await, "+wrong");
    asker.end();
    assert_eq!(verdict(submission).await, Verdict::Wrong { tries_left: None });
    recovery_question(&broker, "root").await;
}

#[tokio::test]
async fn a_passphrase_is_not_given_to_a_pin_question() {
    let machine = machine("exec sleep 1000");
    let broker = broker(&machine);
    give_up(&machine, &broker, "root").await;
    let submission = broker.submit(all(), secret("hunter2"), NOW);
    let mut asker = machine.cryptsetup("root");
    let asked = asker.ask_pin();
    let Verdict::NotDelivered(reason) = verdict(submission).await else { panic!("delivered") };
    assert!(reason.contains("something else than a passphrase"), "{reason}");
    assert!(asked.unanswered());
}

/// Rows: what systemctl does; what of its failure is told.
#[tokio::test]
async fn a_unit_that_does_not_start_says_why() {
    for (then, said) in [
        (
            "echo 'Unit not found.' >&2; exit 5",
            "systemctl could not start systemd-cryptsetup@root.service: Unit not found.",
        ),
        ("exit 4", "it says nothing more"),
        ("rm -- \"$0\"; exit 4", "could not start"),
    ] {
        let machine = machine(then);
        let broker = broker(&machine);
        give_up(&machine, &broker, "root").await;
        let before = recovery_question(&broker, "root").await.id;
        let Verdict::NotDelivered(reason) = verdict(broker.submit(all(), secret("x"), NOW)).await else {
            panic!("{then}")
        };
        assert!(reason.contains(said), "{reason}");
        until(&broker, |view| view.questions.iter().any(|question| question.id > before)).await;
        if then.starts_with("rm") {
            let verdict = verdict(broker.submit(all(), secret("x"), NOW)).await;
            assert!(
                matches!(&verdict, Verdict::NotDelivered(reason) if reason.contains("no systemctl")),
                "{verdict:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_volume_that_somebody_opened_is_no_question_any_more() {
    let machine = machine("");
    let broker = broker(&machine);
    give_up(&machine, &broker, "root").await;
    machine.open_volume("root");
    assert!(until(&broker, |view| view.questions.is_empty()).await.gave_up.is_empty());
}

/// A real interactive shell on a terminal of its own, which the fixture shows as that of emergency.service.
struct Shell {
    child: Child,
    _terminal: std::os::fd::OwnedFd,
}

impl Shell {
    fn new(machine: &Machine, command: &[&str]) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut child = Command::new("setsid");
        child.arg("--ctty").args(command).stdin(end()).stdout(end()).stderr(end());
        let child = child.spawn().unwrap();
        let pid = child.id();
        machine.put(&format!("proc/{pid}/cmdline"), "sh\0-i\0");
        machine.put(&format!("proc/{pid}/stat"), format!("{pid} (sh) S 1 7 7"));
        std::fs::create_dir_all(machine.directory.join(format!("proc/{pid}/fd"))).unwrap();
        std::os::unix::fs::symlink("/dev/ttyS0", machine.directory.join(format!("proc/{pid}/fd/0"))).unwrap();
        machine.put("sys/fs/cgroup/system.slice/emergency.service/cgroup.procs", format!("{pid}\n"));
        Self { child, _terminal: pty.master }
    }

    /// `true` when it ends within that time.
    async fn ends_within(&mut self, time: Duration) -> bool {
        let ended = async {
            while self.child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(time, ended).await.is_ok()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Longer than the emergency watch takes between two looks.
const A_WHILE: Duration = Duration::from_millis(2500);

#[tokio::test]
async fn an_answer_of_ours_ends_the_shell_that_holds_the_boot() {
    for command in [&["dash", "-i"][..], &["bash", "--norc", "-i"], &["busybox", "ash", "-i"]] {
        if Command::new(command[0]).args(["-c", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            eprintln!("{} is not here", command[0]);
            continue;
        }
        let machine = machine("");
        let broker = broker(&machine);
        let (mut root, mut data) = (machine.cryptsetup("root"), machine.cryptsetup("data"));
        let (first, second) = (root.ask(), data.ask());
        questions(&broker, 2).await;
        let mut shell = Shell::new(&machine, command);

        let submission = broker.submit(named(&["root"]), secret("hunter2"), NOW);
        first.answer().await;
        machine.open_volume("root");
        assert_eq!(verdict(submission).await, Verdict::Unlocked);
        assert!(!shell.ends_within(A_WHILE).await, "{command:?} was ended with a question open");

        let submission = broker.submit(named(&["data"]), secret("hunter2"), NOW);
        second.answer().await;
        machine.open_volume("data");
        assert_eq!(verdict(submission).await, Verdict::Unlocked);
        assert!(shell.ends_within(SOON).await, "{command:?} does not end");
        drop((root, data));
    }
}

#[tokio::test]
async fn what_others_opened_ends_no_shell() {
    let machine = machine("");
    let broker = broker(&machine);
    give_up(&machine, &broker, "root").await;
    let mut shell = Shell::new(&machine, &["sh", "-i"]);
    // by somebody in that shell
    machine.open_volume("root");
    until(&broker, |view| view.questions.is_empty()).await;
    assert!(!shell.ends_within(A_WHILE).await, "ended under somebody's hands");
}

#[tokio::test]
async fn a_shell_that_was_asked_for_stays() {
    let machine = machine("");
    machine.put("proc/cmdline", "root=/dev/dm-0 rd.break=pre-mount\n");
    let broker = broker(&machine);
    let mut root = machine.cryptsetup("root");
    let asked = root.ask();
    questions(&broker, 1).await;
    let mut shell = Shell::new(&machine, &["sh", "-i"]);
    let submission = broker.submit(all(), secret("hunter2"), NOW);
    asked.answer().await;
    machine.open_volume("root");
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
    assert!(!shell.ends_within(A_WHILE).await, "it was asked for");
    drop(root);
}

/// Without systemd there must be a noted command; nothing else is tried.
#[tokio::test]
async fn where_no_way_is_known_nothing_is_asked() {
    let machine = Machine::new();
    let broker = broker(&machine);
    let mut asker = machine.cryptsetup("root");
    let asked = asker.ask();
    questions(&broker, 1).await;
    asker.end();
    asked.withdraw();
    let view = until(&broker, |view| !view.gave_up.is_empty()).await;
    assert!(view.questions.is_empty(), "{view:?}");
}
