//! The askpass source against processes that look like Debian's `askpass` and its `cryptsetup`: same names, same
//! environment, same arguments, and a real named pipe. The real ones answer in the boot tests.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::stat::Mode;
use vestibule::control::message::{Kind, Question, Stage};
use vestibule::daemon::prompt::askpass::Askpass;
use vestibule::daemon::prompt::broker::Broker;
use vestibule::daemon::prompt::recipe::Recipes;
use vestibule::daemon::prompt::{Source, Verdict, volumes};

use crate::fixture::*;

const NOW: Duration = Duration::ZERO;
const FIFO: &str = "usr/lib/cryptsetup/passfifo";

/// A machine whose crypttab is being worked through.
struct Boot {
    machine: Machine,
    broker: Broker,
    recipes: Recipes,
    /// A name of its own: the processes of other tests are seen as well.
    volume: String,
}

/// One try: the two ends of `askpass | cryptsetup`.
struct Try {
    askpass: Child,
    cryptsetup: Child,
    /// What this askpass reads.
    fifo: File,
}

impl Boot {
    fn new() -> Self {
        let machine = Machine::without_systemd().with_real_processes();
        for (original, copy) in [("/bin/sleep", "askpass"), ("/bin/sh", "cryptsetup")] {
            copy_program(original.as_ref(), &machine.directory.join(copy));
        }
        std::fs::create_dir_all(machine.directory.join(FIFO).parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&machine.directory.join(FIFO), Mode::from_bits_truncate(0o600)).unwrap();
        let recipes = Recipes::default();
        let source = Askpass::new(machine.root(), recipes.clone()).spawn();
        let broker = Broker::spawn(vec![source], volumes::spawn(machine.root()));
        let volume = machine.directory.file_name().unwrap().to_str().unwrap().to_owned();
        Self { machine, broker, recipes, volume }
    }

    fn asks(&self, environment: &[(&str, &str)]) -> Try {
        self.asks_for(&self.volume, environment)
    }

    fn asks_for(&self, volume: &str, environment: &[(&str, &str)]) -> Try {
        let fifo = self.listen();
        let environment = environment.iter().copied();
        let askpass = Command::new(self.machine.directory.join("askpass"))
            .arg("1000")
            .stdin(fifo.try_clone().unwrap())
            .env("CRYPTTAB_NAME", volume)
            .env("CRYPTTAB_SOURCE", "/dev/vda")
            .envs(environment)
            .spawn()
            .unwrap();
        let cryptsetup = self.cryptsetup(volume);
        Try { askpass, cryptsetup, fifo }
    }

    fn cryptsetup(&self, volume: &str) -> Child {
        Command::new(self.machine.directory.join("cryptsetup"))
            .args(["-c", "read x", "-T1", "--type=luks", "--key-file=-", "open", "--", "/dev/vda", volume])
            .stdin(Stdio::piped())
            .env("CRYPTTAB_NAME", volume)
            .spawn()
            .unwrap()
    }

    fn listen(&self) -> File {
        let fifo = self.machine.directory.join(FIFO);
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(fifo).unwrap()
    }

    async fn question(&self) -> Question {
        let open = |question: &&Question| question.stage == Stage::Asking;
        let view = until(&self.broker, |view| view.questions.iter().any(|question| open(&question))).await;
        view.questions.iter().find(open).unwrap().clone()
    }
}

