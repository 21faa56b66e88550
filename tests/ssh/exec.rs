//! Programs of the user's over SSH: streams, exit statuses, signals, and clients that are slow or in a hurry.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Machine};
use crate::text;

fn machine(name: &str) -> Machine {
    let machine = Machine::started(name);
    machine.wait_for_ssh();
    machine
}

/// Bytes that no relay may take for anything else: all values, in no order.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A client that stays while others multiplex over it (`ControlMaster`).
struct Multiplexed {
    master: Child,
    path: String,
}

impl Multiplexed {
    fn new(machine: &Machine) -> Self {
        let path = machine.root.join("mux").to_str().unwrap().to_owned();
        let master =
            machine.ssh_command("root", &["-M", "-N", "-S", &path, "--"]).stdin(Stdio::null()).spawn().unwrap();
        machine.wait_for("the master", || std::path::Path::new(&path).exists());
        Self { master, path }
    }

    fn ssh(&self, machine: &Machine, line: &str) -> Command {
        machine.ssh_command("root", &["-S", &self.path, "--", line])
    }
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

#[test]
fn streams_apart_and_true_exit_statuses() {
    let machine = machine("exec");
    let output = machine.ssh("root", &["cat; echo error >&2; exit 7"], b"input");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(7), "input"), "{output:?}");
    assert_eq!(text(&output.stderr), "error\n");
    assert_eq!(machine.ssh("root", &["no-such-program"], b"").status.code(), Some(127));
    let killed = machine.ssh("root", &["-v", "--", "kill -TERM $$"], b"");
    assert_eq!(killed.status.code(), Some(255), "{killed:?}");
    assert!(text(&killed.stderr).contains("exit-signal"), "{killed:?}");
    let variables =
        machine.ssh("root", &["-o", "SetEnv=LC_TEST=here PATH=/elsewhere", "--", "echo $LC_TEST $PATH"], b"");
    assert!(text(&variables.stdout).starts_with("here /"), "{variables:?}");
    assert!(!text(&variables.stdout).contains("elsewhere"), "{variables:?}");
}

#[test]
fn a_hundred_megabytes_both_ways_at_once() {
    let machine = machine("bulk");
    let sent = noise(100 << 20);
    let output = machine.ssh("root", &["cat"], &sent);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stdout == sent, "{} bytes came back, of {}", output.stdout.len(), sent.len());
}

#[test]
fn a_program_that_reads_late_gets_everything() {
    let machine = machine("late");
    let sent = noise(20 << 20);
    let output = machine.ssh("root", &["sleep 3; cat | wc -c"], &sent);
    assert_eq!(text(&output.stdout).trim(), sent.len().to_string(), "{output:?}");
    // One that never reads still ends, with its status.
    assert_eq!(machine.ssh("root", &["sleep 1; exit 3"], &sent).status.code(), Some(3));
}

#[test]
fn a_client_that_reads_late_gets_everything() {
    let machine = machine("slow");
    let mut ssh = machine
        .ssh_command("root", &["head -c 50000000 /dev/zero; echo end >&2"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2)); // what is tested: nobody reads for a while
    let mut output = ssh.stdout.take().unwrap();
    assert_eq!(std::io::copy(&mut output, &mut std::io::sink()).unwrap(), 50_000_000);
    assert_eq!(ssh.wait().unwrap().code(), Some(0));
}

#[test]
fn a_program_that_never_reads_does_not_keep_others_from_their_input() {
    let machine = machine("stuck");
    let multiplexed = Multiplexed::new(&machine);
    let mut stuck = multiplexed.ssh(&machine, "sleep 300").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = stuck.stdin.take().unwrap();
    // As much as fits anywhere on the way, until the client itself takes no more.
    let writer = std::thread::spawn(move || drop(input.write_all(&vec![0; 64 << 20])));
    std::thread::sleep(Duration::from_secs(2)); // what is tested: it is stuck
    for _ in 0..12 {
        let started = Instant::now();
        let mut other = multiplexed.ssh(&machine, "cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        other.stdin.take().unwrap().write_all(&noise(1 << 20)).unwrap();
        let answer = other.wait_with_output().unwrap();
        assert!(answer.stdout == noise(1 << 20), "{} bytes", answer.stdout.len());
        assert!(started.elapsed() < DEADLINE, "it took {:?}", started.elapsed());
    }
    assert!(stuck.try_wait().unwrap().is_none(), "it is still there");
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    drop(multiplexed);
    writer.join().unwrap();
}

#[test]
fn a_child_in_the_background_does_not_keep_the_channel_open() {
    let machine = machine("background");
    let started = Instant::now();
    let output = machine.ssh("root", &["sleep 120 & echo started; exit 4"], b"");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(4), "started\n"));
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_client_that_is_killed_takes_its_program_with_it() {
    let machine = machine("gone");
    let mark = format!("sleep 299.{}", machine.port);
    let running = || {
        let found = Command::new("pgrep").args(["-f", &format!("^{mark}$")]).output().unwrap();
        !found.stdout.is_empty()
    };
    let mut ssh = machine.ssh_command("root", &[&format!("exec {mark}")]).stdin(Stdio::piped()).spawn().unwrap();
    machine.wait_for("the program", running);
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    machine.wait_for("the program's end", || !running());
}

