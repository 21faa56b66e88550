//! `vestibule dial` beside OpenSSH's sshd: what goes through, what ends it, and that it comes back.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::with_own_network;
use crate::stock::{DEADLINE, Hub};

/// On the hub for -R, here for -L, and where the targets are. Each test has a network of its own.
const ON_HUB: u16 = 20_001;
const HERE: u16 = 9_000;
const TARGET: u16 = 9_100;
/// For what takes half a minute by design, and as long again until the next attempt.
const LONG: Duration = Duration::from_secs(300);
/// More than all windows, queues and sockets' buffers on the way hold together.
const MUCH: usize = 48 << 20;
/// Connections that come at the same time; 64 fit.
const MANY: usize = 120;
/// What a tunnel may need for itself, and to have some MiB of somebody's on their way.
const MEMORY_KIB: u64 = 24 << 10;

/// Everything after the end of what the other sent: half-closed, a stream still carries the other direction. A reader that
/// takes its time loses nothing, and is not waited for in memory.
#[test]
fn bytes_go_both_ways() {
    with_own_network("tunnel::bytes_go_both_ways", || {
        let (mut hub, _) = hub("both");
        hub.person("web1");
        let tunnel = Tunnel::start(&hub, "person", &["-L", "9000:127.0.0.1:9100", "-R", "20001:127.0.0.1:9100"]);
        tunnel.wait_for("connected to person@127.0.0.1:22");
        let before = tunnel.peak_kib();
        for port in [HERE, ON_HUB] {
            let target = answer_once(MUCH);
            let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            client.write_all(&pattern(MUCH, 1)).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            let mut buffer = vec![0; 64 << 10];
            loop {
                // Not as fast as the target.
                thread::sleep(Duration::from_millis(2));
                match client.read(&mut buffer).unwrap() {
                    0 => break,
                    length => got.extend_from_slice(&buffer[..length]),
                }
            }
            assert!(
                target.join().unwrap() == pattern(MUCH, 1),
                "what came to the target through {port} is not what was sent"
            );
            assert!(
                got == pattern(MUCH, 2),
                "what came back through {port} is not what was sent ({} bytes)",
                got.len()
            );
        }
        let more = tunnel.peak_kib() - before;
        assert!(more < MEMORY_KIB, "{more} KiB more for {MUCH} bytes");
        hub.stop();
    });
}

/// A first attempt that fails ends the command, with the reason; with --keep-trying it doesn't.
#[test]
fn what_can_t_be_had_is_said() {
    with_own_network("tunnel::what_can_t_be_had_is_said", || {
        let (hub, other_key) = hub("refused");
        let remote = ["-R", "20001:127.0.0.1:9100"];
        let fails = |options: &[&str], why: &str| {
            let output = Tunnel::run(&hub, options);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && error.contains(why), "{options:?}: {output:?}");
        };
        // On both addresses of localhost: sshd is content with one.
        let taken = ["127.0.0.1", "::1"].map(|address| TcpListener::bind((address, ON_HUB)).unwrap());
        let known = hub.known_hosts_file();
        let pinned = ["--known-hosts", known.to_str().unwrap()];
        hub.new_key("stranger");
        let key = |name: &str| hub.place.join(name).to_str().unwrap().to_owned();
        let (web1, stranger, host_key) = (key("web1"), key("stranger"), hub.host_key());
        let with = |identity: &str, more: &[&[&str]], why: &str| {
            fails(&[&["-i", identity, "vestibule@127.0.0.1"], &more.concat()[..]].concat(), why);
        };
        with(&web1, &[&pinned, &remote], "either that port is taken there");
        with(&web1, &[&pinned, &["-R", "20002:127.0.0.1:9100"]], "it is not permitted");
        with(&web1, &[&pinned, &["-L", "20001:127.0.0.1:9100"]], "Address already in use");
        with(&web1, &[&["--host-key", &other_key], &remote], "HOST KEY IS NOT THE PINNED ONE");
        with(&web1, &[&pinned, &remote, &["-p", "2222"]], "has no host key for [127.0.0.1]:2222");
        with(&web1, &[&["--host-key", &host_key], &remote, &["-p", "2222"]], "Connection refused");
        with(&stranger, &[&pinned, &remote], "does not accept our key");

        let waiting = Tunnel::start(&hub, "vestibule", &[&remote[..], &["--keep-trying"]].concat());
        waiting.wait_for("either that port is taken there");
        // One is enough.
        with(&web1, &[&pinned, &remote], "runs already");
        drop(taken);
        waiting.wait_for("which listens: localhost:20001 to 127.0.0.1:9100");
    });
}

