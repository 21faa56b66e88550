//! Line editing for a passphrase: bytes from a terminal in, edits out. Pure; nothing is ever echoed.
//!
//! Works on bytes, because a passphrase may be in any encoding; only backspace knows that a UTF-8 character can have
//! several. Escape sequences (arrow keys) are dropped whole, bracketed paste included, so that they never become part
//! of a passphrase.

use zeroize::{Zeroize, Zeroizing};

use crate::secret::{MAX_LEN, Secret};

/// What a byte led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing that anybody has to hear of.
    None,
    /// Enter: the line is complete; take it with [`Line::take`].
    Enter,
    /// `^C`
    Interrupt,
    /// `^D` on an empty line.
    End,
    /// `^L`
    Redraw,
    Tab,
    /// The line is as long as it may get; the byte was dropped.
    Full,
}

/// A passphrase being typed.
pub struct Line {
    bytes: Zeroizing<Vec<u8>>,
    escape: Escape,
    after_return: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    No,
    /// ESC was seen.
    Start,
    /// ESC [ or ESC O: until a final byte (ECMA-48 5.4).
    Sequence,
}

impl Default for Line {
    fn default() -> Self {
        // Allocated once at full size: growing would leave copies behind.
        Self { bytes: Zeroizing::new(Vec::with_capacity(MAX_LEN)), escape: Escape::No, after_return: false }
    }
}

impl Line {
    pub fn push(&mut self, byte: u8) -> Edit {
        let after_return = std::mem::take(&mut self.after_return);
        match (self.escape, byte) {
            (Escape::Start, b'[' | b'O') => {
                self.escape = Escape::Sequence;
                return Edit::None;
            }
            (Escape::Start, _) => {
                self.escape = Escape::No;
                return Edit::None;
            }
            (Escape::Sequence, 0x40..=0x7e) => {
                self.escape = Escape::No;
                return Edit::None;
            }
            (Escape::Sequence, 0x20..=0x3f) => return Edit::None,
            (Escape::Sequence, _) | (Escape::No, _) => self.escape = Escape::No,
        }
        match byte {
            b'\r' => {
                self.after_return = true;
                Edit::Enter
            }
            b'\n' if after_return => Edit::None, // the second half of CR LF
            b'\n' => Edit::Enter,
            0x03 => Edit::Interrupt,
            0x04 if self.bytes.is_empty() => Edit::End,
            0x08 | 0x7f => {
                self.erase_character();
                Edit::None
            }
            0x15 => {
                self.clear();
                Edit::None
            }
            0x17 => {
                self.erase_word();
                Edit::None
            }
            0x09 => Edit::Tab,
            0x0c => Edit::Redraw,
            0x1b => {
                self.escape = Escape::Start;
                Edit::None
            }
            0x00..=0x1f => Edit::None,
            _ if self.bytes.len() == MAX_LEN => Edit::Full,
            _ => {
                self.bytes.push(byte);
                Edit::None
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The passphrase so far; the line starts anew.
    pub fn take(&mut self) -> Secret {
        let secret = Secret::new(self.bytes.to_vec());
        self.clear();
        secret
    }

    pub fn clear(&mut self) {
        self.bytes.zeroize();
    }

    fn erase_last(&mut self) -> Option<u8> {
        let last = self.bytes.last_mut()?;
        let byte = std::mem::take(last);
        self.bytes.pop();
        Some(byte)
    }

    fn erase_character(&mut self) {
        while let Some(byte) = self.erase_last() {
            if !(0x80..0xc0).contains(&byte) {
                return; // not a UTF-8 continuation byte
            }
        }
    }

    fn erase_word(&mut self) {
        while self.bytes.last() == Some(&b' ') {
            self.erase_last();
        }
        while self.bytes.last().is_some_and(|byte| *byte != b' ') {
            self.erase_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(bytes: &[u8]) -> (Vec<u8>, Vec<Edit>) {
        let mut line = Line::default();
        let edits = bytes.iter().map(|byte| line.push(*byte)).filter(|edit| *edit != Edit::None).collect();
        (line.take().expose().to_vec(), edits)
    }

    #[test]
    fn editing() {
        for (keys, left, edits) in [
            (&b"abc"[..], &b"abc"[..], vec![]),
            (b"abc\x7fd", b"abd", vec![]),
            (b"ab\x08\x08\x08c", b"c", vec![]),
            ("aä\x7fb".as_bytes(), b"ab", vec![]),
            ("€\x7f".as_bytes(), b"", vec![]),
            (b"wrong\x15right", b"right", vec![]),
            (b"one two \x17x", b"one x", vec![]),
            (b"a\x1b[Ab\x1bOPc\x1b[1;5Dd", b"abcd", vec![]),
            (b"\x1b[200~pasted\x1b[201~", b"pasted", vec![]),
            (b"x\x03", b"x", vec![Edit::Interrupt]),
            (b"\x04", b"", vec![Edit::End]),
            (b"x\x04y", b"xy", vec![]),
            (b"a\tb", b"ab", vec![Edit::Tab]),
        ] {
            assert_eq!(typed(keys), (left.to_vec(), edits), "{keys:?}");
        }
    }

    #[test]
    fn enter_comes_as_cr_lf_or_both() {
        for keys in [&b"\r"[..], b"\n", b"\r\n"] {
            assert_eq!(typed(keys).1, [Edit::Enter], "{keys:?}");
        }
        assert_eq!(typed(b"\n\n").1, [Edit::Enter, Edit::Enter]);
    }

    #[test]
    fn a_line_does_not_grow_without_bound() {
        let (left, edits) = typed(&vec![b'x'; MAX_LEN + 2]);
        assert_eq!((left.len(), edits), (MAX_LEN, vec![Edit::Full, Edit::Full]));
    }

    proptest! {
        #[test]
        fn control_bytes_never_get_in(keys in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(typed(&keys).0.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f));
        }
    }
}
