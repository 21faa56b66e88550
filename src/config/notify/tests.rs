use super::*;

fn one(lines: &str) -> Notify {
    let (all, problems) = read(&format!("[[notify]]\n{lines}\n"), true);
    assert_eq!((all.len(), problems), (1, Vec::new()), "{lines}");
    all.into_iter().next().unwrap()
}

#[test]
fn the_shortest_form() {
    let notify = one("url = \"http://[2001:db8::7]?q\"");
    let url = Url { tls: false, host: "[2001:db8::7]".into(), port: 80, target: "/?q".into() };
    let on = Events { waiting: true, failed: true, unlocked: true };
    let expected = Notify {
        place: "line 1: [notify]".into(),
        url,
        kind: Kind::Webhook,
        token_file: None,
        headers_file: None,
        after: 60,
        on,
        trust: Trust::Authorities(None),
    };
    assert_eq!(notify, expected);
}

#[test]
fn everything_can_be_said() {
    let pin = "00:".repeat(31) + "fF";
    let notify = one(&format!(
        "url = \"HTTPS://push.example:8443/topic\"\nkind = \"ntfy\"\nafter = 5\non = [\"failed\"]\npin = \"{pin}\"\n\
         token-file = \"/etc/vestibule/token\"\nheaders-file = \"/etc/vestibule/headers\""
    ));
    assert_eq!((notify.url.port, notify.url.target.as_str(), notify.kind), (8443, "/topic", Kind::Ntfy));
    assert_eq!(notify.url.host_and_port(), "push.example:8443");
    assert_eq!((notify.after, notify.on), (5, Events { waiting: false, failed: true, unlocked: false }));
    let mut digest = [0; DIGEST];
    digest[31] = 255;
    assert_eq!(notify.trust, Trust::Pinned(digest));
    assert_eq!(one("url = \"https://a/\"\nca = \"/ca.pem\"").trust, Trust::Authorities(Some("/ca.pem".into())));
    assert_eq!(notify.url.shown(), "https://push.example");
    assert!(!format!("{notify:?}").contains("topic"), "{notify:?}");
}

#[test]
fn the_shipped_example_is_understood() {
    let example = include_str!("../../../config.example.toml");
    let (_, entries) = example.split_once("# [[notify]]").expect("it has an entry");
    let (entries, _) = entries.split_once("# Roles:").expect("what comes after it");
    let entries = format!("[[notify]]{}", entries.replace("\n# ", "\n"));
    let (all, problems) = read(&entries, true);
    assert_eq!(problems, [""; 0]);
    let kinds: Vec<_> = all.iter().map(|notify| (notify.kind, notify.warnings().len())).collect();
    assert_eq!(kinds, [(Kind::Ntfy, 0), (Kind::Gotify, 0), (Kind::Webhook, 0)]);
}