/// After it has worked once it is built again whatever happens; told to end, it gives back what it had.
#[test]
fn a_hub_that_restarts_has_its_tunnel_back() {
    with_own_network("tunnel::a_hub_that_restarts_has_its_tunnel_back", || {
        let (mut hub, _) = hub("restart");
        hub.person("web1");
        let systemd = UnixDatagram::bind(hub.place.join("notify")).unwrap();
        systemd.set_read_timeout(Some(DEADLINE)).unwrap();
        let options = ["-R", "20001:127.0.0.1:9100", "-L", "9000:127.0.0.1:22"];
        let mut tunnel = Tunnel::start(&hub, "person", &options);
        let mut told = [0; 100];
        let length = systemd.recv(&mut told).unwrap();
        assert_eq!(&told[..length], b"READY=1");
        round_trip(ON_HUB);
        // Somebody who only waits for what comes.
        let mut quiet = TcpStream::connect(("127.0.0.1", HERE)).unwrap();
        quiet.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut line = [0; 4];
        quiet.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"SSH-");
        hub.stop();
        tunnel.wait_for("dialling again");
        let mut rest = Vec::new();
        // An end or a reset: it does not wait for ever.
        let ended = quiet.read_to_end(&mut rest);
        assert!(ended.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::ConnectionReset), "{ended:?}");
        hub.start();
        hub.wait_for("the tunnel to be back", || TcpStream::connect(("127.0.0.1", ON_HUB)).is_ok());
        // That connection was the hub's: its target has nobody, which is said and harms nothing.
        tunnel.wait_for("-R localhost:20001 to 127.0.0.1:9100: a connection was closed");
        round_trip(ON_HUB);
        assert_eq!(tunnel.end(), Some(0), "{}", tunnel.log());
        hub.wait_for("the port to be free", || TcpStream::connect(("127.0.0.1", ON_HUB)).is_err());
    });
}

/// Nobody says that the cable is pulled: both sides notice by themselves, and the port on the hub becomes free for the next.
#[test]
fn a_dead_network_is_noticed() {
    with_own_network("tunnel::a_dead_network_is_noticed", || {
        let (hub, _) = hub("dead");
        let tunnel = Tunnel::start(&hub, "vestibule", &["-R", "20001:127.0.0.1:9100"]);
        tunnel.wait_for("connected to");
        let lo = |state| assert!(Command::new("ip").args(["link", "set", "lo", state]).status().unwrap().success());
        lo("down");
        tunnel.wait(LONG, "it to notice", || tunnel.log().contains("dialling again"));
        lo("up");
        let listens = || tunnel.log().matches("which listens: localhost:20001").count();
        tunnel.wait(LONG, "it to be back", || listens() == 2);
        round_trip(ON_HUB);
    });
}

#[test]
fn on_demand_comes_and_goes() {
    with_own_network("tunnel::on_demand_comes_and_goes", || {
        let (hub, _) = hub("demand");
        hub.person("web1");
        let mut tunnel = Tunnel::start(&hub, "person", &["-L", "9000:127.0.0.1:9100", "--on-demand=1"]);
        tunnel.wait_for("listening on 127.0.0.1:9000");
        for time in 1..=2 {
            assert_eq!(tunnel.log().matches("connected to").count(), time - 1, "{}", tunnel.log());
            round_trip(HERE);
            hub.wait_for("it to hang up", || tunnel.log().matches("hung up").count() == time);
        }
        assert_eq!(tunnel.end(), Some(0), "{}", tunnel.log());
    });
}

