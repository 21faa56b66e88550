//! Bytes, over a pair of pipes as OpenSSH's sshd gives them, and over one socket as vestibule's daemon does.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use crate::{Place, text};

const INIT: &[u8] = b"\0\0\0\x05\x01\0\0\0\x03";
const LIMITS: &[u8] = b"\0\0\0\x1b\xc8\0\0\0\x01\0\0\0\x12limits@openssh.com";

fn server(place: &Place, input: Stdio, output: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .args(["sftp-server", "--root"])
        .arg(place.root(""))
        .stdin(input)
        .stdout(output)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// All that the server says to these bytes, its exit status, and what it says about it.
fn say(bytes: &[u8]) -> (Vec<u8>, Option<i32>, String) {
    let place = Place::new();
    let mut child = server(&place, Stdio::piped(), Stdio::piped());
    // A server that ends early closes the pipe; what counts is what it says.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    let output = child.wait_with_output().unwrap();
    (output.stdout, output.status.code(), text(&output.stderr))
}

#[test]
fn a_conversation_that_ends_well() {
    let (said, status, error) = say(&[INIT, LIMITS].concat());
    assert_eq!((status, error.as_str()), (Some(0), ""));
    assert_eq!(&said[4..9], b"\x02\0\0\0\x03");
    assert_eq!(said[said.len() - 37..][..5], [201, 0, 0, 0, 1]);
    assert_eq!(said[said.len() - 32..][..8], (256u64 << 10).to_be_bytes());
    assert_eq!(say(b""), (vec![], Some(0), String::new()));
}

#[test]
fn broken_protocol_ends_it_with_a_word() {
    for (bytes, expected) in [
        (&b"\xff\xff\xff\xff"[..], "a packet of 4294967295 bytes, where at most 262144 are allowed"),
        (b"\0\0\0\0", "an empty packet"),
        (b"\0\0\0\x01\x01", "a packet of type 1 ends before all of it was there"),
        (LIMITS, "a request before INIT"),
        (&[INIT, INIT].concat(), "a second INIT"),
        (&[INIT, b"\0\0\0\x09\x11\0\0\0\x01\xff\xff\xff\xff"].concat(), "a packet of type 17 ends"),
        (&[INIT, &LIMITS[..20]].concat(), "the client went away in the middle of a packet"),
        (b"SSH-2.0-x\r\n", "a packet of 1397966893 bytes"),
    ] {
        let (said, status, error) = say(bytes);
        assert_eq!(status, Some(1), "{bytes:?}");
        assert!(error.starts_with("vestibule: ") && error.contains(expected), "{bytes:?}: {error}");
        assert_eq!(said.is_empty(), !bytes.starts_with(INIT), "what was right is answered");
    }
}

#[test]
fn one_socket_for_both_that_somebody_made_non_blocking() {
    let place = Place::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let again = OwnedFd::from(theirs.try_clone().unwrap());
    let child = server(&place, OwnedFd::from(theirs).into(), again.into());
    let reader = ours.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        { reader }.read_to_end(&mut all).unwrap();
        all
    });
    ours.write_all(INIT).unwrap();
    const MANY: usize = 20_000; // more than any buffer holds
    for _ in 0..MANY {
        ours.write_all(LIMITS).unwrap();
    }
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let all = reading.join().unwrap();
    let version = 4 + u32::from_be_bytes(all[..4].try_into().unwrap()) as usize;
    assert_eq!(all.len(), version + MANY * 41);
}

#[test]
fn it_is_confined_before_it_hears_anything() {
    let place = Place::new();
    let mut child = server(&place, Stdio::piped(), Stdio::piped());
    let mut input = child.stdin.take().unwrap();
    input.write_all(INIT).unwrap();
    let mut version = [0; 9];
    child.stdout.as_mut().unwrap().read_exact(&mut version).unwrap(); // it has begun
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap();
    assert!(read("status").contains("NoNewPrivs:\t1\n"));
    let limits = read("limits");
    let limit = |name: &str| limits.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(limit("Max core file size").contains(" 0 "), "{limits}");
    assert!(limit("Max open files").contains(" 336 "), "{limits}");
    assert!(limit("Max address space").contains(" 67108864 "), "{limits}");
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_root_that_is_none() {
    let place = Place::new();
    std::fs::write(place.root("file"), "").unwrap();
    for name in ["missing", "file"] {
        let output = Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .args(["sftp-server", "--root"])
            .arg(place.root(name))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(&format!("opening {}", place.root(name).display())), "{output:?}");
    }
}
