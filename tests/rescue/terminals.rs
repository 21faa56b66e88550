//! Programs on a terminal.

use vestibule::control::message::{Exit, Size, What};

use crate::lab::Lab;

#[test]
fn a_shell_on_a_terminal() {
    let lab = Lab::new("shell");
    let mut shell = lab.on_terminal(What::Shell);
    shell.type_text("stty size; tty; exit 3\n");
    let seen = shell.expect("/dev/pts/");
    assert!(seen.contains("31 97"), "{seen}");
    assert!(!seen.contains("job control"), "{seen}");
    assert_eq!(shell.exit(), Exit::Status(3));
}

#[test]
fn a_window_grows() {
    let lab = Lab::new("window");
    let mut shell = lab
        .on_terminal(What::Exec(b"trap 'stty size; exit' WINCH; echo waiting; while :; do sleep 0.1; done".to_vec()));
    shell.expect("waiting");
    shell.resize(Size { columns: 132, rows: 43, width: 0, height: 0 });
    shell.expect("43 132");
    assert_eq!(shell.exit(), Exit::Status(0));
}
