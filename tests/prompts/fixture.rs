//! A machine that is booting, as far as the prompt room sees it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::time::timeout;
use vestibule::control::message::{Outcome, Question};
use vestibule::daemon::prompt::broker::{Broker, View, Wanted};
use vestibule::daemon::prompt::systemd::Systemd;
use vestibule::daemon::prompt::{Source, Verdict, volumes};
use vestibule::root::Root;
use vestibule::secret::Secret;

/// Longer than anything that a test waits for.
pub const SOON: Duration = Duration::from_secs(60);
pub const ASK: &str = "run/systemd/ask-password";

/// A fixture tree, removed at the end.
pub struct Machine {
    pub directory: PathBuf,
}

impl Machine {
    pub fn new() -> Self {
        let machine = Self::without_systemd();
        std::fs::create_dir_all(machine.directory.join(ASK)).unwrap();
        machine
    }

    pub fn without_systemd() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("vestibule-prompts-{}-{number}", std::process::id()));
        std::fs::create_dir_all(directory.join("sys/block")).unwrap();
        std::fs::create_dir_all(directory.join("run")).unwrap();
        Self { directory }
    }

    pub fn root(&self) -> Root {
        Root::new(&self.directory)
    }

    /// A broker on the systemd source.
    pub fn broker(&self) -> Broker {
        Broker::spawn(vec![Systemd::new(self.root()).spawn()], volumes::spawn(self.root()))
    }

    /// Processes are the real ones.
    pub fn with_real_processes(self) -> Self {
        std::os::unix::fs::symlink("/proc", self.directory.join("proc")).unwrap();
        self
    }

    pub fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Device mapper shows an open volume.
    pub fn open_volume(&self, name: &str) {
        let block = format!("sys/block/dm-{name}");
        self.put(&format!("{block}/size"), "2048\n");
        self.put(&format!("{block}/dm/name"), format!("{name}\n"));
        self.put(&format!("{block}/dm/uuid"), format!("CRYPT-LUKS2-0-{name}\n"));
    }

    /// An encrypted volume in a file.
    pub fn luks(&self, passphrase: &str) -> PathBuf {
        let image = self.directory.join("image");
        std::fs::File::create(&image).unwrap().set_len(18 << 20).unwrap();
        let mut format = Command::new("cryptsetup")
            .args(["-q", "luksFormat", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file=-"])
            .arg(&image)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        format.stdin.take().unwrap().write_all(passphrase.as_bytes()).unwrap();
        assert!(format.wait().unwrap().success());
        image
    }

    /// A process that may ask: with these arguments, and with that systemd library.
    pub fn asker(&self, arguments: &str, version: u32) -> Asker {
        let process = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let pid = process.id();
        self.put(&format!("proc/{pid}/cmdline"), arguments.replace(' ', "\0") + "\0");
        self.put(&format!("proc/{pid}/maps"), format!("7f00 r-xp /usr/lib/systemd/libsystemd-shared-{version}.so\n"));
        Asker { directory: self.directory.join(ASK), process, id: "Id=cryptsetup:/dev/vda2\nAcceptCached=1\n".into() }
    }

    /// systemd-cryptsetup 252 for `volume`.
    pub fn cryptsetup(&self, volume: &str) -> Asker {
        self.asker(&format!("/lib/systemd/systemd-cryptsetup attach {volume} /dev/{volume}"), 252)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// A process that asks through systemd's protocol. Killed at the end.
pub struct Asker {
    directory: PathBuf,
    process: Child,
    /// Lines of its questions beside the usual ones.
    pub id: String,
}

impl Asker {
    pub fn ask(&mut self) -> Asked {
        self.ask_with("Please enter passphrase for disk QEMU:", "")
    }

    /// Asks for the PIN of the volume's TPM, as systemd does: without an `Id=`.
    pub fn ask_pin(&mut self) -> Asked {
        let id = std::mem::take(&mut self.id);
        let asked = self.ask_with("Please enter TPM2 PIN:", "");
        self.id = id;
        asked
    }

    pub fn ask_with(&mut self, message: &str, more: &str) -> Asked {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let socket_path = self.directory.join(format!("sck.{number}"));
        let socket = UnixDatagram::bind(&socket_path).unwrap();
        let file = self.directory.join(format!("ask.{number}"));
        let content = format!(
            "[Ask]\nPID={}\nSocket=/{ASK}/sck.{number}\nMessage={message}\n{}{more}",
            self.process.id(),
            self.id
        );
        let temporary = self.directory.join(format!("tmp.{number}"));
        std::fs::write(&temporary, content).unwrap();
        std::fs::rename(temporary, &file).unwrap();
        self.id = self.id.replace("AcceptCached=1\n", "");
        Asked { file, socket_path, socket }
    }

    pub fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.end();
    }
}

/// One question of a fake asker.
pub struct Asked {
    file: PathBuf,
    socket_path: PathBuf,
    socket: UnixDatagram,
}

impl Asked {
    /// Takes the answer, and stops asking, as systemd does.
    pub async fn answer(self) -> String {
        let mut buffer = [0; 4096];
        let length = timeout(SOON, self.socket.recv(&mut buffer)).await.expect("an answer").unwrap();
        self.withdraw();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    pub fn unanswered(&self) -> bool {
        self.socket.try_recv(&mut [0; 16]).is_err()
    }

    /// Stops asking.
    pub fn withdraw(self) {
        remove(&self.socket_path);
        remove(&self.file);
    }

    /// No longer listens, but the question is still there for a moment.
    pub fn deafen(self) -> PathBuf {
        remove(&self.socket_path);
        self.file
    }
}

pub fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

pub fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

/// Every passphrase question.
pub fn all() -> Wanted {
    Wanted::default()
}

/// Questions with these names, of the kind that the first one has.
pub fn named(names: &[&str]) -> Wanted {
    Wanted { volumes: names.iter().map(|&name| name.to_owned()).collect(), kind: None }
}

/// Waits for a moment at which `wanted` is true.
pub async fn until(broker: &Broker, wanted: impl Fn(&View) -> bool) -> View {
    let mut view = broker.view();
    let found = timeout(SOON, view.wait_for(|view| wanted(view))).await;
    match found {
        Ok(found) => found.unwrap().clone(),
        Err(_) => panic!("not seen: {:?}", *broker.view().borrow()),
    }
}

/// Waits for `count` open questions.
pub async fn questions(broker: &Broker, count: usize) -> Vec<Question> {
    until(broker, |view| view.questions.len() == count).await.questions.to_vec()
}

/// Everything that comes of a submission: volume and verdict.
pub async fn outcomes(mut outcomes: mpsc::Receiver<Outcome>) -> Vec<(String, Verdict)> {
    let mut all = Vec::new();
    while let Some(outcome) = timeout(SOON, outcomes.recv()).await.expect("the submission ends") {
        all.push((outcome.question.volume.unwrap_or(outcome.question.message), outcome.verdict));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// What comes of a submission to one volume.
pub async fn verdict(submission: mpsc::Receiver<Outcome>) -> Verdict {
    let mut all = outcomes(submission).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0).1
}

/// A copy to be run. Another process writes it: what a thread of this one starts meanwhile would have it open for writing for a
/// moment, and the kernel runs no program that somebody writes to (ETXTBSY, execve(2)).
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("--preserve=mode").args([from, to]).status().unwrap().success());
}
