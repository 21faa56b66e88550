//! The systemd source against fake askers.

use std::time::Duration;

use vestibule::control::message::{Kind, Stage};
use vestibule::daemon::prompt::Verdict;

use crate::fixture::*;

const NOW: Duration = Duration::ZERO;

#[tokio::test]
async fn the_right_passphrase_unlocks() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut asker = machine.cryptsetup("root");
    let asked = asker.ask();
    let question = questions(&broker, 1).await.remove(0);
    assert_eq!(question.volume.as_deref(), Some("root"));
    assert_eq!(question.device.as_deref(), Some("/dev/root"));
    assert_eq!((question.kind, question.stage), (Kind::Passphrase, Stage::Asking));
    assert_eq!((question.tries_used, question.tries_left), (0, Some(3)));
    assert_eq!(question.message, "Please enter passphrase for disk QEMU:");

    let submission = broker.submit(all(), secret("hunter2"), NOW);
    assert_eq!(asked.answer().await, "+hunter2");
    assert_eq!(questions(&broker, 1).await[0].stage, Stage::Checking);
    machine.open_volume("root");
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
    assert_eq!(until(&broker, |view| view.questions.is_empty()).await.unlocked[0].name, "root");
}

#[tokio::test]
async fn a_wrong_passphrase_is_asked_again() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut asker = machine.cryptsetup("root");
    let asked = asker.ask();
    questions(&broker, 1).await;
    let submission = broker.submit(all(), secret("wrong"), NOW);
    assert_eq!(asked.answer().await, "+wrong");
    let again = asker.ask();
    assert_eq!(verdict(submission).await, Verdict::Wrong { tries_left: Some(2) });
    let question = questions(&broker, 1).await.remove(0);
    assert_eq!((question.tries_used, question.tries_left), (1, Some(2)));
    assert!(again.unanswered());
}

#[tokio::test]
async fn an_answer_from_the_keyring_counts_as_a_try() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut asker = machine.cryptsetup("root");
    // another volume's passphrase was taken while this one was asked for, and was wrong
    let asked = asker.ask();
    questions(&broker, 1).await;
    asked.withdraw();
    questions(&broker, 0).await;
    asker.ask();
    let question = questions(&broker, 1).await.remove(0);
    assert_eq!((question.tries_used, question.tries_left), (1, Some(2)));
    drop(asker);
    questions(&broker, 0).await;
    // it was taken before anybody was asked, so how many tries are left can't be told
    let mut asker = machine.cryptsetup("home");
    asker.id = asker.id.replace("AcceptCached=1\n", "");
    asker.ask();
    assert_eq!(questions(&broker, 1).await[0].tries_left, None);
}

#[tokio::test]
async fn the_last_wrong_passphrase_is_given_up() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut asker = machine.asker("/lib/systemd/systemd-cryptsetup attach root /dev/vda2 none tries=1", 257);
    let asked = asker.ask();
    assert_eq!(questions(&broker, 1).await[0].tries_left, Some(1));
    let submission = broker.submit(all(), secret("wrong"), NOW);
    asked.answer().await;
    asker.end();
    assert_eq!(verdict(submission).await, Verdict::GaveUp);
    let view = until(&broker, |view| view.questions.is_empty()).await;
    assert_eq!(view.gave_up[0].name, "root");

    // systemd may be told to try again
    let mut asker = machine.cryptsetup("root");
    asker.ask();
    assert!(until(&broker, |view| view.questions.len() == 1).await.gave_up.is_empty());
}

#[tokio::test]
async fn what_the_console_answers_is_seen() {
    let machine = Machine::new();
    let broker = machine.broker();
    let (mut root, mut home) = (machine.cryptsetup("root"), machine.cryptsetup("home"));
    let (asked_root, asked_home) = (root.ask(), home.ask());
    questions(&broker, 2).await;
    asked_root.withdraw();
    let view = until(&broker, |view| view.questions.len() == 1).await;
    assert_eq!((&*view.elsewhere[0].name, view.unlocked.len()), ("root", 0));
    machine.open_volume("root");
    asked_home.withdraw();
    home.end();
    let view = until(&broker, |view| !view.unlocked.is_empty() && !view.gave_up.is_empty()).await;
    assert_eq!((&*view.unlocked[0].name, &*view.gave_up[0].name), ("root", "home"));
    assert!(view.questions.is_empty() && view.elsewhere.is_empty() && view.asked_once);
}

