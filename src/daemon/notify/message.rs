//! What is posted: the status in words, and as HTTP (RFC 9112). Pure. There is no secret in it but what the user has put
//! into the URL and the files for it.

use serde::Serialize;
use zeroize::Zeroize;

use super::rules::{Event, questions};
use crate::config::Recipient;
use crate::config::notify::Kind;
use crate::control::message::{Question, Status};
use crate::daemon::login;
use crate::secret::Secret;
use crate::session::text::{self, printable};

/// Of questions, volumes and addresses, so many each: who has more looks at the status.
const MOST: usize = 8;
/// Longest piece of text from the machine, in characters: a question in its own words, a name, a reason.
const LONGEST: usize = 300;

/// What stays the same.
pub struct Facts {
    /// Port and fingerprint of the SSH server, where somebody may log in.
    pub ssh: Option<(u16, String)>,
}

/// The JSON of a webhook. Fields are only ever added.
#[derive(Serialize)]
struct Report<'a> {
    event: &'static str,
    host: &'a str,
    title: &'a str,
    message: &'a str,
    questions: Vec<Asked<'a>>,
    gave_up: Vec<&'a str>,
    emergency: Option<&'a str>,
    unlocked: Vec<&'a str>,
    addresses: Vec<&'a str>,
    login: Vec<String>,
    host_key: Option<&'a str>,
}

#[derive(Serialize)]
struct Asked<'a> {
    kind: &'static str,
    volume: Option<&'a str>,
    device: Option<&'a str>,
    message: &'a str,
}

/// <https://gotify.net/api-docs#/message/createMessage>
#[derive(Serialize)]
struct GotifyMessage<'a> {
    title: &'a str,
    message: &'a str,
    priority: u8,
}

/// The whole request, ready to be sent.
pub fn request(recipient: &Recipient, event: Event, status: &Status, facts: &Facts) -> Secret {
    let status = &tamed(status);
    let (title, text) = (title(event, status), body(event, status, facts));
    let (kind, body) = match recipient.notify.kind {
        Kind::Ntfy => ("text/plain; charset=utf-8", text.into_bytes()),
        Kind::Gotify => {
            let priority = if event == Event::Unlocked { 4 } else { 8 };
            ("application/json", json(&GotifyMessage { title: &title, message: &text, priority }))
        }
        Kind::Webhook => ("application/json", json(&report(event, status, facts, (&title, &text)))),
    };
    let url = &recipient.notify.url;
    let mut head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: vestibule/{}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\n",
        url.target,
        url.host_and_port(),
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    if recipient.notify.kind == Kind::Ntfy {
        let (priority, tag) = match event {
            Event::Waiting => ("high", "lock"),
            Event::Failed => ("urgent", "warning"),
            Event::Unlocked => ("default", "unlock"),
        };
        // Header values are ASCII (RFC 9110 section 5.5).
        let title: String = title.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        head += &format!("Title: {title}\r\nPriority: {priority}\r\nTags: {tag}\r\n");
    }
    let request = [head.as_bytes(), recipient.headers.expose(), b"\r\n", &body].concat();
    head.zeroize(); // the URL may be as good as a password
    Secret::new(request)
}

fn title(event: Event, status: &Status) -> String {
    let what = match event {
        Event::Waiting => match questions(status).next() {
            Some(question) => format!("waits for a {}", text::secret_name(question.kind)),
            None => "waits".to_owned(),
        },
        Event::Failed if status.gave_up.is_empty() => "is held in emergency mode".to_owned(),
        Event::Failed => "could not unlock".to_owned(),
        Event::Unlocked => "is unlocked".to_owned(),
    };
    format!("{} {what}", status.host)
}

fn body(event: Event, status: &Status, facts: &Facts) -> String {
    let mut lines: Vec<String> = Vec::new();
    for volume in &status.gave_up {
        let why = volume.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        lines.push(format!("{} was given up{why}", volume.name));
    }
    lines.extend(status.emergency.clone());
    lines.extend(status.questions.iter().map(text::question));
    if event == Event::Unlocked {
        lines.extend(status.unlocked.iter().map(|volume| format!("{} is open", volume.name)));
        return lines.join("\n");
    }
    match &facts.ssh {
        Some((_, fingerprint)) => {
            lines.extend(logins(status, facts).into_iter().map(|command| format!("log in: {command}")));
            lines.push(format!("host key: {fingerprint}"));
        }
        None => lines.push("nobody can log in by SSH; only the console can answer".to_owned()),
    }
    lines.join("\n")
}

fn report<'a>(event: Event, status: &'a Status, facts: &'a Facts, (title, message): (&'a str, &'a str)) -> Report<'a> {
    let asked = |question: &'a Question| Asked {
        kind: text::secret_name(question.kind),
        volume: question.volume.as_deref(),
        device: question.device.as_deref(),
        message: &question.message,
    };
    Report {
        event: match event {
            Event::Waiting => "waiting",
            Event::Failed => "failed",
            Event::Unlocked => "unlocked",
        },
        host: &status.host,
        title,
        message,
        questions: status.questions.iter().map(asked).collect(),
        gave_up: status.gave_up.iter().map(|volume| volume.name.as_str()).collect(),
        emergency: status.emergency.as_deref(),
        unlocked: status.unlocked.iter().map(|volume| volume.name.as_str()).collect(),
        addresses: login::addresses(status).take(MOST).collect(),
        login: logins(status, facts),
        host_key: facts.ssh.as_ref().map(|(_, fingerprint)| fingerprint.as_str()),
    }
}

