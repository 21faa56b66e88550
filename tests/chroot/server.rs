//! Logins by OpenSSH: to our own server inside, and to an sshd of the chroot's own.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use vestibule::chroot::place::Place;
use vestibule::chroot::state::State;
use vestibule::chroot::supervise;
use vestibule::root::Root;

use crate::house::{kill, running};
use crate::inside::typed;
use crate::lab::{Beside, Lab, Outcome, on_own_machine, outcome, run, table, until};
use crate::trees;

pub const HOST_KEY: &str = "etc/vestibule/ssh_host_ed25519_key";
/// The lab's own.
pub const LOG: &str = "[log]\nfile = \"/log\"\n";
/// The network is the lab's own.
pub const PORT: u16 = 2222;

/// What `ssh` prints; none if it fails.
pub fn answer(client: &Client, line: &str) -> Option<String> {
    let ssh = outcome(&mut client.command("ssh", &["root@127.0.0.1", line]));
    (ssh.status == Some(0)).then_some(ssh.out)
}

pub fn log(lab: &Lab) -> String {
    fs::read_to_string(lab.path("log")).unwrap_or_default()
}

/// Processes of the lab but this one.
fn others() -> Vec<String> {
    let own = std::process::id().to_string();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own && *name != "1");
    let line = |pid: String| fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty());
    pids.filter_map(line).map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

