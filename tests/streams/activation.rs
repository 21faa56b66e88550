//! Sockets that somebody else has opened: inetd(8), as it does it, and systemd's own program for it.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};

use crate::common::Machine;
use crate::lab::{Guard, command, greet, is_greeted, machine, serve_stdio, text, until};

/// inetd makes the socket all three standard descriptors of what it starts (`dup2` of it to 0, 1 and 2).
fn as_inetd(machine: &Machine, socket: &impl std::os::fd::AsFd) -> Guard {
    let copy = || Stdio::from(socket.as_fd().try_clone_to_owned().unwrap());
    Guard::spawn(command(&serve_stdio(machine)).stdin(copy()).stdout(copy()).stderr(copy()))
}

#[test]
fn inetd_nowait_and_the_address_of_the_peer() {
    let machine = Arc::new(machine("streams-nowait"));
    let public = std::fs::read_to_string(machine.root.join("id.pub")).unwrap();
    machine.write("etc/vestibule/authorized_keys", &format!("from=\"127.0.0.1\" {public}"));
    // Where there is no kernel log, lines go to standard error, which is the connection.
    std::fs::remove_file(machine.root.join("dev/kmsg")).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", machine.port)).unwrap();
    let inetd = {
        let machine = machine.clone();
        std::thread::spawn(move || {
            let (connection, _) = listener.accept().unwrap();
            as_inetd(&machine, &connection).ended()
        })
    };
    let greeted = greet(&machine, &[]);
    assert!(is_greeted(&greeted), "{greeted:?}");
    assert_eq!(inetd.join().unwrap(), Some(0), "one connection, one process");
}

#[test]
fn inetd_wait_serves_until_it_is_ended() {
    let machine = machine("streams-wait");
    let listener = TcpListener::bind(("127.0.0.1", machine.port)).unwrap();
    let mut server = as_inetd(&machine, &listener);
    for _ in 0..2 {
        let greeted = greet(&machine, &[]);
        assert!(is_greeted(&greeted), "{greeted:?}; log:\n{}", machine.log());
    }
    assert!(machine.log().contains("root logged in from 127.0.0.1 with"), "{}", machine.log());
    kill(server.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn with_a_daemon_it_gets_the_connections() {
    let mut machine = machine("streams-wait-daemon");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    machine.start();
    let mut server = as_inetd(&machine, &listener);
    let port = format!("HostKeyAlias=[127.0.0.1]:{}", machine.port);
    let greeted = greet(&machine, &["-p", &address.port().to_string(), "-o", &port]);
    assert!(is_greeted(&greeted), "{greeted:?}; log:\n{}", machine.log());
    assert!(machine.log().contains("root logged in from 127.0.0.1 with"), "{}", machine.log());
    kill(server.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(server.ended(), Some(0));
    assert_eq!(machine.stop(), Some(0));
}

/// Until it listens, which a connection shows; it gets no session.
fn wait_for(machine: &Machine, server: &mut Guard) {
    until("systemd-socket-activate to listen", || {
        assert_eq!(server.0.try_wait().unwrap(), None, "it has ended");
        std::net::TcpStream::connect(("127.0.0.1", machine.port)).is_ok()
    });
}

#[test]
fn systemd_passes_a_listening_socket_or_each_connection() {
    for accept in [&[][..], &["--accept"]] {
        let machine = machine("streams-systemd");
        let mut words = vec!["systemd-socket-activate".to_owned(), format!("--listen=127.0.0.1:{}", machine.port)];
        words.extend(accept.iter().map(|word| (*word).to_owned()));
        words.extend(serve_stdio(&machine));
        let log = std::fs::File::create(machine.root.join("stderr")).unwrap();
        let mut server = Guard::spawn(command(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log));
        wait_for(&machine, &mut server);
        for _ in 0..2 {
            let greeted = greet(&machine, &[]);
            assert!(is_greeted(&greeted), "{accept:?}: {greeted:?}; log:\n{}", machine.log());
        }
        assert!(machine.log().contains("root logged in from 127.0.0.1 with"), "{}", machine.log());
        if !accept.is_empty() {
            let pid = server.pid();
            let children = format!("/proc/{pid}/task/{pid}/children");
            until("each connection's process to end", || std::fs::read_to_string(&children).unwrap().is_empty());
        }
        kill(server.pid(), Signal::SIGTERM).unwrap();
        server.ended();
    }
}

#[test]
fn socat_carries_each_connection_by_socket_or_by_pipes() {
    for how in ["", ",pipes"] {
        let machine = machine("streams-socat");
        let listen = format!("TCP-LISTEN:{},bind=127.0.0.1,reuseaddr,fork", machine.port);
        let words = ["socat".to_owned(), listen, format!("EXEC:{}{how}", serve_stdio(&machine).join(" "))];
        let log = std::fs::File::create(machine.root.join("stderr")).unwrap();
        let mut server = Guard::spawn(command(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log));
        until("socat to listen", || {
            assert_eq!(server.0.try_wait().unwrap(), None, "it has ended; log:\n{}", machine.log());
            std::net::TcpStream::connect(("127.0.0.1", machine.port)).is_ok()
        });
        for _ in 0..2 {
            let greeted = greet(&machine, &[]);
            assert!(is_greeted(&greeted), "{how}: {greeted:?}; log:\n{}", machine.log());
        }
        let pid = server.pid();
        let children = format!("/proc/{pid}/task/{pid}/children");
        until("each connection's process to end", || std::fs::read_to_string(&children).unwrap().is_empty());
    }
}

#[test]
fn variables_for_another_process_are_not_ours() {
    let machine = machine("streams-others");
    let output = command(&serve_stdio(&machine))
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(text(&output.stderr).contains("standard input is a device such as /dev/null"), "{output:?}");
}
