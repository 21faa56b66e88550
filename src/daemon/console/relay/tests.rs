//! The relay on pseudo terminals, without redirecting this machine's console.

use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;

use super::*;

/// Far more than test machines need.
const DEADLINE: Duration = Duration::from_secs(20);

/// A relay in a thread, and its other sides.
struct Lab {
    /// What writers to the console have.
    writer: File,
    /// What a person at the device sees.
    person: File,
    copy: File,
    stop: Option<File>,
    given_back: mpsc::Receiver<()>,
    ended: mpsc::Receiver<anyhow::Result<()>>,
}

impl Lab {
    fn new() -> Self {
        let [console, device] = [(); 2].map(|()| openpty(None, None).unwrap());
        for slave in [&console.slave, &device.slave] {
            let mut settings = tcgetattr(slave).unwrap();
            cfmakeraw(&mut settings);
            tcsetattr(slave, SetArg::TCSANOW, &settings).unwrap();
        }
        let path = nix::unistd::ttyname(&device.slave).unwrap();
        let ((stop, stopper), (copy, copied)) = (nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap());
        let target = open(&path).unwrap();
        let ((give, given_back), (end, ended)) = (mpsc::channel(), mpsc::channel());
        thread::spawn(move || {
            // Deleted with the relay: the kernel's kill would hit all tests.
            let lifeline = Lifeline::new().unwrap();
            let relay = Relay::new(console.master, (target, path), copied, lifeline).unwrap();
            let result = relay.run(&stop, || Ok(give.send(())?));
            // A person's terminal would hang up.
            drop(device.slave);
            end.send(result).unwrap();
        });
        let (writer, person, copy) = (console.slave.into(), device.master.into(), copy.into());
        Self { writer, person, copy, stop: Some(stopper.into()), given_back, ended }
    }

    fn end(&mut self) {
        drop(self.stop.take());
        self.given_back.recv_timeout(DEADLINE).expect("given back");
    }
}

fn read(from: &mut File, count: usize) -> String {
    let mut text = vec![0; count];
    from.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn everything_is_passed_on_as_it_is_and_copied() {
    let mut lab = Lab::new();
    let text = "Enter passphrase: \r\nline\n\ttab\x1b[0m\x03\x04";
    lab.writer.write_all(text.as_bytes()).unwrap();
    assert_eq!(read(&mut lab.person, text.len()), text);
    assert_eq!(read(&mut lab.copy, text.len() + 1), format!("\0{text}"));
    // A writer's last words come through, though it writes while the console is given back.
    lab.end();
    lab.writer.write_all(b"last").unwrap();
    assert_eq!(read(&mut lab.person, 4), "last");
    drop(lab.writer);
    lab.ended.recv_timeout(DEADLINE).unwrap().unwrap();
}

#[test]
fn it_ends_when_the_redirection_is_taken_away() {
    let mut lab = Lab::new();
    lab.writer.write_all(b"text").unwrap();
    drop(lab.writer);
    lab.ended.recv_timeout(DEADLINE).unwrap().unwrap();
    assert!(lab.given_back.try_recv().is_err(), "what is not ours is not given back");
    assert_eq!(read(&mut lab.person, 4), "text");
}

#[test]
fn a_daemon_that_does_not_read_holds_up_nobody() {
    let mut lab = Lab::new();
    let line = "0123456789abcde\n".repeat(64);
    for _ in 0..200 {
        lab.writer.write_all(line.as_bytes()).unwrap();
        assert_eq!(read(&mut lab.person, line.len()), line);
    }
    lab.end();
}

#[test]
fn a_device_that_takes_nothing_holds_up_nobody() {
    let mut lab = Lab::new();
    let (sender, done) = mpsc::channel();
    let mut writer = lab.writer.try_clone().unwrap();
    thread::spawn(move || {
        // Several times as much as the ptys and the backlog hold.
        writer.write_all(&[b'x'; 100_000]).unwrap();
        writer.write_all(b"newest").unwrap();
        sender.send(()).unwrap();
    });
    done.recv_timeout(DEADLINE).expect("the writer goes on");
    assert!(lab.person.as_raw_fd() > 0, "and the device is there, but nobody reads it");
    lab.end();
    drop(lab.writer);
    lab.ended.recv_timeout(DEADLINE).unwrap().expect("and the end does not wait for it");
}
