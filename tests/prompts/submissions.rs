//! One passphrase and several volumes, several people and one volume.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use vestibule::control::message::{Kind, Stage};
use vestibule::daemon::prompt::Verdict;
use vestibule::daemon::prompt::broker::Wanted;

use crate::fixture::*;

const NOW: Duration = Duration::ZERO;
/// Less than the time for which questions may follow.
const PROMPTLY: Duration = Duration::from_secs(2);

#[tokio::test]
async fn every_volume_gets_the_passphrase_and_so_does_one_that_follows() {
    let machine = Machine::new();
    let broker = machine.broker();
    let (mut root, mut home) = (machine.cryptsetup("root"), machine.cryptsetup("home"));
    let (asked_root, asked_home) = (root.ask(), home.ask());
    questions(&broker, 2).await;
    let submission = broker.submit(all(), secret("hunter2"), NOW);
    assert_eq!(asked_root.answer().await, "+hunter2");
    assert_eq!(asked_home.answer().await, "+hunter2");
    machine.open_volume("root");
    let asked_again = home.ask();
    until(&broker, |view| !view.unlocked.is_empty()).await;
    let mut follower = machine.cryptsetup("swap");
    assert_eq!(follower.ask().answer().await, "+hunter2");
    machine.open_volume("swap");
    questions(&broker, 1).await;
    let wrong = Verdict::Wrong { tries_left: Some(2) };
    let expected = [("home", wrong), ("root", Verdict::Unlocked), ("swap", Verdict::Unlocked)];
    assert_eq!(outcomes(submission).await, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    assert!(asked_again.unanswered(), "a volume must never get the same passphrase twice");
}

#[tokio::test]
async fn nothing_asked_is_no_outcome_and_a_late_question_is_waited_for() {
    let machine = Machine::new();
    let broker = machine.broker();
    assert_eq!(outcomes(broker.submit(all(), secret("hunter2"), NOW)).await, []);
    assert_eq!(outcomes(broker.submit(named(&["root"]), secret("hunter2"), NOW)).await, []);
    let submission = broker.submit(all(), secret("hunter2"), SOON);
    let mut root = machine.cryptsetup("root");
    assert_eq!(root.ask().answer().await, "+hunter2");
    machine.open_volume("root");
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
}

#[tokio::test]
async fn only_the_named_volumes_are_answered() {
    let machine = Machine::new();
    let broker = machine.broker();
    let (mut root, mut home) = (machine.cryptsetup("root"), machine.cryptsetup("home"));
    let (asked_root, asked_home) = (root.ask(), home.ask());
    questions(&broker, 2).await;
    let submission = broker.submit(named(&["/dev/home", "backup"]), secret("hunter2"), NOW);
    assert_eq!(asked_home.answer().await, "+hunter2");
    machine.open_volume("home");
    let unasked = Verdict::NotDelivered("nothing asks for it".into());
    let expected = [("backup", unasked), ("home", Verdict::Unlocked)];
    assert_eq!(outcomes(submission).await, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    assert!(asked_root.unanswered());
    let expected = [("backup", Verdict::NotDelivered("nothing asks for it".into())), ("home", Verdict::Unlocked)];
    let expected = expected.map(|(name, verdict)| (name.to_owned(), verdict));
    // what is open already needs nothing, and doesn't hide what is not
    for names in [["home", "backup"], ["backup", "home"]] {
        assert_eq!(outcomes(broker.submit(named(&names), secret("hunter2"), NOW)).await, expected);
    }
    assert_eq!(verdict(broker.submit(named(&["home"]), secret("hunter2"), SOON)).await, Verdict::Unlocked);
}

#[tokio::test]
async fn the_first_answer_wins_and_both_hear_the_verdict() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut root = machine.cryptsetup("root");
    let asked = root.ask();
    questions(&broker, 1).await;
    let first = broker.submit(all(), secret("first"), NOW);
    until(&broker, |view| view.questions.iter().any(|question| question.stage == Stage::Checking)).await;
    let second = broker.submit(all(), secret("second"), SOON);
    assert_eq!(asked.answer().await, "+first");
    machine.open_volume("root");
    assert_eq!(verdict(first).await, Verdict::Unlocked);
    assert_eq!(verdict(second).await, Verdict::Unlocked);
}

#[tokio::test]
async fn the_second_answer_is_given_when_the_first_was_wrong() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut root = machine.cryptsetup("root");
    let asked = root.ask();
    questions(&broker, 1).await;
    let first = broker.submit(all(), secret("first"), NOW);
    until(&broker, |view| view.questions.iter().any(|question| question.stage == Stage::Checking)).await;
    let mut second = broker.submit(all(), secret("second"), NOW);
    // Without a question to wait for it would end at once.
    assert!(timeout(Duration::from_millis(100), second.recv()).await.is_err(), "it waits for the first one's verdict");
    assert_eq!(asked.answer().await, "+first");
    assert_eq!(root.ask().answer().await, "+second");
    machine.open_volume("root");
    assert_eq!(verdict(first).await, Verdict::Wrong { tries_left: Some(2) });
    assert_eq!(verdict(second).await, Verdict::Unlocked);
}

#[tokio::test]
async fn who_leaves_does_not_take_the_answer_along() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut root = machine.cryptsetup("root");
    let asked = root.ask();
    questions(&broker, 1).await;
    let submission = broker.submit(all(), secret("hunter2"), NOW);
    assert_eq!(asked.answer().await, "+hunter2");
    drop(submission);
    root.end();
    assert_eq!(until(&broker, |view| !view.gave_up.is_empty()).await.gave_up[0].name, "root");
}

