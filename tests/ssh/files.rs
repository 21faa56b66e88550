//! Files over SSH, with the clients that people have: OpenSSH's sftp and scp, and PuTTY's psftp.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::common::Machine;
use crate::text;

/// A machine with a directory of files, and roles for it.
fn machine(name: &str) -> Machine {
    let mut machine = Machine::new(name);
    machine.write("srv/files/inside", "inside\n");
    machine.write("srv/secret", "secret\n");
    let roles = "[[role]]\nname = \"sftp\"\nsftp = { root = \"/srv/files\", shown-as = \"/home/mle\" }\n\
                 [[role]]\nname = \"look\"\nsftp = { root = \"/srv/files\", access = \"read-only\" }\n";
    let config = fs::read_to_string(machine.root.join("etc/vestibule/config.toml")).unwrap_or_default();
    machine.write("etc/vestibule/config.toml", &(config + roles));
    machine.start();
    machine.wait_for_ssh();
    machine
}

/// OpenSSH's client programs take the same options as ssh, but for the port.
fn client(machine: &Machine, program: &str) -> Command {
    let ssh = machine.ssh_command("x", &[]);
    let arguments: Vec<_> = ssh.get_args().map(|word| if word == "-p" { "-P".as_ref() } else { word }).collect();
    let (_destination, options) = arguments.split_last().unwrap();
    let mut command = Command::new(program);
    command.args(options).stdin(Stdio::null()).current_dir(&machine.root);
    command
}

fn sftp(machine: &Machine, role: &str, batch: &str) -> Output {
    fs::write(machine.root.join("batch"), batch).unwrap();
    client(machine, "sftp").args(["-b", "batch"]).arg(format!("{role}@127.0.0.1")).output().unwrap()
}

#[test]
fn sftp_stays_in_its_directory() {
    let machine = machine("sftp");
    let output = sftp(
        &machine,
        "sftp",
        "pwd\nget inside got\nput got sub-name\nmkdir deep\nput got deep/er\nrename sub-name renamed\nls -1\n",
    );
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("Remote working directory: /home/mle\n"), "{output:?}");
    assert_eq!(fs::read_to_string(machine.root.join("got")).unwrap(), "inside\n");
    assert_eq!(fs::read_to_string(machine.root.join("srv/files/deep/er")).unwrap(), "inside\n");
    assert_eq!(fs::read_to_string(machine.root.join("srv/files/renamed")).unwrap(), "inside\n");
    for outside in ["../secret", "/srv/secret", "/home/mle/../../srv/secret"] {
        let output = sftp(&machine, "sftp", &format!("get {outside} stolen\n"));
        assert!(!output.status.success() && !machine.root.join("stolen").exists(), "{outside}: {output:?}");
    }
}

#[test]
fn a_role_may_only_read_or_have_no_files_at_all() {
    let machine = machine("sftp-roles");
    assert!(sftp(&machine, "look", "get inside got\n").status.success());
    let refused = sftp(&machine, "look", "put got more\n");
    assert!(!refused.status.success() && text(&refused.stderr).contains("Permission denied"), "{refused:?}");
    assert!(!machine.root.join("srv/files/more").exists());
    let none = sftp(&machine, "unlock", "ls\n");
    assert!(!none.status.success() && text(&none.stderr).contains("subsystem request failed"), "{none:?}");
}

#[test]
fn scp_copies_trees_both_ways() {
    let machine = machine("scp");
    machine.write("tree/a/b", &"many bytes\n".repeat(100_000));
    let there = client(&machine, "scp").args(["-q", "-r", "tree", "sftp@127.0.0.1:"]).output().unwrap();
    assert!(there.status.success(), "{there:?}");
    let back = client(&machine, "scp").args(["-q", "-r", "sftp@127.0.0.1:tree", "back"]).output().unwrap();
    assert!(back.status.success(), "{back:?}");
    let read = |path: &str| fs::read(machine.root.join(path)).unwrap();
    assert!(read("tree/a/b") == read("srv/files/tree/a/b") && read("tree/a/b") == read("back/a/b"));
    let outside = client(&machine, "scp").args(["-q", "sftp@127.0.0.1:/srv/secret", "stolen"]).output().unwrap();
    assert!(!outside.status.success() && !machine.root.join("stolen").exists(), "{outside:?}");
}

#[test]
fn psftp_gets_and_puts() {
    let machine = machine("psftp");
    let key = machine.root.join("id.ppk");
    let made = Command::new("puttygen").arg(machine.root.join("id")).arg("-o").arg(&key).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let log = machine.log();
    let host_key = log.split("SSH host key ").nth(1).unwrap().split_whitespace().next().unwrap();
    fs::write(machine.root.join("batch"), "get inside got\nput got put\nls\nquit\n").unwrap();
    let mut psftp = Command::new("psftp");
    psftp.args(["-batch", "-hostkey", host_key, "-P", &machine.port.to_string(), "-i"]).arg(&key).args(["-b", "batch"]);
    psftp.arg("sftp@127.0.0.1").env("HOME", &machine.root).stdin(Stdio::null()).current_dir(&machine.root);
    let output = psftp.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(machine.root.join("srv/files/put")).unwrap(), "inside\n");
}

/// Dropbear's client under OpenSSH's sftp, and under its scp in the old way, which dropbear's own scp has: a program at the
/// other end.
#[test]
fn dbclient_carries_sftp_and_scp() {
    let machine = machine("dbclient-files");
    let key = machine.root.join("id.dropbear");
    let mut convert = Command::new("dropbearconvert");
    let converted = convert.args(["openssh", "dropbear"]).arg(machine.root.join("id")).arg(&key).output().unwrap();
    assert!(converted.status.success(), "{converted:?}");
    let dbclient = format!("dbclient -y -y -p {} -i {}", machine.port, key.display());
    machine.write("batch", "get inside got\nput got put\n");
    let mut sftp = Command::new("sftp");
    sftp.args(["-b", "batch", "-D", &format!("{dbclient} -s sftp@127.0.0.1 sftp")]).env("HOME", &machine.root);
    let output = sftp.stdin(Stdio::null()).current_dir(&machine.root).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(machine.root.join("srv/files/put")).unwrap(), "inside\n");
    // It knows other options than OpenSSH's scp gives to an ssh.
    let script = "#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do [ \"$1\" != -l ] || { user=$2@; shift; }; shift; done\n\
                  host=$user$1; shift; exec DBCLIENT \"$host\" \"$@\"\n";
    machine.write("dbclient", &script.replace("DBCLIENT", &dbclient));
    fs::set_permissions(machine.root.join("dbclient"), fs::Permissions::from_mode(0o755)).unwrap();
    machine.write("many", &"many bytes\n".repeat(200_000));
    let to = machine.root.join("arrived");
    let mut scp = Command::new("scp");
    scp.args(["-O", "-q", "-S", "./dbclient", "many"]).arg(format!("root@127.0.0.1:{}", to.display()));
    let output = scp.env("HOME", &machine.root).stdin(Stdio::null()).current_dir(&machine.root).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(fs::read(&to).unwrap() == fs::read(machine.root.join("many")).unwrap());
}
