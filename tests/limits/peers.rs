//! Peers that are in the way: each kind of connection, and floods of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::common::Machine;

/// A peer that was sent away comes again after this time.
const AGAIN: Duration = Duration::from_millis(100);

/// What a peer sends before it stops.
#[derive(Clone, Copy)]
pub enum Says {
    Nothing,
    HalfALine,
    ALine,
    /// And its offer of algorithms, whose answer it ignores.
    Algorithms,
}

impl Says {
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Nothing => Vec::new(),
            Self::HalfALine => b"SSH-2.0-Ope".to_vec(),
            Self::ALine => b"SSH-2.0-flood\r\n".to_vec(),
            Self::Algorithms => [b"SSH-2.0-flood\r\n".to_vec(), key_exchange_init()].concat(),
        }
    }
}

/// SSH_MSG_KEXINIT (RFC 4253 section 7.1) in a packet (section 6).
fn key_exchange_init() -> Vec<u8> {
    let mut payload = [&[20][..], &[7; 16]].concat();
    let (cipher, mac) = ("aes256-ctr", "hmac-sha2-256");
    for names in ["curve25519-sha256", "ssh-ed25519", cipher, cipher, mac, mac, "none", "none", "", ""] {
        payload.extend((names.len() as u32).to_be_bytes());
        payload.extend(names.as_bytes());
    }
    payload.extend([0; 5]);
    let padding = 4 + (8 - (5 + payload.len() + 4) % 8) % 8;
    let length = (1 + payload.len() + padding) as u32;
    [&length.to_be_bytes()[..], &[padding as u8], &payload, &vec![0; padding]].concat()
}

/// Connections that stay open, or come again, until this is dropped.
pub struct Flood {
    end: Arc<AtomicBool>,
    /// How often a peer connected.
    pub connections: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// As many peers at once, their addresses taken from these in turn.
    pub fn start(machine: &Machine, peers: usize, sources: &[Ipv4Addr], says: Says) -> Self {
        let (end, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (port, sources) = (machine.port, sources.to_vec());
        let (ended, counted) = (end.clone(), connections.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for peer in 0..peers {
                    tokio::spawn(one_peer(port, sources[peer % sources.len()], says, counted.clone()));
                }
                while !ended.load(Ordering::Relaxed) {
                    tokio::time::sleep(AGAIN).await;
                }
            });
        });
        machine.wait_for("the flood to come", || connections.load(Ordering::Relaxed) >= peers);
        Self { end, connections, threads: vec![thread] }
    }

    /// Real clients with the key `wrong`, one after the other from each of these addresses.
    pub fn of_wrong_keys(machine: &Machine, sources: &[Ipv4Addr]) -> Self {
        let (end, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |source: &Ipv4Addr| {
            let mut ssh = machine.ssh_with_key("wrong", "root", &["-b", &source.to_string(), "--", "status"]);
            ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let (ended, counted) = (end.clone(), connections.clone());
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    assert_eq!(ssh.status().unwrap().code(), Some(255), "a wrong key got in");
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = sources.iter().map(client).collect();
        machine.wait_for("the flood to come", || connections.load(Ordering::Relaxed) >= 2 * sources.len());
        Self { end, connections, threads }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the flood failed");
        }
    }
}

async fn one_peer(port: u16, source: Ipv4Addr, says: Says, connections: Arc<AtomicUsize>) {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((source, 0))).unwrap();
        if let Ok(mut stream) = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            connections.fetch_add(1, Ordering::Relaxed);
            // It stays until it is sent away, and reads what it is sent so that it notices.
            if stream.write_all(&says.bytes()).await.is_ok() {
                while stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {}
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
