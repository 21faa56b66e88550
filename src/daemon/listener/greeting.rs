//! The identification lines of RFC 4253 section 4.2: ours is sent at once, and the peer's is awaited without taking it.
//!
//! So a connection that says nothing, or something else than SSH, costs a socket and no process. SSH servers speak first
//! as well as clients do, and some clients wait for that, so TCP_DEFER_ACCEPT would lock those out.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use crate::session::ssh::IDENTIFICATION;

/// For the peer's line. Clients send it with their first packet; TCP sends that again after 1, 3 and 7 s.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// Longest line, with its end (RFC 4253 section 4.2).
const LONGEST: usize = 255;

/// Sends our line, and waits until the peer's is there to be read. The error says what came in its place.
pub async fn exchange(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(IDENTIFICATION.as_bytes()).await?;
    loop {
        // Not `async_io`: where the peer has closed its end, the stream stays ready for ever.
        let ready = stream.ready(Interest::READABLE).await?;
        match stream.try_io(Interest::READABLE, || peek(stream)) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Err(_) if ready.is_read_closed() => return Err(ErrorKind::UnexpectedEof.into()),
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
}

/// Whether the peer has closed its end. What it has sent before is still there to be read.
pub async fn has_left(stream: &TcpStream) -> bool {
    stream.ready(Interest::READABLE).await.map_or(true, |ready| ready.is_read_closed())
}

/// The line, if it has come; `WouldBlock` if not, so that the caller waits for more of it.
fn peek(stream: &TcpStream) -> Result<()> {
    let mut buffer = [0; LONGEST];
    let (_, length) = recv(stream, &mut buffer[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    judge(&buffer[..length])
}

fn judge(said: &[u8]) -> Result<()> {
    let starts = |with: &[u8]| said.iter().zip(with).all(|(a, b)| a == b);
    if said.is_empty() {
        Err(ErrorKind::UnexpectedEof.into())
    } else if !starts(b"SSH-2.0-") && !starts(b"SSH-1.99-") {
        Err(Error::new(ErrorKind::InvalidData, "it does not speak SSH 2"))
    } else if said.contains(&b'\n') {
        Ok(())
    } else if said.len() >= LONGEST {
        Err(Error::new(ErrorKind::InvalidData, "its identification has no end"))
    } else {
        Err(ErrorKind::WouldBlock.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_line_of_ssh_gets_on() {
        let long = [&b"SSH-2.0-"[..], &[b'x'; LONGEST]].concat();
        for (said, expected) in [
            (&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], None),
            (b"SSH-2.0-x\n\0\0\x05\xdc", None),
            (b"SSH-1.99-x\r\n", None),
            (b"S", Some(ErrorKind::WouldBlock)),
            (b"SSH-", Some(ErrorKind::WouldBlock)),
            (b"SSH-2.0-OpenSSH", Some(ErrorKind::WouldBlock)),
            (b"", Some(ErrorKind::UnexpectedEof)),
            (b"SSH-1.5-x\r\n", Some(ErrorKind::InvalidData)),
            (b"GET / HTTP/1.0\r\n", Some(ErrorKind::InvalidData)),
            (b"\0\0\0\0", Some(ErrorKind::InvalidData)),
            (&long[..LONGEST], Some(ErrorKind::InvalidData)),
        ] {
            assert_eq!(judge(said).err().map(|error| error.kind()), expected, "{:?}", String::from_utf8_lossy(said));
        }
    }

    /// Streams as they come in: TCP, and others as the same type (`socket::stream`).
    async fn streams() -> Vec<(&'static str, TcpStream, TcpStream)> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let unix = |it: std::os::unix::net::UnixStream| super::super::socket::stream(it.into()).unwrap();
        vec![("TCP", listener.accept().await.unwrap().0, client), ("UNIX", unix(near), unix(far))]
    }

    #[tokio::test]
    async fn a_line_in_pieces_is_awaited_and_left_there() {
        for (kind, mut stream, mut client) in streams().await {
            super::super::socket::set_options(&stream).unwrap();
            super::super::socket::set_options(&client).unwrap();
            client.write_all(b"SSH-2.").await.unwrap();
            {
                let mut rest = std::pin::pin!(exchange(&mut stream));
                let early = tokio::time::timeout(Duration::from_millis(50), &mut rest).await;
                assert!(early.is_err(), "half a line over {kind}: {early:?}");
                client.write_all(b"0-x\r\nmore").await.unwrap();
                rest.await.unwrap();
            }
            assert!(!has_left(&stream).await);
            let mut buffer = [0; 64];
            let length = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"SSH-2.0-x\r\nmore", "over {kind}");
            client.write_all(b"and this").await.unwrap();
            client.shutdown().await.unwrap();
            // What was read before may still count as readable; the end of the stream is what is waited for.
            let end = async {
                while !has_left(&stream).await {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(DEADLINE, end).await.expect("that the client has left is seen");
        }
    }

    #[tokio::test]
    async fn half_a_line_and_then_nothing_is_an_end() {
        for (kind, mut stream, mut client) in streams().await {
            client.write_all(b"SSH-2.").await.unwrap();
            client.shutdown().await.unwrap();
            let end = tokio::time::timeout(DEADLINE, exchange(&mut stream)).await.expect("not awaited for ever");
            assert_eq!(end.unwrap_err().kind(), ErrorKind::UnexpectedEof, "over {kind}");
        }
    }
}
