//! Programs on a terminal.

use vestibule::control::message::{Exit, Size, Start, Terminal, What};

use crate::lab::{Lab, processes, terminal};

#[test]
fn a_login_shell_with_job_control() {
    let lab = Lab::new("shell");
    let mut shell = lab.shell();
    shell.type_text("stty size; tty; echo \"$0 $- $TERM\"\n");
    let seen = shell.expect("ready> ");
    assert!(seen.contains("31 97") && seen.contains("/dev/pts/"), "{seen}");
    let options = seen.lines().find(|line| line.starts_with("-bash ")).expect("a login shell");
    assert!(options.contains('m') && options.contains('i') && options.contains("xterm-256color"), "{options}");
    assert!(!seen.contains("job control") && !seen.contains("can't access tty"), "{seen}");
    shell.type_text("exit 3\n");
    assert_eq!(shell.exit(), Exit::Status(3));
}

#[test]
fn control_characters_reach_the_foreground() {
    let lab = Lab::new("keys");
    let mut shell = lab.shell();
    shell.type_text("sleep 4730.5\n");
    lab.machine.wait_for("the sleep", || !processes("sleep\x004730.5").is_empty());
    shell.type_text("\x03");
    shell.expect("^C");
    shell.expect("ready> ");
    shell.type_text("echo $?\n");
    assert!(shell.expect("ready> ").contains("\r130\r\n"), "ended by SIGINT");

    shell.type_text("sleep 4731.5\n");
    lab.machine.wait_for("the sleep", || !processes("sleep\x004731.5").is_empty());
    shell.type_text("\x1a");
    shell.expect("Stopped");
    shell.expect("ready> ");
    shell.type_text("fg\n");
    shell.expect("sleep 4731.5\r\n");
    // Bash says so before it has given the terminal away; the signal that has it go on comes after that.
    let sleep = processes("sleep\x004731.5")[0];
    let state = || std::fs::read_to_string(format!("/proc/{sleep}/stat")).unwrap();
    lab.machine.wait_for("it to go on", || state().contains(") S "));
    // To what is in the foreground, not to the shell.
    shell.signal("TERM");
    shell.expect("Terminated");
    shell.expect("ready> ");
    shell.type_text("exit\n");
    assert!(matches!(shell.exit(), Exit::Status(_)));
}

#[test]
fn a_window_grows() {
    let lab = Lab::new("window");
    let line = "trap 'stty size; exit' WINCH; echo waiting; while :; do sleep 0.1; done";
    let mut program = lab.on_terminal(What::Exec(line.into()));
    program.expect("waiting");
    program.resize(Size { columns: 132, rows: 43, width: 0, height: 0 });
    program.expect("43 132");
    assert_eq!(program.exit(), Exit::Status(0));
}

#[test]
fn the_clients_modes_are_set() {
    let lab = Lab::new("modes");
    // ^C on another key, erase by ^H, no echo, a speed, and an opcode that nobody knows.
    let modes = vec![(1, 24), (3, 8), (53, 0), (129, 9600), (128, 9600), (99, 1)];
    let terminal = Terminal { name: "../x".to_owned(), modes, ..terminal() };
    let line = b"stty -a; echo TERM=$TERM.".to_vec();
    let start = Start { what: What::Exec(line), terminal: Some(terminal), environment: vec![] };
    let seen = lab.try_start(start).unwrap().expect("TERM=dumb.");
    for setting in ["intr = ^X;", "erase = ^H;", " -echo ", "speed 9600 baud", " isig "] {
        assert!(seen.replace("\r\n", " ").contains(setting), "{setting}: {seen}");
    }
}

#[test]
fn a_terminal_that_is_closed_takes_its_shell_along() {
    let mut lab = Lab::new("closed");
    let mut shell = lab.shell();
    shell.type_text("sleep 4732.5 & setsid sleep 4733.5 & sleep 4734.5\n");
    lab.machine.wait_for("its jobs", || (32..35).all(|n| !processes(&format!("sleep\x0047{n}.5")).is_empty()));
    drop(shell);
    lab.disconnect();
    lab.machine.wait_for("they end", || [32, 34].iter().all(|n| processes(&format!("sleep\x0047{n}.5")).is_empty()));
    let stays = processes("sleep\x004733.5");
    assert_eq!(stays.len(), 1, "what has left the session goes on");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(stays[0]), nix::sys::signal::Signal::SIGKILL).unwrap();
}