#[tokio::test]
async fn a_pin_never_reaches_the_passphrase_question_that_takes_its_place() {
    for kind in [None, Some(Kind::Pin)] {
        let machine = Machine::new();
        let broker = machine.broker();
        let mut root = machine.cryptsetup("root");
        let asked = root.ask_pin();
        questions(&broker, 1).await;
        let first = broker.submit(named(&["root"]), secret("1111"), NOW);
        until(&broker, |view| view.questions[0].stage == Stage::Checking).await;
        let second = broker.submit(Wanted { kind, ..named(&["root"]) }, secret("2222"), NOW);
        assert_eq!(asked.answer().await, "+1111");
        let passphrase = root.ask();
        assert_eq!(verdict(first).await, Verdict::Wrong { tries_left: None });
        assert!(matches!(verdict(second).await, Verdict::NotDelivered(_)), "{kind:?}");
        assert!(passphrase.unanswered(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_passphrase_is_not_spent_on_a_pin() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut root = machine.cryptsetup("root");
    let pin = root.ask_pin();
    questions(&broker, 1).await;
    let wanted = Wanted { kind: Some(Kind::Passphrase), ..named(&["root"]) };
    assert_eq!(outcomes(broker.submit(wanted.clone(), secret("hunter2"), NOW)).await, []);
    let submission = broker.submit(wanted, secret("hunter2"), SOON);
    assert!(pin.unanswered());
    pin.withdraw();
    assert_eq!(root.ask().answer().await, "+hunter2");
    machine.open_volume("root");
    assert_eq!(verdict(submission).await, Verdict::Unlocked);
}

#[tokio::test]
async fn the_first_question_says_what_the_secret_is() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut root = machine.cryptsetup("root");
    let pin = root.ask_pin();
    questions(&broker, 1).await;
    let mut home = machine.cryptsetup("home");
    let passphrase = home.ask();
    questions(&broker, 2).await;
    let submission = broker.submit(named(&["home", "root"]), secret("1234"), NOW);
    assert_eq!(pin.answer().await, "+1234");
    machine.open_volume("root");
    let unasked = Verdict::NotDelivered("nothing asks for it".into());
    let expected = [("home", unasked), ("root", Verdict::Unlocked)];
    assert_eq!(outcomes(submission).await, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    assert!(passphrase.unanswered());
}

#[tokio::test]
async fn a_pin_for_no_volume_is_for_nothing() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut root = machine.cryptsetup("root");
    let (pin, passphrase) = (root.ask_pin(), root.ask());
    questions(&broker, 2).await;
    let wanted = Wanted { kind: Some(Kind::Pin), ..all() };
    assert_eq!(outcomes(broker.submit(wanted, secret("1234"), NOW)).await, []);
    assert!(pin.unanswered() && passphrase.unanswered());
}

#[tokio::test]
async fn a_stop_ends_what_is_being_checked() {
    let machine = Machine::new();
    let broker = machine.broker();
    let (mut home, mut root, mut swap) =
        (machine.cryptsetup("home"), machine.cryptsetup("root"), machine.cryptsetup("swap"));
    let asked = [home.ask(), root.ask(), swap.ask()];
    questions(&broker, 3).await;
    let mut submission = broker.submit(all(), secret("hunter2"), SOON);
    for asked in asked {
        asked.answer().await;
    }
    home.ask();
    let first = submission.recv().await.unwrap();
    assert_eq!(first.verdict, Verdict::Wrong { tries_left: Some(2) });
    let unasked = broker.submit(named(&["backup"]), secret("hunter2"), SOON);
    // Just after a regular look, so that only the stop's own look can see what opens now.
    machine.open_volume("other");
    until(&broker, |view| !view.unlocked.is_empty()).await;
    machine.open_volume("backup");
    machine.open_volume("root");
    let before = Instant::now();
    broker.stop();
    let expected = [("root", Verdict::Unlocked), ("swap", Verdict::NoVerdict)];
    assert_eq!(outcomes(submission).await, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    assert_eq!(verdict(unasked).await, Verdict::Unlocked);
    assert!(before.elapsed() < PROMPTLY);
}

#[tokio::test]
async fn a_stop_ends_the_wait_for_questions_that_follow() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut root = machine.cryptsetup("root");
    let asked = root.ask();
    questions(&broker, 1).await;
    let mut submission = broker.submit(all(), secret("hunter2"), SOON);
    let waiting = broker.submit(named(&["home"]), secret("hunter2"), SOON);
    asked.answer().await;
    machine.open_volume("root");
    assert_eq!(submission.recv().await.unwrap().verdict, Verdict::Unlocked);
    let before = Instant::now();
    broker.stop();
    assert_eq!(outcomes(submission).await, []);
    assert_eq!(outcomes(waiting).await, []);
    assert!(before.elapsed() < PROMPTLY);
}

#[tokio::test]
async fn nothing_is_handed_over_after_a_stop() {
    let machine = Machine::new();
    let broker = machine.broker();
    let mut home = machine.cryptsetup("home");
    let asked = home.ask();
    questions(&broker, 1).await;
    machine.open_volume("root");
    broker.stop();
    let before = Instant::now();
    assert_eq!(outcomes(broker.submit(all(), secret("hunter2"), SOON)).await, []);
    assert_eq!(verdict(broker.submit(named(&["root"]), secret("hunter2"), SOON)).await, Verdict::Unlocked);
    assert!(asked.unanswered());
    assert!(before.elapsed() < PROMPTLY);
}
