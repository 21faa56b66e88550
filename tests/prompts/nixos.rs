//! NixOS' scripted stage 1: its loop, with a stand-in for `cryptsetup luksOpen`.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use vestibule::control::message::{Kind, Stage};
use vestibule::daemon::prompt::broker::Broker;
use vestibule::daemon::prompt::nixos::Nixos;
use vestibule::daemon::prompt::{Source, Verdict, volumes};

use crate::fixture::*;
use crate::real::possible;

const NOW: Duration = Duration::ZERO;

/// What the loop of `do_open_passphrase()` in nixpkgs' luksroot.nix does with its files: `$1` is the ramfs, `$2` the
/// device, `$3` where the mapping shows, `$4` whether passphrases are reused.
const LOOP: &str = r#"
while true; do
    while true; do
        if [ -e "$1/passphrase" ]; then
            passphrase=$(cat "$1/passphrase")
            break
        fi
        printf %s "$2" > "$1/device"
        IFS= read -t 1 -r passphrase && [ -n "$passphrase" ] && break
    done
    if [ "$passphrase" = "hunter 2" ]; then
        mv "$3" "${3%/closed}/sys/block/dm-0"
        [ "$4" = reuse ] || rm -f "$1/passphrase"
        break
    fi
    rm -f "$1/passphrase"
done
"#;

fn stage_1(machine: &Machine, reuse: &str) -> (Child, Broker) {
    let directory = &machine.directory;
    std::fs::create_dir_all(directory.join("crypt-ramfs")).unwrap();
    machine.put("closed/slaves/vda2/x", "");
    machine.put("closed/size", "2048\n");
    machine.put("closed/dm/name", "root\n");
    machine.put("closed/dm/uuid", "CRYPT-LUKS2-0-root\n");
    machine.put("dev/vda2", "");
    machine.put("dev/disk/by-label/x", "");
    std::fs::remove_file(directory.join("dev/disk/by-label/x")).unwrap();
    std::os::unix::fs::symlink("../../vda2", directory.join("dev/disk/by-label/root")).unwrap();
    let child = Command::new("bash")
        .args(["-c", LOOP, "stage-1"])
        .arg(directory.join("crypt-ramfs"))
        .arg("/dev/disk/by-label/root")
        .arg(directory.join("closed"))
        .arg(reuse)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (child, Broker::spawn(vec![Nixos::new(machine.root()).spawn()], volumes::spawn(machine.root())))
}

async fn ended(child: &mut Child) -> bool {
    tokio::time::timeout(SOON, child.wait()).await.expect("it ends").unwrap().success()
}

#[tokio::test]
async fn wrong_then_right() {
    if !possible("wrong_then_right", "bash") {
        return;
    }
    for reuse in ["reuse", "once"] {
        let machine = Machine::new();
        let (mut child, broker) = stage_1(&machine, reuse);
        let asks = |view: &vestibule::daemon::prompt::broker::View| {
            view.questions.len() == 1 && view.questions[0].stage == Stage::Asking
        };
        let question = until(&broker, asks).await.questions[0].clone();
        assert_eq!((question.kind, question.device.as_deref()), (Kind::Passphrase, Some("/dev/disk/by-label/root")));
        assert_eq!(verdict(broker.submit(all(), secret("wrong"), NOW)).await, Verdict::Wrong { tries_left: None });
        until(&broker, asks).await;
        assert!(matches!(verdict(broker.submit(all(), secret("a\nb"), NOW)).await, Verdict::NotDelivered(_)));
        until(&broker, asks).await;
        assert_eq!(verdict(broker.submit(all(), secret("hunter 2"), NOW)).await, Verdict::Unlocked);
        assert!(ended(&mut child).await);
        assert_eq!(until(&broker, |view| view.questions.is_empty()).await.unlocked[0].name, "root");
        assert!(!machine.directory.join("crypt-ramfs/.vestibule").exists());
        assert_eq!(
            machine.directory.join("crypt-ramfs/passphrase").exists(),
            reuse == "reuse",
            "as the script wants it"
        );
    }
}

#[tokio::test]
async fn the_console_may_be_faster() {
    use tokio::io::AsyncWriteExt;
    if !possible("the_console_may_be_faster", "bash") {
        return;
    }
    let machine = Machine::new();
    let (mut child, broker) = stage_1(&machine, "once");
    questions(&broker, 1).await;
    child.stdin.as_mut().unwrap().write_all(b"hunter 2\n").await.unwrap();
    until(&broker, |view| view.questions.is_empty() && view.unlocked.len() == 1).await;
    assert!(ended(&mut child).await);
}
