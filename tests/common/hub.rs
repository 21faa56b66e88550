//! A stock OpenSSH server as a hub, and a machine that can only reach it through NAT:
//!
//!     hub and owner (this namespace) 198.51.100.1 ── 198.51.100.2 `nat` 10.0.0.1 ── 10.0.0.7 `box`
//!
//! A test runs twice. The first run starts the second in namespaces of its own (network, mounts, processes), with a /run and
//! an /etc/passwd of its own. All of it is gone when that ends, also when the test fails.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Machine;

/// Tells the second run that it is the second.
const VARIABLE: &str = "VESTIBULE_TEST_BEHIND_NAT";
/// For whatever takes as long as it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(180);
pub const HUB: &str = "198.51.100.1";

/// The machine's account on the hub, and the owner's.
pub const ACCOUNTS: [(&str, u32); 2] = [("boxes", 4242), ("owner", 4243)];

const NETWORK: &str = "
mount -t tmpfs none /run
mkdir -p /run/netns /run/sshd
mount --bind \"$1/passwd\" /etc/passwd
ip link set lo up
ip netns add nat
ip netns add box
ip link add w0 type veth peer name n0 netns nat
ip -n nat link add n1 type veth peer name b0 netns box
ip addr add 198.51.100.1/24 dev w0
ip link set w0 up
ip -n nat addr add 198.51.100.2/24 dev n0
ip -n nat addr add 10.0.0.1/24 dev n1
for link in lo n0 n1; do ip -n nat link set $link up; done
ip -n box addr add 10.0.0.7/24 dev b0
for link in lo b0; do ip -n box link set $link up; done
ip -n box route add default via 10.0.0.1
ip netns exec nat sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
";

/// Nobody comes in: what a customer's router does.
const NAT: &str = "add table ip t
add chain ip t out { type nat hook postrouting priority 100; }
add rule ip t out oifname n0 masquerade
add chain ip t through { type filter hook forward priority 0; policy drop; }
add rule ip t through iifname n1 accept
add rule ip t through ct state established,related accept";

/// Runs `body` with a hub that is not started yet. Only root can; others see a line that says so.
pub fn behind_nat(test: &str, body: impl FnOnce(Hub)) {
    if std::env::var_os(VARIABLE).is_some() {
        let hub = Hub::new();
        let directory = hub.directory.clone();
        shell(Command::new("sh").args(["-ec", NETWORK, "sh"]).arg(&directory));
        shell(
            Command::new("ip").args(["netns", "exec", "nat"]).arg(unpacked("nft")).arg(NAT).env(LIBRARIES, libraries()),
        );
        return body(hub);
    }
    if !nix::unistd::geteuid().is_root() {
        // Not `eprintln!`, which the test harness hides when a test passes.
        let line = format!("SKIPPED {test}: needs root, for namespaces\n");
        return std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    // Process numbers, by which others tell their directories apart, begin anew in there.
    let directory = std::env::temp_dir().join(format!("nat-{}", unique()));
    fs::create_dir(&directory).unwrap();
    let again = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, "1")
        .env("TMPDIR", &directory)
        .stdin(Stdio::null())
        .output()
        .expect("unshare, from util-linux");
    fs::remove_dir_all(&directory).unwrap();
    let [out, err] = [&again.stdout, &again.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(again.status.success() && out.contains("1 passed"), "{out}{err}");
}

const LIBRARIES: &str = "LD_LIBRARY_PATH";

fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers")
}

pub fn libraries() -> PathBuf {
    servers().join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH))
}

/// A program that `scripts/deps` unpacks.
pub fn unpacked(name: &str) -> PathBuf {
    let path = servers().join("usr/sbin").join(name);
    assert!(path.exists(), "{name} is missing. Type: make deps");
    path
}

