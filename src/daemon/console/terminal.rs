//! What a terminal would show of a stream of bytes, kept as plain lines. Pure.
//!
//! Enough of ECMA-48 for what boots print: systemd's status lines (erase to the end of the line, reverse line feed for
//! lines that the next one replaces, `src/core/show-status.c` of systemd 252 and 257), prompts, and a shell's line
//! editing. Colours and everything unknown are left out, so nothing that steers a terminal ever leaves this file.

use std::collections::VecDeque;

/// Text that is kept, in characters; about ten screens. The oldest lines go first.
const MAX_CHARACTERS: usize = 32 * 1024;
/// Lines that are kept, so that empty ones are bounded as well.
const MAX_LINES: usize = 2000;
/// Characters of one line; what is longer goes on in the next, as on a terminal's right edge.
const MAX_LINE: usize = 500;
/// How far up the cursor can go: the height of the smallest usual terminal. What has scrolled off it is final.
const ROWS: usize = 24;
/// Longest control sequence that is still read as one.
const MAX_SEQUENCE: usize = 32;

#[derive(Default)]
pub struct Terminal {
    /// The cursor's is the one at `row`; empty before the first byte.
    lines: VecDeque<Line>,
    row: usize,
    column: usize,
    characters: usize,
    changes: u64,
    state: State,
    /// The beginning of a UTF-8 character.
    partial: Vec<u8>,
}

#[derive(Default)]
struct Line {
    text: Vec<char>,
    /// The number of its last change.
    changed: u64,
}

#[derive(Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// Control sequence: its parameters so far.
    Csi(Vec<u8>),
    /// A string for the terminal itself, as a window title; `true` after an escape inside it.
    String(bool),
}

