//! Who gets in with which key, and what is left to do: authorized_keys, certificates, tokens and roles, with OpenSSH's own
//! client and ssh-keygen.

mod audit;
mod certificates;
#[allow(dead_code)] // other tests use the rest of it
#[path = "../common/mod.rs"]
mod common;
mod lines;
mod roles;
mod tokens;

use std::process::{Command, Output, Stdio};

use common::Machine;

/// A machine with these lines as its authorized_keys: options, and the name of a key that is made.
fn machine(test: &str, lines: &[(&str, &str)]) -> Machine {
    let mut machine = Machine::new(test);
    for (_, name) in lines {
        if !machine.root.join(name).exists() {
            machine.new_key(name, "ed25519");
        }
    }
    write_lines(&machine, lines);
    machine.start();
    machine.wait_for_ssh();
    machine
}

fn write_lines(machine: &Machine, lines: &[(&str, &str)]) {
    let public = |name: &str| std::fs::read_to_string(machine.root.join(format!("{name}.pub"))).unwrap();
    let text: String = lines.iter().map(|(options, name)| format!("{options} {}", public(name))).collect();
    machine.write("etc/vestibule/authorized_keys", &text);
}

/// `ssh -i key user@machine words`; words before `--` are options of ssh.
fn ssh(machine: &Machine, key: &str, user: &str, words: &[&str]) -> Output {
    machine.ssh_with_key(key, user, words).stdin(Stdio::null()).output().unwrap()
}

/// The exit status of `status --json` with that key: 255 if it isn't admitted.
fn status(machine: &Machine, key: &str, user: &str) -> Option<i32> {
    let output = ssh(machine, key, user, &["status", "--json"]);
    assert_eq!(output.status.success(), output.stdout.starts_with(b"{"), "{output:?}");
    output.status.code()
}

/// `ssh-keygen` in the machine's directory.
fn ssh_keygen(machine: &Machine, words: &[&str]) {
    let output = Command::new("ssh-keygen").current_dir(&machine.root).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