#[tokio::test]
async fn another_agent_that_was_faster_is_told_apart() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut asker = machine.cryptsetup("root");
    let file = asker.ask().deafen();
    questions(&broker, 1).await;
    let submission = broker.submit(all(), secret("late"), NOW);
    questions(&broker, 1).await;
    remove(&file);
    asker.ask();
    let Verdict::NotDelivered(reason) = verdict(submission).await else { panic!("not refused as ours") };
    assert!(reason.contains("another answer came first"), "{reason}");

    let mut other = machine.cryptsetup("home");
    let file = other.ask().deafen();
    questions(&broker, 2).await;
    let submission = broker.submit(named(&["home"]), secret("late"), NOW);
    until(&broker, |view| view.questions.iter().any(|question| question.stage == Stage::Checking)).await;
    remove(&file);
    machine.open_volume("home");
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
}

#[tokio::test]
async fn what_does_not_fit_costs_no_try() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut asker = machine.cryptsetup("root");
    let asked = asker.ask();
    questions(&broker, 1).await;
    for (passphrase, reason) in [("", "empty"), (&*"x".repeat(2049), "2048"), ("a\0b", "NUL")] {
        let submission = broker.submit(all(), secret(passphrase), SOON);
        let Verdict::NotDelivered(said) = verdict(submission).await else { panic!("delivered: {reason}") };
        assert!(said.contains(reason), "{said}");
    }
    assert!(asked.unanswered());
    // and it can still be answered
    let longest = "x".repeat(2048);
    until(&broker, |view| view.questions[0].stage == Stage::Asking).await;
    let submission = broker.submit(all(), secret(&longest), SOON);
    assert_eq!(asked.answer().await, format!("+{longest}"));
    machine.open_volume("root");
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
}

#[tokio::test]
async fn files_that_are_no_questions_disturb_nothing() {
    let machine = Machine::new();
    let ended = {
        let mut asker = machine.cryptsetup("old");
        asker.end();
        asker.ask()
    };
    machine.put("run/systemd/ask-password/ask.half", "[Ask]\nPID=1\nSock");
    machine.put("run/systemd/ask-password/ask.binary", [0xff, 0, 1, b'\n'].repeat(9000));
    machine.put("run/systemd/ask-password/ask.dir/x", "");
    machine.put("run/systemd/ask-password/other", "[Ask]\nPID=1\nSocket=/s\n");
    std::os::unix::fs::symlink("/dev/zero", machine.directory.join("run/systemd/ask-password/ask.link")).unwrap();
    nix::unistd::mkfifo(&machine.directory.join("run/systemd/ask-password/ask.fifo"), nix::sys::stat::Mode::S_IRWXU)
        .unwrap();
    let broker = machine.broker();
    let mut expired = machine.cryptsetup("expired");
    expired.ask_with("too late", "NotAfter=1\n");
    let mut asker = machine.cryptsetup("root");
    asker.ask();
    let questions = questions(&broker, 1).await;
    assert_eq!(questions[0].volume.as_deref(), Some("root"));
    assert!(ended.unanswered());
}

#[tokio::test]
async fn a_question_ends_with_its_time_and_with_its_asker() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut timed = machine.cryptsetup("timed");
    let now = Duration::from(nix::time::ClockId::CLOCK_MONOTONIC.now().unwrap());
    // Long enough that a busy machine sees both questions before.
    timed.ask_with("be quick", &format!("NotAfter={}\n", (now + Duration::from_secs(8)).as_micros()));
    let mut killed = machine.cryptsetup("killed");
    killed.ask();
    questions(&broker, 2).await;
    killed.end(); // its file stays
    assert_eq!(questions(&broker, 1).await[0].volume.as_deref(), Some("timed"));
    questions(&broker, 0).await;
}

#[tokio::test]
async fn the_directory_may_come_late_and_go() {
    let machine = Machine::without_systemd();
    let broker = machine.broker();
    assert!(broker.view().borrow().questions.is_empty());
    for _ in 0..2 {
        machine.put("run/systemd/ask-password/x", "");
        let mut asker = machine.cryptsetup("root");
        asker.ask();
        questions(&broker, 1).await;
        std::fs::remove_dir_all(machine.directory.join("run/systemd")).unwrap();
        questions(&broker, 0).await;
    }
}

#[tokio::test]
async fn a_directory_that_takes_its_place_is_followed() {
    let machine = Machine::new();
    let (directory, moved) = (machine.directory.join(ASK), machine.directory.join("moved"));
    let broker = machine.broker();
    let replace: [&dyn Fn(); 2] =
        [&|| std::fs::remove_dir_all(&directory).unwrap(), &|| std::fs::rename(&directory, &moved).unwrap()];
    for remove in replace {
        let mut first = machine.cryptsetup("first");
        first.ask();
        questions(&broker, 1).await;
        // Nothing else runs in between: whoever looks finds the new one.
        remove();
        std::fs::create_dir(&directory).unwrap();
        questions(&broker, 0).await;
        let mut second = machine.cryptsetup("second");
        second.ask();
        assert_eq!(questions(&broker, 1).await[0].volume.as_deref(), Some("second"));
        drop(second);
        questions(&broker, 0).await;
    }
}