#[test]
fn our_own_server_needs_nothing_in_the_chroot() {
    let tree = trees::find("busybox");
    on_own_machine("server::our_own_server_needs_nothing_in_the_chroot", |lab| {
        trees::put(&lab, &tree);
        put_needs_of_the_test(&lab);
        lab.define("x", &[LOG, "[environment]\nMARK = \"of the definition\"\n"].concat());
        let before = table();
        let client = Client::new(&lab, PORT);

        let started = lab.well(&["start", "x"]);
        assert!(started.err.contains("/tree/root/.ssh/authorized_keys"), "{}", started.err);
        let says_why = |status: &Outcome| status.status == Some(3) && status.out.contains("root/.ssh/authorized_keys");
        until("the status to say why nobody can log in", || says_why(&lab.chroot(&["status", "x"])));
        client.is_let_in();
        until("the host key to be made", || lab.tree().join(HOST_KEY).exists());
        client.knows(HOST_KEY);
        // It is tried again by itself, as there is a key now.
        until("the first login", || answer(&client, "true").is_some());
        assert!(log(&lab).contains("fingerprint: SHA256:"), "{}", log(&lab));
        assert!(log(&lab).contains(&format!("]:{PORT} ssh-ed25519 ")), "{}", log(&lab));

        let said = answer(&client, "echo $0 $HOME $SHELL $MARK; pwd; cat /etc/os-release; id -u").unwrap();
        assert_eq!(said, "ash /root /bin/ash of the definition\n/root\nID=busybox\n0\n");
        // Words that are commands where something boots are the system's own here.
        let status = outcome(&mut client.command("ssh", &["root@::1", "status; exit 7"]));
        assert_eq!(status.status, Some(7), "{status:?}");
        assert!(status.err.contains("status: not found"), "{status:?}");

        let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        fs::write(lab.path("bytes"), &bytes).unwrap();
        let mut cat = client.command("ssh", &["root@127.0.0.1", "cat"]);
        let back = cat.stdin(fs::File::open(lab.path("bytes")).unwrap()).output().unwrap();
        assert!(back.status.success() && back.stdout == bytes, "{}", String::from_utf8_lossy(&back.stderr));

        let mut shell = client.command("ssh", &["-tt", "root@127.0.0.1"]);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut shell = Beside(shell);
        shell.0.stdin.as_mut().unwrap().write_all(b"echo is:$0:$FROM_PROFILE:$(tty); exit 5\n").unwrap();
        let mut shown = String::new();
        shell.0.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
        assert_eq!(shell.0.wait().unwrap().code(), Some(5), "{shown}");
        assert!(shown.contains("is:-ash:yes:/dev/pts/"), "{shown}");

        let batch = format!("put {0} /root/there\nget /root/there {0}.back\nls /\n", lab.path("bytes").display());
        fs::write(lab.path("batch"), batch).unwrap();
        let batch = lab.path("batch");
        let sftp = outcome(&mut client.command("sftp", &["-b", batch.to_str().unwrap(), "root@127.0.0.1"]));
        assert_eq!(sftp.status, Some(0), "{sftp:?}");
        assert!(sftp.out.contains("/etc") && sftp.out.contains("/root"), "the whole chroot: {}", sftp.out);
        assert_eq!(fs::read(lab.tree().join("root/there")).unwrap(), bytes);
        assert_eq!(fs::read(lab.path("bytes.back")).unwrap(), bytes);

        // Who may no longer log in is known at once.
        fs::write(lab.tree().join("root/.ssh/authorized_keys"), "").unwrap();
        let refused = outcome(&mut client.command("ssh", &["root@127.0.0.1", "true"]));
        assert!(refused.err.contains("Permission denied"), "{refused:?}");
        client.is_let_in();
        // Nor does it let in anybody when others could have said so.
        let mode = |mode| fs::set_permissions(lab.tree().join("root/.ssh"), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o777);
        assert_eq!(answer(&client, "true"), None);
        until("the log to say why", || log(&lab).contains("log in: chmod go-w /root/.ssh\n"));
        let said = lab.well(&["start", "x"]).err;
        assert!(said.contains("chmod go-w ") && said.contains("/tree/root/.ssh\n"), "{said}");
        mode(0o700);
        assert!(answer(&client, "true").is_some(), "{}", log(&lab));

        // Without a supervisor nobody reads what the server logs; it serves all the same.
        let place = Place::open(&lab.tree()).unwrap();
        let state = State::open(&place, &Root::new(&lab.directory)).unwrap();
        let supervised = supervise::status(&state).unwrap().unwrap();
        let server = supervised.services[0].pid.unwrap();
        kill(running(supervised.pid.unwrap()));
        fill(&format!("/proc/{server}/fd/2"));
        for _twice in 0..2 {
            assert!(answer(&client, "true").is_some());
        }
        lab.well(&["start", "x"]);
        until("its log to be read", || log(&lab).contains("full of this"));
        assert_eq!(supervise::status(&state).unwrap().unwrap().services[0].pid, Some(server));

        let key = fs::read(lab.tree().join(HOST_KEY)).unwrap();
        lab.well(&["restart", "x"]);
        until("a login after the restart", || answer(&client, "true").is_some());
        assert_eq!(fs::read(lab.tree().join(HOST_KEY)).unwrap(), key);

        let mut shell = client.command("ssh", &["-tt", "root@127.0.0.1"]);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut shell = Beside(shell);
        shell.0.stdin.as_mut().unwrap().write_all(b"trap '' HUP TERM; echo re''ady; sleep 1000\n").unwrap();
        let mut screen = shell.0.stdout.take().unwrap();
        let (mut shown, mut buffer) = (String::new(), [0; 256]);
        while !shown.contains("ready") {
            let length = screen.read(&mut buffer).unwrap();
            assert_ne!(length, 0, "the end came before it was ready: {shown}");
            shown += &String::from_utf8_lossy(&buffer[..length]);
        }
        lab.well(&["stop", "x"]);
        shell.0.wait().unwrap();
        assert_eq!((table(), others()), (before, Vec::<String>::new()), "{}", log(&lab));
    });
}

