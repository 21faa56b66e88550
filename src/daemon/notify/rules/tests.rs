use super::*;
use crate::control::message::{GivenUp, Link, RECOVERY, Volume};
use crate::session::text::tests::{asked, with};

const ALL: Events = Events { waiting: true, failed: true, unlocked: true };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What happens, told in words: `ask A B`, `gave A`, `open A`, `emergency`, `hand-over`; each names all that is the case.
fn status(words: &str) -> Status {
    let (questions, rest): (Vec<&str>, Vec<&str>) = words.split(", ").partition(|part| part.starts_with("ask "));
    let names = |part: &str| part.split(' ').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let questions: Vec<Question> = questions.iter().flat_map(|part| names(part)).map(|name| asked(&name)).collect();
    let mut status = with(questions, Phase::Booting);
    for part in rest {
        match part.split(' ').next().unwrap() {
            "gave" => {
                let given_up = |name| GivenUp { name, device: None, why: None };
                status.gave_up = names(part).into_iter().map(given_up).collect();
            }
            "open" => status.unlocked = names(part).into_iter().map(|name| Volume { name, device: None }).collect(),
            "emergency" => status.emergency = Some("it is held".to_owned()),
            "hand-over" | "" => {}
            "address" => {
                status.network = vec![Link {
                    name: "eth0".into(),
                    mac: None,
                    carrier: true,
                    addresses: names(part),
                    gateway: None,
                    nameservers: vec![],
                    configured_by: None,
                    note: None,
                }];
            }
            other => panic!("what is {other}?"),
        }
    }
    status.phase = match &status {
        _ if words.contains("hand-over") => Phase::HandOver,
        status if !status.questions.is_empty() => Phase::Asking,
        status if !status.gave_up.is_empty() => Phase::Failed,
        status if !status.unlocked.is_empty() => Phase::Unlocked,
        _ => Phase::Booting,
    };
    status
}

/// Lets time pass second by second, as `story` says what is the case since when; what is told, by a server that takes it.
fn told(on: Events, story: &[(u64, &str)], end: u64) -> String {
    let mut rules = Rules::new(at(60), on);
    let mut told = Vec::new();
    for second in 0..end {
        if let Some((_, words)) = story.iter().rfind(|(since, _)| *since <= second) {
            rules.observe(&status(words), at(second));
        }
        while let Some(telling) = rules.due(at(second)) {
            rules.sent(&telling);
            told.push(format!("{second} {:?}", telling.event));
        }
    }
    told.join(", ")
}

#[test]
fn what_is_told_and_when() {
    for (story, expected) in [
        // Nothing happens, or a key in the image or a TPM opens it.
        (&[(0, "")][..], ""),
        // Somebody at the console was quick: no word of waiting.
        (&[(1, "ask A"), (50, "open A")], "53 Unlocked"),
        (&[(1, "ask A")], "61 Waiting"),
        (&[(1, "ask A"), (100, "open A")], "61 Waiting, 103 Unlocked"),
        // Told together, and once.
        (&[(1, "ask A"), (20, "ask A B")], "61 Waiting"),
        (&[(1, "ask A"), (70, "ask A B")], "61 Waiting, 130 Waiting"),
        (&[(1, "ask A"), (70, "ask B"), (80, "ask A B")], "61 Waiting, 130 Waiting"),
        // Its time begins again when nothing was asked in between: somebody is there.
        (&[(1, "ask A"), (50, ""), (52, "ask A")], "112 Waiting"),
        // Tries used up; the emergency that comes of it is in the same message, a later one in another.
        (&[(1, "ask A"), (10, "gave A"), (12, "gave A, emergency")], "13 Failed"),
        (&[(1, "ask A"), (10, "gave A"), (30, "gave A, emergency")], "13 Failed, 33 Failed"),
        (&[(1, "ask A B"), (10, "ask B, gave A"), (20, "gave A B")], "13 Failed, 23 Failed"),
        (&[(5, "emergency")], "8 Failed"),
        // Given up again after it was asked for again.
        (&[(1, "gave A"), (10, "ask A"), (20, "gave A")], "4 Failed, 23 Failed"),
        (&[(1, "ask A"), (10, "gave A"), (40, "open A")], "13 Failed, 43 Unlocked"),
        // Only for a moment.
        (&[(1, "ask A"), (10, "gave A"), (12, "open A")], "15 Unlocked"),
        (&[(1, "ask A"), (10, "open A"), (11, "ask B, open A"), (20, "open A B")], "23 Unlocked"),
        // Once in a boot.
        (&[(1, "open A"), (10, "ask B, open A"), (20, "open A B")], "4 Unlocked"),
    ] {
        assert_eq!(told(ALL, story, 200), expected, "{story:?}");
    }
}

