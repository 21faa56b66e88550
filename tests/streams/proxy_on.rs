//! docs/proxy-commands.md, line by line: a gateway with a fixed command, an inner machine behind it, and git.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::Machine;
use crate::lab::{configure, machine, text};

/// The block of the document that is marked so.
fn block(mark: &str) -> String {
    let document = include_str!("../../docs/proxy-commands.md");
    let (_, rest) = document.split_once(&format!("```{mark}\n")).unwrap_or_else(|| panic!("no block {mark}"));
    rest.split_once("```").unwrap().0.to_owned()
}

/// As [`str::replace`], of something that is there.
fn replaced(text: &str, what: &str, by: &str) -> String {
    assert!(text.contains(what), "{what} in {text}");
    text.replace(what, by)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

struct Lab {
    gateway: Machine,
    inner: Machine,
}

impl Lab {
    fn new() -> Self {
        let (mut gateway, mut inner) = (machine("streams-gateway"), machine("streams-inner"));
        let place = gateway.root.join("etc/vestibule");
        let here = |text: &str| replaced(text, "/etc/vestibule", place.to_str().unwrap());
        configure(&gateway, &block("toml"));
        let alice = read(&gateway.root.join("id.pub"));
        let line = replaced(&here(&block("authorized_keys")), "ssh-ed25519 AAAA… alice", alice.trim());
        gateway.write("etc/vestibule/authorized_keys", &line);
        let config = here(&block("ssh_config"));
        let config = replaced(&config, "HostName 10.0.0.5", "HostName 127.0.0.1");
        let config = replaced(&config, "Port 22", &format!("Port {}", inner.port));
        gateway.write("etc/vestibule/inner/config", &config);
        gateway.write("etc/vestibule/inner/known_hosts", &read(&inner.root.join("known_hosts")));
        fs::copy(inner.root.join("id"), place.join("inner/key")).unwrap();
        configure(&inner, "[[role]]\nname = \"git\"\nexec = true");
        for machine in [&mut gateway, &mut inner] {
            machine.start();
            machine.wait_for_ssh();
        }
        let lab = Self { gateway, inner };
        lab.make_client();
        lab
    }

    /// A client whose `~/.ssh/config` is the document's, as far as a test can have one: ssh(1) doesn't look at `$HOME`.
    fn make_client(&self) {
        let root = &self.gateway.root;
        let config = replaced(&block("client_config"), "Port 2222", &format!("Port {}", self.gateway.port));
        let more = format!(
            "Host gateway\n HostName 127.0.0.1\n IdentityFile {0}/id\n IdentitiesOnly yes\n IdentityAgent none\n \
             UserKnownHostsFile {0}/known_hosts\n BatchMode yes\n LogLevel ERROR\n",
            root.display()
        );
        self.gateway.write("client/config", &(config + &more));
        let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F {}/client/config \"$@\"\n", root.display());
        self.gateway.write("client/bin/ssh", &script);
        fs::set_permissions(root.join("client/bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn on_client(&self, program: &str) -> Command {
        let client = self.gateway.root.join("client");
        let mut command = Command::new(program);
        command.env("PATH", format!("{}/bin:{}", client.display(), std::env::var("PATH").unwrap()));
        command.env("HOME", &client).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for (variable, value) in [("NAME", "alice"), ("EMAIL", "alice@example.org")] {
            command.env(format!("GIT_AUTHOR_{variable}"), value).env(format!("GIT_COMMITTER_{variable}"), value);
        }
        command.current_dir(&client).stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, words: &[&str]) -> Output {
        let output = self.on_client(program).args(words).output().unwrap();
        let logs = || format!("gateway:\n{}\ninner:\n{}", self.gateway.log(), self.inner.log());
        assert!(output.status.success(), "{program} {words:?}: {output:?}\n{}", logs());
        output
    }
}

#[test]
fn the_lines_of_the_document() {
    let lab = Lab::new();
    let project = lab.inner.root.join("srv/git/project.git");
    let (seed, bare) = (lab.inner.root.join("seed"), project.to_str().unwrap());
    let noise: Vec<u8> = (0..500_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    lab.run("git", &["init", "--quiet", seed.to_str().unwrap()]);
    fs::write(seed.join("noise"), &noise).unwrap();
    let seed = seed.to_str().unwrap();
    lab.run("git", &["-C", seed, "add", "noise"]);
    lab.run("git", &["-C", seed, "commit", "--quiet", "--message", "First"]);
    lab.run("git", &["clone", "--quiet", "--bare", seed, bare]);

    let script = replaced(&block("sh"), "/srv/git/project.git", bare);
    let said = lab.run("sh", &["-euc", &script]);
    assert_eq!(text(&said.stdout), "hello\nexit status 7\n", "{said:?}");
    assert!(fs::read(lab.gateway.root.join("client/project/noise")).unwrap() == noise, "what was cloned differs");
    let log = lab.run("git", &["-C", bare, "log", "--format=%s"]);
    assert_eq!(text(&log.stdout), "From outside\nFirst\n");
}

#[test]
fn what_is_asked_for_goes_through_untouched() {
    let lab = Lab::new();
    let odd = "two  spaces; \"quotes\" $PATH `id` * \\ é #";
    let asked = format!("printf %s '{odd}'; echo aside >&2");
    let output = lab.run("ssh", &["gateway", &asked]);
    assert_eq!((text(&output.stdout), text(&output.stderr)), (odd, "aside\n"));
    let bytes = std::ffi::OsString::from_vec(b"printf %s '\xff\xfe\x01'".to_vec());
    let output = lab.on_client("ssh").arg("gateway").arg(bytes).output().unwrap();
    assert_eq!(output.stdout, b"\xff\xfe\x01", "also where it is no UTF-8: {output:?}");
    let killed = lab.on_client("ssh").args(["gateway", "kill -9 $$"]).output().unwrap();
    assert_eq!(killed.status.code(), Some(255), "as ssh tells of a signal: {killed:?}");
    for words in [&["-L", "0:127.0.0.1:1", "-o", "ExitOnForwardFailure=yes"][..], &["-tt"]] {
        let output = lab.on_client("ssh").args(words).args(["gateway", "tty"]).output().unwrap();
        assert!(!text(&output.stdout).contains("/dev/"), "no terminal for {words:?}: {output:?}");
    }
    let other = lab.on_client("ssh").args(["root@gateway", "true"]).output().unwrap();
    assert_eq!(other.status.code(), Some(255), "the key is for one login name: {other:?}");
}
