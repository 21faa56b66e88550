//! OpenSSH with `ProxyCommand=vestibule serve --stdio`: over two pipes.

use std::io::BufRead;
use std::process::Stdio;

use crate::common::Machine;
use crate::lab::{Guard, command, greet, is_greeted, machine, serve_stdio, text, until};

fn proxy(machine: &Machine) -> String {
    format!("ProxyCommand={}", serve_stdio(machine).join(" "))
}

#[test]
fn without_a_daemon_there_is_a_shell_and_what_is_lacking_is_said() {
    let machine = machine("streams-alone");
    let proxy = proxy(&machine);
    let ssh = |user: &str, line: &str, input: &[u8]| machine.ssh(user, &["-o", &proxy, "--", line], input);
    let noise: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let back = ssh("root", "cat; exit 7", &noise);
    assert_eq!(back.status.code(), Some(7), "{}", text(&back.stderr));
    assert!(back.stdout == noise, "12 MB there and back: {} bytes came", back.stdout.len());
    let status = ssh("peek", "status", b"");
    assert!(text(&status.stdout).contains("no vestibule daemon runs on this machine"), "{status:?}");
    for (line, input) in [("unlock", &b"pw"[..]), ("reboot", b""), ("hold", b"")] {
        let refused = ssh("root", line, input);
        assert_eq!(refused.status.code(), Some(6), "{line}: {refused:?}");
        let said = text(&refused.stderr);
        assert!(said.contains("no vestibule daemon runs") && said.contains("only that can do it"), "{line}: {said}");
    }
    assert!(machine.log().contains("logged in from standard input"), "{}", machine.log());
    let public = std::fs::read_to_string(machine.root.join("id.pub")).unwrap();
    machine.write("etc/vestibule/authorized_keys", &format!("once {public}"));
    let refused = ssh("root", "status", b"");
    assert_eq!(refused.status.code(), Some(255), "{refused:?}");
    until("why in the log", || machine.log().contains("good for a single login (once), and no vestibule daemon"));
}

#[test]
fn with_a_daemon_it_is_the_daemons_session() {
    let mut machine = machine("streams-daemon");
    machine.start();
    let proxy = proxy(&machine);
    let asker = machine.ask("root", "pw");
    let unlocked = machine.ssh("unlock", &["-o", &proxy, "--", "unlock"], b"pw");
    assert_eq!(unlocked.status.code(), Some(0), "{unlocked:?}; log:\n{}", machine.log());
    assert_eq!(asker.answers().len(), 1);
    assert!(machine.log().contains("unlock logged in from standard input"), "{}", machine.log());
    let public = std::fs::read_to_string(machine.root.join("id.pub")).unwrap();
    assert_eq!(machine.stop(), Some(0));
    // An address is never claimed, only proved: the same line admits over TCP.
    machine.write("etc/vestibule/authorized_keys", &format!("from=\"*\" {public}"));
    machine.start();
    machine.wait_for_ssh();
    assert!(is_greeted(&greet(&machine, &[])), "{}", machine.log());
    let refused = greet(&machine, &["-o", &proxy]);
    assert_eq!(refused.status.code(), Some(255), "{refused:?}");
    until("the refusal in the log", || {
        machine.log().contains("login from standard input refused: line 1 is not for this address")
    });
}

#[test]
fn a_server_of_one_session_serves_this_one() {
    let mut machine = machine("streams-once");
    machine.start_with(&["--once"]);
    machine.wait_for_ssh();
    assert!(is_greeted(&greet(&machine, &["-o", &proxy(&machine)])), "{}", machine.log());
    assert_eq!(machine.ended(), Some(0));
    assert!(machine.log().contains("the one session of --once is over"), "{}", machine.log());
}

#[test]
fn who_leaves_ends_it_and_what_makes_no_sense_is_said() {
    let machine = machine("streams-ends");
    let mut alone = Guard::spawn(command(&serve_stdio(&machine)).stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut line = [0; 8];
    std::io::Read::read_exact(alone.0.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert_eq!(&line, b"SSH-2.0-");
    drop(alone.0.stdin.take());
    assert_eq!(alone.ended(), Some(0));
    let words = ["-o", &proxy(&machine), "--", "trap '' HUP; echo $$; exec sleep 1000"];
    let mut ssh = Guard::spawn(machine.ssh_command("root", &words).stdin(Stdio::null()).stdout(Stdio::piped()));
    let mut pid = String::new();
    std::io::BufReader::new(ssh.0.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let program = std::path::Path::new("/proc").join(pid.trim());
    assert!(!pid.is_empty() && program.exists(), "{pid:?}");
    drop(ssh); // killed
    until("the end of what nobody needs any more", || !program.exists());
    let null = command(&serve_stdio(&machine)).stdin(Stdio::null()).output().unwrap();
    assert_eq!(null.status.code(), Some(1));
    assert!(text(&null.stderr).contains("standard input is a device such as /dev/null"), "{null:?}");
    std::fs::remove_file(machine.root.join("etc/vestibule/ssh_host_ed25519_key")).unwrap();
    let (_here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    let no_key = command(&serve_stdio(&machine))
        .stdin(std::os::fd::OwnedFd::from(there.try_clone().unwrap()))
        .stdout(std::os::fd::OwnedFd::from(there))
        .output()
        .unwrap();
    assert_eq!(no_key.status.code(), Some(1));
    assert!(text(&no_key.stderr).contains("ssh_host_ed25519_key is missing"), "{no_key:?}");
}
