//! The whole over loopback: the daemon, an asker that speaks systemd's protocol, and the stock OpenSSH client.

#[path = "ssh/clean_room.rs"]
mod clean_room;
#[allow(dead_code)] // the tests of the limits use the rest of it
mod common;
#[path = "ssh/exec.rs"]
mod exec;
#[path = "ssh/feed.rs"]
mod feed;
#[path = "ssh/files.rs"]
mod files;
#[path = "ssh/forwards.rs"]
mod forwards;
#[path = "ssh/rescue_shell.rs"]
mod rescue_shell;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::terminal::Reader;
use common::{DEADLINE, Machine};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn wrong_then_right_with_true_exit_statuses() {
    let machine = Machine::started("verdicts");
    machine.wait_for_ssh();
    let asker = machine.ask("root", "correct horse");
    let wrong = machine.ssh("unlock", &["unlock"], b"battery staple\n");
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    assert!(text(&wrong.stdout).contains("root (/dev/disk-root): wrong passphrase"), "{wrong:?}");
    let status = machine.ssh("unlock", &["status", "--json"], b"");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["phase"], "asking");
    assert_eq!(status["questions"][0]["volume"], "root");
    assert_eq!(status["questions"][0]["device"], "/dev/disk-root");
    assert_eq!(status["questions"][0]["kind"], "passphrase");
    assert_eq!(status["questions"][0]["tries_used"], 1);
    let right = machine.ssh("root", &["unlock"], b"correct horse\n");
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    assert_eq!(text(&right.stdout), "root (/dev/disk-root): unlocked\n");
    assert_eq!(asker.answers(), [b"+battery staple".to_vec(), b"+correct horse".to_vec()]);
    assert_eq!(machine.status()["phase"], "unlocked");
    let log = machine.log();
    assert!(log.contains("unlock logged in from 127.0.0.1 with SHA256:"), "{log}");
    assert!(!log.contains("horse") && !log.contains("staple"), "a secret is in the log: {log}");
}

#[test]
fn one_passphrase_for_two_volumes_and_one_by_name() {
    let machine = Machine::started("two");
    machine.wait_for_ssh();
    let (_a, _b) = (machine.ask("one", "same"), machine.ask("two", "same"));
    machine.wait_for("both questions", || machine.status()["questions"].as_array().unwrap().len() == 2);
    let both = machine.ssh("unlock", &["unlock"], b"same");
    assert_eq!(both.status.code(), Some(0), "{both:?}");
    assert!(text(&both.stdout).contains("one (/dev/disk-one): unlocked"), "{both:?}");
    assert!(text(&both.stdout).contains("two (/dev/disk-two): unlocked"), "{both:?}");
    let (c, d) = (machine.ask("three", "x"), machine.ask("four", "y"));
    machine.wait_for("both questions", || machine.status()["questions"].as_array().unwrap().len() == 2);
    assert_eq!(machine.ssh("unlock", &["unlock", "four"], b"y").status.code(), Some(0));
    assert_eq!(machine.ssh("unlock", &["unlock", "/dev/disk-three"], b"x").status.code(), Some(0));
    assert_eq!((c.answers().len(), d.answers().len()), (1, 1), "nobody else's question was answered");
}

#[test]
fn the_asker_gives_up_after_its_tries() {
    let machine = Machine::started("tries");
    machine.wait_for_ssh();
    let asker = machine.ask("root", "right");
    for _ in 0..2 {
        assert_eq!(machine.ssh("unlock", &["unlock"], b"no").status.code(), Some(1));
    }
    let last = machine.ssh("unlock", &["unlock"], b"no");
    assert_eq!(last.status.code(), Some(5), "{last:?}");
    assert_eq!(asker.answers().len(), 3);
    let nothing = machine.ssh("unlock", &["unlock", "--wait", "5"], b"no");
    assert!(text(&nothing.stderr).contains("waiting for a question"), "{nothing:?}");
    assert_eq!(nothing.status.code(), Some(3), "{nothing:?}");
    assert_eq!(machine.status()["phase"], "failed");
}

