//! The kernel log as lines: `Documentation/ABI/testing/dev-kmsg`.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use tokio::io::unix::AsyncFd;

use crate::daemon::descriptors;
use crate::root::Root;

/// One record is at most this long (`PRINTKRB_RECORD_MAX`, 1 KiB, with its prefix and dictionary 8 KiB).
const MAX_RECORD: usize = 8192;
/// Records read at one go, so that a flood of them can't hold the daemon.
const BATCH: usize = 10_000;

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// From 0, an emergency, to 7, debugging (syslog(2)).
    pub level: u8,
    /// With its time, as the console prints it.
    pub text: String,
}

/// A reader of /dev/kmsg that begins at the oldest record.
pub struct KernelLog {
    device: AsyncFd<OwnedFd>,
}

impl KernelLog {
    pub fn open(root: &Root) -> io::Result<Self> {
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
        let device = OpenOptions::new().read(true).custom_flags(flags).open(root.join("/dev/kmsg"))?;
        Ok(Self { device: descriptors::watch(device.into())? })
    }

    /// Everything that is there now.
    pub fn drain(&mut self) -> Vec<Entry> {
        let mut record = [0; MAX_RECORD];
        let mut lines = Vec::new();
        for _ in 0..BATCH {
            match rustix::io::read(self.device.get_ref(), &mut record) {
                Ok(0) => break,
                Ok(length) => lines.extend(line(&String::from_utf8_lossy(&record[..length]))),
                // EPIPE: records were overwritten before we read them; the next read goes on after the gap.
                Err(rustix::io::Errno::PIPE) => {}
                Err(_) => break, // EAGAIN, the end
            }
        }
        lines
    }

    /// Waits for at least one new line.
    pub async fn next(&mut self) -> io::Result<Vec<Entry>> {
        loop {
            self.device.readable_mut().await?.clear_ready();
            let lines = self.drain();
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
    }
}

/// `6,339,5140900,-;NET: text\n SUBSYSTEM=…` → `[    5.140900] NET: text`
fn line(record: &str) -> Option<Entry> {
    let (prefix, text) = record.split_once(';')?;
    let mut fields = prefix.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let microseconds: u64 = fields.nth(1)?.parse().ok()?;
    let text = text.lines().next()?.replace("\\x0a", " ").replace("\\x09", "\t");
    let text = format!("[{:5}.{:06}] {text}", microseconds / 1_000_000, microseconds % 1_000_000);
    Some(Entry { level: (priority & 7) as u8, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        for (record, expected) in [
            ("6,339,5140900,-;NET: Registered\n SUBSYSTEM=x\n", Some((6, "[    5.140900] NET: Registered"))),
            ("30,1,99,-,caller=T1;a\\x0ab\n", Some((6, "[    0.000099] a b"))),
            ("garbage", None),
            ("1,2;x", None),
            ("1,2,x,-;x", None),
        ] {
            let expected = expected.map(|(level, text)| Entry { level, text: text.to_owned() });
            assert_eq!(line(record), expected, "{record}");
        }
    }
}
