//! A serial line, which is a terminal: a pty stands for it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, OutputFlags, tcgetattr};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::lab::{Guard, bridge, command, greet, is_greeted, machine, serve_stdio, until};

/// Both ends.
fn line() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let far = openpt(flags).unwrap();
    unlockpt(&far).unwrap();
    let near = ioctl_tiocgptpeer(&far, flags).unwrap();
    (far, near)
}

#[test]
fn a_terminal_carries_every_byte_and_is_restored() {
    let machine = machine("streams-serial");
    let (far, near) = line();
    let before = tcgetattr(&near).unwrap();
    assert!(before.local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON), "it begins as lines have it");
    let copy = || near.try_clone().unwrap();
    let is_restored = || {
        let after = tcgetattr(&near).unwrap();
        assert_eq!((after.local_flags, after.input_flags), (before.local_flags, before.input_flags));
        assert_eq!(after.output_flags & OutputFlags::OPOST, before.output_flags & OutputFlags::OPOST);
    };
    let serve = || {
        let server = Guard::spawn(command(&serve_stdio(&machine)).stdin(copy()).stdout(copy()).stderr(copy()));
        // Before that the line echoes, and the client would take its own words for the server's.
        until("a raw terminal", || !tcgetattr(&near).unwrap().local_flags.contains(LocalFlags::ECHO));
        server
    };
    let mut ended = serve();
    // It is greeted when the signals are taken, and nobody answers.
    let mut greeting = String::new();
    BufReader::new(File::from(far.try_clone().unwrap())).read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("SSH-2.0-") && greeting.ends_with("\r\n"), "{greeting:?}");
    kill(ended.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(ended.ended(), Some(0));
    is_restored();
    let mut server = serve();
    bridge(TcpListener::bind(("127.0.0.1", machine.port)).unwrap(), move || far);
    let greeted = greet(&machine, &[]);
    assert!(is_greeted(&greeted), "{greeted:?}; log:\n{}", machine.log());
    assert_eq!(server.ended(), Some(0), "the client has said goodbye");
    is_restored();
}
