//! Connections and listeners.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use vestibule::control::client::Events;
use vestibule::control::message::{Destination, Event, Request};

use crate::lab::Lab;

impl Lab {
    fn connect_to(&self, to: Destination) -> Result<File, String> {
        let mut events = self.request(Request::Connect(to));
        match self.wait(events.next_with_descriptors()).unwrap() {
            (Event::Connected, mut fds) => Ok(blocking(File::from(fds.remove(0)))),
            (Event::Refused(reason), _) => Err(reason),
            _ => panic!("another event"),
        }
    }

    fn listen_on(&self, on: Destination) -> Result<(Events, u16), String> {
        let mut events = self.request(Request::Listen(on));
        match self.wait(events.next()).unwrap() {
            Event::Listening { port } => Ok((events, port)),
            Event::Refused(reason) => Err(reason),
            _ => panic!("another event"),
        }
    }

    fn accepted(&self, events: &mut Events) -> (File, String, u16) {
        match self.wait(events.next_with_descriptors()).unwrap() {
            (Event::Accepted { address, port }, mut fds) => (blocking(File::from(fds.remove(0))), address, port),
            _ => panic!("another event"),
        }
    }
}

/// As they come they are for an event loop.
fn blocking(file: File) -> File {
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::empty()).unwrap();
    file
}

fn tcp(host: &str, port: u16) -> Destination {
    Destination::Tcp { host: host.to_owned(), port }
}

/// One line there and back.
fn speaks(mut near: impl Read + Write, mut far: impl Read + Write) {
    near.write_all(b"ping").unwrap();
    let mut heard = [0; 4];
    far.read_exact(&mut heard).unwrap();
    far.write_all(b"pong").unwrap();
    near.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"pong");
}

#[test]
fn connections_are_made_by_address_name_and_path() {
    let lab = Lab::new("connect");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        let stream = lab.connect_to(tcp(host, port)).unwrap();
        speaks(stream, server.accept().unwrap().0);
    }
    let server = UnixListener::bind(lab.machine.root.join("run/echo")).unwrap();
    let stream = lab.connect_to(Destination::Unix("/run/echo".to_owned())).unwrap();
    speaks(stream, server.accept().unwrap().0);
}

#[test]
fn what_can_not_be_reached_says_why() {
    let lab = Lab::new("unreachable");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (to, why) in [
        (tcp("127.0.0.1", closed), "efused"),
        (tcp("not a name", 22), "not a name port 22 can't be reached"),
        (Destination::Unix("/run/nothing".to_owned()), "No such file"),
        (Destination::Unix("run/relative".to_owned()), "no absolute path"),
    ] {
        let error = lab.connect_to(to.clone()).unwrap_err();
        assert!(error.contains(why), "{to:?}: {error}");
    }
}

#[test]
fn a_listener_passes_on_who_connects_and_goes_with_its_request() {
    let lab = Lab::new("listen");
    let (mut events, port) = lab.listen_on(tcp("localhost", 0)).unwrap();
    let taken = lab.listen_on(tcp("localhost", port)).err().expect("the port is taken");
    assert!(taken.contains("in use"), "{taken}");
    for address in ["127.0.0.1", "::1"] {
        let Ok(peer) = TcpStream::connect((address, port)) else {
            assert_eq!(address, "::1", "no IPv6 in this kernel");
            continue;
        };
        let (stream, from, from_port) = lab.accepted(&mut events);
        assert_eq!((&*from, from_port), (address, peer.local_addr().unwrap().port()));
        speaks(stream, peer);
    }
    drop(events);
    lab.machine.wait_for("the port to be closed", || TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_path_is_made_for_root_alone_and_removed() {
    let lab = Lab::new("path");
    let (on, file) = (Destination::Unix("/run/forward".to_owned()), lab.machine.root.join("run/forward"));
    fs::write(&file, "mine").unwrap();
    let refused = lab.listen_on(on.clone()).err().expect("there is a file");
    assert!(refused.contains("there is a file of that name"), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    fs::remove_file(&file).unwrap();

    let used = UnixListener::bind(&file).unwrap();
    assert!(lab.listen_on(on.clone()).is_err(), "somebody listens there");
    drop(used); // what is left is stale
    let (mut events, _) = lab.listen_on(on).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let peer = UnixStream::connect(&file).unwrap();
    speaks(lab.accepted(&mut events).0, peer);
    drop(events);
    lab.machine.wait_for("the file to be removed", || !file.exists());
}

#[test]
fn many_at_once_come_in_their_order() {
    let lab = Lab::new("queue");
    let (mut events, port) = lab.listen_on(tcp("127.0.0.1", 0)).unwrap();
    let peers: Vec<_> = (0..24).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for peer in peers {
        let (stream, _, from) = lab.accepted(&mut events);
        assert_eq!(from, peer.local_addr().unwrap().port(), "in their order");
        speaks(stream, peer);
    }
}
