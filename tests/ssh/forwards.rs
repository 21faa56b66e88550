//! Forwarded connections with OpenSSH's client: what a key permits, in both directions, and nothing else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Stdio};

use crate::common::terminal::Reader;
use crate::common::{DEADLINE, Machine, free_port};
use crate::text;

/// Answers with the number of bytes that came before the end of the input: so it needs half-closed streams.
fn counting(mut stream: impl Read + Write) {
    let mut bytes = Vec::new();
    if stream.read_to_end(&mut bytes).is_ok() {
        let _ = write!(stream, "{} bytes", bytes.len()); // the peer may have gone
    }
}

/// A server of that kind on loopback; its port.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || counting(stream.unwrap()));
        }
    });
    port
}

/// A machine whose key has these options.
fn machine(name: &str, options: &str) -> Machine {
    let mut machine = Machine::new(name);
    let key = std::fs::read_to_string(machine.root.join("id.pub")).unwrap();
    machine.write("etc/vestibule/authorized_keys", &format!("{options} {key}"));
    machine.start();
    machine.wait_for_ssh();
    machine
}

/// A client that forwards, as soon as it says so.
struct Forwarding(Child, Reader);

impl Forwarding {
    fn new(machine: &Machine, options: &[&str]) -> Self {
        let arguments = [options, &["-o", "ExitOnForwardFailure=yes", "--", "echo ready; cat"]].concat();
        let mut ssh =
            machine.ssh_command("root", &arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut seen = Reader::new(ssh.stdout.take().unwrap());
        seen.until("ready");
        Self(ssh, seen)
    }

    /// The session beside the forwards still works.
    fn goes_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"still here\n").unwrap();
        self.1.until("still here");
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn answer(mut stream: TcpStream, bytes: usize) -> String {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&vec![7; bytes]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn connections_out_and_back() {
    let target = server();
    let machine = machine("forward", &format!("permitopen=\"127.0.0.1:{target}\",permitlisten=\"*:*\""));
    let (out, back) = (free_port(), free_port());
    let (out_option, back_option) = (format!("{out}:127.0.0.1:{target}"), format!("{back}:127.0.0.1:{target}"));
    let mut forwarding = Forwarding::new(&machine, &["-L", &out_option, "-R", &back_option]);
    let streams: Vec<_> = (0..10).map(|_| TcpStream::connect(("127.0.0.1", out)).unwrap()).collect();
    for stream in streams {
        assert_eq!(answer(stream, 3_000_000), "3000000 bytes");
    }
    assert_eq!(answer(TcpStream::connect(("127.0.0.1", back)).unwrap(), 1_000_000), "1000000 bytes");
    forwarding.goes_on();
    let through = machine.ssh("root", &["-W", &format!("127.0.0.1:{target}"), "--"], &[1; 100_000]);
    assert_eq!(text(&through.stdout), "100000 bytes", "{through:?}");
}

#[test]
fn a_port_that_the_server_chooses() {
    let target = server();
    let machine = machine("anyport", "permitlisten=\"*:*\"");
    let option = format!("0:127.0.0.1:{target}");
    let arguments = ["-v", "-R", &option, "--", "echo ready; cat"];
    let mut ssh = machine.ssh_command("root", &arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = Reader::new(ssh.stderr.take().unwrap());
    said.until(" for remote forward");
    let port = said.all().split("Allocated port ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let _forwarding = Forwarding(ssh, Reader::new(std::io::empty()));
    assert_eq!(answer(TcpStream::connect(("127.0.0.1", port)).unwrap(), 10), "10 bytes");
}

#[test]
fn what_no_key_permits_is_refused_and_the_session_goes_on() {
    let (permitted, other) = (server(), server());
    let machine = machine("refused", &format!("permitopen=\"127.0.0.1:{permitted}\""));
    let refused = machine.ssh("root", &["-v", "-W", &format!("127.0.0.1:{other}"), "--"], b"");
    assert!(text(&refused.stderr).contains("administratively prohibited: may not forward that"), "{refused:?}");
    let back = format!("{}:127.0.0.1:{permitted}", free_port());
    let listening = machine.ssh("root", &["-o", "ExitOnForwardFailure=yes", "-R", &back, "--", "true"], b"");
    assert_eq!(listening.status.code(), Some(255), "{listening:?}");
    let out = free_port();
    let mut forwarding = Forwarding::new(&machine, &["-L", &format!("{out}:127.0.0.1:{other}")]);
    let mut refused = TcpStream::connect(("127.0.0.1", out)).unwrap();
    assert_eq!(refused.read(&mut [0; 8]).unwrap_or(0), 0, "nothing comes");
    forwarding.goes_on();
}

#[test]
fn what_cannot_be_reached_is_said() {
    let port = free_port();
    let machine = machine("unreachable", "permitopen=\"*:*\"");
    let failed = machine.ssh("root", &["-v", "-W", &format!("127.0.0.1:{port}"), "--"], b"");
    assert!(text(&failed.stderr).contains("connect failed"), "{failed:?}");
}

#[test]
fn jump_through_us_to_another_server() {
    let mut target = Machine::started("target");
    target.wait_for_ssh();
    let jump = machine("jump", &format!("permitopen=\"127.0.0.1:{}\"", target.port));
    let proxy = jump.ssh_command("root", &["-W", "%h:%p", "--"]);
    let words: Vec<_> = std::iter::once(proxy.get_program()).chain(proxy.get_args()).collect();
    let option = format!("ProxyCommand={}", words.join(" ".as_ref()).to_str().unwrap());
    let output = target.ssh("root", &["-o", &option, "--", "cat; exit 8"], &[b'j'; 200_000]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(8), 200_000), "{}", text(&output.stderr));
    assert_eq!(target.stop(), Some(0));
}

#[test]
fn sockets_with_paths() {
    // On the machine, paths are below its root.
    let options = "permitopen=\"/there\",permitlisten=\"/back\"";
    let machine = machine("paths", options);
    let (there, here) = (machine.root.join("there"), machine.root.join("here"));
    let listener = UnixListener::bind(&there).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(|stream| counting(stream.unwrap())));
    let out = format!("{}:/there", here.display());
    let back = format!("/back:{}", there.display());
    let _forwarding = Forwarding::new(&machine, &["-L", &out, "-R", &back]);
    for socket in ["here", "back"] {
        let mut stream = UnixStream::connect(machine.root.join(socket)).unwrap();
        stream.write_all(b"12345").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, "5 bytes", "{socket}");
    }
}
