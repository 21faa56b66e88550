//! The real `systemd-ask-password` and `systemd-cryptsetup`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use vestibule::control::message::Kind;
use vestibule::daemon::prompt::Verdict;

use crate::fixture::*;

/// Whether a test that needs root and `program` can run; says so when it can't.
pub fn possible(test: &str, program: &str) -> bool {
    let missing = match Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Err(_) => format!("{program} is not installed"),
        Ok(_) if !nix::unistd::geteuid().is_root() => "not root".to_owned(),
        Ok(_) => return true,
    };
    // Not eprintln!(): that is shown only for tests that fail.
    let line = format!("SKIPPED {test}: {missing}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    false
}

/// A command that sees the fixture's `/run` in place of the system's, and a keyring of its own: there systemd keeps
/// passphrases for other questions.
pub fn below_run(machine: &Machine) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", "mount --bind \"$0\" /run && exec \"$@\""]);
    command.arg(machine.directory.join("run")).stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn systemd_ask_password_gets_the_bytes() {
    if !possible("systemd_ask_password_gets_the_bytes", "systemd-ask-password") {
        return;
    }
    let machine = Machine::new().with_real_processes();
    let broker = machine.broker();
    let passphrase = "p\u{e4}ss '\"$\\ \n ";
    let asker = below_run(&machine)
        .args(["systemd-ask-password", "--no-tty", "--timeout=60", "-n", "Passphrase for the test:"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let question = questions(&broker, 1).await.remove(0);
    assert_eq!((question.kind, &*question.message), (Kind::Passphrase, "Passphrase for the test:"));
    let submission = broker.submit(all(), secret(passphrase), Duration::ZERO);
    let output = asker.wait_with_output().await.unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), passphrase);
    questions(&broker, 0).await;
    assert_eq!(verdict(submission).await, Verdict::NoVerdict);
}

/// Asks, and goes away or asks again: without device mapper it can't come to a trial.
#[tokio::test]
async fn systemd_cryptsetup_is_understood() {
    const PROGRAM: &str = "/lib/systemd/systemd-cryptsetup";
    if !possible("systemd_cryptsetup_is_understood", PROGRAM) || !possible("…", "cryptsetup") {
        return;
    }
    let machine = Machine::new().with_real_processes();
    let image = machine.luks("right");
    let broker = machine.broker();
    let device = image.to_str().unwrap();
    let mut asker = below_run(&machine)
        .args([PROGRAM, "attach", "vestibule-test", device, "none", "tries=5"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let question = questions(&broker, 1).await.remove(0);
    assert_eq!((question.volume.as_deref(), question.device.as_deref()), (Some("vestibule-test"), Some(device)));
    // 5, or what systemd 256 to 260 make of it
    assert!(matches!((question.kind, question.tries_left), (Kind::Passphrase, Some(4 | 5))), "{question:?}");
    let submission = broker.submit(all(), secret("wrong"), Duration::ZERO);
    let verdict = verdict(submission).await;
    assert!(matches!(verdict, Verdict::GaveUp | Verdict::Wrong { tries_left: Some(3 | 4) }), "{verdict:?}");
    asker.kill().await.unwrap();
    questions(&broker, 0).await;
}
