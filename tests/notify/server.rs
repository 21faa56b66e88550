//! HTTP servers by hand, each with a way of its own.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Nothing here takes longer on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a server does with a request.
#[derive(Clone, Debug)]
pub enum Way {
    /// Answers with this.
    Answers(&'static str),
    /// Never answers, and holds the connection.
    Silent,
    /// Closes it.
    Closes,
    /// Sends headers until nobody reads them any more.
    Endless,
}

pub const OK: Way = Way::Answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

/// Listens on a port of its own until the test ends; its thread ends with the process.
pub struct Server {
    pub port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Goes these ways in turn, and the last one for ever.
    pub fn start(ways: &[Way]) -> Self {
        Self::start_with(ways, Some)
    }

    /// The same, over what `wrap` makes of a connection, if it makes something.
    pub fn start_with<S: Read + Write>(ways: &[Way], wrap: impl Fn(TcpStream) -> Option<S> + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, mut ways) = (requests.clone(), VecDeque::from(ways.to_vec()));
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let Some(mut stream) = wrap(stream.unwrap()) else { continue };
                let Some(request) = read_request(&mut stream) else { continue };
                let way = if ways.len() > 1 { ways.pop_front().unwrap() } else { ways[0].clone() };
                match way {
                    // Before it is answered, so that whoever sees the effect finds the request.
                    Way::Answers(answer) => {
                        seen.lock().unwrap().push(request);
                        let _ = stream.write_all(answer.as_bytes()); // a client that has gone is what some tests want
                    }
                    Way::Silent => {
                        seen.lock().unwrap().push(request);
                        held.push(stream);
                    }
                    Way::Closes => seen.lock().unwrap().push(request),
                    Way::Endless => {
                        seen.lock().unwrap().push(request);
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                        while stream.write_all(b"X-More: and more\r\n").is_ok() {}
                    }
                }
            }
        });
        Self { port, requests }
    }

    /// Whole requests, heads and bodies, in order.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The first requests, when there are so many.
    pub fn wait_for(&self, count: usize) -> Vec<String> {
        let started = Instant::now();
        while self.requests().len() < count {
            assert!(started.elapsed() < DEADLINE, "no {count} requests came, but: {:#?}", self.requests());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.requests()
    }
}

/// Head and body, as `Content-Length` says; `None` for a connection without a whole one.
fn read_request(stream: &mut impl Read) -> Option<String> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some((head, body)) = std::str::from_utf8(&request).ok().and_then(|text| text.split_once("\r\n\r\n")) {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
            if body.len() >= length.parse().ok()? {
                break;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
    String::from_utf8(request).ok()
}
