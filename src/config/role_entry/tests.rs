use super::*;
use crate::config::grants::Pattern;
use crate::config::network::NetworkConfig;
use crate::config::{cmdline::CommandLine, file};
use proptest::prelude::*;

fn grants(text: &str, name: &str) -> Grants {
    let (roles, _, problems) = read(text);
    assert_eq!(problems, [""; 0], "{text}");
    // The other reader of the file has nothing to say about it.
    assert_eq!(file::parse(text).unwrap().1, [""; 0]);
    roles.find(name).unwrap_or_else(|| panic!("{name}: {text}")).grants.clone()
}

#[test]
fn without_a_word_all_is_as_built_in() {
    for text in ["", "port = 22\n", "[[key]]\nvolume = \"a\"\n"] {
        assert_eq!(read(text), (Roles::default(), vec![], vec![]), "{text}");
    }
}

#[test]
fn everything_can_be_said() {
    let text = r#"
        [[role]]
        name = "backup"
        commands = ["status", "hold"]
        shell = true
        exec = true
        pty = true
        sftp = { root = "/srv/x", shown-as = "/home/x", access = "read-only" }
        forward-to = ["10.0.0.5:22", "[2001:db8::1]:*", "*:443", "/run/x.sock"]
        listen-on = ["localhost:8080", "*:2022", "9000"]
        gateway-ports = true
        command = "status --json"
        environment = { A = "b", B_2 = "" }
    "#;
    let tcp = |host: &str, port| Pattern::Tcp { host: (host != "*").then(|| host.to_owned()), port };
    let expected = Grants {
        commands: vec![Granted::Status, Granted::Hold],
        shell: true,
        exec: true,
        pty: true,
        sftp: Some(Files { root: "/srv/x".into(), shown_as: Some("/home/x".into()), access: Access::ReadOnly }),
        open: Permitted::Only(vec![
            tcp("10.0.0.5", Some(22)),
            tcp("2001:db8::1", None),
            tcp("*", Some(443)),
            Pattern::Unix("/run/x.sock".into()),
        ]),
        listen: Permitted::Only(vec![tcp("localhost", Some(8080)), tcp("*", Some(2022)), tcp("*", Some(9000))]),
        gateway_ports: true,
        command: Some("status --json".into()),
        environment: vec![("A".into(), "b".into()), ("B_2".into(), "".into())],
        system: false,
    };
    assert_eq!(grants(text, "backup"), expected);
}

#[test]
fn a_new_role_begins_with_nothing_and_a_built_in_one_with_what_it_has() {
    assert_eq!(grants("[[role]]\nname = \"new\"\n", "new"), nothing());
    let root = Roles::default().find("root").unwrap().grants.clone();
    assert_eq!(grants("[[role]]\nname = \"root\"\n", "root"), root);
    let changed =
        grants("[[role]]\nname = \"root\"\nshell = false\nsftp = false\nforward-to = []\ncommands = []\n", "root");
    let expected = Grants { shell: false, sftp: None, open: Permitted::nothing(), commands: vec![], ..root };
    assert_eq!(changed, expected);
    let sftp = grants("[[role]]\nname = \"sftp\"\nsftp = { root = \"/srv\" }\n", "sftp");
    assert_eq!(sftp.sftp, Some(Files { root: "/srv".into(), shown_as: None, access: Access::ReadWrite }));
    assert_eq!(read("[[role]]\nname = \"new\"\n").1, ["new"]);
}

#[test]
fn a_role_with_a_mistake_denies_and_the_others_are_as_they_were() {
    for (line, expected) in [
        ("shel = true", "line 5: [role] shel: there is no such setting"),
        ("shell = \"yes\"", "neither true nor false"),
        ("commands = [\"status\", \"format\"]", "“format” is no command"),
        ("sftp = true", "this is a table"),
        ("sftp = { rot = \"/\" }", "line 5: [role.sftp] r"),
        ("sftp = { root = \"srv\" }", "no path from / on"),
        ("sftp = { root = \"/srv/../etc\" }", "no path from / on"),
        ("sftp = { root = \"/srv\", access = \"rw\" }", "“rw” is not known"),
        ("forward-to = [\"10.0.0.5\"]", "no destination"),
        ("listen-on = [\"host:0\"]", "no port"),
        ("command = \" \"", "no command"),
        ("command = [\"a\", \"b\"]", "only one"),
        ("environment = { \"A-B\" = \"1\" }", "no name of a variable"),
        ("environment = { A = 1 }", "[role.environment] A: this is a text"),
        ("environment = \"A=1\"", "this is a table"),
        ("[[role]]\nname = \"root\"", "stands there twice"),
    ] {
        let (roles, _, problems) = read(&format!("port = 22\n\n[[role]]\nname = \"root\"\n{line}\n"));
        assert!(
            problems[0].contains(expected) && problems[0].ends_with("; nobody can log in as root"),
            "{line}: {problems:?}"
        );
        assert_eq!((roles.find("root"), roles.names().as_str()), (None, "unlock, peek, sftp"), "{line}");
        assert!(roles.refusal("root").contains("mistake") && roles.refusal("boot").contains("no such role"));
    }
}

#[test]
fn where_no_role_is_named_all_are_as_built_in_and_it_is_told() {
    for (text, expected) in [
        ("[[role]]\nshell = true\n", "line 1: [role] name: this is missing"),
        ("[[role]]\nname = \"a b\"\n", "line 2: [role] name: “a b” can't be a role"),
        ("[[role]]\nname = \"-x\"\n", "can't be a role"),
        ("[[role]]\nname = \"\"\n", "can't be a role"),
        ("role = 3\n", "line 1: role: this is a list of tables"),
        ("role = [3]\n", "this is a list of tables"),
        ("[role]\nname = \"x\"\n", "write [[role]]"),
    ] {
        let (roles, names, problems) = read(text);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{text}: {problems:?}");
        assert_eq!((roles, names), (Roles::default(), vec![]), "{text}");
    }
}

#[test]
fn in_a_file_that_is_no_toml_only_harmless_roles_are_left_if_it_had_any() {
    for (text, names) in [
        ("[[[\n", "root, unlock, peek, sftp"),
        ("port = \n[[role]]\nname = \"root\"\n", "unlock, peek"),
        ("port = \nrole = [{ name = \"root\" }]\n", "unlock, peek"),
        (" [ [ role ] ]\nname = \n", "unlock, peek"),
    ] {
        assert_eq!(read(text).0.names(), names, "{text}");
    }
}

#[test]
fn the_roles_in_the_shipped_example_are_understood() {
    let example = include_str!("../../../config.example.toml");
    let (_, roles) = example.split_once("# Roles").unwrap();
    let from = roles.find("# [[role]]").unwrap();
    let text: String = roles[from..].lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let (read, names, problems) = read(&text);
    assert_eq!((problems, names), (vec![], vec!["files".to_owned(), "jump".to_owned(), "root".to_owned()]));
    assert!(!read.find("root").unwrap().grants.exec);
    // It stands apart from the network.
    assert_eq!(NetworkConfig::choose(&CommandLine::parse(""), None).1, [""; 0]);
}

proptest! {
    #[test]
    fn whatever_stands_there_a_role_is_understood_or_denied(line in "[a-z-]{1,14} = ([a-z]{4,5}|[0-9]|\"[ -!#-Z^-~]{0,9}\")") {
        let text = format!("[[role]]\nname = \"root\"\n{line}\n");
        let (roles, _, problems) = read(&text);
        let denied = roles.find("root").is_none() || entry::parse(&text).is_none();
        prop_assert_eq!(denied, !problems.is_empty(), "{}", text);
    }
}