/// Until not a byte more goes into the pipe.
fn fill(pipe: &str) {
    let mut pipe = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(pipe).unwrap();
    for piece in [&b"full of this\n".repeat(300)[..], b"\n"] {
        let full = loop {
            if let Err(error) = pipe.write(piece) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn an_sshd_of_the_chroots_own() {
    let tree = trees::find("debian");
    on_own_machine("server::an_sshd_of_the_chroots_own", |lab| {
        trees::put(&lab, &tree);
        let service =
            "[[service]]\nname = \"sshd\"\ncommand = [\"/usr/sbin/sshd\", \"-D\", \"-e\", \"-p\", \"2222\"]\n";
        let somebodys = "[[service]]\nname = \"who\"\ncommand = [\"/bin/sh\", \"-c\", \"id; exec sleep 1000\"]\n\
            user = \"www-data\"\ngroups = [\"games\"]\n";
        lab.define("x", &["ssh = false\n", service, somebodys, LOG].concat());
        let before = table();
        let client = Client::new(&lab, PORT);
        client.is_let_in();
        lab.well(&["start", "x"]);
        let is_who = |line: &str| line.contains("who: uid=33(www-data)") && line.contains("60(games)");
        until("the other service to say who it is", || log(&lab).lines().any(is_who));
        let host_key = "etc/ssh/ssh_host_ed25519_key";
        until("host keys to be made", || lab.tree().join(host_key).exists());
        client.knows(host_key);
        until("the first login", || answer(&client, "true").is_some());
        let said = answer(&client, "id -u; . /etc/os-release; echo $VERSION_CODENAME");
        assert_eq!(said.as_deref(), Some("0\nbookworm\n"), "{}", log(&lab));
        let exec = lab.well(&["exec", "x", "--", "dpkg", "--print-architecture"]);
        let here = outcome(Command::new("dpkg").arg("--print-architecture").stdin(Stdio::null()));
        assert_eq!((exec.out, exec.err), (here.out, String::new()));
        fs::write(lab.path("batch"), format!("get /etc/os-release {}\n", lab.path("fetched").display())).unwrap();
        let batch = lab.path("batch");
        let sftp = outcome(&mut client.command("sftp", &["-b", batch.to_str().unwrap(), "root@127.0.0.1"]));
        assert_eq!(sftp.status, Some(0), "{sftp:?}");
        let release = fs::read_to_string(lab.path("fetched")).unwrap();
        assert!(release.contains("VERSION_CODENAME=bookworm"), "{release}");
        let shown = typed(&lab, "x", "echo is:$0:$(pwd):$(jobs | wc -l); exit 5\n");
        assert!(shown.contains("is:-bash:/root:0") && !shown.contains("no job control"), "{shown}");
        lab.well(&["stop", "x"]);
        assert_eq!((table(), others()), (before, Vec::<String>::new()));
    });
}

/// The machine may be so busy that a login takes longer than it should.
pub fn put_needs_of_the_test(lab: &Lab) {
    lab.put("tree/etc/vestibule/config.toml", "login-seconds = 60\n");
    lab.put_libraries();
}

/// An OpenSSH client, with a key that root of the tree may log in with, if `authorized`.
pub struct Client<'lab> {
    lab: &'lab Lab,
    port: u16,
}

impl<'lab> Client<'lab> {
    pub fn new(lab: &'lab Lab, port: u16) -> Self {
        let key = lab.path("id");
        run("ssh-keygen", &["-q", "-N", "", "-t", "ed25519", "-f", key.to_str().unwrap()]);
        Self { lab, port }
    }

    /// Root of the tree has that key in its authorized_keys.
    pub fn is_let_in(&self) {
        let keys = fs::read(self.lab.path("id.pub")).unwrap();
        let directory = self.lab.tree().join("root/.ssh");
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(directory.join("authorized_keys"), keys).unwrap();
    }

    /// The client knows the server by this key of the tree.
    pub fn knows(&self, host_key: &str) {
        let key = self.lab.tree().join(host_key);
        let public = outcome(Command::new("ssh-keygen").arg("-y").arg("-f").arg(key).stdin(Stdio::null()));
        assert_eq!(public.status, Some(0), "{public:?}");
        let port = self.port;
        fs::write(self.lab.path("known_hosts"), format!("[127.0.0.1]:{port} {0}[::1]:{port} {0}", public.out)).unwrap();
    }

    /// `ssh` or `sftp` with these arguments. The host is `root@127.0.0.1`.
    pub fn command(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(program);
        let known = format!("UserKnownHostsFile={}", self.lab.path("known_hosts").display());
        command.args(["-F", "none", "-o", &format!("Port={}", self.port), "-o", "BatchMode=yes", "-o", &known]);
        command.args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=yes"]);
        // A server that hangs fails the test, and doesn't hold it up.
        command.args(["-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=2"]);
        command.args(["-o", "LogLevel=ERROR", "-i"]).arg(self.lab.path("id")).args(arguments);
        command.stdin(Stdio::null());
        command
    }
}
