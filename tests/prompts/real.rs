//! The real `systemd-ask-password`.

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
    eprintln!("SKIPPED {test}: {missing}");
    false
}

/// Runs with the fixture's `/run` in place of the system's, and prints what it was told.
#[tokio::test]
async fn systemd_ask_password_gets_the_bytes() {
    if !possible("systemd_ask_password_gets_the_bytes", "systemd-ask-password") {
        return;
    }
    let machine = Machine::new().with_real_processes();
    let broker = machine.broker();
    let passphrase = "p\u{e4}ss '\"$\\ \n ";
    let asker = tokio::process::Command::new("unshare")
        .args(["-m", "--", "sh", "-c", "mount --bind \"$0\" /run && exec \"$@\""])
        .arg(machine.directory.join("run"))
        .args(["systemd-ask-password", "--no-tty", "--timeout=60", "-n", "Passphrase for the test:"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let question = questions(&broker, 1).await.remove(0);
    assert_eq!((question.kind, &*question.message), (Kind::Passphrase, "Passphrase for the test:"));
    let submission = broker.submit(vec![], secret(passphrase), Duration::ZERO);
    let output = asker.wait_with_output().await.unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), passphrase);
    questions(&broker, 0).await;
    assert_eq!(verdict(submission).await, Verdict::NoVerdict);
}