#[test]
fn a_passphrase_may_come_before_the_question() {
    let machine = Machine::started("early");
    machine.wait_for_ssh();
    let early = std::thread::scope(|scope| {
        let unlocking = scope.spawn(|| machine.ssh("unlock", &["unlock", "--wait", "20"], b"pw"));
        machine.wait_for("the login", || machine.log().contains("logged in"));
        let _asker = machine.ask("root", "pw");
        let early = unlocking.join().unwrap();
        drop(_asker);
        early
    });
    assert_eq!(early.status.code(), Some(0), "{early:?}");
}

#[test]
fn roles_and_keys() {
    let machine = Machine::started("roles");
    machine.wait_for_ssh();
    let asker = machine.ask("root", "pw");
    let denied = machine.ssh("peek", &["unlock"], b"pw");
    assert_eq!(denied.status.code(), Some(6), "{denied:?}");
    assert!(text(&denied.stderr).contains("the role peek may not do that"), "{denied:?}");
    assert_eq!(machine.ssh("unlock", &["reboot"], b"").status.code(), Some(6));
    assert_eq!(machine.ssh("peek", &["status"], b"").status.code(), Some(0));
    assert_eq!(machine.ssh("somebody", &["status"], b"").status.code(), Some(255), "no such role");
    machine.new_key("other", "ed25519");
    assert_eq!(machine.ssh_with_key("other", "root", &["status"]).output().unwrap().status.code(), Some(255));
    // Nothing is forwarded by itself, and who may not run programs gets none.
    assert_eq!(machine.ssh("root", &["-W", "127.0.0.1:1", "--"], b"").status.code(), Some(255));
    assert_eq!(machine.ssh("unlock", &["-s", "--", "sftp"], b"").status.code(), Some(255));
    assert_eq!(machine.ssh("unlock", &["cat", "/etc/passwd"], b"").status.code(), Some(6));
    assert_eq!(machine.ssh("root", &["unlock", "--no-such-option"], b"").status.code(), Some(2));
    drop(asker);
}

