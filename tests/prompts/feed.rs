//! The feed source: fake askers, and the real systemd-cryptsetup with a real volume. Needs root: nobody else is served.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
use vestibule::config::file;
use vestibule::control::message::{Kind, Question, Stage};
use vestibule::daemon::prompt::broker::{Broker, Wanted};
use vestibule::daemon::prompt::feed::Feed;
use vestibule::daemon::prompt::systemd::Systemd;
use vestibule::daemon::prompt::{Source, Verdict, volumes};
use vestibule::secret::{MAX_KEY_LEN, Secret};

use crate::fixture::*;
use crate::real::{below_run, possible};

const NOW: Duration = Duration::ZERO;
const SYSTEMD_CRYPTSETUP: &str = "/lib/systemd/systemd-cryptsetup";
/// The key of the real volume, which is also its passphrase.
const RIGHT: &str = "right\nkey\n";
/// Binary, with newlines and NULs.
const KEY: &[u8] = b"\0key\n\xff\0\n";

/// A broker on these keys, and on systemd's questions.
fn feeding(machine: &Machine, keys: &str) -> Broker {
    let (settings, _) = file::parse(keys).unwrap();
    let (feed, problems) = Feed::prepare(&machine.root(), &settings.keys);
    assert_eq!(problems, [""; 0]);
    let sources = vec![Systemd::new(machine.root()).spawn(), feed.spawn()];
    Broker::spawn(sources, volumes::spawn(machine.root()))
}

fn key(volume: &str) -> Wanted {
    Wanted { volumes: vec![volume.to_owned()], kind: Some(Kind::Key) }
}

fn bytes(bytes: &[u8]) -> Secret {
    Secret::new(bytes.to_vec())
}

/// Connects as systemd-cryptsetup does.
fn asker(machine: &Machine, path: &str, name: &str) -> UnixStream {
    let end = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(end.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
    connect(end.as_raw_fd(), &UnixAddr::new(&machine.directory.join(path)).unwrap()).unwrap();
    let stream = UnixStream::from(end);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream
}

async fn rest(mut end: impl Read + Send + 'static) -> Vec<u8> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut content = Vec::new();
        end.read_to_end(&mut content).unwrap();
        content
    });
    tokio::time::timeout(SOON, reading).await.expect("the end of the key").unwrap()
}

fn may_run(test: &str) -> bool {
    possible(test, "true")
}

#[tokio::test]
async fn a_key_passes_through_whole_and_only_by_feed() {
    if !may_run("a_key_passes_through_whole_and_only_by_feed") {
        return;
    }
    let machine = Machine::new();
    let broker = feeding(&machine, "[[key]]\nvolume = \"data\"\n");
    assert_eq!(outcomes(broker.submit(key("data"), bytes(KEY), NOW)).await, [], "nothing waits");
    let end = asker(&machine, "run/cryptsetup-keys.d/data.key", "1a2b/cryptsetup/data");
    let question = questions(&broker, 1).await.remove(0);
    assert_eq!((question.kind, question.stage, question.volume.as_deref()), (Kind::Key, Stage::Asking, Some("data")));
    for wanted in [all(), named(&["data"]), Wanted { kind: Some(Kind::Pin), ..named(&["data"]) }] {
        assert_eq!(outcomes(broker.submit(wanted, secret("passphrase"), NOW)).await, [], "answered by unlock");
    }
    let submission = broker.submit(key("data"), bytes(&vec![7; MAX_KEY_LEN + 1]), NOW);
    assert!(matches!(verdict(submission).await, Verdict::NotDelivered(reason) if reason.contains("65536")));
    assert_ne!(questions(&broker, 1).await[0].id, question.id, "asked anew");

    let submission = broker.submit(key("data"), bytes(KEY), NOW);
    assert_eq!(rest(end).await, KEY);
    machine.open_volume("data");
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
    questions(&broker, 0).await;
    assert_eq!(verdict(broker.submit(key("data"), bytes(KEY), NOW)).await, Verdict::Unlocked, "it is open already");
}

