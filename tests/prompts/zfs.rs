//! ZFS: what its scripts do, with a stand-in for `zfs` (zfs.c) that keeps its protocol.

use std::os::fd::AsFd;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use tokio::process::Child;
use tokio::time::timeout;
use vestibule::control::message::{Kind, Stage};
use vestibule::daemon::prompt::broker::{Broker, View};
use vestibule::daemon::prompt::proof::Proved;
use vestibule::daemon::prompt::systemd::Systemd;
use vestibule::daemon::prompt::zfs::Zfs;
use vestibule::daemon::prompt::{Source, Verdict, volumes};

use crate::fixture::*;
use crate::real::{below_run, possible};

const NOW: Duration = Duration::ZERO;
const RIGHT: &str = "correct horse";

/// A machine with a locked dataset of its own: other tests' processes are seen as well.
struct Pool {
    machine: Machine,
    broker: Broker,
    dataset: String,
}

impl Pool {
    fn new(test: &str) -> Option<Self> {
        if !possible(test, "cc") {
            return None;
        }
        let machine = Machine::new().with_real_processes();
        machine.put("sbin/passphrase", RIGHT);
        machine.put("dev/zfs", "");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/prompts/zfs.c");
        let program = machine.directory.join("sbin/zfs");
        assert!(Command::new("cc").arg("-o").arg(&program).arg(source).status().unwrap().success());
        let proved = Proved::default();
        let sources = vec![
            Systemd::new(machine.root()).noting(proved.clone()).spawn(),
            Zfs::new(machine.root(), proved.clone()).spawn(),
        ];
        let broker = Broker::spawn(sources, volumes::spawn_with(machine.root(), proved));
        let dataset = format!("rpool/{}", machine.directory.file_name().unwrap().to_str().unwrap());
        Some(Self { machine, broker, dataset })
    }

    /// As the scripts do where nothing else can ask: on the console.
    fn console(&self) -> (OpenptyResult, Child) {
        let pty = openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = tokio::process::Command::new(self.machine.directory.join("sbin/zfs"))
            .args(["load-key", &self.dataset])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        (pty, child)
    }

    /// Waits until it is asked for, once.
    async fn asks(&self) {
        let ours =
            |view: &View| view.questions.iter().filter(|asked| self.is(&asked.volume)).cloned().collect::<Vec<_>>();
        let asking = |view: &View| ours(view).iter().any(|asked| asked.stage == Stage::Asking);
        let questions = ours(&until(&self.broker, asking).await);
        assert_eq!((questions.len(), questions[0].kind), (1, Kind::Passphrase), "{questions:?}");
    }

    fn is(&self, volume: &Option<String>) -> bool {
        volume.as_ref() == Some(&self.dataset)
    }

    async fn answer(&self, text: &str) -> Verdict {
        verdict(self.broker.submit(named(&[&self.dataset]), secret(text), NOW)).await
    }

    async fn is_unlocked(&self) {
        let open = |view: &View| {
            view.questions.iter().all(|asked| !self.is(&asked.volume))
                && view.unlocked.iter().any(|volume| volume.name == self.dataset)
                && view.elsewhere.iter().all(|volume| volume.name != self.dataset)
        };
        until(&self.broker, open).await;
    }
}

async fn ended(child: &mut Child) -> ExitStatus {
    timeout(SOON, child.wait()).await.expect("it ends").unwrap()
}

#[tokio::test]
async fn a_dataset_is_unlocked_beside_the_console() {
    let Some(pool) = Pool::new("a_dataset_is_unlocked_beside_the_console") else { return };
    let (pty, mut child) = pool.console();
    pool.asks().await;
    assert_eq!(pool.answer("wrong passphrase").await, Verdict::Wrong { tries_left: None });
    pool.asks().await;
    assert_eq!(pool.answer("short").await, Verdict::Wrong { tries_left: None });
    assert!(child.try_wait().unwrap().is_none(), "the console still asks");
    pool.asks().await;
    assert!(matches!(pool.answer("two\nlines").await, Verdict::NotDelivered(_)));
    pool.asks().await;
    assert_eq!(pool.answer(RIGHT).await, Verdict::Unlocked);
    assert!(ended(&mut child).await.code().is_none(), "it was ended by a signal, and the boot goes on");
    assert!(tcgetattr(pty.slave.as_fd()).unwrap().local_flags.contains(LocalFlags::ECHO), "the echo is restored");
    pool.is_unlocked().await;
}

#[tokio::test]
async fn the_console_may_unlock_or_give_up() {
    let Some(pool) = Pool::new("the_console_may_unlock_or_give_up") else { return };
    let (pty, mut child) = pool.console();
    pool.asks().await;
    child.kill().await.unwrap();
    until(&pool.broker, |view| view.gave_up.iter().any(|volume| volume.name == pool.dataset)).await;
    drop(pty);

    let (pty, mut child) = pool.console();
    pool.asks().await;
    nix::unistd::write(&pty.master, format!("{RIGHT}\n").as_bytes()).unwrap();
    assert!(ended(&mut child).await.success());
    pool.is_unlocked().await;
}

/// dracut with systemd, `contrib/dracut/90zfs/zfs-load-key.sh.in`: its loop, with the real systemd-ask-password.
#[tokio::test]
async fn systemd_asks_for_a_dataset() {
    let Some(pool) = Pool::new("systemd_asks_for_a_dataset") else { return };
    if !possible("systemd_asks_for_a_dataset", "systemd-ask-password") {
        return;
    }
    let script = "for _ in 1 2 3; do
        systemd-ask-password --timeout=0 --no-tty \"Encrypted ZFS password for $2\" | \"$1\" load-key \"$2\" && break
    done";
    let zfs = pool.machine.directory.join("sbin/zfs");
    let run =
        || below_run(&pool.machine).args(["sh", "-c", script, "sh"]).arg(&zfs).arg(&pool.dataset).spawn().unwrap();
    let mut child = run();
    for _ in 0..2 {
        pool.asks().await;
        assert_eq!(pool.answer("wrong passphrase").await, Verdict::Wrong { tries_left: None });
    }
    pool.asks().await;
    assert_eq!(pool.answer("wrong passphrase").await, Verdict::GaveUp, "it asks three times");
    ended(&mut child).await;
    child = run();
    pool.asks().await;
    assert_eq!(pool.answer(RIGHT).await, Verdict::Unlocked);
    assert!(ended(&mut child).await.success());
    pool.is_unlocked().await;
}