#[tokio::test]
async fn a_script_that_asks_again_refused_the_answer() {
    let machine = Machine::new();
    let broker = machine.broker();
    let script = "/usr/bin/systemd-ask-password Encrypted ZFS password for rpool:";
    let mut asker = machine.asker(script, 252);
    asker.id.clear();
    let asked = asker.ask_with("Encrypted ZFS password for rpool:", "");
    assert_eq!(questions(&broker, 1).await[0].kind, Kind::Passphrase);
    let submission = broker.submit(all(), secret("wrong"), NOW);
    asked.answer().await;
    asker.end();
    let mut second = machine.asker(script, 252);
    second.id.clear();
    second.ask_with("Encrypted ZFS password for rpool:", "");
    assert_eq!(verdict(submission).await, Verdict::Wrong { tries_left: None });
}

#[tokio::test]
async fn a_script_that_asks_no_more_gives_no_verdict() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut asker = machine.asker("/usr/bin/systemd-ask-password Passphrase:", 252);
    asker.id.clear();
    let asked = asker.ask_with("Passphrase:", "");
    questions(&broker, 1).await;
    let submission = broker.submit(all(), secret("right"), NOW);
    asked.answer().await;
    asker.end();
    assert_eq!(verdict(submission).await, Verdict::NoVerdict);
}

#[tokio::test]
async fn a_pin_is_given_only_where_it_is_named() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut asker = machine.cryptsetup("root");
    asker.id.clear();
    let asked = asker.ask_with("Please enter TPM2 PIN:", "");
    assert_eq!(questions(&broker, 1).await[0].kind, Kind::Pin);
    assert_eq!(outcomes(broker.submit(all(), secret("passphrase"), NOW)).await, []);
    assert!(asked.unanswered());
    let submission = broker.submit(named(&["root"]), secret("1234"), NOW);
    assert_eq!(asked.answer().await, "+1234");
    asker.ask_with("Please enter TPM2 PIN:", "");
    assert_eq!(verdict(submission).await, Verdict::Wrong { tries_left: None });
}

#[tokio::test]
async fn what_does_not_say_passphrase_counts_as_a_pin() {
    let machine = Machine::new();
    let broker = machine.broker();
    let kinds = [
        ("Enter passphrase for 'rpool':", Kind::Passphrase),
        ("Enter the PIN, not the password:", Kind::Pin),
        ("Hello", Kind::Pin),
        ("Spinning password", Kind::Passphrase),
    ];
    for (message, kind) in kinds {
        let mut asker = machine.asker("script", 252);
        asker.id.clear();
        asker.ask_with(message, "");
        assert_eq!(questions(&broker, 1).await[0].kind, kind, "{message}");
        drop(asker);
        questions(&broker, 0).await;
    }
}

/// `ask_from_systemd_and_check()` of bcachefs-tools: the same question again when it was wrong, up to three times; the key
/// in a keyring when it was right.
#[tokio::test]
async fn bcachefs_is_proved_by_its_key() {
    let machine = Machine::new();
    let broker = machine.broker();
    let uuid = "5c25b9c1-2d0c-4b1e-9c2e-4d1c6a7b8c9d";
    let asker = || {
        let mut asker =
            machine.asker("systemd-ask-password --icon=drive-harddisk --multiple -n Enter passphrase:", 257);
        asker.id = format!("Id=cryptsetup:UUID={uuid}\n");
        asker
    };
    machine.put("proc/keys", "1a2b3c4d I--Q---     1 perm 3f010000     0     0 user      bcachefs:0: 32\n");
    let mut first = asker();
    let asked = first.ask_with("Enter passphrase: ", "");
    let question = questions(&broker, 1).await.remove(0);
    assert_eq!((question.kind, question.device), (Kind::Passphrase, Some(format!("UUID={uuid}"))));
    let submission = broker.submit(all(), secret("wrong"), NOW);
    asked.answer().await;
    first.end();
    let mut second = asker();
    let asked = second.ask_with("Enter passphrase: ", "");
    assert_eq!(verdict(submission).await, Verdict::Wrong { tries_left: None });
    let submission = broker.submit(all(), secret("right"), NOW);
    asked.answer().await;
    second.end();
    machine
        .put("proc/keys", format!("1a2b3c4d I--Q---     1 perm 3f010000     0     0 user      bcachefs:{uuid}: 32\n"));
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
}
