//! A machine that waits: the daemon on a fixture root, an asker that speaks systemd's protocol, and OpenSSH clients.

pub mod hub;
pub mod terminal;

use std::fs;
use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Nothing here takes longer on a slow machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A fixture root with keys, and the daemon that runs on it.
pub struct Machine {
    pub root: PathBuf,
    pub port: u16,
    daemon: Option<Child>,
}

impl Machine {
    /// Host key and one authorised user key; network left alone; the kernel log goes to a file.
    pub fn new(name: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("vestibule-{name}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for directory in ["bin", "etc/vestibule", "dev", "proc", "run/systemd/ask-password", "sys/block"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for shell in ["sh", "bash"] {
            std::os::unix::fs::symlink(format!("/bin/{shell}"), root.join("bin").join(shell)).unwrap();
        }
        fs::write(root.join("dev/kmsg"), "").unwrap();
        fs::write(root.join("attach"), "read line\n").unwrap(); // for the askers
        let port = free_port();
        let machine = Self { root, port, daemon: None };
        machine.write("etc/vestibule/config.toml", &format!("port = {port}\nnetwork = false\nlogin-seconds = 60\n"));
        let keys = machine.vestibule(&["keys"]);
        assert!(keys.status.success(), "{keys:?}");
        let line = String::from_utf8(keys.stdout).unwrap();
        let line = line.lines().find_map(|line| line.strip_prefix("known_hosts: ")).unwrap().to_owned();
        let (_, key) = line.split_once(' ').unwrap();
        machine.write("known_hosts", &format!("[127.0.0.1]:{port} {key}\n"));
        machine.new_key("id", "ed25519");
        let public = fs::read_to_string(machine.root.join("id.pub")).unwrap();
        machine.write("etc/vestibule/authorized_keys", &public);
        machine
    }

    /// The same, with the daemon running and listening.
    pub fn started(name: &str) -> Self {
        let mut machine = Self::new(name);
        machine.start();
        machine
    }

    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The daemon, with more arguments of `serve`.
    pub fn start_with(&mut self, arguments: &[&str]) {
        self.start_by(Command::new(env!("CARGO_BIN_EXE_vestibule")), arguments);
    }

    /// The daemon in a network namespace (ip-netns(8)).
    pub fn start_in(&mut self, namespace: &str) {
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_vestibule")]);
        self.start_by(ip, &[]);
    }

