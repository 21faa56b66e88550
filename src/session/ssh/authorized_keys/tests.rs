use super::*;
use crate::config::destination;
use proptest::prelude::*;

const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const RSA_1024: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDGcrRSzfi9PHRgNMD/jCQ5EIp2ZcS3ZqbTFr2AVgmVgVk9lS8JC9WkHYJyvX6xDXt0G7tn/HnCxCXYPsnr6oQbkdJaNJVj2JCd9P2vyPGXVEz2cJ+n0Ho6EYO5MgHHoXGdoDsZDDEmAmtoN8cX4+ayQr0wkUZ3FzqQNNhk6s7Pnw==";

fn one(line: &str) -> Result<AuthorizedKey, String> {
    let (mut keys, mut problems) = parse("f", line);
    problems.retain(|problem| problem.admits_nobody);
    assert_eq!(keys.len() + problems.len(), 1, "{line}");
    keys.pop().ok_or_else(|| problems.pop().unwrap().reason)
}

/// The key of a line with these options.
fn with(options: &str) -> AuthorizedKey {
    one(&format!("{options} {ED} x")).unwrap_or_else(|why| panic!("{options}: {why}"))
}

#[test]
fn lines_that_people_have() {
    for (line, comment, pty) in [
        (ED.to_owned(), "", true),
        (format!("  {ED} me@home  \r"), "me@home", true),
        (format!("{ED}\tme at home # \"two"), "me at home # \"two", true),
        (format!("no-port-forwarding,no-X11-forwarding {ED} x"), "x", true),
        (format!("restrict {ED} x"), "x", false),
        (format!("restrict,pty\t {ED} x"), "x", true),
        (format!("RESTRICT,Pty\t {ED} x"), "x", true),
        (format!("pty,restrict {ED} x"), "x", false),
    ] {
        let key = one(&line).unwrap_or_else(|reason| panic!("{line}: {reason}"));
        assert_eq!((key.comment.as_str(), !key.narrowing.no_pty), (comment, pty), "{line}");
    }
    assert!(parse("f", "# only\n\n   \t\n#comments").0.is_empty());
}

/// sshd(8), the example at the end of "AUTHORIZED_KEYS FILE FORMAT".
#[test]
fn the_manuals_examples() {
    let open = |list: &[&str]| Some(list.iter().map(|text| destination::open(text).unwrap()).collect::<Vec<_>>());
    let dump = with("restrict,command=\"dump /home\"").narrowing;
    assert_eq!(
        dump,
        Narrowing { command: Some("dump /home".into()), no_pty: true, no_forwarding: true, ..Default::default() }
    );
    let local = with("permitopen=\"192.0.2.1:80\",permitopen=\"192.0.2.2:25\"").narrowing;
    assert_eq!(local, Narrowing { open: open(&["192.0.2.1:80", "192.0.2.2:25"]), ..Narrowing::default() });
    let remote = with("permitlisten=\"localhost:8080\",permitlisten=\"[::1]:22000\"").narrowing;
    assert_eq!(remote, Narrowing { listen: open(&["localhost:8080", "[::1]:22000"]), ..Narrowing::default() });
    let nethack = with("restrict,pty,command=\"nethack\"").narrowing;
    assert_eq!(nethack, Narrowing { no_pty: false, command: Some("nethack".into()), ..dump });
    assert_eq!(with("no-touch-required").narrowing, Narrowing::default());
    let authority = with("cert-authority,no-touch-required,principals=\"user_a\"");
    assert_eq!(authority.authority, Some(Authority { principals: Some(vec!["user_a".into()]) }));
    for (options, why) in
        [("tunnel=\"0\",command=\"sh /etc/netstart tun0\"", "tunnel"), ("verify-required", "can't be seen")]
    {
        assert!(one(&format!("{options} {ED}")).unwrap_err().contains(why));
    }
}

