//! What a session or a file server could do if somebody took it over: each of these tests starts this program again,
//! confines it as the real one is, and has it try from the inside.

#[path = "hostile/files.rs"]
mod files;
#[path = "hostile/session.rs"]
mod session;

use std::ffi::c_long;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use nix::libc;
use vestibule::hardening;

/// Set in the process that is confined: a directory for its files.
const INSIDE: &str = "VESTIBULE_TEST_INSIDE";

/// Runs the named test of this program, which is ignored else, in a process of its own.
fn from_inside(test: &str) -> Output {
    let name = format!("vestibule-hostile-{}-{}", test.replace("::", "-"), std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir(&directory).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(INSIDE, &directory);
    let output = command.env("RUST_BACKTRACE", "0").output().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    output
}

fn assert_all_held(test: &str) {
    if let Err(lacking) = hardening::confinement() {
        eprintln!("not tried: {lacking}");
        return;
    }
    let output = from_inside(test);
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}\n{told}", output.status);
    assert!(told.contains("1 passed"), "{test} did not run:\n{told}");
}

/// The directory for its files, in the process that may be confined; a test that is called by its name elsewhere does nothing.
fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

/// What was tried, and what came of it if that was not a refusal.
#[derive(Default)]
struct Attempts {
    tried: usize,
    held_not: Vec<String>,
}

impl Attempts {
    /// The result of a system call that is to fail with EPERM.
    fn expect(&mut self, what: &str, result: c_long) {
        let error = io::Error::last_os_error();
        if result == 0 && (what.contains("fork") || what.contains("clone")) && std::process::id() != parent() {
            std::process::abort(); // a child of ours, which was not to be
        }
        self.tried += 1;
        match error.raw_os_error() {
            Some(libc::EPERM) if result == -1 => {}
            _ if result == -1 => self.held_not.push(format!("{what}: {error}")),
            _ => self.held_not.push(format!("{what}: succeeded with {result}")),
        }
    }

    fn finish(self, at_least: usize) {
        assert!(
            self.held_not.is_empty(),
            "{} of {} were not refused: {:#?}",
            self.held_not.len(),
            self.tried,
            self.held_not
        );
        assert!(self.tried >= at_least, "only {} were tried", self.tried);
    }
}

/// The process that was started as this test.
fn parent() -> u32 {
    static PARENT: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *PARENT.get_or_init(std::process::id)
}

/// `tries!(attempts; call(arguments); …)`: system calls by their names in libc, which are to be refused.
macro_rules! tries {
    ($attempts:expr; $($call:ident($($argument:expr),*);)*) => {$(
        // SAFETY: the call is to be refused before it looks at its arguments. Where it is not, the test has failed, and
        // what happens to this process, which is made for the test, does not matter.
        #[allow(unused_unsafe)]
        let result = unsafe { libc::syscall(libc::$call, $($argument),*) };
        $attempts.expect(&format!("{}{}", stringify!($call), stringify!(($($argument),*))), result);
    )*};
}
use tries;

#[test]
fn a_session_can_do_nothing_but_its_work() {
    assert_all_held("session::everything_else_is_refused");
}

#[test]
fn a_session_can_do_its_work() {
    assert_all_held("session::its_work_goes_on");
}

#[test]
fn a_session_without_filter_reaches_nothing_either() {
    assert_all_held("session::landlock_alone_holds");
}

#[test]
fn a_file_server_reads_below_its_directory_and_nothing_else() {
    assert_all_held("files::reading_is_all");
}

#[test]
fn a_file_server_changes_what_is_below_its_directory_and_nothing_else() {
    assert_all_held("files::changes_stay_inside");
}

#[test]
fn a_file_server_that_only_takes_files_gives_none() {
    assert_all_held("files::nothing_is_read");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_by_the_numbers_of_another_architecture_end_the_process() {
    let output = from_inside("session::another_architecture");
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
}