#[test]
fn mistakes_are_named_and_tell_nobody() {
    let good = "url = \"http://a/\"";
    let pin = "0".repeat(64);
    for (lines, expected) in [
        ("", "line 1: [notify] url: this is missing; nobody is told by this entry"),
        ("url = \"ftp://x/\"", "neither http:// nor https://"),
        ("url = \"http://user:word@x/\"", "headers-file"),
        ("url = \"http:///x\"", "its host"),
        ("url = \"http://[::1/x\"", "its host"),
        ("url = \"http://x:0/\"", "no port"),
        ("url = \"http://x:70000/\"", "no port"),
        ("url = \"http://x/a b\"", "write these as %XX"),
        ("url = \"http://x/\\r\\nA: b\"", "write these as %XX"),
        ("url = \"http://x/#a\"", "write these as %XX"),
        (&format!("url = \"http://x/{}\"", "a".repeat(MAX_URL)), "longer than 2000"),
        (&format!("{good}\nkind = \"mail\""), "line 3: [notify] kind: “mail” is not known"),
        (&format!("{good}\nafter = -1"), "no number of seconds"),
        (&format!("{good}\nafter = 86401"), "no number of seconds"),
        (&format!("{good}\non = [\"never\"]"), "“never” is not known"),
        (&format!("{good}\npin = \"{pin}\""), "for https:// only"),
        (&format!("{good}\nca = \"/x\""), "for https:// only"),
        (&format!("url = \"https://a/\"\nca = \"/x\"\npin = \"{pin}\""), "remove pin or ca"),
        ("url = \"https://a/\"\npin = \"00\"", "no SHA-256"),
        (&format!("{good}\ntoken-file = \"token\""), "no path from /"),
        (&format!("{good}\ntoken-file = \"/a/../b\""), "no path from /"),
        (&format!("{good}\nheaders-file = \"/a\\tb\""), "no path from /"),
        (&format!("{good}\ntoken-file = \"/run/secrets/ntfy\""), "put the file below /etc"),
        (&format!("{good}\ntoken = \"x\""), "there is no such setting"),
    ] {
        let (all, problems) = read(&format!("[[notify]]\n{lines}\n"), true);
        assert!(all.is_empty() && problems[0].contains(expected), "{lines}: {problems:?}");
    }
    let (all, problems) = read("[[notify]]\nurl = \"https://a/\"\n[[notify]]\nurl = \"http://b/\"\n", false);
    assert!(problems[0].contains("FEATURES=tls make build"), "{problems:?}");
    assert_eq!(all.len(), 1, "the other entry counts");
    let many = format!("[[notify]]\n{good}\n").repeat(MAX_ENTRIES + 1);
    assert_eq!((read(&many, false).0.len(), read(&many, false).1.len()), (MAX_ENTRIES, 1));
}

#[test]
fn what_the_files_say() {
    let secret = |text: &str| Some(Secret::new(text.as_bytes().to_vec()));
    let headers = |kind, token: Option<&str>, headers: Option<&str>| {
        let notify = Notify { kind, ..one("url = \"http://a/\"") };
        let (token, headers) = (token.and_then(secret), headers.and_then(secret));
        notify
            .headers(token.as_ref(), headers.as_ref())
            .map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap())
    };
    assert_eq!(headers(Kind::Ntfy, None, None).unwrap(), "");
    assert_eq!(headers(Kind::Ntfy, Some("tk_1\n"), None).unwrap(), "Authorization: Bearer tk_1\r\n");
    assert_eq!(headers(Kind::Gotify, Some("tk_1"), None).unwrap(), "X-Gotify-Key: tk_1\r\n");
    assert_eq!(headers(Kind::Webhook, None, Some("\nX-A: b c\r\nY:\n")).unwrap(), "X-A: b c\r\nY:\r\n");
    let long = "x".repeat(MAX_HEADERS + 1);
    for (token, lines, expected) in [
        (Some(""), None, "no token"),
        (Some("a b"), None, "more than one"),
        (Some("a\nX: y"), None, "more than one"),
        (Some(long.as_str()), None, "longer than 4096"),
        (None, Some("A: b\nhunter2"), "line 2: this is no header"),
        (None, Some("A b: c"), "no header"),
        (None, Some(": c"), "no header"),
        (None, Some("A: b\rX: c"), "no header"),
        (None, Some("Content-Length: 0"), "not yours"),
    ] {
        let error = headers(Kind::Ntfy, token, lines).unwrap_err();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{token:?} {lines:?}: {error}");
    }
}

#[test]
fn what_is_useless_is_told() {
    for (lines, expected) in [
        ("url = \"http://a/\"\non = []", vec!["\"on\" is empty"]),
        ("url = \"http://127.0.0.1/\"", vec!["the machine itself"]),
        ("url = \"https://ntfy.sh\"\nkind = \"ntfy\"", vec!["no topic"]),
        ("url = \"https://a/\"\nkind = \"gotify\"", vec!["https://HOST/message", "wants a token-file"]),
        ("url = \"http://a/\"\ntoken-file = \"/x\"", vec!["readable by everybody"]),
        ("url = \"https://a/base/message?token=x\"\nkind = \"gotify\"", vec![]),
    ] {
        let warnings = one(lines).warnings();
        assert_eq!(warnings.len(), expected.len(), "{lines}: {warnings:?}");
        assert!(warnings.iter().zip(expected).all(|(it, part)| it.contains(part)), "{lines}: {warnings:?}");
    }
}