#[test]
fn options_one_by_one() {
    let quoted = with(r#"command="echo \"a, b\" \n \\" c""#);
    assert_eq!(quoted.narrowing.command.as_deref(), Some(r#"echo "a, b" \n \" c"#));
    let environment =
        with("environment=\"A=1\",environment=\"B_2=x y=\\\"z\\\"\",environment=\"A=2\"").narrowing.environment;
    assert_eq!(environment, [("A".to_owned(), "1".to_owned()), ("B_2".to_owned(), "x y=\"z\"".to_owned())]);
    let earliest = with("expiry-time=\"20300101Z\",expiry-time=\"20290101\",expiry-time=\"20310101\"");
    assert_eq!(earliest.expires, Some(1_861_920_000));
    assert!(with("once").narrowing.once && !with("pty").narrowing.once);
    assert!(!with("restrict,port-forwarding").narrowing.no_forwarding);
    assert_eq!(with("cert-authority").authority, Some(Authority { principals: None }));
    assert!(with("from=\"10.0.0.0/8\"").from.unwrap().admits("10.1.2.3".parse().ok()));
    let listen = with("permitlisten=\"8080\"").narrowing.listen.unwrap();
    assert_eq!(listen, [destination::open("*:8080").unwrap()]);
}

#[test]
fn lines_that_admit_nobody_say_why() {
    for (line, why) in [
        ("hello", "no public key line"),
        ("ssh-ed25519", "missing"),
        ("ssh-ed25519 AAAA", "can't be read"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACBAA==", "can't be read"),
        (&format!("restrict,,pty {ED}"), "empty"),
        (&format!("restrict, {ED}"), "empty"),
        (&format!("no-such-thing {ED}"), "no-such-thing"),
        (&format!("no-once {ED}"), "no-once"),
        (&format!("restrict=\"yes\" {ED}"), "\"restrict=\" is not known"),
        (&format!("command=\"never closed {ED}"), "not closed"),
        (&format!("command=date {ED}"), "not followed by a double quote"),
        (&format!("command=\"a\"b {ED}"), "after its closing quote"),
        (&format!("command=\" \" {ED}"), "empty"),
        (&format!("command {ED}"), "not known"),
        (&format!("command=\"a\",command=\"a\" {ED}"), "twice"),
        (&format!("from=\"10.*\",from=\"10.*\" {ED}"), "twice"),
        (&format!("from=\"10.0.0.1/8\" {ED}"), "beyond"),
        (&format!("from=\"home.example.com\" {ED}"), "only host names"),
        (&format!("principals=\"root\" {ED}"), "without cert-authority"),
        (&format!("cert-authority,principals=\"root,\" {ED}"), "empty"),
        (&format!("roles=\"\" {ED}"), "empty"),
        (&format!("roles=\"peek\",roles=\"root\" {ED}"), "twice"),
        (&format!("cert-authority,once {ED}"), "once is for a key"),
        (&format!("expiry-time=\"tomorrow\" {ED}"), "expiry-time=: \"tomorrow\" is no time"),
        (&format!("environment=\"A\" {ED}"), "not NAME=value"),
        (&format!("environment=\"A-B=1\" {ED}"), "no name of a variable"),
        (&format!("permitopen=\"8080\" {ED}"), "permitopen=: "),
        (&format!("permitlisten=\"host:0\" {ED}"), "no port"),
        (&format!("tunnel=\"1\" {ED}"), "tunnel"),
        (&format!("X11-forwarding {ED}"), "X11-forwarding: there is nothing"),
        (&format!("agent-forwarding {ED}"), "agent-forwarding"),
        (&format!("user-rc {ED}"), "user-rc"),
        (&format!("touch-required {ED}"), "can't be seen"),
        (&format!("{ED} a\0b"), "control character"),
        (&format!("ssh-rsa {}", &ED[12..]), "can't be read"),
        (RSA_1024, "of 1024 bits is too weak"),
        (&format!("cert-authority {RSA_1024}"), "too weak"),
    ] {
        let reason = one(line).expect_err(line);
        assert!(reason.contains(why), "{line}: {reason}");
    }
}

#[test]
fn a_problem_names_its_line_and_the_rest_still_counts() {
    let (keys, problems) = parse("/etc/x", &format!("# c\n\nbroken line here\n{ED} ok\n"));
    assert_eq!((keys.len(), keys[0].line), (1, 4));
    let text = problems[0].to_string();
    assert!(text.starts_with("/etc/x:3: ") && text.ends_with("; this line admits nobody"), "{text}");
    let (keys, problems) = parse("/etc/x", &format!("from=\"home.example.com,10.*\" {ED}\n"));
    assert_eq!((keys.len(), problems.len(), problems[0].admits_nobody), (1, 1, false));
    assert!(
        problems[0].to_string().starts_with("/etc/x:1: from=\"home.example.com\" matches nobody"),
        "{}",
        problems[0]
    );
}

fn destinations() -> impl Strategy<Value = Option<Vec<crate::config::grants::Pattern>>> {
    let text = "([a-z][a-z0-9.-]{0,9}|[*]|[0-9a-f:]{2,9}):([1-9][0-9]{0,3}|[*])|/[a-z/]{1,9}";
    let one = text.prop_map(|text: String| match text.rsplit_once(':') {
        Some((host, port)) if host.contains(':') => format!("[{host}]:{port}"),
        _ => text,
    });
    let read = one.prop_filter_map("no destination", |text| destination::open(&text).ok());
    proptest::option::of(proptest::collection::vec(read, 1..4))
}

fn narrowings() -> impl Strategy<Value = Narrowing> {
    // A backslash before the closing quote can't be written; sshd has no way either.
    let command = proptest::option::of("[ -~äß]{0,12}[!-\\[\\]-~]");
    let environment = proptest::collection::btree_map("[A-Za-z_0-9]{1,5}", "([ -~]{0,9}[ -\\[\\]-~])?", 0..3);
    let flags = (any::<bool>(), any::<bool>());
    (command, flags, destinations(), destinations(), environment).prop_map(
        |(command, (no_pty, no_forwarding), open, listen, environment)| Narrowing {
            command,
            no_pty,
            no_forwarding,
            open,
            listen,
            environment: environment.into_iter().collect(),
            once: false,
        },
    )
}

fn keys() -> impl Strategy<Value = AuthorizedKey> {
    let from = "!?([0-9]{1,2}\\.){3}[0-9]{1,2}(,!?10\\.[0-9]\\.[*])?,[*]";
    let from = proptest::option::of(from.prop_filter_map("no list", |list| Some(Sources::parse(&list).ok()?.0)));
    let names = proptest::collection::vec("[a-z \"\\\\]{0,5}[a-z]", 1..4);
    let authority = proptest::option::of(proptest::option::of(names).prop_map(|principals| Authority { principals }));
    let expires = proptest::option::of(1..253_402_300_799u64);
    let roles = proptest::option::of(proptest::collection::vec("[a-z]{1,6}", 1..3));
    ((narrowings(), any::<bool>()), (from, roles), expires, authority, "([a-z\"#=,]{1,4} ?){0,3}").prop_map(
        |((narrowing, once), (from, roles), expires, authority, comment)| {
            let once = once && authority.is_none();
            let (narrowing, comment) = (Narrowing { once, ..narrowing }, comment.trim().to_owned());
            let key = PublicKey::from_openssh(ED).unwrap();
            AuthorizedKey { key, comment, narrowing, from, expires, roles, authority, line: 1 }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(key in keys()) {
        let line = written::line(&key);
        prop_assert_eq!(one(&line), Ok(key), "{}", line);
    }

    #[test]
    fn never_panics_and_never_admits_without_a_key(text in "[ -~\t\n\"\\\\,=]{0,120}") {
        let (keys, _) = parse("f", &text);
        prop_assert!(keys.is_empty());
    }

    #[test]
    fn unknown_options_admit_nobody(key in keys(), option in "[a-z-]{1,12}(=\"[ -!#-~]{0,9}\")?", first: bool) {
        const KNOWN: [&str; 13] = [
            "restrict", "pty", "no-pty", "once", "port-forwarding", "no-port-forwarding", "cert-authority",
            "no-agent-forwarding", "no-x11-forwarding", "no-user-rc", "no-touch-required", "no-verify-required", "from",
        ];
        prop_assume!(!KNOWN.contains(&option.as_str()) && !option.contains('='));
        let line = written::line(&key);
        prop_assume!(!line.starts_with("ssh-"));
        let (options, rest) = options::split_off(&line).unwrap();
        let line = match first {
            true => format!("{option},{line}"),
            false => format!("{options},{option} {rest}"),
        };
        prop_assert!(one(&line).is_err(), "{}", line);
    }

    #[test]
    fn restrict_takes_away_and_never_gives(key in keys()) {
        let line = written::line(&key);
        let restricted = if line.starts_with("ssh-") { format!("restrict {line}") } else { format!("restrict,{line}") };
        if let Ok(restricted) = one(&restricted) {
            let narrowing = Narrowing { no_pty: true, no_forwarding: true, ..key.narrowing.clone() };
            prop_assert_eq!(restricted, AuthorizedKey { narrowing, ..key });
        }
    }
}
