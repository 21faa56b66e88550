//! Roles of the configuration.

use super::{ssh, status, text, write_lines};
use crate::common::Machine;

/// A machine with more in its configuration.
fn machine(test: &str, roles: &str) -> Machine {
    let mut machine = Machine::new(test);
    let config = std::fs::read_to_string(machine.root.join("etc/vestibule/config.toml")).unwrap();
    machine.write("etc/vestibule/config.toml", &format!("{config}{roles}"));
    machine.start();
    machine.wait_for_ssh();
    machine
}

#[test]
fn a_role_may_do_what_stands_there() {
    let roles = "[[role]]\nname = \"watch\"\ncommands = [\"status\"]\n\
                 [[role]]\nname = \"only\"\ncommand = \"status --json\"\npty = true\n\
                 [[role]]\nname = \"peek\"\ncommands = []\npty = false\n";
    let machine = machine("role", roles);
    for (user, words, expected, said) in [
        ("watch", &["status"][..], 0, ""),
        ("watch", &["peek"], 6, "the role watch may not do that"),
        ("watch", &["reboot"], 6, "the role watch may not do that"),
        ("only", &["reboot"], 0, ""),
        ("only", &[], 0, ""),
        ("peek", &["peek"], 6, "the role peek may not do that"),
        ("peek", &["-tt", "--", "status"], 255, "PTY allocation request failed"),
        ("watch", &["-tt", "--", "status"], 255, "PTY allocation request failed"),
        ("unlock", &["peek"], 0, ""),
    ] {
        let output = ssh(&machine, "id", user, words);
        assert_eq!(output.status.code(), Some(expected), "{user} {words:?}: {output:?}");
        assert!(text(&output.stderr).contains(said), "{user} {words:?}: {output:?}");
    }
}

#[test]
fn a_role_with_a_mistake_denies_and_the_rest_works() {
    let machine = machine("badrole", "[[role]]\nname = \"root\"\nshel = true\n");
    assert_eq!((status(&machine, "id", "root"), status(&machine, "id", "unlock")), (Some(255), Some(0)));
    let problems = machine.status()["problems"].to_string();
    let said = "config.toml: line 6: [role] shel: there is no such setting";
    assert!(problems.contains(said) && problems.contains("nobody can log in as root"), "{problems}");
    assert!(machine.log().contains("refused: this role has a mistake in the configuration"), "{}", machine.log());
    let check = machine.vestibule(&["check"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(text(&check.stderr).contains(said), "{check:?}");
}

#[test]
fn a_key_may_not_change_what_a_role_is_forced_to() {
    let mut machine = Machine::new("forcedrole");
    let config = std::fs::read_to_string(machine.root.join("etc/vestibule/config.toml")).unwrap();
    machine.write(
        "etc/vestibule/config.toml",
        &format!("{config}[[role]]\nname = \"only\"\ncommand = \"status --json\"\n"),
    );
    machine.new_key("same", "ed25519");
    machine.new_key("other", "ed25519");
    write_lines(&machine, &[("command=\"status --json\"", "same"), ("command=\"peek\"", "other")]);
    machine.start();
    machine.wait_for_ssh();
    assert_eq!((status(&machine, "same", "only"), status(&machine, "other", "only")), (Some(0), Some(255)));
    assert_eq!(ssh(&machine, "other", "root", &["reboot"]).status.code(), Some(0), "peek, as it is forced to");
    assert!(machine.log().contains("the role only has a command of its own"), "{}", machine.log());
}
