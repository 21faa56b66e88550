//! The rescue shell on a terminal, by itself and from the unlock screen.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use rustix::termios::tcsetwinsize;

use crate::common::terminal::Reader;
use crate::common::{DEADLINE, Machine};

/// `ssh -tt`: what is typed, and what is seen.
struct Terminal {
    ssh: std::process::Child,
    keys: std::process::ChildStdin,
    screen: Reader,
}

impl Terminal {
    fn new(machine: &Machine, arguments: &[&str]) -> Self {
        let arguments = [&["-tt", "--"], arguments].concat();
        let mut ssh = machine
            .ssh_command("root", &arguments)
            .env("TERM", "vt100")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (keys, screen) = (ssh.stdin.take().unwrap(), Reader::new(ssh.stdout.take().unwrap()));
        Self { ssh, keys, screen }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn ends(mut self) -> Option<i32> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.ssh.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "it does not end; seen:\n{}", self.screen.all());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_terminal_with_job_control() {
    let machine = Machine::started("shell");
    machine.wait_for_ssh();
    let mut shell = Terminal::new(&machine, &["shell"]);
    // What is typed is echoed; what is looked for is only in the output.
    shell.types("test -t 0 && echo termi''nal $TERM\n");
    shell.screen.until("terminal vt100");
    // A key that comes before the program is in the foreground is the shell's.
    shell.types("sh -c 'echo run\"\"ning; exec sleep 300'\n");
    shell.screen.until("running");
    shell.types("\x03");
    shell.screen.until("^C"); // what is typed before is dropped with it
    shell.types("echo inter''rupted\n");
    shell.screen.until("interrupted");
    shell.types("sh -c 'echo run\"\"ning; exec sleep 301'\n");
    shell.screen.until("running");
    shell.types("\x1a");
    shell.screen.until("Stopped");
    // A shell with a job that it still takes for stopped does not exit at once.
    shell.types("kill -9 %1; wait; echo contin''ued\n");
    shell.screen.until("continued");
    shell.types("exit 9\n");
    assert_eq!(shell.ends(), Some(9));
}

#[test]
fn a_shell_from_the_menu_and_back() {
    let machine = Machine::started("menu");
    machine.wait_for_ssh();
    let _asker = machine.ask("root", "pw");
    let mut screen = Terminal::new(&machine, &[]);
    screen.screen.until("Passphrase for root: ");
    screen.types("\x03");
    screen.screen.until("[s] shell");
    screen.types("s");
    screen.screen.until("leads back here");
    screen.types("echo he''re; exit\n");
    screen.screen.until("here");
    screen.screen.until("Passphrase for root: ");
    screen.types("pw\r");
    screen.screen.until("root (/dev/disk-root): unlocked");
}

#[test]
fn roles_without_a_shell_are_offered_none() {
    let machine = Machine::started("noshell");
    machine.wait_for_ssh();
    let denied = machine.ssh("unlock", &["shell"], b"");
    assert_eq!(denied.status.code(), Some(6), "{denied:?}");
    assert!(String::from_utf8_lossy(&denied.stderr).contains("the role unlock may not have a shell"), "{denied:?}");
    let denied = machine.ssh("peek", &["cat", "/etc/passwd"], b"");
    assert_eq!(denied.status.code(), Some(6), "{denied:?}");
    assert!(String::from_utf8_lossy(&denied.stderr).contains("may not run programs"), "{denied:?}");
}

#[test]
fn a_forced_command_is_all_there_is() {
    let mut machine = Machine::new("forced");
    let key = std::fs::read_to_string(machine.root.join("id.pub")).unwrap();
    machine.write("etc/vestibule/authorized_keys", &format!("command=\"echo only $SSH_ORIGINAL_COMMAND\" {key}"));
    machine.start();
    machine.wait_for_ssh();
    for (asked, said) in [(&["shell"][..], "only shell\n"), (&["reboot"], "only reboot\n"), (&[], "only\n")] {
        let output = machine.ssh("root", asked, b"");
        assert_eq!(String::from_utf8_lossy(&output.stdout), said, "{output:?}");
    }
}

#[test]
fn hand_over_ends_a_shell_and_says_so() {
    let mut machine = Machine::started("leave");
    machine.wait_for_ssh();
    let mut shell = Terminal::new(&machine, &["shell"]);
    shell.types("echo rea''dy\n");
    shell.screen.until("ready");
    let started = std::time::Instant::now();
    assert_eq!(machine.stop(), Some(0));
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "the boot waited {:?}", started.elapsed());
    shell.screen.until("the boot continues");
    shell.ends();
}

#[test]
fn a_shell_that_holds_the_boot_is_waited_for() {
    let machine = Machine::started("holding");
    machine.wait_for_ssh();
    let mut shell = Terminal::new(&machine, &["shell", "--hold"]);
    shell.types("echo rea''dy\n");
    shell.screen.until("ready");
    let mut stop = std::process::Command::new(env!("CARGO_BIN_EXE_vestibule"));
    let mut stop = stop.args(["stop", "--root"]).arg(&machine.root).stderr(Stdio::piped()).spawn().unwrap();
    let hold = || machine.status()["hold"].as_str().unwrap_or_default().to_owned();
    machine.wait_for("the hand-over", || hold().starts_with("the boot waits"));
    shell.types("echo still he''re\n");
    shell.screen.until("still here");
    assert!(stop.try_wait().unwrap().is_none(), "the boot waits");
    shell.types("exit 3\n");
    assert_eq!(shell.ends(), Some(3));
    assert!(stop.wait().unwrap().success(), "and goes on when the shell has ended");
}

/// OpenSSH on a terminal of its own, whose window somebody drags.
#[test]
fn a_window_that_grows() {
    let machine = Machine::started("window");
    machine.wait_for_ssh();
    let size = |ws_row, ws_col| Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size(29, 91)), None).unwrap();
    let ssh = machine.ssh_command("root", &["-t", "--", "shell"]);
    let end = || pty.slave.try_clone().unwrap();
    let mut client = std::process::Command::new("setsid");
    client.args(["--ctty", "--wait", "ssh"]).args(ssh.get_args()).stdin(end()).stdout(end()).stderr(end());
    let mut client = client.spawn().unwrap();
    let mut keys = std::fs::File::from(pty.master.try_clone().unwrap());
    let mut screen = Reader::new(std::fs::File::from(pty.master.try_clone().unwrap()));
    keys.write_all(b"echo rea''dy $(stty size)\n").unwrap();
    screen.until("ready 29 91");
    tcsetwinsize(&pty.master, rustix::termios::Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 })
        .unwrap();
    keys.write_all(b"until [ \"$(stty size)\" = '40 120' ]; do sleep 0.1; done; echo gr''own\n").unwrap();
    screen.until("grown");
    keys.write_all(b"exit 8\n").unwrap();
    machine.wait_for("the end", || client.try_wait().unwrap().is_some());
    assert_eq!(client.wait().unwrap().code(), Some(8));
}
