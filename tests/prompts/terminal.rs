//! The tty source against a real `cryptsetup` on a real terminal. There is no device mapper in a test environment, so it
//! only tests passphrases, and `/sys/block` is the fixture's. What tests passphrases is rightly not answered, so this is a
//! copy of the program in which that option has another name.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use vestibule::config::family::Family;
use vestibule::control::message::{Kind, Stage};
use vestibule::daemon::prompt::broker::{Broker, View, Wanted};
use vestibule::daemon::prompt::recipe::Recipes;
use vestibule::daemon::prompt::tty::Tty;
use vestibule::daemon::prompt::{Source, Verdict, volumes};

use crate::fixture::*;
use crate::real::possible;

const NOW: Duration = Duration::ZERO;
/// What cryptsetup calls it, and what our copy calls it.
const TEST_OPTION: (&str, &str) = ("test-passphrase", "mock-activation");
const PASSPHRASE: &str = "hunter2 \u{e4}\n";

fn copy_of_cryptsetup(machine: &Machine) -> PathBuf {
    let directories = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"].map(PathBuf::from);
    let original = directories.iter().map(|directory| directory.join("cryptsetup")).find(|path| path.exists()).unwrap();
    let mut program = std::fs::read(original).unwrap();
    let (from, to) = (TEST_OPTION.0.as_bytes(), TEST_OPTION.1.as_bytes());
    let places: Vec<_> = (0..program.len() - from.len()).filter(|&at| program[at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "cryptsetup knows no --{}", TEST_OPTION.0);
    for at in places {
        program[at..at + from.len()].copy_from_slice(to);
    }
    let (changed, copy) = (machine.directory.join("changed"), machine.directory.join("cryptsetup"));
    std::fs::write(&changed, program).unwrap();
    std::fs::set_permissions(&changed, std::fs::Permissions::from_mode(0o700)).unwrap();
    copy_program(&changed, &copy);
    copy
}

/// A cryptsetup that asks on a terminal of its own.
struct Console {
    machine: Machine,
    image: PathBuf,
    terminal: File,
    cryptsetup: Child,
}

impl Console {
    /// `setsid` with the given options gives cryptsetup its session, `action` is what it is told.
    fn new(setsid: &[&str], action: &[&str]) -> Self {
        let machine = Machine::new().with_real_processes();
        let image = machine.luks(PASSPHRASE);
        let pty = openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let image_name = image.to_str().unwrap();
        let cryptsetup = Command::new("setsid")
            .args(setsid)
            .arg(copy_of_cryptsetup(&machine))
            .args(action.iter().map(|&word| if word == "IMAGE" { image_name } else { word }))
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self { machine, image, terminal: pty.master.into(), cryptsetup }
    }

    fn broker(&self) -> Broker {
        self.broker_in(None)
    }

    fn broker_in(&self, family: Option<Family>) -> Broker {
        Broker::spawn(
            vec![Tty::new(self.machine.root(), Recipes::default(), family).spawn()],
            volumes::spawn(self.machine.root()),
        )
    }

    /// Other tests' processes are seen as well: waits for ours.
    async fn question(&self, broker: &Broker) -> vestibule::control::message::Question {
        let image = self.image.to_str();
        let ours = |question: &&vestibule::control::message::Question| {
            question.device.as_deref() == image && question.stage == Stage::Asking
        };
        let view = until(broker, |view| view.questions.iter().any(|question| ours(&question))).await;
        view.questions.iter().find(ours).unwrap().clone()
    }

    fn wanted(&self) -> Wanted {
        named(&[self.image.to_str().unwrap()])
    }

    fn echoes(&self) -> bool {
        tcgetattr(self.terminal.as_fd()).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    fn runs(&mut self) -> bool {
        self.cryptsetup.try_wait().unwrap().is_none()
    }

    async fn ended(&mut self) -> ExitStatus {
        let polls = async {
            loop {
                match self.cryptsetup.try_wait().unwrap() {
                    Some(status) => return status,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(SOON, polls).await.expect("cryptsetup ends")
    }

    /// Waits until the terminal's echo is off: what is typed earlier is thrown away.
    async fn asks(&self) {
        let silent = async {
            while self.echoes() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, silent).await.expect("the console asks");
    }

    fn types(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// What has appeared on the terminal so far.
    fn shows(&mut self) -> String {
        let mut buffer = [0; 4096];
        let length = self.terminal.read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        drop(self.cryptsetup.kill());
        drop(self.cryptsetup.wait());
    }
}

#[tokio::test]
async fn a_wrong_passphrase_leaves_the_console_alone_and_the_right_one_frees_it() {
    if !possible("a_wrong_passphrase_leaves_the_console_alone", "cryptsetup") {
        return;
    }
    // as dracut has it: no controlling terminal; and with one
    for setsid in [&[][..], &["-c"]] {
        let mut console = Console::new(setsid, &["luksOpen", "--mock-activation", "-T5", "-t", "0", "IMAGE", "root"]);
        let broker = console.broker();
        let question = console.question(&broker).await;
        assert_eq!(
            (question.kind, question.volume.as_deref(), question.tries_left),
            (Kind::Passphrase, Some("root"), None)
        );
        assert!(console.shows().contains("Enter passphrase for"));

        let submission = broker.submit(console.wanted(), secret("wrong"), NOW);
        assert_eq!(verdict(submission).await, Verdict::Wrong { tries_left: None });
        assert_ne!(console.question(&broker).await.id, question.id, "asked anew");
        assert!(console.runs() && !console.echoes(), "the console still asks");

        // Its own word is not enough.
        let submission = broker.submit(console.wanted(), secret(PASSPHRASE), NOW);
        assert_eq!(verdict(submission).await, Verdict::NoVerdict);
        let question = console.question(&broker).await;
        assert!(console.runs() && !console.echoes(), "the console still asks");

        let submission = broker.submit(console.wanted(), secret(PASSPHRASE), NOW);
        until(&broker, |view| {
            view.questions.iter().any(|other| other.id == question.id && other.stage == Stage::Checking)
        })
        .await;
        console.machine.open_volume("root");
        assert_eq!(verdict(submission).await, Verdict::Unlocked);
        assert_eq!(console.ended().await.code(), Some(1));
        assert!(console.echoes(), "the echo is restored");
        until(&broker, |view| {
            view.questions.iter().all(|question| question.device.as_deref() != console.image.to_str())
        })
        .await;
    }
}

#[tokio::test]
async fn the_console_may_be_faster() {
    if !possible("the_console_may_be_faster", "cryptsetup") {
        return;
    }
    let volume = format!("faster-{}", std::process::id());
    let mut console = Console::new(&[], &["--timeout", "60", "open", "--mock-activation", "IMAGE", &volume]);
    let broker = console.broker();
    console.question(&broker).await;
    for _ in 0..3 {
        console.asks().await;
        console.types("wrong\n");
        let mut seen = String::new();
        while !seen.contains("No key available") {
            seen += &console.shows(); // a line may come in pieces
        }
    }
    let view = until(&broker, |view| view.gave_up.iter().any(|gone| gone.name == volume)).await;
    assert!(view.questions.iter().all(|question| question.device.as_deref() != console.image.to_str()));
}

#[tokio::test]
async fn a_failure_that_is_no_wrong_passphrase_says_why() {
    if !possible("a_failure_that_is_no_wrong_passphrase_says_why", "cryptsetup") {
        return;
    }
    let mut console = Console::new(&[], &["luksOpen", "--mock-activation", "IMAGE", "root"]);
    let broker = console.broker();
    console.question(&broker).await;
    File::create(&console.image).unwrap().set_len(18 << 20).unwrap();
    let submission = broker.submit(console.wanted(), secret(PASSPHRASE), NOW);
    let Verdict::NotDelivered(reason) = verdict(submission).await else { panic!("a verdict without a trial") };
    assert!(reason.contains("is not a valid LUKS device"), "{reason}");
    assert!(console.runs());
}

#[tokio::test]
async fn what_takes_no_pipe_is_shown_and_not_answered() {
    if !possible("what_takes_no_pipe_is_shown_and_not_answered", "cryptsetup") {
        return;
    }
    let mut console = Console::new(&[], &["open", "--type", "tcrypt", "--mock-activation", "IMAGE", "root"]);
    let broker = console.broker();
    console.question(&broker).await;
    let Verdict::NotDelivered(reason) = verdict(broker.submit(console.wanted(), secret(PASSPHRASE), NOW)).await else {
        panic!("tried")
    };
    assert!(reason.contains("only at the console"), "{reason}");
    assert!(console.runs());
}

/// Opened beside it, the volume would make mkinitcpio's loop start cryptsetup for ever.
#[tokio::test]
async fn what_mkinitcpio_repeats_is_shown_and_not_answered() {
    if !possible("what_mkinitcpio_repeats_is_shown_and_not_answered", "cryptsetup") {
        return;
    }
    let mut console = Console::new(&[], &["open", "--type", "luks", "--mock-activation", "IMAGE", "root"]);
    let broker = console.broker_in(Some(Family::Mkinitcpio));
    console.question(&broker).await;
    let Verdict::NotDelivered(reason) = verdict(broker.submit(console.wanted(), secret(PASSPHRASE), NOW)).await else {
        panic!("tried")
    };
    assert!(reason.contains("at the console alone"), "{reason}");
    console.question(&broker).await;
    assert!(console.runs() && !console.echoes(), "it must still ask");
}

#[tokio::test]
async fn the_pin_of_a_token_is_shown_and_left_to_the_console() {
    if !possible("the_pin_of_a_token_is_shown_and_left_to_the_console", "cryptsetup") || !possible("…", "cc") {
        return;
    }
    let library = std::env::temp_dir().join(format!("vestibule-token-{}.so", std::process::id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/prompts/token.c");
    assert!(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status().unwrap().success());
    let preload = format!("LD_PRELOAD={}", library.display());
    let options = ["open", "--token-only", "--mock-activation", "IMAGE", "root"];
    let mut console = Console::new(&["env", &preload], &options);
    let broker = console.broker();
    let question = console.question(&broker).await;
    assert_eq!((question.kind, question.volume.as_deref()), (Kind::Pin, Some("root")));
    assert!(console.shows().contains("Enter token PIN"), "that is what it asks");
    let everything =
        broker.submit(Wanted { kind: Some(Kind::Passphrase), ..console.wanted() }, secret(PASSPHRASE), NOW);
    assert_eq!(outcomes(everything).await, [], "a passphrase was tried");
    let Verdict::NotDelivered(reason) = verdict(broker.submit(console.wanted(), secret("1234"), NOW)).await else {
        panic!("tried")
    };
    assert_eq!(reason, "a token takes its PIN only at the console");
    assert!(console.runs() && !console.echoes(), "the console still asks");
    std::fs::remove_file(library).unwrap();
}

#[tokio::test]
async fn a_terminal_with_echo_is_not_asking() {
    // stands for a cryptsetup that reads a terminal for something else, such as "Are you sure?"
    let machine = Machine::new().with_real_processes();
    let program = machine.directory.join("cryptsetup");
    copy_program("/bin/cat".as_ref(), &program);
    let pty = openpty(None, None).unwrap();
    let mut cat = tokio::process::Command::new(program)
        .args(["open", "-", "root"])
        .stdin(pty.slave.try_clone().unwrap())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let broker =
        Broker::spawn(vec![Tty::new(machine.root(), Recipes::default(), None).spawn()], volumes::spawn(machine.root()));
    let asks = |view: &View| view.questions.iter().any(|question| question.device.as_deref() == Some("-"));
    let early = tokio::time::timeout(Duration::from_millis(1500), until(&broker, asks)).await;
    assert!(early.is_err(), "asked with echo on");

    let mut settings = tcgetattr(&pty.master).unwrap();
    settings.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&pty.master, SetArg::TCSANOW, &settings).unwrap();
    until(&broker, asks).await;
    cat.kill().await.unwrap();
}

#[tokio::test]
async fn what_only_tests_a_passphrase_is_left_alone() {
    if !possible("what_only_tests_a_passphrase_is_left_alone", "cryptsetup") {
        return;
    }
    let machine = Machine::new().with_real_processes();
    let broker =
        Broker::spawn(vec![Tty::new(machine.root(), Recipes::default(), None).spawn()], volumes::spawn(machine.root()));
    let image = machine.luks(PASSPHRASE);
    let pty = openpty(None, None).unwrap();
    let mut tester = tokio::process::Command::new("cryptsetup")
        .args(["open", "--test-passphrase"])
        .args([image.as_os_str(), "root".as_ref()])
        .stdin(pty.slave.try_clone().unwrap())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let seen = |view: &View| view.questions.iter().any(|question| question.device.as_deref() == image.to_str());
    let early = tokio::time::timeout(Duration::from_millis(1500), until(&broker, seen)).await;
    assert!(early.is_err(), "asked");
    let settings = tcgetattr(&pty.master).unwrap();
    assert!(!settings.local_flags.contains(LocalFlags::ECHO), "it would have been");
    tester.kill().await.unwrap();
}