/// By each address; where the network is somebody else's, and none is known, by the name.
fn logins(status: &Status, facts: &Facts) -> Vec<String> {
    let Some((port, _)) = &facts.ssh else { return Vec::new() };
    let mut addresses: Vec<&str> = login::addresses(status).take(MOST).collect();
    if addresses.is_empty() {
        addresses.push(&status.host);
    }
    addresses.into_iter().map(|address| login::command(*port, address)).collect()
}

/// Of what comes from the machine only so much as fits into a message, and nothing that could steer a terminal or end a
/// line of a header.
fn tamed(status: &Status) -> Status {
    let tame = |text: &mut String| *text = printable(text).chars().take(LONGEST).collect();
    let mut status = status.clone();
    tame(&mut status.host);
    status.questions.truncate(MOST);
    for question in &mut status.questions {
        tame(&mut question.message);
        question.volume.iter_mut().chain(&mut question.device).for_each(tame);
    }
    status.gave_up.truncate(MOST);
    for volume in &mut status.gave_up {
        tame(&mut volume.name);
        volume.why.iter_mut().for_each(tame);
    }
    status.unlocked.truncate(MOST);
    status.unlocked.iter_mut().for_each(|volume| tame(&mut volume.name));
    status.emergency.iter_mut().for_each(tame);
    status
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain texts and numbers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::{GivenUp, Link, Phase, Volume};
    use crate::session::text::tests::{asked, with};

    #[test]
    fn the_title_says_what_is_the_matter() {
        let waiting = with(vec![asked("root")], Phase::Asking);
        let gave_up = GivenUp { name: "root".to_owned(), device: None, why: Some("no tries left".to_owned()) };
        let failed = Status { gave_up: vec![gave_up], ..with(vec![], Phase::Failed) };
        let held = Status { emergency: Some("it is held by a shell".to_owned()), ..with(vec![], Phase::Booting) };
        let open = Volume { name: "root".to_owned(), device: None };
        let open = Status { unlocked: vec![open], ..with(vec![], Phase::Unlocked) };
        let nobody = "nobody can log in by SSH; only the console can answer";
        for (event, status, expected, text) in [
            (
                Event::Waiting,
                waiting,
                "web1 waits for a passphrase",
                "root (/dev/vda2) wants a passphrase (3 tries left)",
            ),
            (Event::Failed, failed, "web1 could not unlock", "root was given up: no tries left"),
            (Event::Failed, held, "web1 is held in emergency mode", "it is held by a shell"),
            (Event::Unlocked, open, "web1 is unlocked", "root is open"),
        ] {
            let end = if event == Event::Unlocked { String::new() } else { format!("\n{nobody}") };
            let said = (title(event, &status), body(event, &status, &Facts { ssh: None }));
            assert_eq!(said, (expected.to_owned(), format!("{text}{end}")));
        }
    }

    #[test]
    fn it_says_how_to_log_in_by_each_address() {
        let link = Link {
            name: "eth0".into(),
            mac: None,
            carrier: true,
            addresses: ["fe80::1/64", "192.0.2.7/24", "2001:db8::7/64"].map(str::to_owned).to_vec(),
            gateway: None,
            nameservers: vec![],
            configured_by: None,
            note: None,
        };
        let status = Status { network: vec![link], ..with(vec![], Phase::Asking) };
        let facts = Facts { ssh: Some((2222, "SHA256:x".to_owned())) };
        let expected = "log in: ssh -p 2222 root@192.0.2.7\nlog in: ssh -p 2222 root@2001:db8::7\nhost key: SHA256:x";
        assert_eq!(body(Event::Waiting, &status, &facts), expected);
        assert_eq!(report(Event::Waiting, &status, &facts, ("", "")).addresses, ["192.0.2.7", "2001:db8::7"]);
    }

    #[test]
    fn text_from_the_machine_stays_in_its_place() {
        let mut question = asked("ro\r\nX-Evil: 1\r\n\r\not");
        question.message = "x".repeat(100_000);
        let mut status = with(vec![question; 100], Phase::Asking);
        status.host = "wéb\r\nX-Evil: 1".to_owned();
        for kind in ["ntfy", "gotify", "webhook"] {
            let entry = format!("[[notify]]\nurl = \"http://a:81/t\"\nkind = \"{kind}\"\n");
            let notify = crate::config::notify::read(&entry, false).0.remove(0);
            let headers = Secret::new(b"A: b\r\n".to_vec());
            let recipient = Recipient { notify, headers, authorities: None, files: vec![] };
            let request = request(&recipient, Event::Waiting, &status, &Facts { ssh: Some((22, "SHA256:x".into())) });
            let request = String::from_utf8(request.expose().to_vec()).unwrap();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(!head.contains("\nX-Evil") && head.ends_with("\r\nA: b"), "{head}");
            assert!(head.is_ascii() && head.contains("\r\nHost: a:81\r\n"), "{head}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
            assert!(body.len() < 16 << 10 && !body.contains("\nX-Evil"), "{} {body}", body.len());
        }
    }
}