#[test]
fn key_types_that_people_have() {
    let machine = Machine::new("types");
    for kind in ["ecdsa", "rsa"] {
        machine.new_key(kind, kind);
    }
    let read = |name: &str| std::fs::read_to_string(machine.root.join(name)).unwrap();
    let all = read("id.pub") + &read("ecdsa.pub") + &read("rsa.pub");
    machine.write("etc/vestibule/authorized_keys", &all);
    let mut machine = machine;
    machine.start();
    machine.wait_for_ssh();
    for kind in ["id", "ecdsa", "rsa"] {
        let output = machine.ssh_with_key(kind, "peek", &["status"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{kind}: {output:?}");
    }
    let mut weak = machine.ssh_with_key("rsa", "peek", &["-o", "PubkeyAcceptedAlgorithms=ssh-rsa", "--", "status"]);
    assert_eq!(weak.output().unwrap().status.code(), Some(255), "SHA-1 signatures are refused");
}

#[test]
fn passphrases_that_are_none() {
    let machine = Machine::started("sizes");
    machine.wait_for_ssh();
    let asker = machine.ask("root", "pw");
    for (input, word) in
        [(&b""[..], "empty"), (b"\n", "empty"), (&[b'x'; 10_000], "longer than"), (&[b'x'; 200_000], "longer than")]
    {
        let refused = machine.ssh("unlock", &["unlock"], input);
        assert_eq!(refused.status.code(), Some(2), "{} bytes: {refused:?}", input.len());
        assert!(text(&refused.stderr).contains(word), "{refused:?}");
    }
    let raw = machine.ssh("unlock", &["unlock", "--raw"], b"pw\n");
    assert_eq!(raw.status.code(), Some(1), "--raw keeps the newline: {raw:?}");
    assert_eq!(machine.ssh("unlock", &["unlock"], b"pw\n").status.code(), Some(0));
    assert_eq!(asker.answers(), [b"+pw\n".to_vec(), b"+pw".to_vec()], "nothing else was tried");
}

#[test]
fn a_client_that_drops_in_the_middle_of_a_passphrase_submits_nothing() {
    let machine = Machine::started("drop");
    machine.wait_for_ssh();
    let asker = machine.ask("root", "pw");
    let mut ssh = machine.ssh_command("unlock", &["unlock"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    stdin.write_all(b"half of a").unwrap();
    machine.wait_for("the login", || machine.log().contains("logged in"));
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    drop(stdin);
    machine.wait_for("the session's end", || machine.log().contains("has ended"));
    assert_eq!(machine.status()["questions"][0]["tries_used"], 0);
    assert_eq!(machine.ssh("unlock", &["unlock"], b"pw").status.code(), Some(0));
    assert_eq!(asker.answers().len(), 1);
}

#[test]
fn the_unlock_screen() {
    let machine = Machine::started("screen");
    machine.wait_for_ssh();
    let asker = machine.ask("root", "pw");
    let mut ssh = machine
        .ssh_command("unlock", &["-tt", "--"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut keys = ssh.stdin.take().unwrap();
    let mut screen = Reader::new(ssh.stdout.take().unwrap());
    screen.until("Passphrase for root: ");
    keys.write_all(b"wronx\x7fg\r").unwrap();
    screen.until("root (/dev/disk-root): wrong passphrase");
    screen.until("Passphrase for root: ");
    keys.write_all(b"junk\x15pw\r").unwrap();
    screen.until("root (/dev/disk-root): unlocked");
    screen.until("All unlocked, the boot continues; goodbye.");
    assert_eq!(ssh.wait().unwrap().code(), Some(0));
    assert_eq!(asker.answers(), [b"+wrong".to_vec(), b"+pw".to_vec()]);
    assert!(!screen.all().contains("wrong\r") && !screen.all().contains("pw\r"), "no echo: {}", screen.all());
}

#[test]
fn hand_over_tells_sessions_and_leaves_nothing() {
    let mut machine = Machine::started("handover");
    machine.wait_for_ssh();
    let _asker = machine.ask("root", "pw");
    let mut ssh =
        machine.ssh_command("unlock", &["-tt", "--"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut screen = Reader::new(ssh.stdout.take().unwrap());
    screen.until("Passphrase for root: ");
    let started = Instant::now();
    assert_eq!(machine.stop(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5), "the boot waited {:?}", started.elapsed());
    screen.until("without having seen everything unlocked; goodbye.");
    assert_eq!(ssh.wait().unwrap().code(), Some(4), "a machine that is switched off has not been unlocked");
    assert!(!machine.root.join("run/vestibule").exists());
}

#[test]
fn stop_cleans_up_after_a_daemon_that_was_killed() {
    let mut machine = Machine::started("killed");
    machine.kill();
    assert!(machine.root.join("run/vestibule/control").exists());
    assert!(machine.vestibule(&["stop"]).status.success());
    assert!(!machine.root.join("run/vestibule").exists());
    assert!(machine.vestibule(&["stop"]).status.success(), "twice is harmless");
    machine.start();
    assert!(machine.vestibule(&["stop"]).status.success());
    assert!(!machine.root.join("run/vestibule").exists());
}

#[test]
fn a_fast_hand_over_does_not_spoil_the_verdict() {
    let mut machine = Machine::started("fast");
    machine.wait_for_ssh();
    let _asker = machine.ask("root", "pw");
    let mut ssh =
        machine.ssh_command("unlock", &["unlock"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    ssh.stdin.take().unwrap().write_all(b"pw").unwrap();
    machine.wait_for("the volume", || machine.log().contains("root: unlocked"));
    let started = Instant::now();
    assert_eq!(machine.stop(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(2), "the boot waited {:?}", started.elapsed());
    let output = ssh.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "root (/dev/disk-root): unlocked\n".to_owned()));
}

#[test]
fn a_passphrase_piped_into_the_screen_gets_its_verdict() {
    let machine = Machine::started("piped");
    machine.wait_for_ssh();
    let asker = machine.ask("root", "pw");
    machine.wait_for("the question", || machine.status()["phase"] == "asking");
    let wrong = machine.ssh("unlock", &["-tt", "--"], b"no\n");
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    let right = machine.ssh("unlock", &["-tt", "--"], b"pw\n");
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    assert_eq!(asker.answers().len(), 2);
}

#[test]
fn the_owner_gets_in_while_strangers_flood_and_send_garbage() {
    let machine = Machine::started("flood");
    machine.wait_for_ssh();
    let connect = || TcpStream::connect(("127.0.0.1", machine.port)).unwrap();
    for garbage in
        [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 5000], b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff", b"SSH-1.5-x\r\n"]
    {
        let mut stream = connect();
        // The server may close as soon as it sees what this is.
        let _ = stream.write_all(garbage);
        drop(stream);
    }
    let _idle: Vec<_> = (0..40).map(|_| connect()).collect();
    let started = Instant::now();
    for source in ["127.0.0.2", "127.0.0.1"] {
        let owner = machine.ssh("peek", &["-b", source, "--", "status"], b"");
        assert_eq!(owner.status.code(), Some(0), "from {source}: {owner:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(4), "before the login deadline has cleared the flood");
}

#[test]
fn a_silent_peer_is_disconnected() {
    let mut machine = Machine::new("silent");
    machine
        .write("etc/vestibule/config.toml", &format!("port = {}\nnetwork = false\nlogin-seconds = 5\n", machine.port));
    machine.start();
    machine.wait_for_ssh();
    let mut stream = TcpStream::connect(("127.0.0.1", machine.port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the server closes it");
    assert!(rest.starts_with(b"SSH-2.0-vestibule"), "{:?}", text(&rest));
}

#[test]
fn malformed_questions_harm_nobody() {
    let machine = Machine::started("malformed");
    machine.wait_for_ssh();
    for (name, content) in
        [("ask.empty", ""), ("ask.junk", "\0\u{1}[Ask\nPID=x"), ("ask.nosocket", "[Ask]\nPID=1\nMessage=x\n")]
    {
        machine.write(&format!("run/systemd/ask-password/{name}"), content);
    }
    let asker = machine.ask("root", "pw");
    assert_eq!(machine.ssh("unlock", &["unlock"], b"pw").status.code(), Some(0));
    assert_eq!(asker.answers().len(), 1);
    assert!(machine.root.join("run/systemd/ask-password/ask.junk").exists(), "not ours to remove");
}

#[test]
fn without_keys_or_with_a_corrupt_host_key_there_is_no_ssh_but_the_rest_works() {
    for (name, file, content, said) in [
        ("nokeys", "etc/vestibule/authorized_keys", "# nobody\n", "lists no usable key"),
        ("badkey", "etc/vestibule/ssh_host_ed25519_key", "garbage", "ssh_host_ed25519_key: "),
    ] {
        let mut machine = Machine::new(name);
        machine.write(file, content);
        machine.start();
        machine.wait_for("the log line", || machine.log().contains(said));
        assert!(TcpStream::connect(("127.0.0.1", machine.port)).is_err());
        let problems = machine.status()["problems"].to_string();
        assert!(problems.contains(said), "{problems}");
        assert_eq!(machine.stop(), Some(0));
    }
}

#[test]
fn a_broken_config_file_is_named_and_the_defaults_serve() {
    let mut machine = Machine::new("config");
    machine.write("etc/vestibule/config.toml", "network = false\nprot = 3\n");
    // The default would bring the host's network up; the kernel command line of the fixture says no.
    std::fs::create_dir_all(machine.root.join("etc/cmdline.d")).unwrap();
    machine.write("etc/cmdline.d/x.conf", &format!("vestibule.network=0 vestibule.port={}\n", machine.port));
    machine.start();
    machine.wait_for_ssh();
    assert!(machine.log().contains("config.toml: line 2: unknown field `prot`"), "{}", machine.log());
    assert_eq!(machine.ssh("peek", &["status"], b"").status.code(), Some(0));
}