/// More than fit into one connection: the others wait for their turn, and nobody gets another's bytes.
#[test]
fn many_at_once() {
    with_own_network("tunnel::many_at_once", || {
        let (hub, _) = hub("many");
        hub.person("web1");
        let tunnel = Tunnel::start(&hub, "person", &["-L", "9000:127.0.0.1:9100"]);
        tunnel.wait_for("connected to");
        let listener = TcpListener::bind(("127.0.0.1", TARGET)).unwrap();
        let target = thread::spawn(move || {
            let echo = |mut stream: TcpStream| {
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                stream.write_all(&got).unwrap();
            };
            // Nothing is answered before most have come.
            let first: Vec<TcpStream> = (0..MANY / 2).map(|_| listener.accept().unwrap().0).collect();
            first.into_iter().for_each(echo);
            (MANY / 2..MANY).for_each(|_| echo(listener.accept().unwrap().0));
        });
        let client = |number| {
            thread::spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", HERE)).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.write_all(&pattern(10_000, number)).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                assert!(got == pattern(10_000, number), "client {number} got {} other bytes", got.len());
            })
        };
        let clients: Vec<_> = (0..MANY as u32).map(client).collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        target.join().unwrap();
    });
}

/// A running `vestibule dial`.
pub struct Tunnel {
    process: Child,
    log: PathBuf,
}

impl Tunnel {
    pub fn start(hub: &Hub, user: &str, options: &[&str]) -> Self {
        let log = hub.place.join("tunnel.log");
        let mut dial = Self::command(hub);
        // As systemd has it; a test that listens there makes it before.
        let notify = hub.place.join("notify");
        if notify.exists() {
            dial.env("NOTIFY_SOCKET", notify);
        }
        dial.arg("-i").arg(hub.place.join("web1")).arg("--known-hosts").arg(hub.known_hosts_file());
        dial.arg(format!("{user}@127.0.0.1")).args(options);
        let process = dial.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        Self { process, log }
    }

    /// One that ends by itself.
    fn run(hub: &Hub, options: &[&str]) -> Output {
        let dial = Self::command(hub);
        let mut timeout = Command::new("timeout");
        timeout.arg(DEADLINE.as_secs().to_string()).arg(dial.get_program()).args(dial.get_args()).args(options);
        timeout.env_remove("XDG_RUNTIME_DIR").env_remove("RUNTIME_DIRECTORY").stdin(Stdio::null()).output().unwrap()
    }

    fn command(hub: &Hub) -> Command {
        let mut dial = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        dial.env_remove("XDG_RUNTIME_DIR").env_remove("RUNTIME_DIRECTORY").stdin(Stdio::null());
        dial.arg("--root").arg(&hub.place).arg("dial");
        dial
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn wait_for(&self, text: &str) {
        self.wait(DEADLINE, &format!("{text:?} to be said"), || self.log().contains(text));
    }

    fn wait(&self, at_most: Duration, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + at_most;
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain for {what}:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The most memory that it had so far.
    fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Told to end; the exit status.
    fn end(&mut self) -> Option<i32> {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM).unwrap();
        self.process.wait().unwrap().code()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("log of the tunnel:\n{}", self.log());
        }
    }
}

/// A hub for the machine `web1`, and a host key that is another's.
fn hub(name: &str) -> (Hub, String) {
    let hub = Hub::started(name, &["web1"]);
    let other = fs::read_to_string(hub.new_key("other")).unwrap();
    (hub, other)
}

/// A target that reads one connection to its end, and only then answers, with other bytes; what it has read.
fn answer_once(length: usize) -> JoinHandle<Vec<u8>> {
    let listener = TcpListener::bind(("127.0.0.1", TARGET)).unwrap();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        stream.write_all(&pattern(length, 2)).unwrap();
        got
    })
}

/// A few bytes to the target and back.
fn round_trip(port: u16) {
    let target = answer_once(5);
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, pattern(5, 2));
    assert_eq!(target.join().unwrap(), b"hello");
}

/// Bytes that are not the same anywhere near.
fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); // Numerical Recipes
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}
