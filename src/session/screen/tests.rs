use super::*;
use crate::session::text::tests::{asked, with};

fn typed(screen: &mut Screen, keys: &[u8]) -> Option<Action> {
    keys.iter().filter_map(|key| screen.key(*key)).last()
}

fn shown(screen: &mut Screen) -> String {
    String::from_utf8(screen.take_output()).unwrap()
}

#[test]
fn a_passphrase_goes_out_and_is_never_shown() {
    let mut screen = Screen::new(80);
    screen.status(with(vec![asked("root")], Phase::Asking));
    assert!(
        shown(&mut screen).ends_with("root (/dev/vda2) wants a passphrase (3 tries left)\r\nPassphrase for root: ")
    );
    let Some(Action::Submit { aim, secret }) = typed(&mut screen, b"hunterx\x7f2\r") else { panic!() };
    assert_eq!((aim, secret.expose()), (passphrase("root"), &b"hunter2"[..]));
    let after = shown(&mut screen);
    assert!(after.contains("checking…") && !after.contains("hunter"), "{after}");
}

#[test]
fn wrong_then_right() {
    let mut screen = Screen::new(80);
    screen.status(with(vec![asked("root")], Phase::Asking));
    typed(&mut screen, b"x\r");
    screen.outcome(&Outcome { question: asked("root"), verdict: Verdict::Wrong { tries_left: Some(2) } });
    screen.checked();
    let output = shown(&mut screen);
    assert!(output.contains("root (/dev/vda2): wrong passphrase, 2 tries left\r\n"), "{output}");
    assert!(output.ends_with("Passphrase for root: "), "{output}");
}

#[test]
fn nothing_is_submitted_when_nothing_asks() {
    let mut screen = Screen::new(80);
    assert!(typed(&mut screen, b"early\r").is_none());
    screen.status(with(vec![], Phase::Booting));
    assert!(typed(&mut screen, b"early\r").is_none());
    screen.status(with(vec![asked("root")], Phase::Asking));
    assert!(typed(&mut screen, b"\r").is_none(), "an empty line is no answer");
}

#[test]
fn a_pin_is_not_among_all_of_these() {
    let pin = Question { kind: Kind::Pin, ..asked("token") };
    let mut screen = Screen::new(80);
    screen.status(with(vec![pin.clone(), Question { kind: Kind::Pin, ..asked("other") }], Phase::Asking));
    assert!(typed(&mut screen, b"1234\r").is_none(), "two PINs: one must be chosen");
    let Some(Action::Submit { aim, .. }) = typed(&mut screen, b"\t1234\r") else { panic!() };
    assert_eq!(aim, Aim::One(Kind::Pin, "token".to_owned()));
}

#[test]
fn a_pin_without_a_name_is_named_by_its_text() {
    let pin = Question { kind: Kind::Pin, volume: None, device: None, message: "TPM2 PIN:".into(), ..asked("x") };
    let mut screen = Screen::new(80);
    screen.status(with(vec![pin, asked("root")], Phase::Asking));
    let Some(Action::Submit { aim, .. }) = typed(&mut screen, b"\t1234\r") else { panic!() };
    assert_eq!(aim, Aim::One(Kind::Pin, "TPM2 PIN:".to_owned()));
}

#[test]
fn what_was_typed_for_one_question_is_not_given_to_another() {
    let pin = || Question { kind: Kind::Pin, ..asked("token") };
    for (first, keys, then) in [
        (vec![pin(), asked("root")], &b"\t1234"[..], vec![asked("root")]), // the chosen PIN question goes away
        (vec![pin()], b"1234", vec![asked("root")]),
        (vec![pin()], b"1234", vec![]),
        (vec![asked("root"), pin()], b"secret", vec![pin()]), // for all passphrases, and only a PIN is left
        (vec![], b"early", vec![pin()]),
        (vec![asked("root")], b"secret", vec![asked("other")]),
        (vec![asked("root"), pin()], b"secret\t\t", vec![asked("root"), pin()]), // chosen by hand while typing
    ] {
        let mut screen = Screen::new(80);
        screen.status(with(first, Phase::Asking));
        typed(&mut screen, keys);
        screen.status(with(then, Phase::Asking));
        assert!(screen.key(b'\r').is_none() && screen.line.is_empty(), "{keys:?}");
        assert!(shown(&mut screen).contains("what you typed was dropped"), "{keys:?}");
    }
}

