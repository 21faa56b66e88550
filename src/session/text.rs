//! Questions, verdicts and status as text for people, and as an exit status for scripts. Pure.

use crate::control::dial::Hub;
use crate::control::message::{Kind, Outcome, Phase, Question, Stage, Status, Verdict};

/// Exit statuses of `unlock`: the interface that people script against.
pub mod exit {
    pub const UNLOCKED: u8 = 0;
    pub const WRONG: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const NOTHING_ASKED: u8 = 3;
    pub const NO_VERDICT: u8 = 4;
    pub const GAVE_UP: u8 = 5;
    pub const NOT_PERMITTED: u8 = 6;
}

/// The exit status for everything that came of one passphrase: the worst of it, and 0 only if all is unlocked.
pub fn exit_status(outcomes: &[Outcome]) -> u8 {
    let worst = outcomes.iter().map(|outcome| match outcome.verdict {
        Verdict::Unlocked => exit::UNLOCKED,
        Verdict::NotDelivered(_) | Verdict::NoVerdict => exit::NO_VERDICT,
        Verdict::Wrong { .. } => exit::WRONG,
        Verdict::GaveUp => exit::GAVE_UP,
    });
    const ORDER: [u8; 4] = [exit::UNLOCKED, exit::NO_VERDICT, exit::WRONG, exit::GAVE_UP];
    worst.max_by_key(|status| ORDER.iter().position(|known| known == status)).unwrap_or(exit::NOTHING_ASKED)
}

/// One sentence about what came of an answer.
pub fn outcome(outcome: &Outcome) -> String {
    let name = subject(&outcome.question);
    let secret = secret_name(outcome.question.kind);
    match &outcome.verdict {
        Verdict::Unlocked => format!("{name}: unlocked"),
        Verdict::Wrong { tries_left: None } => format!("{name}: wrong {secret}"),
        Verdict::Wrong { tries_left: Some(left) } => format!("{name}: wrong {secret}, {}", tries(*left)),
        Verdict::GaveUp => format!(
            "{name}: wrong {secret} or too late; the machine has given up asking (status tells what still helps)"
        ),
        Verdict::NoVerdict => format!("{name}: no verdict in time; it may still be checking (see status)"),
        Verdict::NotDelivered(reason) => format!("{name}: not tried: {}", printable(reason)),
    }
}

/// One question, as a line of the unlock screen and of `status`.
pub fn question(question: &Question) -> String {
    let secret = secret_name(question.kind);
    let name = subject(question);
    match (question.stage, question.tries_left) {
        (Stage::Checking, _) => format!("{name}: checking…"),
        (Stage::Asking, _) if question.kind == Kind::Key => {
            let volume = question.volume.as_deref().unwrap_or("VOLUME");
            format!("{name} waits for its key (ssh HOST feed {} < keyfile)", printable(volume))
        }
        (Stage::Asking, Some(left)) => format!("{name} wants a {secret} ({})", tries(left)),
        (Stage::Asking, None) => format!("{name} wants a {secret}"),
    }
}

/// What `status` prints for a person.
pub fn status(status: &Status) -> String {
    let mut text = format!("{} ({})\n", printable(&status.host), phase(status.phase));
    for asked in &status.questions {
        let (word, whose) = if asked.is_recovery() { ("recovery", "") } else { ("asked", "console: ") };
        text += &format!("  {word:<9} {}\n            {whose}{}\n", question(asked), printable(&asked.message));
    }
    for volume in &status.unlocked {
        text += &format!("  unlocked  {}{}\n", printable(&volume.name), in_parentheses(&volume.device));
    }
    for volume in &status.gave_up {
        let why = volume.why.as_deref().map(|why| format!(": {}", printable(why))).unwrap_or_default();
        text += &format!("  gave up   {}{}{why}\n", printable(&volume.name), in_parentheses(&volume.device));
    }
    if let Some(emergency) = &status.emergency {
        text += &format!("  emergency {}\n", printable(emergency));
    }
    if let Some(hold) = &status.hold {
        text += &format!("  hold      {}\n", printable(hold));
    }
    for link in &status.network {
        let addresses = match link.addresses.as_slice() {
            [] if link.carrier => "no address yet".to_owned(),
            [] => "no carrier".to_owned(),
            some => some.join(" "),
        };
        let how = link.configured_by.as_deref().map(|how| format!(" by {how}")).unwrap_or_default();
        let note = link.note.as_deref().map(|note| format!("; {}", printable(note))).unwrap_or_default();
        text += &format!("  network   {}: {addresses}{how}{note}\n", printable(&link.name));
    }
    for hub in &status.hubs {
        text += &format!("  hub       {}\n", printable(&self::hub(hub)));
    }
    for told in &status.notifications {
        let Some(problem) = &told.problem else { continue };
        text += &format!("  notify    {}: {} ({} sent)\n", printable(&told.to), printable(problem), told.sent);
    }
    for problem in &status.problems {
        text += &format!("  problem   {}\n", printable(problem));
    }
    text
}

fn in_parentheses(device: &Option<String>) -> String {
    device.as_deref().map(|device| format!(" ({})", printable(device))).unwrap_or_default()
}

/// One line on a hub; not made printable.
pub fn hub(hub: &Hub) -> String {
    match (&hub.listening, &hub.problem) {
        (Some(place), _) => format!("{}: reached at {place} of {}", hub.name, hub.hub),
        (None, Some(problem)) => format!("{}: not reached at {}: {problem}", hub.name, hub.hub),
        (None, None) => format!("{}: {} is being dialled", hub.name, hub.hub),
    }
}

pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Booting => "booting, nothing is asked yet",
        Phase::Asking => "waiting for an answer",
        Phase::Unlocked => "everything that was asked is unlocked",
        Phase::Failed => "the machine gave up asking",
        Phase::HandOver => "vestibule is going away",
    }
}

pub fn secret_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Passphrase => "passphrase",
        Kind::Pin => "PIN",
        Kind::Key => "key",
    }
}

/// Text from the machine with everything taken out that could steer a terminal (C0, C1, bidirectional overrides).
pub fn printable(text: &str) -> String {
    let steers = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Volume and device, as far as they are known; else the question's own text.
fn subject(question: &Question) -> String {
    match (&question.volume, &question.device) {
        (Some(volume), Some(device)) => format!("{} ({})", printable(volume), printable(device)),
        (Some(name), None) | (None, Some(name)) => printable(name),
        (None, None) => format!("“{}”", printable(&question.message)),
    }
}

fn tries(left: u32) -> String {
    match left {
        1 => "1 try left".to_owned(),
        n => format!("{n} tries left"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::control::dial::HubState;
    use crate::control::message::{GivenUp, PromptId, RECOVERY, Volume};
    use crate::control::notification::{Notification, State};

    pub fn asked(volume: &str) -> Question {
        Question {
            id: PromptId(1),
            kind: Kind::Passphrase,
            stage: Stage::Asking,
            volume: Some(volume.to_owned()),
            device: Some("/dev/vda2".to_owned()),
            message: "Please enter passphrase for disk root:".to_owned(),
            tries_used: 0,
            tries_left: Some(3),
            source: "systemd".to_owned(),
        }
    }

    pub fn with(questions: Vec<Question>, phase: Phase) -> Status {
        Status {
            version: String::new(),
            host: "web1".to_owned(),
            phase,
            questions,
            unlocked: vec![],
            gave_up: vec![],
            network: vec![],
            problems: vec![],
            emergency: None,
            hold: None,
            hubs: vec![],
            notifications: vec![],
        }
    }

    #[test]
    fn exit_statuses() {
        use Verdict::*;
        let wrong = Wrong { tries_left: Some(1) };
        for (verdicts, status) in [
            (vec![], 3),
            (vec![Unlocked], 0),
            (vec![Unlocked, Unlocked], 0),
            (vec![Unlocked, wrong.clone()], 1),
            (vec![wrong.clone(), Unlocked], 1),
            (vec![NoVerdict, Unlocked], 4),
            (vec![NotDelivered("x".into())], 4),
            (vec![wrong.clone(), NoVerdict], 1),
            (vec![GaveUp, wrong], 5),
        ] {
            let outcomes: Vec<_> =
                verdicts.into_iter().map(|verdict| Outcome { question: asked("root"), verdict }).collect();
            assert_eq!(exit_status(&outcomes), status, "{outcomes:?}");
        }
    }

    #[test]
    fn nothing_from_the_machine_steers_the_terminal() {
        let mut nasty = asked("ro\x1b[2Jot");
        nasty.message = "a\nb\u{9b}c".to_owned();
        let mut all = with(vec![nasty], Phase::Asking);
        all.host = "h\x07".to_owned();
        all.problems = vec!["p\x1b]0;x\x07".to_owned()];
        all.unlocked = vec![Volume { name: "v\x1b".to_owned(), device: Some("d\r".to_owned()) }];
        let steering = || Some("d\r".to_owned());
        all.gave_up = vec![GivenUp { name: "v\x1b".to_owned(), device: steering(), why: steering() }];
        all.emergency = steering();
        all.hold = steering();
        all.hubs = vec![Hub {
            name: "n\x1b".to_owned(),
            hub: "box@h\r".to_owned(),
            state: HubState::Waiting,
            listening: None,
            problem: steering(),
        }];
        let (to, problem) = ("http://h\r".to_owned(), steering());
        all.notifications = vec![Notification { to, state: State::Failed, problem, sent: 1 }];
        assert!(status(&all).chars().all(|c| c == '\n' || !c.is_control()), "{:?}", status(&all));
    }

    #[test]
    fn what_a_person_reads() {
        let all = with(vec![asked("root")], Phase::Asking);
        assert_eq!(
            status(&all),
            "web1 (waiting for an answer)\n  asked     root (/dev/vda2) wants a passphrase (3 tries left)\n            \
             console: Please enter passphrase for disk root:\n"
        );
    }

    #[test]
    fn what_a_person_reads_of_a_boot_that_failed() {
        let message = "root was given up (no tries left); its passphrase opens it, and the boot goes on".to_owned();
        let recovery = Question { source: RECOVERY.to_owned(), tries_left: None, message, ..asked("root") };
        let mut all = with(vec![recovery], Phase::Failed);
        let why = Some("no tries left".to_owned());
        all.gave_up = vec![GivenUp { name: "root".to_owned(), device: Some("/dev/vda2".to_owned()), why }];
        all.emergency = Some("the boot is held by emergency.service".to_owned());
        assert_eq!(
            status(&all),
            "web1 (the machine gave up asking)\n  recovery  root (/dev/vda2) wants a passphrase\n            root was \
             given up (no tries left); its passphrase opens it, and the boot goes on\n  gave up   root (/dev/vda2): no \
             tries left\n  emergency the boot is held by emergency.service\n"
        );
    }
}
