//! What machines have answered → a table for people, or JSON for programs, and whether all is well. Pure.

use std::time::Duration;

use serde_json::{Value, json};

/// Longest text of a machine's that is shown in one place, in characters.
const MAX_TEXT: usize = 120;

/// One machine, and what came of asking it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub name: String,
    /// Where its tunnel is on the hub.
    pub at: String,
    /// How long it took, be it an answer or none.
    pub took: Duration,
    /// What `status --json` says, as an object; or why there is nothing, in a sentence.
    pub status: Result<Value, String>,
}

impl Answer {
    /// What somebody should look after. A machine that waits for a passphrase is as it should be.
    pub fn problems(&self) -> Vec<String> {
        let status = match &self.status {
            Ok(status) => status,
            Err(why) => return vec![why.clone()],
        };
        let mut problems: Vec<String> = list(status, "problems").iter().map(text).collect();
        problems.extend(status["emergency"].as_str().map(clean));
        let given_up = list(status, "gave_up");
        problems.extend(
            given_up.iter().map(|volume| format!("{} gave up: {}", text(&volume["name"]), text(&volume["why"]))),
        );
        if status["phase"] == "failed" {
            problems.push("the boot has failed".to_owned());
        }
        problems
    }

    fn phase(&self) -> String {
        self.status.as_ref().map_or("-".to_owned(), |status| text(&status["phase"]))
    }

    /// The volumes that are asked for.
    fn asked(&self) -> String {
        let status = self.status.as_ref().unwrap_or(&Value::Null);
        let name = |question: &Value| {
            text(if question["volume"].is_null() { &question["message"] } else { &question["volume"] })
        };
        let names: Vec<String> = list(status, "questions").iter().map(name).collect();
        if names.is_empty() { "-".to_owned() } else { clean(&names.join(", ")) }
    }

    fn took(&self) -> String {
        match self.status {
            Ok(_) => format!("{:.1} s", self.took.as_secs_f32()),
            Err(_) => "no".to_owned(),
        }
    }
}

pub fn all_is_well(answers: &[Answer]) -> bool {
    answers.iter().all(|answer| answer.problems().is_empty())
}

/// One line for each machine, then what is wrong.
pub fn table(answers: &[Answer]) -> String {
    let head = ["NAME", "WHERE", "PHASE", "ASKS FOR", "ANSWERED IN"].map(str::to_owned);
    let row = |answer: &Answer| [answer.name.clone(), answer.at.clone(), answer.phase(), answer.asked(), answer.took()];
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(answers.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out += &format!("{}\n", cells.join("  ").trim_end());
    }
    for answer in answers {
        for problem in answer.problems() {
            out += &format!("{}: {problem}\n", answer.name);
        }
    }
    out
}

/// `{"well": …, "machines": [{name, at, seconds, status, problems}]}`; `status` is null for one that has not answered.
pub fn json(answers: &[Answer]) -> String {
    let machine = |answer: &Answer| {
        json!({
            "name": answer.name,
            "at": answer.at,
            "seconds": answer.took.as_secs_f32(),
            "status": answer.status.as_ref().ok(),
            "problems": answer.problems(),
        })
    };
    let machines: Vec<Value> = answers.iter().map(machine).collect();
    json!({ "well": all_is_well(answers), "machines": machines }).to_string() + "\n"
}

fn list<'a>(status: &'a Value, name: &str) -> &'a [Value] {
    status[name].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().map_or("?".to_owned(), clean)
}

/// It comes from another machine, and goes to a person's terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, status: Result<Value, String>) -> Answer {
        Answer { name: name.into(), at: "localhost:20001".into(), took: Duration::from_millis(240), status }
    }

    #[test]
    fn a_table() {
        let waits = json!({"phase": "asking", "questions": [{"volume": "root"}, {"volume": null, "message": "PIN:"}]});
        let fails =
            json!({"phase": "failed", "problems": ["a\x1b[2J"], "gave_up": [{"name": "data", "why": "no tries"}]});
        let answers = [
            answer("web1", Ok(waits)),
            answer("database", Ok(fails)),
            answer("away", Err("nothing listens there".to_owned())),
        ];
        assert!(!all_is_well(&answers) && all_is_well(&answers[..1]));
        assert_eq!(
            table(&answers),
            "NAME      WHERE            PHASE   ASKS FOR    ANSWERED IN\n\
             web1      localhost:20001  asking  root, PIN:  0.2 s\n\
             database  localhost:20001  failed  -           0.2 s\n\
             away      localhost:20001  -       -           no\n\
             database: a [2J\n\
             database: data gave up: no tries\n\
             database: the boot has failed\n\
             away: nothing listens there\n"
        );
        let parsed: Value = serde_json::from_str(&json(&answers)).unwrap();
        assert_eq!(parsed["well"], false);
        assert_eq!(parsed["machines"][0]["status"]["phase"], "asking");
        assert_eq!(parsed["machines"][2]["status"], Value::Null);
        assert_eq!(parsed["machines"][2]["problems"][0], "nothing listens there");
    }

    /// Whatever another version of it says.
    #[test]
    fn an_answer_that_makes_no_sense() {
        for status in [json!({}), json!([]), json!({"questions": 1, "phase": 2, "gave_up": [3], "emergency": 4})] {
            let text = table(&[answer("x", Ok(status))]);
            assert!(text.contains('?'), "{text}");
        }
    }
}