impl Terminal {
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(byte);
        }
        self.forget();
    }

    /// Lines that changed after number `seen`, oldest first, and the number to ask with the next time. What is empty
    /// below the last text is left out.
    pub fn changed_since(&self, seen: u64) -> (Vec<String>, u64) {
        let end = self.lines.iter().rposition(|line| !line.shown().is_empty()).map_or(0, |last| last + 1);
        let changed = self.lines.iter().take(end).filter(|line| line.changed > seen);
        (changed.map(Line::shown).collect(), self.changes)
    }

    fn byte(&mut self, byte: u8) {
        match (&mut self.state, byte) {
            (State::String(_), 0x07 | 0x18 | 0x1a) | (State::String(true), b'\\') => self.state = State::Ground,
            (State::String(escape), 0x1b) => *escape = true,
            // A string goes over no line's end: a stray introducer must not swallow the rest of the boot.
            (State::String(_), b'\n') | (State::Ground | State::Escape | State::Csi(_), 0..=0x1f) => self.control(byte),
            (State::String(escape), _) => *escape = false,
            (State::Ground, _) => self.text(byte),
            (State::Escape, _) => self.escape(byte),
            (State::Csi(parameters), 0x20..=0x3f) if parameters.len() < MAX_SEQUENCE => parameters.push(byte),
            (State::Csi(parameters), 0x40..=0x7e) => {
                let parameters = std::mem::take(parameters);
                self.state = State::Ground;
                self.sequence(&parameters, byte);
            }
            (State::Csi(_), _) => self.state = State::Ground,
        }
    }

    fn control(&mut self, byte: u8) {
        self.state = State::Ground;
        match byte {
            b'\n' | 0x0b | 0x0c => self.line_feed(),
            b'\r' => self.column = 0,
            0x08 => self.column = self.column.saturating_sub(1),
            b'\t' => self.column = (self.column / 8 + 1) * 8,
            0x1b => self.state = State::Escape,
            _ => {}
        }
    }

    fn escape(&mut self, byte: u8) {
        self.state = match byte {
            b'[' => State::Csi(Vec::new()),
            b']' | b'P' | b'X' | b'^' | b'_' => State::String(false),
            0x20..=0x2f => State::Escape, // a character set follows
            _ => State::Ground,
        };
        match byte {
            b'M' => self.up(1),
            b'D' | b'E' => self.line_feed(),
            _ => {}
        }
    }

    fn sequence(&mut self, parameters: &[u8], last: u8) {
        let number = std::str::from_utf8(parameters).ok().and_then(|text| text.split(';').next()?.parse().ok());
        let count = number.unwrap_or(1).clamp(1, MAX_LINE);
        match (last, number.unwrap_or(0)) {
            (b'A', _) => self.up(count),
            (b'B', _) => self.row = (self.row + count).min(self.lines.len().saturating_sub(1)),
            (b'C', _) => self.column = (self.column + count).min(MAX_LINE),
            (b'D', _) => self.column = self.column.saturating_sub(count),
            (b'G', _) => self.column = count - 1,
            (b'K', 0) => self.edit(|text, column| text.truncate(column)),
            (b'K', 1) => self.edit(|text, column| text.iter_mut().take(column + 1).for_each(|c| *c = ' ')),
            (b'K', _) => self.edit(|text, _| text.clear()),
            (b'P', _) => self.edit(|text, column| {
                let at = column.min(text.len());
                text.drain(at..(at + count).min(text.len()));
            }),
            (b'@', _) => self.edit(|text, column| {
                let at = column.min(text.len());
                drop(text.splice(at..at, std::iter::repeat_n(' ', count)));
            }),
            (b'J', 0) => {
                self.edit(|text, column| text.truncate(column));
                let below = self.row + 1;
                while self.lines.len() > below.max(1) {
                    self.characters -= self.lines.pop_back().map_or(0, |line| line.text.len());
                }
            }
            // A cleared screen: what stood there stays readable above it.
            (b'J' | b'H' | b'f', _) => {
                self.row = self.lines.len().saturating_sub(1);
                if self.lines.back().is_some_and(|line| !line.text.is_empty()) {
                    self.line_feed();
                }
                self.column = 0;
            }
            _ => {}
        }
    }

    fn text(&mut self, byte: u8) {
        if byte.is_ascii() {
            if !std::mem::take(&mut self.partial).is_empty() {
                self.put(char::REPLACEMENT_CHARACTER);
            }
            return self.put(char::from(byte));
        }
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let character = text.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
                self.partial.clear();
                self.put(character);
            }
            Err(error) if error.error_len().is_none() => {} // the rest is still to come
            Err(_) => {
                self.partial.clear();
                self.put(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    fn put(&mut self, character: char) {
        let steers = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || steers {
            return;
        }
        if self.column >= MAX_LINE {
            self.line_feed();
        }
        self.edit(|text, column| {
            if text.len() <= column {
                text.resize(column + 1, ' ');
            }
            text[column] = character;
        });
        self.column += 1;
    }

    fn line_feed(&mut self) {
        self.changes += 1;
        self.column = 0; // the terminal's driver adds the carriage return
        if self.lines.is_empty() {
            self.lines.push_back(Line::default());
        }
        self.row += 1;
        if self.row >= self.lines.len() {
            self.lines.push_back(Line { text: Vec::new(), changed: self.changes });
        }
    }

    fn up(&mut self, count: usize) {
        self.row = self.row.saturating_sub(count).max(self.lines.len().saturating_sub(ROWS));
    }

    /// Changes the cursor's line; `change` gets its text and the cursor's column.
    fn edit(&mut self, change: impl FnOnce(&mut Vec<char>, usize)) {
        if self.lines.is_empty() {
            self.lines.push_back(Line::default());
        }
        let Some(line) = self.lines.get_mut(self.row) else { return };
        self.changes += 1;
        line.changed = self.changes;
        self.characters -= line.text.len();
        change(&mut line.text, self.column);
        line.text.truncate(MAX_LINE);
        self.characters += line.text.len();
    }

    /// Drops the oldest lines while there is too much.
    fn forget(&mut self) {
        while self.row > 0 && (self.characters > MAX_CHARACTERS || self.lines.len() > MAX_LINES) {
            self.characters -= self.lines.pop_front().map_or(0, |line| line.text.len());
            self.row -= 1;
        }
    }
}

impl Line {
    fn shown(&self) -> String {
        let text: String = self.text.iter().collect();
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut terminal = Terminal::default();
        terminal.feed(bytes);
        terminal.changed_since(0).0.join("|")
    }

    #[test]
    fn shows_what_a_terminal_would() {
        #[rustfmt::skip]
        let cases: [(&[u8], &str); 27] = [
            (b"", ""),
            (b"Enter passphrase for /dev/vda2: ", "Enter passphrase for /dev/vda2:"),
            (b"one\r\ntwo\n\nfour\n", "one|two||four"),
            (b"abc\rX", "Xbc"),
            (b"abc\x08\x08X", "aXc"),
            (b"abc\x08 \x08", "ab"),
            (b"a\tb", "a       b"),
            (b"\0\x07a\x7fb", "ab"),
            // systemd: a coloured status line, and one that replaces the line before it
            (b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mx.service\x1b[0m.\r\n", "[  OK  ] Started x.service."),
            (b"         Starting a\r\n\x1bM\r\x1b[K[  OK  ] Started a\r\n", "[  OK  ] Started a"),
            (b"[*   ] job (1s)\r\n\x1b[A\r\x1b[K[**  ] job (2s)\r\n", "[**  ] job (2s)"),
            (b"one\ntwo\n\x1b[2A\rX\x1b[BY", "Xne|tYo"),
            (b"abcdef\x1b[3D\x1b[K", "abc"),
            (b"abcdef\x1b[3D\x1b[1K", "    ef"),
            (b"abcdef\x1b[2KX", "      X"),
            (b"abcdef\x1b[2G\x1b[2P", "adef"),
            (b"abc\x1b[2G\x1b[2@", "a  bc"),
            (b"one\ntwo\nthree\x1b[2A\x1b[1G\x1b[J", ""),
            (b"old\x1b[2J\x1b[Hnew", "old|new"),
            (b"\x1b]0;title\x07a\x1b]8;;x\x1b\\b\x1bPq\x1b\\c\x1b(Bd", "abcd"),
            (b"a\x1b]never ended\nb", "a|b"),
            (b"\x1b[?25l\x1b[1;31ma\x1b[!pb\x1b[38;5;1mc", "abc"),
            (b"\x1b[999999999999999999999999999999999999999999999999ma", "999999999999999ma"),
            ("\u{1f512} \u{e4}\u{9b}\u{202e}x".as_bytes(), "\u{1f512} \u{e4}x"),
            (b"a\xffb\xc3c\xe2\x82\x1b[mz", "a\u{fffd}b\u{fffd}c\u{fffd}z"),
            (b"\x1b[5A\x1bM\x1b[9Bx", "x"),
            (b"\x1b[", ""),
        ];
        for (bytes, expected) in cases {
            assert_eq!(shown(bytes), expected, "{}", bytes.escape_ascii());
            // However the bytes are cut.
            let mut terminal = Terminal::default();
            bytes.iter().for_each(|byte| terminal.feed(&[*byte]));
            assert_eq!(terminal.changed_since(0).0.join("|"), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn tells_only_what_changed() {
        let mut terminal = Terminal::default();
        terminal.feed(b"one\nask: ");
        let (lines, seen) = terminal.changed_since(0);
        assert_eq!(lines, ["one", "ask:"]);
        terminal.feed(b"\n");
        let (lines, seen) = terminal.changed_since(seen);
        assert!(lines.is_empty(), "{lines:?}");
        terminal.feed(b"next\n\x1bM\x1bMX");
        assert_eq!(terminal.changed_since(seen).0, ["Xsk:", "next"]);
    }

    #[test]
    fn is_bounded() {
        let mut terminal = Terminal::default();
        terminal.feed(&b"0123456789\n".repeat(20_000));
        assert!(terminal.lines.len() <= MAX_LINES && terminal.characters <= MAX_CHARACTERS);
        terminal.feed(&vec![b'\n'; 20_000]);
        assert!(terminal.lines.len() <= MAX_LINES && terminal.characters == 0);
        terminal.feed(&vec![b'x'; 100_000]);
        assert!(terminal.characters <= MAX_CHARACTERS && terminal.lines.iter().all(|line| line.text.len() <= MAX_LINE));
        let counted: usize = terminal.lines.iter().map(|line| line.text.len()).sum();
        assert_eq!(terminal.characters, counted);
    }

    #[test]
    fn nothing_that_steers_a_terminal_comes_out() {
        let noise: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut terminal = Terminal::default();
        terminal.feed(&noise);
        let lines = terminal.changed_since(0).0;
        assert!(!lines.is_empty() && lines.iter().all(|line| !line.contains(char::is_control)));
    }
}
