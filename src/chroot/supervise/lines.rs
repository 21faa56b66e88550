//! What a service prints → lines for the log. Pure.

/// Longest line, in bytes; a longer one becomes several. Android's log takes 4068 bytes at once.
const MAX_LINE: usize = 4096;

/// The beginning of a line whose end has not come yet.
#[derive(Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Hands out each line that is whole with these bytes, without its end, fit for a terminal.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for &byte in bytes {
            if byte == b'\n' {
                self.flush_as(&mut line);
                continue;
            }
            if self.0.len() == MAX_LINE {
                self.flush_as(&mut line);
            }
            self.0.push(byte);
        }
    }

    /// No more will come, for now: hands out what there is, if there is any.
    pub fn flush(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.0.is_empty() {
            self.flush_as(&mut line);
        }
    }

    fn flush_as(&mut self, line: &mut impl FnMut(&[u8])) {
        let raw = std::mem::take(&mut self.0);
        line(printable(raw.strip_suffix(b"\r").unwrap_or(&raw)).as_bytes());
    }
}

/// Whoever reads the log has a terminal that must not be driven by what a service prints: control characters and what is no
/// UTF-8 is written as `\x1b`.
fn printable(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => text.push(c),
                c if c.is_control() => {
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
                }
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(lines: &mut Lines, bytes: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        lines.push(bytes, |line| out.push(String::from_utf8(line.to_vec()).unwrap()));
        out
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let mut lines = Lines::default();
        assert_eq!(push(&mut lines, b"on"), [""; 0]);
        assert_eq!(push(&mut lines, b"e\r\n\ntw"), ["one", ""]);
        let mut rest = Vec::new();
        lines.flush(|line| rest.push(line.to_vec()));
        lines.flush(|line| rest.push(line.to_vec()));
        assert_eq!(rest, [b"tw"]);
    }

    #[test]
    fn a_line_without_end_takes_no_more_than_its_share() {
        let mut lines = Lines::default();
        let out = push(&mut lines, &[b'x'; 2 * MAX_LINE + 1]);
        assert_eq!(out.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE; 2]);
        assert_eq!(push(&mut lines, b"\n"), ["x"]);
        assert_eq!(push(&mut lines, &[&[b'y'; MAX_LINE][..], b"\n"].concat()).len(), 1, "exactly full is one line");
    }

    #[test]
    fn nothing_in_it_drives_a_terminal() {
        let out = push(&mut Lines::default(), b"a\x1b[2J\tb\xff\0\xc2\x9b\xc3\xa4\n");
        assert_eq!(out, ["a\\x1b[2J\tb\\xff\\x00\\xc2\\x9b\u{e4}"]);
    }
}
