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
    pub fn drain(&mut self) -> Vec<String> {
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
    pub async fn next(&mut self) -> io::Result<Vec<String>> {
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
fn line(record: &str) -> Option<String> {
    let (prefix, text) = record.split_once(';')?;
    let microseconds: u64 = prefix.split(',').nth(2)?.parse().ok()?;
    let text = text.lines().next()?.replace("\\x0a", " ").replace("\\x09", "\t");
    Some(format!("[{:5}.{:06}] {text}", microseconds / 1_000_000, microseconds % 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        for (record, expected) in [
            ("6,339,5140900,-;NET: Registered\n SUBSYSTEM=x\n", Some("[    5.140900] NET: Registered")),
            ("30,1,99,-,caller=T1;a\\x0ab\n", Some("[    0.000099] a b")),
            ("garbage", None),
            ("1,2;x", None),
            ("1,2,x,-;x", None),
        ] {
            assert_eq!(line(record).as_deref(), expected, "{record}");
        }
    }
}
