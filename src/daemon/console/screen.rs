//! The text on a virtual terminal: vcs(4).

use std::io;

use crate::root::Root;

/// The screen of `name` (`tty1`) as lines, without trailing blanks and blank lines at the end.
///
/// An error when there is no such screen; a serial line has none.
pub fn read(root: &Root, name: &str) -> io::Result<String> {
    let number = name.strip_prefix("tty").filter(|rest| rest.bytes().all(|b| b.is_ascii_digit())).unwrap_or_default();
    if number.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} is no virtual terminal")));
    }
    // Four bytes of header: lines, columns, cursor column, cursor line.
    let attributes = std::fs::read(root.join(format!("/dev/vcsa{number}")))?;
    let columns = usize::from(*attributes.get(1).ok_or(io::ErrorKind::UnexpectedEof)?);
    let text: Vec<char> = match std::fs::read(root.join(format!("/dev/vcsu{number}"))) {
        Ok(cells) => cells.chunks_exact(4).map(character).collect(),
        // Before Linux 4.19 there is only one byte for each cell.
        Err(_) => std::fs::read(root.join(format!("/dev/vcs{number}")))?.iter().map(|byte| char::from(*byte)).collect(),
    };
    Ok(lines(&text, columns))
}

fn character(cell: &[u8]) -> char {
    cell.try_into().ok().map(u32::from_ne_bytes).and_then(char::from_u32).unwrap_or('\u{fffd}')
}

fn lines(cells: &[char], columns: usize) -> String {
    let mut text = String::new();
    for line in cells.chunks(columns.max(1)) {
        let line: String = line.iter().map(|c| if c.is_control() { ' ' } else { *c }).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.truncate(text.trim_end_matches('\n').len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_ends_are_cut() {
        let cells: Vec<char> = "one  two\0     ".chars().collect();
        assert_eq!(lines(&cells, 5), "one\ntwo\n");
        assert_eq!(lines(&[], 80), "\n");
        assert_eq!(lines(&['x'], 0), "x\n");
    }

    #[test]
    fn a_serial_line_has_no_screen() {
        for name in ["ttyS0", "tty", "hvc0", "ttyAMA0", "tty1/../../x"] {
            assert!(read(&Root::default(), name).is_err(), "{name}");
        }
    }
}
