//! What an SSH client shows its user, read as it comes.

use std::io::Read;
use std::time::Instant;

use super::DEADLINE;

/// What a terminal has shown so far.
pub struct Reader {
    bytes: std::sync::mpsc::Receiver<Vec<u8>>,
    seen: String,
    from: usize,
}

impl Reader {
    pub fn new(mut from: impl Read + Send + 'static) -> Self {
        let (sender, bytes) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { bytes, seen: String::new(), from: 0 }
    }

    /// Reads on until `text` comes, after what was found before.
    pub fn until(&mut self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.seen[self.from..].find(text) {
                self.from += at + text.len();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(error) => panic!("{error} before {text:?} was seen; seen:\n{}", self.seen),
            }
        }
    }

    pub fn all(&self) -> &str {
        &self.seen
    }
}
