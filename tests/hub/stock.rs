//! A hub: OpenSSH's sshd as Debian has it, with an /etc of its own that `vestibule hub setup` has changed.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::hub::{libraries, unpacked};

/// For anything that comes to be, also on a machine with other work.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Where it listens. Each test has a network of its own.
pub const PORT: u16 = 22;

pub struct Hub {
    pub place: PathBuf,
    sshd: Option<Child>,
}

impl Hub {
    /// A hub on which nothing is set up, and which does not run.
    pub fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("vestibule-hub-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        for directory in ["bin", "lib"] {
            fs::create_dir_all(place.join(directory)).unwrap();
        }
        let hub = Self { place, sshd: None };
        succeed(Command::new("cp").args(["-a", "/etc"]).arg(hub.place.join("etc")));
        // Libraries that this machine lacks lie beside it.
        let (sshd, libraries) = (unpacked("sshd"), libraries());
        let (sshd, libraries) = (sshd.display(), libraries.display());
        let sshd = format!("#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {sshd} \"$@\"\n");
        hub.write_program("bin/sshd", &sshd);
        let passwd = fs::read_to_string(hub.place.join("etc/passwd")).unwrap();
        if !passwd.contains("\nsshd:") {
            hub.write("etc/passwd", &format!("{passwd}sshd:x:65000:65534::/run/sshd:/usr/sbin/nologin\n"));
        }
        hub.new_key("host");
        fs::create_dir_all(hub.place.join("etc/ssh")).unwrap();
        hub.write(
            "etc/ssh/sshd_config",
            &format!(
                "Include /etc/ssh/sshd_config.d/*.conf\nPort {PORT}\nListenAddress 127.0.0.1\nHostKey {0}/host\nPidFile none\nUsePAM no\n\
                 StrictModes no\nAuthorizedKeysFile {0}/%u.keys\n",
                hub.place.display()
            ),
        );
        hub
    }

    /// One that runs, set up for these machines; each has a key of its name.
    pub fn started(name: &str, machines: &[&str]) -> Self {
        let mut hub = Self::new(name);
        let keys: Vec<PathBuf> = machines.iter().map(|machine| hub.new_key(machine)).collect();
        hub.write("setup.sh", &script(&keys, &[]));
        let run = hub.run(&["sh", hub.place.join("setup.sh").to_str().unwrap()]);
        assert!(run.status.success(), "{run:?}");
        hub.start();
        hub
    }

    /// An account of a person's, `person`, who may do everything, and logs in with that key.
    pub fn person(&self, key: &str) {
        let run = self.run(&["useradd", "--no-create-home", "--home-dir", "/", "--password", "*", "person"]);
        assert!(run.status.success(), "{run:?}");
        let public = fs::read_to_string(self.place.join(key).with_extension("pub")).unwrap();
        self.write("person.keys", &public);
    }

    /// A command on the hub.
    pub fn run(&self, command: &[&str]) -> Output {
        self.command(&[], command).output().unwrap()
    }

    pub fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.place.join("log")).unwrap();
        // In a process namespace of its own: all sessions end with it.
        let own = ["--pid", "--fork", "--kill-child"];
        let mut sshd = self.command(&own, &[self.place.join("bin/sshd").to_str().unwrap(), "-D", "-e"]);
        // As whoever is first in the namespace it would not hear of SIGTERM.
        self.sshd = Some(sshd.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        self.wait_for("sshd to listen", || TcpStream::connect(("127.0.0.1", PORT)).is_ok());
    }

    /// Gone at once, with all sessions.
    pub fn stop(&mut self) {
        let mut sshd = self.sshd.take().expect("it runs");
        sshd.kill().unwrap();
        sshd.wait().unwrap();
        self.wait_for("sshd to be gone", || TcpStream::connect(("127.0.0.1", PORT)).is_err());
    }

    /// A file with its address and key.
    pub fn known_hosts_file(&self) -> PathBuf {
        self.write("known_hosts", &format!("127.0.0.1 {}", self.host_key()));
        self.place.join("known_hosts")
    }

    pub fn host_key(&self) -> String {
        fs::read_to_string(self.place.join("host.pub")).unwrap()
    }

    /// Makes a key pair; where its public half is.
    pub fn new_key(&self, name: &str) -> PathBuf {
        let path = self.place.join(name);
        let _ = fs::remove_file(&path);
        succeed(Command::new("ssh-keygen").args(["-q", "-N", "", "-C", name, "-t", "ed25519", "-f"]).arg(&path));
        path.with_extension("pub")
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.place.join(name), text).unwrap();
    }

    pub fn write_program(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(name, text);
        fs::set_permissions(self.place.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition() {
            let log = fs::read_to_string(self.place.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "waited in vain for {what}; the hub's log:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// With its own /etc, /run and /var/lib; the rest is this machine's.
    fn command(&self, own: &[&str], command: &[&str]) -> Command {
        let mut unshare = Command::new("unshare");
        let line = "mount --bind \"$1/etc\" /etc && mount --bind \"$1/lib\" /var/lib && mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && shift && exec \"$@\"";
        unshare.arg("--mount").args(own).args(["sh", "-c", line, "sh"]).arg(&self.place).args(command);
        let path = std::env::var("PATH").unwrap_or_default();
        unshare.env("PATH", format!("{}:{path}", self.place.join("bin").display())).stdin(Stdio::null());
        unshare
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(sshd) = &mut self.sshd {
            let _ = sshd.kill();
            let _ = sshd.wait();
        }
        if std::thread::panicking() {
            eprintln!("log of the hub:\n{}", fs::read_to_string(self.place.join("log")).unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.place);
    }
}

/// What `vestibule hub setup` prints.
pub fn script(keys: &[PathBuf], options: &[&str]) -> String {
    let mut setup = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    setup.args(["hub", "setup"]).args(options).args(keys).stdin(Stdio::null());
    let output = setup.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