#[tokio::test]
async fn only_who_asks_for_this_volume_is_held() {
    if !may_run("only_who_asks_for_this_volume_is_held") {
        return;
    }
    let machine = Machine::new();
    let broker = feeding(&machine, "[[key]]\nvolume = \"data\"\npath = \"/run/data\"\n");
    for name in ["1a2b/cryptsetup/root", "1a2b/cryptsetup-tpm2/data", "data"] {
        let end = asker(&machine, "run/data", &format!("{name}-{}", std::process::id()));
        assert_eq!(rest(end).await, b"", "{name}");
    }
    assert_eq!(rest(UnixStream::connect(machine.directory.join("run/data")).unwrap()).await, b"", "without a name");
    questions(&broker, 0).await;
    // One that goes away is asked for no more.
    let end = asker(&machine, "run/data", "1a2c/cryptsetup/data");
    questions(&broker, 1).await;
    drop(end);
    questions(&broker, 0).await;
}

#[tokio::test]
async fn nobody_is_held_for_ever() {
    if !may_run("nobody_is_held_for_ever") {
        return;
    }
    let machine = Machine::new();
    let broker = feeding(&machine, "[[key]]\nvolume = \"data\"\npath = \"/run/data\"\nwait-seconds = 1\n");
    let end = asker(&machine, "run/data", "1a2d/cryptsetup/data");
    questions(&broker, 1).await;
    assert_eq!(rest(end).await, b"");
    questions(&broker, 0).await;
    assert_eq!(outcomes(broker.submit(key("data"), bytes(KEY), NOW)).await, []);
}

#[tokio::test]
async fn a_fifo_does_it_for_others() {
    if !may_run("a_fifo_does_it_for_others") {
        return;
    }
    let machine = Machine::new().with_real_processes();
    let broker = feeding(&machine, "[[key]]\nvolume = \"data\"\npath = \"/run/keys/data\"\nkind = \"fifo\"\n");
    let path = machine.directory.join("run/keys/data");
    let key_of_full_size: Vec<u8> = (0..MAX_KEY_LEN).map(|n| n as u8).collect();
    let read = |path: PathBuf| Command::new("cat").arg(path).stdout(Stdio::piped()).spawn().unwrap().stdout.unwrap();
    let first = read(path.clone());
    questions(&broker, 1).await;
    let submission = broker.submit(key("data"), bytes(&key_of_full_size), NOW);
    assert!(rest(first).await == key_of_full_size);
    // What it was read for has not opened the volume, and reads it again.
    let second = read(path.clone());
    assert_eq!(verdict(submission).await, Verdict::Wrong { tries_left: None });
    questions(&broker, 1).await;
    let submission = broker.submit(key("data"), bytes(KEY), NOW);
    assert_eq!(rest(second).await, KEY);
    machine.open_volume("data");
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
    drop(broker);
}

#[tokio::test]
async fn what_is_there_already_is_left_alone_and_what_was_left_is_replaced() {
    let machine = Machine::new();
    let (settings, _) = file::parse("[[key]]\nvolume = \"data\"\n").unwrap();
    machine.put("run/cryptsetup-keys.d/data.key", "a key that somebody put there");
    let (feed, problems) = Feed::prepare(&machine.root(), &settings.keys);
    drop(feed);
    assert!(problems[0].contains("data.key: something else stands there already"), "{problems:?}");
    let path = machine.directory.join("run/cryptsetup-keys.d/data.key");
    assert!(path.is_file());
    remove(&path);
    // of a daemon that was killed
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (feed, problems) = Feed::prepare(&machine.root(), &settings.keys);
    assert_eq!(problems, [""; 0]);
    drop(feed);
    assert!(!path.parent().unwrap().exists(), "nothing is left");
}

/// The real program tries real keys; only the mapping itself is the fixture's.
struct Attaching {
    machine: Machine,
    broker: Broker,
    child: tokio::process::Child,
    volume: String,
}

