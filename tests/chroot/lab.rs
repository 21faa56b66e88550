//! A machine for one test: mount, process and network namespaces of its own, in which all mounts are shared as systemd has
//! them, so that what leaks is seen. Everything is gone afterwards, also when the test fails.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tells the second run that it is on a machine of its own.
const VARIABLE: &str = "VESTIBULE_TEST_MACHINE";
/// Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(60);
const VESTIBULE: &str = env!("CARGO_BIN_EXE_vestibule");

pub struct Lab {
    /// A tmpfs: files of outside (`etc`, `run`), and trees.
    pub directory: PathBuf,
}

/// What a command came to.
#[derive(Debug)]
pub struct Outcome {
    /// None: ended by a signal.
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

/// What hangs is ended, with all of its namespaces; in seconds.
const TOO_LONG: &str = "600";

/// A process that is killed when the test is done with it.
pub struct Beside(pub Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// Runs `body` on such a machine. Only root can; others see a line that says so.
pub fn on_own_machine(test: &str, body: impl FnOnce(Lab)) {
    if let Some(directory) = env::var_os(VARIABLE) {
        return body(Lab::new(directory.into()));
    }
    if !nix::unistd::geteuid().is_root() {
        // Not `eprintln!`, which the test harness hides when a test passes.
        let line = format!("SKIPPED {test}: needs root, for namespaces\n");
        return std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    let directory = env::temp_dir().join(format!("vestibule-{}-{}", std::process::id(), test.replace("::", "-")));
    fs::create_dir_all(&directory).unwrap(); // one that was killed had the same number
    let again = Command::new("timeout")
        .args([
            "--signal=KILL",
            TOO_LONG,
            "unshare",
            "--mount",
            "--pid",
            "--net",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, &directory)
        .output()
        .expect("unshare, from util-linux");
    fs::remove_dir(&directory).expect("nothing has leaked to the machine");
    let [out, err] = [&again.stdout, &again.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(again.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "“{test}” is not the name of the test:\n{out}");
}

impl Lab {
    fn new(directory: PathBuf) -> Self {
        let lab = Self { directory };
        // Whatever whoever runs this has: servers refuse what others can write to.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        run("mount", &["-t", "tmpfs", "tmpfs", lab.directory.to_str().unwrap()]);
        run("mount", &["--make-rshared", "/"]);
        run("ip", &["link", "set", "lo", "up"]);
        for path in ["etc/vestibule/chroots", "run", "tree"] {
            fs::create_dir_all(lab.path(path)).unwrap();
        }
        lab
    }

    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.join(path)
    }

    /// An empty directory to become a chroot.
    pub fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// Writes `NAME.toml` about the tree.
    pub fn define(&self, name: &str, text: &str) {
        let text = format!("root = {:?}\n{text}", self.tree());
        fs::write(self.path(format!("etc/vestibule/chroots/{name}.toml")), text).unwrap();
    }

    pub fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// What is tested is linked to this machine's C library. What is released is static, and needs nothing in the tree.
    pub fn put_libraries(&self) {
        let linked = outcome(Command::new("ldd").arg(VESTIBULE).stdin(Stdio::null()));
        for path in linked.out.split_whitespace().filter(|word| word.starts_with('/')) {
            let inside = self.tree().join(&path[1..]);
            fs::create_dir_all(inside.parent().unwrap()).unwrap();
            fs::copy(path, inside).unwrap();
        }
    }

    /// `vestibule chroot …`, not started yet; its files of outside are the lab's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(VESTIBULE);
        command.arg("--root").arg(&self.directory).arg("chroot").args(arguments).stdin(Stdio::null());
        command
    }

    pub fn chroot(&self, arguments: &[&str]) -> Outcome {
        outcome(&mut self.command(arguments))
    }

    /// The same, which must succeed.
    pub fn well(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.chroot(arguments);
        assert_eq!(outcome.status, Some(0), "{arguments:?}: {outcome:?}");
        outcome
    }

    /// The same, which must fail with that status; what it says.
    pub fn ill(&self, status: i32, arguments: &[&str]) -> String {
        let outcome = self.chroot(arguments);
        assert_eq!(outcome.status, Some(status), "{arguments:?}: {outcome:?}");
        outcome.err
    }
}

/// Must not leave anything in the background that holds its output.
pub fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Outcome { status: output.status.code(), out, err }
}

pub fn run(program: &str, arguments: &[&str]) {
    let outcome = outcome(Command::new(program).args(arguments).stdin(Stdio::null()));
    assert_eq!(outcome.status, Some(0), "{program} {arguments:?}: {outcome:?}");
}

/// The mount table, as text.
pub fn table() -> String {
    table_of("self")
}

pub fn table_of(process: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap()
}

/// Comes back as soon as it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < DEADLINE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
