//! Where what happens in a chroot is written: a file, or the log of the system outside.
//!
//! Nothing here ends anything: a line that a sink does not take goes to the next one, and one that none takes is counted.
//! Nothing but the kernel's device is kept open, so that a logger that was restarted, or a file that somebody moved away, is
//! found at the next line.

mod file;
mod system;

use std::time::{Duration, SystemTime};

use crate::chroot::definition::LogTo;
use crate::root::Root;

use file::File;
use system::System;

/// Longer lines are cut: a program that never ends its line shall not fill a memory or a disk with it.
const MAX_LINE: usize = 8192;
/// Whose line it is when it is our own.
const OURSELVES: &str = "vestibule";

/// The log of one chroot.
pub struct Log {
    /// What is wanted, unless it is the system's.
    file: Option<File>,
    /// It did not take the last line, which has been said.
    file_fails: bool,
    system: System,
    /// Lines that nobody took.
    lost: u64,
}

/// One line, ready to be written.
struct Line<'a> {
    /// Since 1970.
    time: Duration,
    who: &'a str,
    text: &'a str,
}

impl Log {
    /// The log of the chroot `name`. Nothing is opened before there is a line.
    pub fn open(to: &LogTo, name: &str, root: &Root) -> Self {
        let file = match to {
            LogTo::System => None,
            LogTo::File { path, rotate_at } => Some(File::new(root.join(path), *rotate_at)),
        };
        Self { file, file_fails: false, system: System::new(name, root), lost: 0 }
    }

    /// Writes what `who` says: one line, in which control characters are replaced. A newline at its end is dropped.
    pub fn line(&mut self, who: &str, text: &[u8]) {
        let text = clean(text);
        if self.lost > 0 {
            let lost = format!("{} lines before this one are lost: no log took them", self.lost);
            if self.put(OURSELVES, &lost) {
                self.lost = 0;
            }
        }
        if !self.put(who, &text) {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// Whether somebody took it.
    fn put(&mut self, who: &str, text: &str) -> bool {
        let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let line = Line { time, who, text };
        if let Some(file) = &mut self.file {
            match file.append(&line) {
                Ok(()) => {
                    self.file_fails = false;
                    return true;
                }
                Err(error) if !self.file_fails => {
                    self.file_fails = true;
                    let told =
                        format!("{}: {error}: until it can be written, its lines come here", file.path().display());
                    self.system.put(&Line { time, who: OURSELVES, text: &told });
                }
                Err(_) => {}
            }
        }
        self.system.put(&line)
    }
}

/// As text that harms no terminal, and is one line.
fn clean(text: &[u8]) -> String {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let start = &text[..text.len().min(MAX_LINE)];
    let replaced = |c: char| if c.is_control() && c != '\t' { ' ' } else { c };
    let mut clean: String = String::from_utf8_lossy(start).chars().map(replaced).collect();
    if text.len() > MAX_LINE {
        clean.push('…');
    }
    clean
}

/// At most this many bytes of it, for sinks with limits of their own.
fn cut(text: &str, length: usize) -> String {
    if text.len() <= length {
        return text.to_owned();
    }
    let room = length.saturating_sub('…'.len_utf8());
    format!("{}…", &text[..text.floor_char_boundary(room)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;

    #[test]
    fn lines_are_harmless() {
        for (given, expected) in [
            (&b"listening\n"[..], "listening"),
            (b"a\tb\r\n", "a\tb"),
            (b"two\nlines \x1b[2J\x9b", "two lines  [2J\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(clean(given), expected);
        }
        let long = clean(&b"x".repeat(MAX_LINE + 1));
        assert!(long.len() == MAX_LINE + '…'.len_utf8() && long.ends_with('…'));
        assert_eq!(cut("äöü", 5), "ä…");
        assert_eq!(cut("äöü", 6), "äöü");
    }

    /// A file that can't be written: the kernel's log says why, once, and has its lines until it can be.
    #[test]
    fn a_file_that_fails_is_told_and_replaced() {
        let root = Fixture::new(&[("/dev/kmsg", b"")]);
        let to = LogTo::File { path: "/log/debian".into(), rotate_at: 1000 };
        let mut log = Log::open(&to, "debian", &root);
        log.line("ssh", b"one");
        log.line("ssh", b"two");
        let kernel = std::fs::read_to_string(root.join("/dev/kmsg")).unwrap();
        let lines: Vec<_> = kernel.lines().collect();
        assert!(lines.len() == 3 && lines[0].contains("/log/debian: No such file or directory"), "{kernel}");
        assert_eq!(lines[1..], ["<30>vestibule-debian: ssh: one", "<30>vestibule-debian: ssh: two"]);

        std::fs::create_dir(root.join("/log")).unwrap();
        log.line("ssh", b"three");
        assert!(std::fs::read_to_string(root.join("/log/debian")).unwrap().ends_with("Z ssh: three\n"));
        assert_eq!(std::fs::read_to_string(root.join("/dev/kmsg")).unwrap(), kernel);
    }

    #[test]
    fn lost_lines_are_counted() {
        let root = Fixture::new(&[]);
        let mut log = Log::open(&LogTo::System, "debian", &root);
        log.line("ssh", b"one");
        log.line("ssh", b"two");
        root.put("/dev/kmsg", b"");
        log.line("ssh", b"three");
        log.line("ssh", b"four");
        let kernel = std::fs::read_to_string(root.join("/dev/kmsg")).unwrap();
        let tag = "<30>vestibule-debian: ";
        let lost = "vestibule: 2 lines before this one are lost: no log took them";
        assert_eq!(kernel, format!("{tag}{lost}\n{tag}ssh: three\n{tag}ssh: four\n"));
    }
}