impl Attaching {
    async fn start(test: &str, key_file: &str, settings: &str) -> Option<Self> {
        if !possible(test, SYSTEMD_CRYPTSETUP) || !possible(test, "cryptsetup") || !possible(test, "cc") {
            return None;
        }
        let machine = Machine::new().with_real_processes();
        let image = machine.luks(RIGHT);
        let library = machine.directory.join("trial.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/prompts/trial.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status().unwrap();
        assert!(built.success());
        let volume = format!("trial-{}", std::process::id());
        machine.open_volume(&volume);
        let open = machine.directory.join(format!("sys/block/dm-{volume}"));
        let closed = machine.directory.join("closed");
        std::fs::rename(&open, &closed).unwrap();
        let broker = feeding(&machine, &settings.replace("VOLUME", &volume));
        let log = File::create(machine.directory.join("log")).unwrap();
        let child = below_run(&machine)
            .env("TRIAL_OPEN", open)
            .env("TRIAL_CLOSED", closed)
            .args(["env", &format!("LD_PRELOAD={}", library.display())])
            .args([
                SYSTEMD_CRYPTSETUP,
                "attach",
                &volume,
                image.to_str().unwrap(),
                &key_file.replace("VOLUME", &volume),
            ])
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Self { machine, broker, child, volume })
    }

    async fn asks(&self, kind: Kind) -> Question {
        let asks = |question: &&Question| question.kind == kind && question.stage == Stage::Asking;
        let view = until(&self.broker, |view| view.questions.iter().any(|question| asks(&question))).await;
        assert_eq!(view.questions.len(), 1, "{view:?}\n{}", self.log());
        view.questions[0].clone()
    }

    async fn feed(&self, key_file: &[u8]) -> Verdict {
        verdict(self.broker.submit(key(&self.volume), bytes(key_file), NOW)).await
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.machine.directory.join("log")).unwrap()
    }
}

const BY_ITSELF: &str = "[[key]]\nvolume = \"VOLUME\"\nwait-seconds = 3\n";
const NAMED: &str = "[[key]]\nvolume = \"VOLUME\"\npath = \"/run/keys/VOLUME\"\nwait-seconds = 3\n";
const FIFO: &str = "[[key]]\nvolume = \"VOLUME\"\npath = \"/run/keys/VOLUME\"\nkind = \"fifo\"\nwait-seconds = 3\n";
const WAYS: [(&str, &str); 3] = [("none", BY_ITSELF), ("/run/keys/VOLUME", NAMED), ("/run/keys/VOLUME", FIFO)];

#[tokio::test]
async fn systemd_cryptsetup_opens_with_the_right_key() {
    for (key_file, settings) in WAYS {
        let Some(mut attaching) =
            Attaching::start("systemd_cryptsetup_opens_with_the_right_key", key_file, settings).await
        else {
            return;
        };
        let question = attaching.asks(Kind::Key).await;
        assert_eq!(question.device, Some(attaching.machine.directory.join("image").to_str().unwrap().to_owned()));
        assert_eq!(attaching.feed(RIGHT.as_bytes()).await, Verdict::Unlocked, "{}", attaching.log());
        assert!(attaching.child.wait().await.unwrap().success(), "{}", attaching.log());
    }
}

#[tokio::test]
async fn after_a_wrong_key_systemd_cryptsetup_asks_at_the_console() {
    for (key_file, settings) in WAYS {
        let Some(mut attaching) =
            Attaching::start("after_a_wrong_key_systemd_cryptsetup_asks_at_the_console", key_file, settings).await
        else {
            return;
        };
        attaching.asks(Kind::Key).await;
        assert_eq!(attaching.feed(KEY).await, Verdict::Wrong { tries_left: None }, "{}", attaching.log());
        let question = attaching.asks(Kind::Passphrase).await;
        assert_eq!((&question.volume, question.tries_left), (&Some(attaching.volume.clone()), None));
        let again = attaching.broker.submit(key(&attaching.volume), bytes(KEY), NOW);
        assert_eq!(outcomes(again).await, [], "a second key is not asked for");
        let submission = attaching.broker.submit(named(&[&attaching.volume]), secret(RIGHT), NOW);
        assert_eq!(verdict(submission).await, Verdict::Unlocked, "{}", attaching.log());
        assert!(attaching.child.wait().await.unwrap().success(), "{}", attaching.log());
    }
}

#[tokio::test]
async fn without_a_key_the_console_asks_when_the_time_is_over() {
    for (key_file, settings) in WAYS {
        let settings = settings.replace("wait-seconds = 3", "wait-seconds = 1");
        let Some(mut attaching) =
            Attaching::start("without_a_key_the_console_asks_when_the_time_is_over", key_file, &settings).await
        else {
            return;
        };
        attaching.asks(Kind::Key).await;
        attaching.asks(Kind::Passphrase).await;
        attaching.child.kill().await.unwrap();
    }
}