#[test]
fn more_commands_than_there_are_places_one_after_the_other() {
    let machine = machine("many");
    let multiplexed = Multiplexed::new(&machine);
    for number in 0..40 {
        let output = multiplexed.ssh(&machine, &format!("echo {number}")).stdin(Stdio::null()).output().unwrap();
        assert_eq!(text(&output.stdout), format!("{number}\n"), "{output:?}");
    }
}

#[test]
fn dbclient_runs_programs() {
    let machine = machine("dbclient");
    let convert = |from: &str, to: &str| {
        let (from, to) = (machine.root.join(from), machine.root.join(to));
        Command::new("dropbearconvert").args(["openssh", "dropbear"]).args([from, to]).output().unwrap()
    };
    let converted = convert("id", "id.dropbear");
    assert!(converted.status.success(), "{converted:?}");
    let mut client = Command::new("dbclient")
        .args(["-y", "-y", "-p", &machine.port.to_string(), "-i"])
        .arg(machine.root.join("id.dropbear"))
        .args(["root@127.0.0.1", "cat; exit 6"])
        .env("HOME", &machine.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = noise(5 << 20);
    let mut input = client.stdin.take().unwrap();
    let writing = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(&writing));
    let output = client.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(output.stdout == sent, "{} bytes came back", output.stdout.len());
}

#[test]
fn plink_runs_programs() {
    let machine = machine("plink");
    let key = machine.root.join("id.ppk");
    let made = Command::new("puttygen").arg(machine.root.join("id")).arg("-o").arg(&key).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let log = machine.log();
    let host_key = log.split("SSH host key ").nth(1).unwrap().split_whitespace().next().unwrap();
    let plink = |options: &[&str], line: &str| {
        let mut plink = Command::new("plink");
        plink.args(["-ssh", "-batch", "-hostkey", host_key, "-P", &machine.port.to_string(), "-i"]).arg(&key);
        plink.args(options).args(["root@127.0.0.1", line]).env("HOME", &machine.root).stdin(Stdio::null());
        plink.output().unwrap()
    };
    let output = plink(&[], "echo out; echo err >&2; exit 5");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(5), "out\n"), "{output:?}");
    assert!(text(&output.stderr).ends_with("err\n"), "{output:?}");
    let terminal = plink(&["-t"], "test -t 1 && exit 7");
    assert_eq!(terminal.status.code(), Some(7), "{terminal:?}");
}

/// More than a gigabyte each way: the server asks for new keys on the way (RFC 4253 section 9).
#[test]
fn new_keys_while_data_flows_both_ways() {
    const BYTES: u64 = (1 << 30) + (200 << 20);
    let machine = machine("rekey");
    // The client would ask for new keys only after 64 GiB, so whoever asks is the server.
    let options = ["-v", "-c", "aes256-gcm@openssh.com", "-o", "RekeyLimit=60G", "--", "cat"];
    let mut ssh = machine
        .ssh_command("root", &options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let piece = noise(1 << 20);
    let writing = piece.clone();
    let writer = std::thread::spawn(move || (0..BYTES >> 20).try_for_each(|_| input.write_all(&writing)));
    let mut errors = ssh.stderr.take().unwrap();
    let said = std::thread::spawn(move || std::io::read_to_string(&mut errors).unwrap());
    let mut output = ssh.stdout.take().unwrap();
    let mut got = vec![0; piece.len()];
    for number in 0..BYTES >> 20 {
        output.read_exact(&mut got).unwrap();
        assert!(got == piece, "MiB {number} is another");
    }
    writer.join().unwrap().unwrap();
    assert_eq!(ssh.wait().unwrap().code(), Some(0));
    let said = said.join().unwrap();
    let keys = said.matches("SSH2_MSG_NEWKEYS received").count();
    assert!(keys >= 2, "new keys were never asked for: {said}");
    assert!(said.contains("SSH2_MSG_KEXINIT received"), "{said}");
}

#[test]
fn output_that_nobody_reads_does_not_keep_others_from_theirs() {
    let machine = machine("unread");
    let multiplexed = Multiplexed::new(&machine);
    let mut stuck = multiplexed.ssh(&machine, "yes").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = stuck.stdout.take().unwrap();
    output.read_exact(&mut [0; 2]).unwrap(); // it runs, and from here on nobody reads
    for number in 0..5 {
        let other = multiplexed.ssh(&machine, &format!("head -c 3000000 /dev/zero; exit {number}"));
        let other = { other }.stdin(Stdio::null()).output().unwrap();
        assert_eq!((other.status.code(), other.stdout.len()), (Some(number), 3_000_000));
    }
    assert!(stuck.try_wait().unwrap().is_none(), "it is still there");
    let mut later = vec![0; 5 << 20];
    output.read_exact(&mut later).unwrap();
    assert!(later.iter().all(|byte| b"y\n".contains(byte)), "and goes on when somebody reads");
    stuck.kill().unwrap();
    stuck.wait().unwrap();
}
