//! What one connection may do.

use std::process::{Command, Stdio};

use crate::common::Machine;

/// A connection that other sessions share (ControlMaster), ended when dropped.
struct Shared<'a> {
    machine: &'a Machine,
    socket: String,
}

impl<'a> Shared<'a> {
    fn open(machine: &'a Machine, options: &[&str]) -> Self {
        // Short: a socket's path is limited to 108 bytes.
        let socket = format!("ControlPath={}", machine.root.join("c").display());
        let options = [options, &["-o", &socket, "-o", "ControlMaster=yes", "-f", "-N", "--"]].concat();
        let master = machine.ssh_command("peek", &options).stdin(Stdio::null()).status().unwrap();
        assert!(master.success());
        Self { machine, socket }
    }

    fn session(&self, command: &[&str]) -> Command {
        let options = [&["-o", &self.socket, "-o", "ControlMaster=no", "--"], command].concat();
        let mut ssh = self.machine.ssh_command("peek", &options);
        ssh.stdin(Stdio::null());
        ssh
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let options = ["-o", &self.socket, "-O", "exit", "--"];
        let _ = self.machine.ssh_command("peek", &options).stderr(Stdio::null()).status();
    }
}

#[test]
fn has_sixteen_sessions_and_can_use_them_again() {
    let machine = Machine::started("channels");
    machine.wait_for_ssh();
    let shared = Shared::open(&machine, &[]);
    let sessions = machine.children().len();
    let follow =
        || shared.session(&["peek", "--follow"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut open: Vec<_> = (0..16).map(|_| follow()).collect();
    for following in &mut open {
        let mut byte = [0];
        std::io::Read::read_exact(following.stdout.as_mut().unwrap(), &mut byte).unwrap(); // it runs
    }
    let more = shared.session(&["status"]).output().unwrap();
    // ssh then makes a connection of its own.
    assert!(String::from_utf8_lossy(&more.stderr).contains("Session open refused by peer"), "{more:?}");
    for mut following in open {
        following.kill().unwrap();
        following.wait().unwrap();
    }
    machine.wait_for("a channel to be free", || shared.session(&["status"]).output().unwrap().stderr.is_empty());
    machine.wait_for("its own connection to end", || machine.children().len() == sessions);
}

#[test]
fn has_any_number_of_sessions_one_after_the_other() {
    let machine = Machine::started("sessions");
    machine.wait_for_ssh();
    let shared = Shared::open(&machine, &[]);
    for session in 0..20 {
        let output = shared.session(&["status"]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "session {session}: {output:?}");
    }
}

#[test]
fn offers_thirty_keys_and_no_more() {
    let machine = Machine::started("offers");
    machine.wait_for_ssh();
    let names: Vec<String> = (0..30).map(|number| format!("key{number}")).collect();
    names.iter().for_each(|name| machine.new_key(name, "ed25519"));
    let paths: Vec<String> = names.iter().map(|name| machine.root.join(name).display().to_string()).collect();
    for (wrong, expected) in [(28, 0), (30, 255)] {
        let mut options: Vec<&str> = paths[..wrong].iter().flat_map(|path| ["-i", path]).collect();
        let right = machine.root.join("id").display().to_string();
        options.extend(["-i", &right, "--", "status"]);
        // `wrong` is the first that is tried.
        let mut ssh = machine.ssh_with_key(&names[0], "peek", &options);
        let output = ssh.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{wrong} wrong keys: {output:?}");
    }
}

#[test]
fn exchanges_keys_anew_while_data_flows() {
    let machine = Machine::started("rekey");
    machine.wait_for_ssh();
    let _asker = machine.ask("root", "pw");
    machine.wait_for("the question", || machine.status()["phase"] == "asking");
    // As little as ssh takes: each status is more than this, and so are requests.
    let shared =
        Shared::open(&machine, &["-vv", "-E", machine.root.join("client").to_str().unwrap(), "-o", "RekeyLimit=1K"]);
    let expected = shared.session(&["status", "--json"]).output().unwrap().stdout;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let output = shared.session(&["status", "--json"]).output().unwrap();
                    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
                    assert_eq!(output.stdout, expected);
                }
            });
        }
    });
    let log = std::fs::read_to_string(machine.root.join("client")).unwrap();
    let exchanges = log.matches("SSH2_MSG_NEWKEYS received").count();
    assert!(exchanges > 3, "{exchanges} key exchanges:\n{log}");
}
