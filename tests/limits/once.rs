//! `vestibule serve --once`.

use std::io::Read;
use std::net::TcpStream;
use std::process::Stdio;

use crate::common::terminal::Reader;
use crate::common::{DEADLINE, Machine};

fn started(name: &str) -> Machine {
    let mut machine = Machine::new(name);
    machine.start_with(&["--once"]);
    machine.wait_for_ssh();
    machine
}

#[test]
fn one_session_is_served_and_then_all_is_undone() {
    let mut machine = started("once");
    machine.new_key("other", "ed25519");
    for _ in 0..2 {
        let refused = machine.ssh_with_key("other", "root", &["status"]).output().unwrap();
        assert_eq!(refused.status.code(), Some(255), "{refused:?}");
    }
    let asker = machine.ask("root", "pw");
    let unlocked = machine.ssh("unlock", &["unlock"], b"pw");
    assert_eq!(unlocked.status.code(), Some(0), "refused logins did not count: {unlocked:?}");
    assert_eq!(machine.ended(), Some(0));
    assert_eq!(asker.answers().len(), 1);
    assert!(!machine.root.join("run/vestibule").exists());
    assert!(machine.log().contains("ending (the one session of --once is over)"), "{}", machine.log());
}

#[test]
fn while_it_lasts_nobody_else_comes_in() {
    let mut machine = started("once-more");
    let mut waiting = TcpStream::connect(("127.0.0.1", machine.port)).unwrap();
    waiting.set_read_timeout(Some(DEADLINE)).unwrap();
    let _asker = machine.ask("root", "pw");
    let mut ssh = machine.ssh_command("unlock", &["-tt", "--"]);
    let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut screen = Reader::new(ssh.stdout.take().unwrap());
    screen.until("Passphrase for root: ");
    waiting.read_to_end(&mut Vec::new()).expect("who was waiting is sent away");
    assert!(TcpStream::connect(("127.0.0.1", machine.port)).is_err(), "the port is closed");
    assert!(machine.vestibule(&["status"]).status.success(), "local commands go on");
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    assert_eq!(machine.ended(), Some(0), "also when the client is killed");
}

#[test]
fn a_hand_over_does_not_wait_for_anybody() {
    let mut machine = started("once-none");
    assert_eq!(machine.stop(), Some(0));
    assert!(!machine.root.join("run/vestibule").exists());
}