impl Try {
    /// Everything up to the writer's close, as askpass reads it.
    async fn hears(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let reading = async {
            loop {
                match self.fifo.read_to_end(&mut heard) {
                    Ok(_) if !heard.is_empty() => return,
                    Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        tokio::time::timeout(SOON, reading).await.expect("an answer");
        end(&mut self.askpass);
        heard
    }
}

fn end(process: &mut Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

impl Drop for Try {
    fn drop(&mut self) {
        for process in [&mut self.askpass, &mut self.cryptsetup] {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

#[tokio::test]
async fn the_exact_bytes_and_the_volume_as_proof() {
    let boot = Boot::new();
    let mut asking = boot.asks(&[]);
    let question = boot.question().await;
    assert_eq!((question.volume.as_deref(), question.device.as_deref()), (Some(&*boot.volume), Some("/dev/vda")));
    assert_eq!((question.kind, question.tries_used, question.tries_left), (Kind::Passphrase, 0, Some(3)));

    let submission = boot.broker.submit(all(), secret("hunter2 \u{e4}\n"), NOW);
    assert_eq!(asking.hears().await, "hunter2 \u{e4}\n".as_bytes());
    boot.machine.open_volume(&boot.volume);
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
    assert!(boot.recipes.find(&boot.volume).expect("how it was opened").opening.takes_a_pipe());
}

#[tokio::test]
async fn the_second_volume_may_take_its_time() {
    let boot = Boot::new();
    let mut first = boot.asks(&[]);
    boot.question().await;
    let submission = boot.broker.submit(all(), secret("both"), NOW);
    first.hears().await;
    boot.machine.open_volume(&boot.volume);
    // what the script does between two volumes: waits for udev, examines the next one
    tokio::time::sleep(Duration::from_secs(6)).await;
    let second = format!("{}-second", boot.volume);
    let mut asking = boot.asks_for(&second, &[]);
    assert_eq!(asking.hears().await, b"both");
    boot.machine.open_volume(&second);
    boot.broker.stop(); // the hand-over
    let unlocked = |name: &str| (name.to_owned(), Verdict::Unlocked);
    assert_eq!(outcomes(submission).await, [unlocked(&boot.volume), unlocked(&second)]);
}

#[tokio::test]
async fn wrong_then_given_up_then_asked_again() {
    let boot = Boot::new();
    for (tried, expected) in [("1", Verdict::Wrong { tries_left: Some(1) }), ("2", Verdict::GaveUp)] {
        let mut asking = boot.asks(&[("CRYPTTAB_TRIED", tried)]);
        boot.question().await;
        let submission = boot.broker.submit(all(), secret("wrong"), NOW);
        assert_eq!(asking.hears().await, b"wrong");
        end(&mut asking.cryptsetup);
        assert_eq!(verdict(submission).await, expected);
        until(&boot.broker, |view| view.questions.is_empty()).await;
    }
    until(&boot.broker, |view| view.gave_up.len() == 1).await;
    let _asking = boot.asks(&[("CRYPTTAB_TRIED", "0")]);
    assert_eq!(boot.question().await.tries_left, Some(3));
    until(&boot.broker, |view| view.gave_up.is_empty()).await;
}

#[tokio::test]
async fn the_console_may_be_faster_here_too() {
    let boot = Boot::new();
    let mut asking = boot.asks(&[]);
    boot.question().await;
    end(&mut asking.askpass);
    until(&boot.broker, |view| view.questions.is_empty() && view.elsewhere.len() == 1).await;
    boot.machine.open_volume(&boot.volume);
    until(&boot.broker, |view| view.unlocked.len() == 1 && view.elsewhere.is_empty()).await;
}

#[tokio::test]
async fn a_pipe_with_two_readers_gets_nothing() {
    let boot = Boot::new();
    let mut asking = boot.asks(&[]);
    let first = boot.question().await;
    let mut other =
        Command::new(boot.machine.directory.join("askpass")).arg("1000").stdin(boot.listen()).spawn().unwrap();
    let Verdict::NotDelivered(reason) = verdict(boot.broker.submit(all(), secret("right"), NOW)).await else {
        panic!("answered")
    };
    assert!(reason.contains("another askpass"), "{reason}");
    assert_eq!(asking.fifo.read(&mut [0; 16]).unwrap(), 0, "nothing was written, and nobody writes");

    end(&mut other);
    until(&boot.broker, |view| view.questions.iter().any(|question| question.id != first.id)).await;
    let submission = boot.broker.submit(all(), secret("right"), NOW);
    assert_eq!(asking.hears().await, b"right");
    boot.machine.open_volume(&boot.volume);
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
}

#[tokio::test]
async fn a_passphrase_that_the_pipe_could_cut_is_not_given() {
    let boot = Boot::new();
    let mut asking = boot.asks(&[]);
    boot.question().await;
    let submission = boot.broker.submit(all(), secret(&"x".repeat(4097)), NOW);
    assert!(matches!(verdict(submission).await, Verdict::NotDelivered(_)));
    assert_eq!(asking.fifo.read(&mut [0; 16]).unwrap(), 0, "not even an empty passphrase");
}

#[tokio::test]
async fn what_a_keyscript_asks_for_is_no_passphrase_of_the_volume() {
    let boot = Boot::new();
    let mut asking = boot.asks(&[("CRYPTTAB_OPTION_keyscript", "/lib/cryptsetup/scripts/decrypt_opensc")]);
    assert_eq!(boot.question().await.kind, Kind::Pin);
    assert_eq!(outcomes(boot.broker.submit(all(), secret("right"), NOW)).await, []);
    let submission = boot.broker.submit(named(&[&boot.volume]), secret("1234"), NOW);
    assert_eq!(asking.hears().await, b"1234");
    boot.machine.open_volume(&boot.volume);
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
}

#[tokio::test]
async fn a_cryptsetup_that_has_ended_refuses_no_passphrase() {
    let boot = Boot::new();
    let mut asking = boot.asks(&[]);
    boot.question().await;
    end(&mut asking.cryptsetup);
    let submission = boot.broker.submit(all(), secret("right"), NOW);
    assert_eq!(asking.hears().await, b"right", "so that the boot goes on");
    let Verdict::NotDelivered(reason) = verdict(submission).await else { panic!("a verdict without a trial") };
    assert!(reason.contains("had ended"), "{reason}");
}

#[tokio::test]
async fn without_a_cryptsetup_nothing_is_asked() {
    let boot = Boot::new();
    let mut alone = Command::new(boot.machine.directory.join("askpass"))
        .arg("1000")
        .stdin(boot.listen())
        .env("CRYPTTAB_NAME", &boot.volume)
        .spawn()
        .unwrap();
    let seen = until(&boot.broker, |view| !view.questions.is_empty());
    assert!(tokio::time::timeout(Duration::from_secs(1), seen).await.is_err(), "nobody would open anything");
    let mut cryptsetup = boot.cryptsetup(&boot.volume);
    boot.question().await;
    end(&mut alone);
    end(&mut cryptsetup);
}
