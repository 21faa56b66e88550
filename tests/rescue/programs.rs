//! Programs without a terminal.

use vestibule::control::message::Exit;

use crate::lab::{Lab, processes};

#[test]
fn output_errors_and_status_are_apart() {
    let lab = Lab::new("exec");
    let (out, err, exit) = lab.output("echo out; echo err >&2; exit 7");
    assert_eq!((&*out, &*err, exit), ("out\n", "err\n", Exit::Status(7)));
}

#[test]
fn signals_and_lost_connections_end_programs() {
    let mut lab = Lab::new("ends");
    let mut program = lab.exec("sleep 4711.5");
    program.signal("TERM");
    assert_eq!(program.exit(), Exit::Signal { name: "TERM".to_owned(), core_dumped: false });
    let left = lab.exec("trap '' HUP; sleep 4711.25; sleep 4711.25");
    lab.machine.wait_for("it to run", || !processes("sleep\x004711.25").is_empty());
    drop(left);
    lab.disconnect();
    lab.machine.wait_for("it to end", || processes("sleep\x004711.25").is_empty());
}
