//! The stream as the kernel has it; if it is a TCP connection, its segments are acknowledged as soon as they are read.
//!
//! A client that has Nagle's algorithm on (RFC 896; OpenSSH's during the key exchange) holds its next message back until
//! the one before is acknowledged, and a receiver that has nothing to send delays that by 40 ms (tcp(7), `TCP_QUICKACK`).
//! The option is not permanent, so it is set again at each read. Other sockets (unix(7), vsock(7)) refuse it.
//!
//! The server's identification line has been sent already (`daemon::listener::greeting`), before there was a session; russh
//! writes it all the same, so here it is left out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::sockopt::set_tcp_quickack;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub struct Greeted {
    /// A stream socket of any family: all that tokio's type does is recv(2), send(2) and shutdown(2).
    stream: TcpStream,
    /// It is a TCP connection, as far as is known.
    quick: bool,
    /// What is left out of what is written.
    sent: &'static [u8],
}

impl Greeted {
    /// `sent` is what has been sent of the server's side.
    pub fn new(stream: TcpStream, sent: &'static str) -> Self {
        Self { stream, quick: true, sent: sent.as_bytes() }
    }
}

impl AsyncRead for Greeted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() && self.quick {
            // Without it the login is slower, nothing else.
            self.quick = set_tcp_quickack(&self.stream, true).is_ok();
        }
        read
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.sent.is_empty() {
            let length = bytes.len().min(self.sent.len());
            if bytes[..length] != self.sent[..length] {
                return Poll::Ready(Err(io::Error::other("this is not how the stream began")));
            }
            self.sent = &self.sent[length..];
            return Poll::Ready(Ok(length));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn streams(sent: &'static str) -> (Greeted, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Greeted::new(listener.accept().await.unwrap().0, sent), client)
    }

    #[tokio::test]
    async fn what_was_sent_is_sent_once() {
        for parts in [&["hello\r\nmore"][..], &["hel", "lo\r", "\nmo", "re"]] {
            let (mut server, mut client) = streams("hello\r\n").await;
            for part in parts {
                server.write_all(part.as_bytes()).await.unwrap();
            }
            drop(server);
            let mut came = String::new();
            client.read_to_string(&mut came).await.unwrap();
            assert_eq!(came, "more");
        }
    }

    #[tokio::test]
    async fn another_beginning_is_an_error() {
        let (mut server, _client) = streams("hello\r\n").await;
        server.write_all(b"help!\r\n").await.unwrap_err();
    }
}
