//! Text on its way to a device that may be slow or take nothing at all. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes that wait for the device at most: under a second at 115200 baud. Beyond it writers are kept waiting, as the
/// device itself would have them wait.
const LIMIT: usize = 8 * 1024;
/// A device that has taken nothing for so long holds up nobody any more: a line that is stopped (XOFF), or without a
/// carrier. A byte at 300 baud takes 33 ms.
const PATIENCE: Duration = Duration::from_secs(3);
/// How much is given up at a time then.
const PORTION: usize = 1024;

pub struct Backlog {
    bytes: VecDeque<u8>,
    /// When the device last took something, or nothing was there for it.
    progress: Instant,
}

impl Backlog {
    pub fn new(now: Instant) -> Self {
        Self { bytes: VecDeque::new(), progress: now }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes may be pushed now. When the device takes nothing, the oldest make room.
    pub fn room(&mut self, now: Instant) -> usize {
        if self.bytes.len() >= LIMIT && now.duration_since(self.progress) >= PATIENCE {
            self.bytes.drain(..PORTION);
        }
        LIMIT.saturating_sub(self.bytes.len())
    }

    pub fn push(&mut self, bytes: &[u8], now: Instant) {
        if self.bytes.is_empty() {
            self.progress = now;
        }
        self.bytes.extend(bytes);
    }

    /// The next bytes for the device.
    pub fn next(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// The device has taken the first `count` bytes.
    pub fn taken(&mut self, count: usize, now: Instant) {
        self.bytes.drain(..count);
        self.progress = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_device_makes_writers_wait_and_loses_nothing() {
        let start = Instant::now();
        let mut backlog = Backlog::new(start);
        let (mut now, mut taken) = (start, Vec::<u8>::new());
        let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let mut rest = &sent[..];
        while !(rest.is_empty() && backlog.is_empty()) {
            let (push, later) = rest.split_at(backlog.room(now).min(rest.len()).min(4096));
            backlog.push(push, now);
            rest = later;
            now += PATIENCE - Duration::from_millis(1);
            let some = backlog.next().len().min(700);
            taken.extend(&backlog.next()[..some]);
            backlog.taken(some, now);
            assert!(backlog.bytes.len() <= LIMIT);
        }
        assert_eq!(taken, sent);
    }

    #[test]
    fn a_dead_device_holds_up_nobody_and_gets_the_newest_text() {
        let start = Instant::now();
        let mut backlog = Backlog::new(start);
        // Idle for long is not refusing for long.
        let now = start + PATIENCE * 10;
        backlog.push(&[b'a'; LIMIT], now);
        assert_eq!(backlog.room(now + PATIENCE - Duration::from_millis(1)), 0, "not yet");
        for _ in 0..100 {
            let room = backlog.room(now + PATIENCE);
            assert_eq!(room, PORTION);
            backlog.push(&vec![b'b'; room], now + PATIENCE);
        }
        assert!(backlog.bytes.iter().all(|byte| *byte == b'b') && backlog.bytes.len() == LIMIT);
        // It is back: writers wait for it again.
        backlog.taken(1, now + PATIENCE);
        backlog.push(b"b", now + PATIENCE);
        assert_eq!(backlog.room(now + PATIENCE), 0);
    }
}