#[test]
fn only_what_was_wanted() {
    let story = &[(1, "ask A"), (70, "gave A"), (80, "open A")];
    let only = |waiting, failed, unlocked| told(Events { waiting, failed, unlocked }, story, 200);
    assert_eq!(only(true, false, false), "61 Waiting");
    assert_eq!(only(false, true, false), "73 Failed");
    assert_eq!(only(false, false, true), "83 Unlocked");
    assert_eq!(only(false, false, false), "");
}

#[test]
fn a_question_of_ours_is_no_waiting() {
    let mut rules = Rules::new(at(0), ALL);
    let recovery = Question { source: RECOVERY.to_owned(), ..asked("A") };
    rules.observe(&with(vec![recovery], Phase::Failed), at(0));
    assert_eq!(rules.next(), None);
}

#[test]
fn at_hand_over_only_what_is_proved() {
    for (story, expected) in [
        (&["ask A", "open A", "hand-over, open A"][..], true),
        // The last moments may have been missed.
        (&["ask A", "hand-over, open A"], true),
        // Switched off, or gone on without it.
        (&["ask A", "hand-over, ask A"], false),
        (&["ask A", "hand-over"], false),
        (&["ask A B", "hand-over, open A"], false),
        (&["ask A B", "hand-over, open A, gave B"], false),
        // Nothing was asked.
        (&["", "hand-over, open A"], false),
    ] {
        let mut rules = Rules::new(at(60), ALL);
        story.iter().for_each(|words| rules.observe(&status(words), at(0)));
        let last = rules.last(at(0)).map(|telling| telling.event);
        assert_eq!(last, expected.then_some(Event::Unlocked), "{story:?}");
        // Told before, it isn't told again.
        if let Some(telling) = rules.last(at(0)) {
            rules.sent(&telling);
            assert_eq!(rules.last(at(0)), None, "{story:?}");
        }
    }
}

/// When a server that takes nothing is tried, until `end`.
fn tries(rules: &mut Rules, random: u8, end: u64) -> Vec<u64> {
    let mut tries = Vec::new();
    for second in 0..end {
        if rules.due(at(second)).is_some() {
            rules.not_sent(at(second), random);
            tries.push(second);
        }
    }
    tries
}

#[test]
fn failures_are_tried_again_with_patience() {
    let failing = |random| {
        let mut rules = Rules::new(at(60), ALL);
        rules.observe(&status("ask A"), at(0));
        (tries(&mut rules, random, 4000), rules)
    };
    let (early, _) = failing(0);
    assert_eq!(early[..9], [60, 64, 72, 87, 117, 177, 297, 522, 747]);
    let (late, mut rules) = failing(255);
    assert_eq!(late[..9], [60, 67, 80, 105, 155, 255, 455, 830, 1205]);
    for all in [&early, &late] {
        let in_an_hour = all.iter().map(|from| all.iter().filter(|it| (*from..from + 3600).contains(*it)).count());
        assert!(in_an_hour.max().unwrap() <= MOST, "{all:?}");
    }
    // A network that changes is a reason not to wait.
    rules.observe(&status("ask A, address 192.0.2.7/24"), at(4000));
    assert_eq!(rules.due(at(4000)).map(|telling| telling.event), Some(Event::Waiting));
    // What is over meanwhile is not told any more.
    rules.not_sent(at(4000), 0);
    rules.observe(&status("gave A, address 192.0.2.7/24"), at(4000));
    assert_eq!(rules.due(at(4100)).map(|telling| telling.event), Some(Event::Failed));
}

#[test]
fn a_machine_that_goes_in_circles_floods_nobody() {
    let story: Vec<(u64, String)> =
        (0..720).map(|n| (n * 10, if n % 2 == 0 { "gave A".to_owned() } else { "ask A".to_owned() })).collect();
    let story: Vec<(u64, &str)> = story.iter().map(|(since, words)| (*since, words.as_str())).collect();
    let all = told(ALL, &story, 7200);
    let seconds: Vec<u64> = all.split(", ").map(|it| it.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(seconds.len(), 40, "20 in each of the two hours: {all}");
    assert!(seconds.windows(21).all(|some| some[20] - some[0] >= 3600), "{all}");
}
