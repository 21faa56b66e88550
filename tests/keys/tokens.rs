//! FIDO keys (OpenSSH's PROTOCOL.u2f), without a token: an agent signs as one would. The client is OpenSSH's own.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};

use russh::keys::PrivateKey;
use russh::keys::signature::Signer;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::sha2::{Digest, Sha256};

use crate::common::Machine;

const APPLICATION: &[u8] = b"ssh:";
const TOUCHED: u8 = 1;
const TOUCHED_AND_VERIFIED: u8 = 5;
// draft-ietf-sshm-ssh-agent section 6.1
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const FAILURE: u8 = 5;

/// A key that is in a token.
#[derive(Clone)]
struct Token {
    key: PrivateKey,
    name: &'static str,
    flags: u8,
    /// Signed for another application than the key is for.
    misled: bool,
}

impl Token {
    /// `kind` is ed25519 or ecdsa, as ssh-keygen calls it.
    fn new(machine: &Machine, kind: &str) -> Self {
        let name = match kind {
            "ed25519" => "sk-ssh-ed25519@openssh.com",
            _ => "sk-ecdsa-sha2-nistp256@openssh.com",
        };
        let file = format!("token-{kind}");
        machine.new_key(&file, kind);
        let key = PrivateKey::from_openssh(std::fs::read(machine.root.join(file)).unwrap()).unwrap();
        Self { key, name, flags: TOUCHED, misled: false }
    }

    /// The public key, as in a packet.
    fn blob(&self) -> Vec<u8> {
        let mut blob = string(self.name.as_bytes());
        match self.key.public_key().key_data() {
            KeyData::Ed25519(key) => blob.extend(string(&key.0)),
            KeyData::Ecdsa(key) => blob.extend([string(b"nistp256"), string(key.as_sec1_bytes())].concat()),
            other => panic!("{other:?}"),
        }
        blob.extend(string(APPLICATION));
        blob
    }

    /// PROTOCOL.u2f, "SSH U2F signatures".
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let counter = 7u32.to_be_bytes();
        let application: &[u8] = if self.misled { b"ssh:other" } else { APPLICATION };
        let signed = [&Sha256::digest(application)[..], &[self.flags], &counter, &Sha256::digest(message)[..]].concat();
        let signature = self.key.try_sign(&signed).unwrap();
        [&string(self.name.as_bytes())[..], &string(signature.as_bytes()), &[self.flags], &counter].concat()
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn take_string<'a>(from: &mut &'a [u8]) -> &'a [u8] {
    let (length, rest) = from.split_at(4);
    let (bytes, rest) = rest.split_at(u32::from_be_bytes(length.try_into().unwrap()) as usize);
    *from = rest;
    bytes
}

fn read_message(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// An agent that has one key, for one client.
fn serve(listener: &UnixListener, token: &Token) {
    let (mut stream, _) = listener.accept().unwrap();
    while let Some(message) = read_message(&mut stream) {
        let answer = match message[0] {
            REQUEST_IDENTITIES => [&[IDENTITIES, 0, 0, 0, 1][..], &string(&token.blob()), &string(b"token")].concat(),
            SIGN_REQUEST => {
                let mut rest = &message[1..];
                assert_eq!(take_string(&mut rest), token.blob());
                let message = take_string(&mut rest);
                [&[SIGN_RESPONSE][..], &string(&token.sign(message))].concat()
            }
            _ => vec![FAILURE], // session-bind@openssh.com
        };
        stream.write_all(&string(&answer)).unwrap();
    }
}

/// `ssh -o IdentityAgent=… peek@machine status`
fn log_in(machine: &Machine, token: &Token) -> Output {
    let socket = machine.root.join("agent");
    let _ = std::fs::remove_file(&socket); // that of the client before
    let listener = UnixListener::bind(&socket).unwrap();
    let token = token.clone();
    let agent = std::thread::spawn(move || serve(&listener, &token));
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-p", &machine.port.to_string(), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]);
    for option in [
        format!("IdentityAgent={}", socket.display()),
        format!("UserKnownHostsFile={}", machine.root.join("known_hosts").display()),
        "IdentityFile=none".to_owned(),
    ] {
        ssh.args(["-o", &option]);
    }
    let output = ssh.args(["peek@127.0.0.1", "status"]).stdin(Stdio::null()).output().unwrap();
    agent.join().unwrap();
    output
}

fn line(token: &Token) -> String {
    let mut base64 = Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    base64.stdin.take().unwrap().write_all(&token.blob()).unwrap();
    let output = base64.wait_with_output().unwrap();
    format!("{} {} token", token.name, String::from_utf8(output.stdout).unwrap())
}

#[test]
fn keys_of_tokens() {
    let mut machine = Machine::new("tokens");
    let tokens = ["ed25519", "ecdsa"].map(|kind| Token::new(&machine, kind));
    machine.write("etc/vestibule/authorized_keys", &tokens.each_ref().map(line).join("\n"));
    machine.start();
    machine.wait_for_ssh();
    for token in tokens {
        let output = log_in(&machine, &token);
        assert_eq!(output.status.code(), Some(0), "{}: {output:?}", token.name);
        let misled = log_in(&machine, &Token { misled: true, ..token.clone() });
        assert_eq!(misled.status.code(), Some(255), "{}: for another application: {misled:?}", token.name);
        // The SSH library doesn't show the flags: the README says that touches and PINs are not checked.
        let untouched = log_in(&machine, &Token { flags: 0, ..token.clone() });
        assert_eq!(untouched.status.code(), Some(0), "{}: {untouched:?}", token.name);
    }
}

#[test]
fn what_can_not_be_checked_admits_nobody() {
    let mut machine = Machine::new("verified");
    let token = Token { flags: TOUCHED_AND_VERIFIED, ..Token::new(&machine, "ed25519") };
    let id = std::fs::read_to_string(machine.root.join("id.pub")).unwrap();
    machine.write("etc/vestibule/authorized_keys", &format!("verify-required {}\n{id}", line(&token)));
    machine.start();
    machine.wait_for_ssh();
    assert_eq!(log_in(&machine, &token).status.code(), Some(255));
    assert!(machine.log().contains("authorized_keys:1: verify-required: whether a token did so can't be seen here"));
}
