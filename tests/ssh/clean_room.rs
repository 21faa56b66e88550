//! What a session gives up, and what of a secret stays behind.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use crate::common::Machine;
use crate::common::terminal::Reader;

#[test]
fn a_session_process_is_confined() {
    let machine = Machine::started("confined");
    machine.wait_for_ssh();
    let mut stream = TcpStream::connect(("127.0.0.1", machine.port)).unwrap();
    stream.write_all(b"SSH-2.0-test\r\n").unwrap(); // who says nothing has no process
    stream.read_exact(&mut [0; 100]).unwrap(); // more than the daemon's line: the session runs
    let sessions = sessions(&machine);
    let session = &sessions[0]; // that of wait_for_ssh has none
    let status = std::fs::read_to_string(format!("/proc/{session}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // Root of this machine, the group, and all capabilities but that to lock memory are given up.
    let user = format!("{}", 1_900_000_000 + session.parse::<u32>().unwrap());
    for line in ["Uid:", "Gid:"] {
        assert!(status.contains(&format!("{line}\t{user}\t{user}\t{user}\t{user}\n")), "{status}");
    }
    assert!(status.contains("Groups:\t \n") && status.contains("CapEff:\t0000000000004000\n"), "{status}");
    assert!(status.contains("CapPrm:\t0000000000004000\n"), "{status}");
    assert!(status.contains("Threads:\t1\n"), "{status}");
    if vestibule::hardening::confinement().is_ok() {
        assert!(status.contains("Seccomp:\t2\n"), "{status}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{session}/limits")).unwrap();
    for limit in ["Max core file size 0", "Max processes 0", "Max open files 400"] {
        let words = limits.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(limit), "{limits}");
    }
    let stat = std::fs::read_to_string(format!("/proc/{session}/stat")).unwrap();
    let group = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(2).unwrap();
    assert_eq!(group, session, "its own process group");
    let descriptors = std::fs::read_dir(format!("/proc/{session}/fd")).unwrap();
    // One may be closed between the listing and the look at it.
    let inherited: Vec<_> = descriptors.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok()).collect();
    let foreign = |path: &&std::path::PathBuf| path.starts_with("/dev") && !path.starts_with("/dev/null");
    assert!(inherited.iter().find(foreign).is_none(), "{inherited:?}");
}

#[test]
fn nothing_of_a_passphrase_stays_in_memory() {
    let machine = Machine::started("memory");
    machine.wait_for_ssh();
    let _asker = machine.ask("root", "Zwölf Boxkämpfer jagen Viktor");
    let (wrong, right) = ("quer über den großen Sylter Deich", "Zwölf Boxkämpfer jagen Viktor");
    // As long as an answer is awaited the session has it: so the search does find what is there.
    let mut ssh = machine.ssh_command("unlock", &["unlock"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    stdin.write_all(wrong.as_bytes()).unwrap();
    machine.wait_for("the passphrase to arrive", || {
        sessions(&machine).iter().any(|session| memory_holds(session, wrong.as_bytes()))
    });
    drop(stdin);
    assert_eq!(ssh.wait().unwrap().code(), Some(1));
    assert_eq!(machine.ssh("unlock", &["unlock"], right.as_bytes()).status.code(), Some(0));
    machine.wait_for("the sessions to end", || sessions(&machine).is_empty());
    for secret in [wrong, right] {
        assert!(!memory_holds(&machine.pid().to_string(), secret.as_bytes()), "the daemon still holds {secret:?}");
    }
}

/// A secret that was judged, or that nobody was allowed to give, is gone although its connection is still there.
#[test]
fn nothing_of_a_passphrase_stays_in_a_session_that_goes_on() {
    let machine = Machine::started("judged");
    machine.wait_for_ssh();
    let _asker = machine.ask("root", "Franz jagt im komplett verwahrlosten Taxi");
    let (wrong, denied) = ("Prall vom Whisky flog Quax den Jet zu Bruch", "Sylvia wagt quick den Jux bei Pforzheim");
    let mut ssh = machine.ssh_command("unlock", &["-tt", "--"]);
    let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut keys, mut screen) = (ssh.stdin.take().unwrap(), Reader::new(ssh.stdout.take().unwrap()));
    screen.until("Passphrase for root: ");
    machine.wait_for("the other sessions to end", || sessions(&machine).len() == 1);
    let session = sessions(&machine).pop().unwrap();
    write!(keys, "{wrong}").unwrap();
    machine.wait_for("the passphrase to arrive", || memory_holds(&session, wrong.as_bytes()));
    keys.write_all(b"\r").unwrap();
    screen.until("root (/dev/disk-root): wrong passphrase");
    screen.until("Passphrase for root: ");
    // And one that its role may not give.
    let refused = machine.ssh("peek", &["unlock"], denied.as_bytes());
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    for process in [machine.pid().to_string(), session.clone()] {
        for secret in [wrong, denied] {
            assert!(!memory_holds(&process, secret.as_bytes()), "process {process} still holds {secret:?}");
        }
    }
    machine.wait_for("this session alone", || sessions(&machine) == [session.clone()]);
    keys.write_all(b"\x03q").unwrap();
    ssh.wait().unwrap();
    machine.wait_for("the session's end", || sessions(&machine).is_empty());
}

/// The only secret of a refused login is ours, the host key; it ends with the process.
#[test]
fn nothing_of_a_refused_login_stays() {
    let machine = Machine::started("refused");
    machine.wait_for_ssh();
    machine.new_key("other", "ed25519");
    for (key, user) in [("other", "unlock"), ("id", "nobody")] {
        assert_eq!(machine.ssh_with_key(key, user, &["status"]).output().unwrap().status.code(), Some(255));
    }
    let mut stranger = TcpStream::connect(("127.0.0.1", machine.port)).unwrap();
    stranger.write_all(b"SSH-2.0-test\r\n").unwrap();
    stranger.read_exact(&mut [0; 100]).unwrap(); // more than the daemon's line: the session runs
    let marker = b"somebody who sends his passphrase for a packet";
    stranger.write_all(&[&[0, 0, 1, 0, 4, 20], &marker[..]].concat()).unwrap(); // the beginning of 256 bytes
    machine
        .wait_for("what came to be there", || sessions(&machine).iter().any(|session| memory_holds(session, marker)));
    drop(stranger);
    machine.wait_for("the sessions to end", || sessions(&machine).is_empty());
    assert!(!memory_holds(&machine.pid().to_string(), marker), "it passed through the daemon");
}

/// The processes of the connections that are open.
fn sessions(machine: &Machine) -> Vec<String> {
    machine.children().iter().map(u32::to_string).collect()
}

/// Whether the writable memory of a process contains these bytes.
pub fn memory_holds(pid: &str, wanted: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let Ok(maps) = std::fs::read_to_string(format!("/proc/{pid}/maps")) else { return false };
    let Ok(memory) = std::fs::File::open(format!("/proc/{pid}/mem")) else { return false };
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; (to - from) as usize];
        memory.read_exact_at(&mut bytes, from).is_ok() && bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}