    fn start_by(&mut self, mut daemon: Command, arguments: &[&str]) {
        let log = fs::File::create(self.root.join("stderr")).unwrap();
        daemon.args(["serve", "--root"]).arg(&self.root).args(arguments);
        // As systemd has it; a test that listens there makes it before.
        let notify = self.root.join("notify");
        if notify.exists() {
            daemon.env("NOTIFY_SOCKET", notify);
        }
        self.daemon = Some(daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        // That the socket has a name is a moment before it can be connected to.
        self.wait_for("the daemon to run", || UnixStream::connect(self.root.join("run/vestibule/control")).is_ok());
    }

    pub fn wait_for_ssh(&self) {
        self.wait_for("SSH to listen", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn new_key(&self, name: &str, kind: &str) {
        let path = self.root.join(name);
        let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(&path).status().unwrap();
        assert!(made.success());
    }

    /// Everything that was logged so far.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.root.join(name)).unwrap_or_default();
        read("dev/kmsg") + &read("stderr")
    }

    /// A local command on this root.
    pub fn vestibule(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .args(arguments)
            .arg("--root")
            .arg(&self.root)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub fn ssh_command(&self, user: &str, arguments: &[&str]) -> Command {
        self.ssh_with_key("id", user, arguments)
    }

    pub fn ssh_with_key(&self, key: &str, user: &str, arguments: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &self.port.to_string(), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
            .args(["-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.root.join("known_hosts").display()))
            .arg("-i")
            .arg(self.root.join(key));
        let (options, command): (Vec<&str>, Vec<&str>) = match arguments.iter().position(|word| *word == "--") {
            Some(at) => (arguments[..at].to_vec(), arguments[at + 1..].to_vec()),
            None => (vec![], arguments.to_vec()),
        };
        ssh.args(options).arg(format!("{user}@127.0.0.1")).args(command);
        ssh
    }

    /// Runs `ssh USER@machine COMMAND < input`. Words before `--` are options of ssh.
    pub fn ssh(&self, user: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .ssh_command(user, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A server that refuses early closes the pipe; what counts is what it answers.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Ends the daemon as the hand-over does; its exit status.
    pub fn stop(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id() as i32), nix::sys::signal::SIGTERM).unwrap();
        daemon.wait().unwrap().code()
    }

    /// The exit status of a daemon that ends by itself.
    pub fn ended(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap();
        let started = Instant::now();
        loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < DEADLINE, "it goes on; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Process ids of the sessions, and whatever else the daemon runs; each belongs to the thread that started it.
    pub fn children(&self) -> Vec<u32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        // A thread may end between the listing and the look at it; what it started is another's then.
        let children = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok());
        children.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
    }

    /// Ends the daemon as a crash does.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    pub fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain for {what}; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// An asker for `volume` that holds `passphrase`.
    pub fn ask(&self, volume: &str, passphrase: &str) -> Asker {
        Asker::start(&self.root, volume, passphrase)
    }

    pub fn status(&self) -> serde_json::Value {
        let output = self.vestibule(&["status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("log of the machine:\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Asks as systemd-cryptsetup does: a question file, an answer socket, three tries, a mapping when it is right. It is a
/// process of its own (`sleep` with a telling name), because the daemon looks at the asker's process.
pub struct Asker {
    thread: Option<std::thread::JoinHandle<Vec<Vec<u8>>>>,
    process: Child,
}

const TRIES: u32 = 3;

impl Asker {
    fn start(root: &Path, volume: &str, passphrase: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let device = format!("/dev/disk-{volume}");
        // The command line that the daemon reads: systemd-cryptsetup attach NAME DEVICE. Here it is a shell with a
        // script of that name, which waits until its standard input ends.
        let mut process = Command::new("sh")
            .arg0("/usr/lib/systemd/systemd-cryptsetup")
            .args(["attach", volume, &device])
            .current_dir(root)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // The machine has no other processes, whatever else runs here.
        std::os::unix::fs::symlink(format!("/proc/{}", process.id()), root.join(format!("proc/{}", process.id())))
            .unwrap();
        // spawn() returns when the exec is certain, which is a moment before the new command line can be read.
        let command_line = format!("/proc/{}/cmdline", process.id());
        let started = Instant::now();
        while !fs::read_to_string(&command_line).unwrap().contains(volume) {
            assert!(started.elapsed() < DEADLINE, "the asker did not start");
        }
        let alive = process.stdin.take();
        let (root, volume, passphrase) = (root.to_owned(), volume.to_owned(), passphrase.to_owned());
        let pid = process.id();
        let thread = std::thread::spawn(move || {
            let answers = asking(&root, &volume, &device, &passphrase, pid);
            drop(alive); // the asker ends
            answers
        });
        Self { thread: Some(thread), process }
    }

    /// The answers that were given, when it has ended.
    pub fn answers(mut self) -> Vec<Vec<u8>> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn asking(root: &Path, volume: &str, device: &str, passphrase: &str, pid: u32) -> Vec<Vec<u8>> {
    let directory = root.join("run/systemd/ask-password");
    let mut answers = Vec::new();
    for attempt in 0..TRIES {
        let socket_path = directory.join(format!("sck.{volume}{attempt}"));
        let socket = UnixDatagram::bind(&socket_path).unwrap();
        socket.set_read_timeout(Some(10 * DEADLINE)).unwrap();
        let question = format!(
            "[Ask]\nPID={pid}\nSocket=/run/systemd/ask-password/sck.{volume}{attempt}\nAcceptCached={}\nEcho=0\nNotAfter=0\nSilent=0\n\
             Message=Please enter passphrase for disk {volume}:\nId=cryptsetup:{device}\n",
            u8::from(attempt == 0),
        );
        let temporary = directory.join(format!("tmp.{volume}{attempt}"));
        let file = directory.join(format!("ask.{volume}{attempt}"));
        fs::write(&temporary, question).unwrap();
        fs::rename(&temporary, &file).unwrap();
        let mut buffer = [0; 4096];
        let Ok(length) = socket.recv(&mut buffer) else { return answers };
        fs::remove_file(&file).unwrap();
        fs::remove_file(&socket_path).unwrap();
        answers.push(buffer[..length].to_vec());
        if buffer[..length] == *format!("+{passphrase}").as_bytes() {
            let mapper = root.join("sys/block").join(format!("dm-{volume}")).join("dm");
            fs::create_dir_all(&mapper).unwrap();
            fs::write(mapper.join("../size"), "8192\n").unwrap();
            fs::write(mapper.join("uuid"), format!("CRYPT-LUKS2-0-{volume}\n")).unwrap();
            fs::write(mapper.join("name"), format!("{volume}\n")).unwrap();
            return answers;
        }
    }
    answers
}

/// A port that no other machine gets, below those that the kernel gives to connections (`ip_local_port_range`): one of
/// those could be taken before the daemon comes to it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port =
            10_000 + ((std::process::id() as u16).wrapping_mul(64) % 20_000) + NEXT.fetch_add(1, Ordering::Relaxed);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