fn shell(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Looks again and again until there is something.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match look() {
            Ok(found) => return found,
            Err(why) => assert!(Instant::now() < deadline, "waited in vain for {what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// sshd with accounts of its own. Its log is in `sshd.log`.
pub struct Hub {
    pub directory: PathBuf,
    running: Option<Child>,
}

impl Hub {
    fn new() -> Self {
        let directory = std::env::temp_dir().join("hub");
        fs::create_dir_all(directory.join("keys")).unwrap();
        fs::create_dir_all(directory.join("sockets")).unwrap();
        let mut passwd = fs::read_to_string("/etc/passwd").unwrap();
        passwd.push_str("sshd:*:4241:65534::/run/sshd:/usr/sbin/nologin\n");
        for (name, number) in ACCOUNTS {
            passwd.push_str(&format!("{name}:*:{number}:65534::/:/bin/sh\n"));
        }
        fs::write(directory.join("passwd"), passwd).unwrap();
        std::os::unix::fs::chown(directory.join("sockets"), Some(ACCOUNTS[0].1), None).unwrap();
        let hub = Self { directory, running: None };
        for key in ["host", "owner"] {
            hub.new_key(key);
        }
        fs::copy(hub.directory.join("owner.pub"), hub.directory.join("keys/owner")).unwrap();
        hub.configure("");
        hub
    }

    /// Makes a key pair, in the place of an earlier one.
    pub fn new_key(&self, name: &str) {
        let path = self.directory.join(name);
        let _ = fs::remove_file(&path);
        shell(Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&path));
    }

    /// As known_hosts has it.
    pub fn host_key(&self) -> String {
        let line = fs::read_to_string(self.directory.join("host.pub")).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    /// Writes sshd_config; more lines go before ours, so that they count.
    pub fn configure(&self, more: &str) {
        let directory = self.directory.display();
        let text = format!(
            "{more}\nListenAddress {HUB}\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/keys/%u\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPidFile none\nMaxStartups 100\nLogLevel VERBOSE\n\
             ClientAliveInterval 5\nClientAliveCountMax 3\nStreamLocalBindUnlink yes\n"
        );
        fs::write(self.directory.join("sshd_config"), text).unwrap();
    }

    /// Who may log in as the machines do: lines of authorized_keys. Takes effect at the next login.
    pub fn admit(&self, lines: &str) {
        fs::write(self.directory.join("keys/boxes.new"), lines).unwrap();
        fs::rename(self.directory.join("keys/boxes.new"), self.directory.join("keys/boxes")).unwrap();
    }

    pub fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.directory.join("sshd.log")).unwrap();
        let mut sshd = Command::new(unpacked("sshd"));
        sshd.args(["-D", "-e", "-f"]).arg(self.directory.join("sshd_config")).env(LIBRARIES, libraries());
        self.running = Some(sshd.stdin(Stdio::null()).stderr(log).spawn().unwrap());
        until("the hub to listen", PATIENCE, || TcpStream::connect((HUB, 22)).map(drop).map_err(|_| self.log()));
    }

    /// Ends it with all its connections, as a restart of the machine would. There are no other processes of this name in
    /// this test's own process namespace.
    pub fn stop(&mut self) {
        let mut listener = self.running.take().unwrap();
        listener.kill().unwrap();
        listener.wait().unwrap();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        for pid in
            pids.filter(|pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sshd\n"))
        {
            // One that has ended in the meantime is no trouble.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("sshd.log")).unwrap_or_default()
    }

    /// The owner's ssh, from anywhere, through the hub to a port there, which is the machine's, with one of the machine's keys.
    pub fn ssh(&self, machine: &Machine, key: &str, port: u16, command: &[&str]) -> Command {
        let known = self.directory.join("known_hosts");
        let machines = fs::read_to_string(machine.root.join("known_hosts")).unwrap();
        let machine_key = machines.split_once(' ').unwrap().1;
        fs::write(&known, format!("{HUB} {}\nmachine {machine_key}", self.host_key())).unwrap();
        let options = format!(
            "-F none -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none -o StrictHostKeyChecking=yes -o ConnectTimeout=20 \
             -o UserKnownHostsFile={}",
            known.display()
        );
        let jump = format!("ssh {options} -i {} -W %h:%p owner@{HUB}", self.directory.join("owner").display());
        let mut ssh = Command::new("ssh");
        ssh.args(options.split_whitespace()).arg("-i").arg(machine.root.join(key));
        ssh.arg("-o").arg(format!("ProxyCommand={jump}")).args(["-o", "HostKeyAlias=machine", "-p", &port.to_string()]);
        ssh.arg("root@localhost").args(command);
        ssh
    }

    /// The same, run with this input, and again until it succeeds: on a busy machine a login may take too long.
    pub fn ssh_until(&self, machine: &Machine, port: u16, command: &[&str], input: &[u8]) -> Output {
        until(&format!("ssh {command:?}"), PATIENCE, || {
            let mut ssh = self.ssh(machine, "id", port, command);
            let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
            // If it has ended already, its output tells why.
            let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
            let output = child.wait_with_output().unwrap();
            writer.join().unwrap();
            let why = || format!("{output:?}\nthe machine's log:\n{}\nthe hub's:\n{}", machine.log(), self.log());
            if output.status.success() { Ok(output.clone()) } else { Err(why()) }
        })
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.stop();
        }
        if std::thread::panicking() {
            eprintln!("log of the hub:\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Short, as sockets' paths begin with it (unix(7)).
fn unique() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// What answers first at a port of this machine, or at a socket: an SSH server's identification, if all is well.
pub fn banner(place: &str) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("{place}: {error}");
    let read = |mut stream: Box<dyn Read>| {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < 255 && stream.read(&mut byte).map_err(wrong)? == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    };
    let patience = Some(Duration::from_secs(10));
    if place.starts_with('/') {
        let stream = UnixStream::connect(place).map_err(wrong)?;
        stream.set_read_timeout(patience).unwrap();
        return read(Box::new(stream));
    }
    let stream = TcpStream::connect(place).map_err(wrong)?;
    stream.set_read_timeout(patience).unwrap();
    read(Box::new(stream))
}
