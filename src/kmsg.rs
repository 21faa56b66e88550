//! The log: leveled lines in the kernel's ring buffer, so that they show in `dmesg`, in the journal of the real system
//! and on the console; standard error where there is no /dev/kmsg.
//!
//! Format: `Documentation/ABI/testing/dev-kmsg`. The device is opened for each line, because the kernel limits the
//! rate of each opened descriptor on its own (`printk.devkmsg=ratelimit`) and a line that matters must not be lost.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::root::Root;

/// Facility "daemon" (syslog(3)), shifted as in a priority.
const FACILITY: u8 = 3 << 3;
/// printk records are at most 1024 bytes with their prefix (`LOG_LINE_MAX`).
const MAX_LINE: usize = 900;

/// Sends everything that is logged from now on to `root`'s /dev/kmsg.
pub fn start(root: &Root) {
    start_on(Some(root.join("/dev/kmsg")));
}

/// The same, to standard error, for what runs on a system that has a log.
pub fn start_on_stderr() {
    start_on(None);
}

fn start_on(device: Option<PathBuf>) {
    let logger = Box::leak(Box::new(KernelLog { device }));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

struct KernelLog {
    device: Option<PathBuf>,
}

impl Log for KernelLog {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // Libraries may warn; their chatter stays out of a console that people read.
        metadata.target().starts_with("vestibule") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(record.level(), &record.args().to_string());
        let write = |device| OpenOptions::new().append(true).open(device).and_then(|mut file| file.write_all(&line));
        if self.device.as_ref().is_none_or(|device| write(device).is_err()) {
            // Standard error is the last resort; if that is closed too, or full and doesn't wait, there is nobody to tell.
            let _ = std::io::stderr().write_all(&line[line.iter().position(|b| *b == b'>').map_or(0, |at| at + 1)..]);
        }
    }

    fn flush(&self) {}
}

/// `<30>vestibule: text\n`. One record is one write and one line: control characters in it are replaced.
fn line(level: Level, text: &str) -> Vec<u8> {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() > MAX_LINE {
        clean.truncate(clean.floor_char_boundary(MAX_LINE));
        clean.push('…');
    }
    format!("<{}>vestibule: {clean}\n", FACILITY | severity).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(line(Level::Info, "listening"), b"<30>vestibule: listening\n");
        assert_eq!(line(Level::Error, "user \"a\nb\x1b[2J\""), b"<27>vestibule: user \"a b [2J\"\n");
        let long = line(Level::Warn, &"ä".repeat(MAX_LINE));
        assert!(long.len() < 1000 && String::from_utf8(long).is_ok());
    }
}
