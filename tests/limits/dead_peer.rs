//! A peer whose cable is pulled is noticed within a minute.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::Machine;
use crate::network::with_own_network;

const MINUTE: Duration = Duration::from_secs(60);

/// The other end of a cable: a namespace with 192.0.2.2, as long as this process runs.
struct Elsewhere(Child);

impl Elsewhere {
    fn new() -> Self {
        let mut holder = Command::new("unshare");
        let holder = holder.args(["--net", "sh", "-c", "echo; read line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut elsewhere = Self(holder.spawn().unwrap());
        elsewhere.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap(); // it has its namespace
        let pid = elsewhere.0.id();
        sh(&format!(
            "ip link add s0 type veth peer name c0; ip link set c0 netns {pid}
             ip address add 192.0.2.1/24 dev s0; ip link set s0 up"
        ));
        elsewhere.run("ip address add 192.0.2.2/24 dev c0; ip link set c0 up");
        elsewhere
    }

    fn command(&self, inner: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.0.id().to_string()]).arg(inner.get_program()).args(inner.get_args());
        command
    }

    fn run(&self, line: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-ec", line]);
        assert!(self.command(&shell).status().unwrap().success(), "{line}");
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sh(line: &str) {
    assert!(Command::new("sh").args(["-ec", line]).status().unwrap().success(), "{line}");
}

/// Two to whom data is being sent, and one that is sending to a program that doesn't read.
#[test]
fn whose_cable_is_pulled_is_gone_within_a_minute() {
    with_own_network("dead_peer::whose_cable_is_pulled_is_gone_within_a_minute", || {
        let elsewhere = Elsewhere::new();
        let machine = Machine::started("cable");
        machine.wait_for_ssh();
        machine.wait_for("the probe's end", || machine.children().is_empty());
        let known = std::fs::read_to_string(machine.root.join("known_hosts")).unwrap();
        machine.write("known_hosts", &known.replace("127.0.0.1", "192.0.2.1"));
        let client = |role: &str, arguments: &[&str], input: &str| {
            let options = [&["-o", "HostName=192.0.2.1", "--"], arguments].concat();
            let mut ssh = elsewhere.command(&machine.ssh_command(role, &options));
            ssh.stdin(std::fs::File::open(input).unwrap()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let follow = || client("peek", &["peek", "--follow"], "/dev/null");
        let mut clients = [follow(), follow(), client("root", &["echo runs; exec sleep 600"], "/dev/zero")];
        for ssh in &mut clients {
            ssh.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap(); // it runs
        }
        // A session for each, and the program.
        assert_eq!(machine.children().len(), 4);
        // While they are there they stay, also when nothing happens for longer than the keep-alive's first question.
        std::thread::sleep(Duration::from_secs(15));
        assert_eq!(machine.children().len(), 4, "{}", machine.log());
        elsewhere.run("ip link set c0 down");
        let pulled = Instant::now();
        while !machine.children().is_empty() {
            assert!(pulled.elapsed() < MINUTE, "a dead peer is still there; log:\n{}", machine.log());
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(pulled.elapsed() > Duration::from_secs(20), "a short outage is survived: {:?}", pulled.elapsed());
        eprintln!("noticed after {:?}", pulled.elapsed());
        for mut ssh in clients {
            ssh.kill().unwrap();
            ssh.wait().unwrap();
        }
    });
}
