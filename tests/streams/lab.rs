//! What the tests of streams have in common.

use std::fs::File;
use std::io::{Read, copy};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::Machine;

/// Nothing here takes as long on a machine that is busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A fixture without a daemon, and with time to log in on a busy machine.
pub fn machine(name: &str) -> Machine {
    let machine = Machine::new(name);
    configure(&machine, "");
    machine
}

pub fn configure(machine: &Machine, more: &str) {
    let text = format!("port = {}\nnetwork = false\nlogin-seconds = 60\n{more}\n", machine.port);
    machine.write("etc/vestibule/config.toml", &text);
}

/// `vestibule serve --stdio` on the machine's files, as words of a command line.
pub fn serve_stdio(machine: &Machine) -> Vec<String> {
    let root = machine.root.to_str().unwrap();
    [env!("CARGO_BIN_EXE_vestibule"), "serve", "--stdio", "--root", root].map(str::to_owned).to_vec()
}

pub fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A process that does not outlive its test.
pub struct Guard(pub Child);

impl Guard {
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.0.id() as i32)
    }

    /// The exit status, when it has ended by itself or by a signal that it takes.
    pub fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        until("a process to end", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `true` where the client got what only a session of this machine says.
pub fn is_greeted(output: &Output) -> bool {
    output.status.code() == Some(0) && output.stdout == b"hello"
}

/// What [`is_greeted`] looks for.
pub fn greet(machine: &Machine, options: &[&str]) -> Output {
    let words = [options, &["--", "printf hello"]].concat();
    output(machine.ssh_command("root", &words).stdin(Stdio::null()))
}

/// As [`Command::output`], for little output, and not for ever.
pub fn output(command: &mut Command) -> Output {
    let mut running = Guard::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut status = None;
    until(&format!("the end of {command:?}"), || {
        status = running.0.try_wait().unwrap();
        status.is_some()
    });
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    running.0.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    running.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    Output { status: status.unwrap(), stdout, stderr }
}

/// Takes one connection of an SSH client, and has its bytes go through a stream of another kind.
pub fn bridge(listener: TcpListener, stream: impl FnOnce() -> OwnedFd + Send + 'static) {
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let far = File::from(stream());
        let (mut from_client, mut to_far) = (client.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || copy(&mut from_client, &mut to_far));
        let (mut far, mut client): (File, TcpStream) = (far, client);
        // A pty that nobody has open any more is an error; for the client it is an end.
        let _ = copy(&mut far, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
    });
}