#[test]
fn a_passphrase_for_all_survives_one_being_answered_elsewhere() {
    let mut screen = Screen::new(80);
    screen.status(with(vec![asked("root"), asked("data")], Phase::Asking));
    typed(&mut screen, b"sec");
    screen.status(with(vec![asked("data")], Phase::Asking));
    let Some(Action::Submit { aim, secret }) = typed(&mut screen, b"ret\r") else { panic!() };
    assert_eq!((aim, secret.expose()), (passphrase("data"), &b"secret"[..]));
}

#[test]
fn the_menu_does_not_forget_that_an_answer_is_checked() {
    let mut screen = Screen::new(80);
    screen.status(with(vec![asked("root")], Phase::Asking));
    assert!(matches!(typed(&mut screen, b"x\r"), Some(Action::Submit { .. })));
    assert!(matches!(typed(&mut screen, b"\x03p"), Some(Action::Peek)));
    assert!(typed(&mut screen, b"again\r").is_none(), "still checking");
    assert!(shown(&mut screen).ends_with("checking… "));
}

fn passphrase(volume: &str) -> Aim {
    Aim::One(Kind::Passphrase, volume.to_owned())
}

#[test]
fn the_menu_acts_only_on_its_own_keys() {
    let mut screen = Screen::new(80);
    screen.status(with(vec![asked("root")], Phase::Asking));
    assert!(typed(&mut screen, b"half\x03r").is_none(), "a small r is no reboot");
    assert!(matches!(typed(&mut screen, b"\x03R"), Some(Action::Reboot)));
    assert!(matches!(typed(&mut screen, b"\x03q"), Some(Action::Quit)));
    let Some(Action::Submit { secret, .. }) = typed(&mut screen, b"whole\r") else { panic!() };
    assert_eq!(secret.expose(), b"whole", "what was typed before ^C is gone");
}

#[test]
fn a_long_name_is_wrapped_and_erased_whole() {
    let mut screen = Screen::new(40);
    let long = "luks-10000000-0000-4000-8000-000000000001";
    screen.status(with(vec![asked(long)], Phase::Asking));
    let output = shown(&mut screen).replace("\r\n", "");
    assert!(output.contains("wants a passphrase (3 tries left)"), "{output}");
    screen.log(&["x".to_owned()]);
    assert!(shown(&mut screen).starts_with("\r\x1b[5A\x1b[J"), "all six lines go");
}

#[test]
fn log_lines_scroll_above_the_block() {
    let mut screen = Screen::new(40);
    screen.status(with(vec![asked("root")], Phase::Asking));
    shown(&mut screen);
    screen.log(&["[ 1.0] usb\x1b[2J".to_owned()]);
    let output = shown(&mut screen);
    assert!(output.starts_with("\r\x1b[3A\x1b[J[ 1.0] usb\u{fffd}[2J\r\n── web1"), "{output:?}");
    assert!(output.split("\r\n").all(|line| line.chars().count() <= 50), "{output:?}");
}

#[test]
fn emergency_mode_is_shown_above_the_questions() {
    let mut screen = Screen::new(80);
    let mut status = with(vec![asked("root")], Phase::Failed);
    status.emergency = Some("the boot is held\x1b[2J".to_owned());
    screen.status(status);
    let output = shown(&mut screen);
    assert!(output.contains("\r\n! the boot is held\u{fffd}[2J\r\n  root (/dev/vda2) wants"), "{output:?}");
}

#[test]
fn a_key_file_is_not_typed() {
    let key = Question { kind: Kind::Key, device: None, tries_left: None, ..asked("data") };
    let mut screen = Screen::new(80);
    screen.status(with(vec![key.clone()], Phase::Asking));
    let output = shown(&mut screen);
    assert!(output.contains("data waits for its key (ssh HOST feed data < keyfile)"), "{output}");
    assert!(output.ends_with("Nothing to type here; ^C for a menu. "), "{output}");
    assert!(typed(&mut screen, b"\tkey\r").is_none());
    screen.status(with(vec![key, asked("root")], Phase::Asking));
    let Some(Action::Submit { aim, .. }) = typed(&mut screen, b"\thunter2\r") else { panic!() };
    assert_eq!(aim, passphrase("root"));
}
