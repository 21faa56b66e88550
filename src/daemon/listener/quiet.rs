//! Log lines that strangers can cause: so many in so much time. A console must stay readable, and a serial one is slow.
//! Pure.

use std::time::{Duration, Instant};

const STRANGERS_LINES: u32 = 6;
const STRANGERS_TIME: Duration = Duration::from_secs(10);
/// Longest line that a stranger's words are part of.
const STRANGERS_LENGTH: usize = 200;

#[derive(Default)]
pub struct Quiet {
    since: Option<Instant>,
    spoken: u32,
    skipped: u32,
}

impl Quiet {
    /// The line as it is to be written, if one may be written now: not too long, and with how many were left out since
    /// the last one.
    pub fn line(&mut self, mut text: String, now: Instant) -> Option<String> {
        let skipped = self.may_speak(now)?;
        text.truncate(text.floor_char_boundary(STRANGERS_LENGTH));
        if skipped > 0 {
            text += &format!(" ({skipped} lines like it were left out)");
        }
        Some(text)
    }

    fn may_speak(&mut self, now: Instant) -> Option<u32> {
        if self.since.is_none_or(|since| now.duration_since(since) >= STRANGERS_TIME) {
            (self.since, self.spoken) = (Some(now), 0);
        }
        if self.spoken >= STRANGERS_LINES {
            self.skipped += 1;
            return None;
        }
        self.spoken += 1;
        Some(std::mem::take(&mut self.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_fill_the_log() {
        let (mut quiet, now) = (Quiet::default(), Instant::now());
        let spoken: Vec<_> = (0..100).filter_map(|_| quiet.line("é".repeat(900), now)).collect();
        assert_eq!(spoken.len() as u32, STRANGERS_LINES);
        assert!(spoken.iter().all(|line| line.len() == STRANGERS_LENGTH));
        let later = quiet.line("x".to_owned(), now + STRANGERS_TIME).unwrap();
        assert_eq!(later, "x (94 lines like it were left out)", "and it says how many");
    }
}
