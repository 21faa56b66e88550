//! The log of the system outside: Android's, else syslog, else the kernel's.
//!
//! Android's: the socket that liblog writes to (AOSP `system/logging/liblog/logd_writer.cpp`; the header is
//! `android_log_header_t` of `private/android_logger.h`), since Android 5. Syslog: RFC 3164 as local programs send it,
//! without a host name, as syslog(3) of glibc does. The kernel's: `Documentation/ABI/testing/dev-kmsg`.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::{Line, cut};
use crate::calendar::{MONTHS, Moment};

/// `LOG_ID_MAIN` of liblog: the buffer that `logcat` shows.
const MAIN_BUFFER: u8 = 0;
/// `ANDROID_LOG_INFO`.
const INFO: u8 = 4;
/// `LOGGER_ENTRY_MAX_PAYLOAD` of liblog: priority, tag, text and their zeros.
const MAX_ANDROID: usize = 4068;
/// RFC 3164, section 4.1.
const MAX_SYSLOG: usize = 1024;
/// printk records are at most 1024 bytes with their prefix (`LOG_LINE_MAX`).
const MAX_KERNEL: usize = 900;
/// Facility "daemon", severity "informational" (syslog(3)).
const PRIORITY: &str = "<30>";
/// RFC 3164, section 4.1.3, and what old Androids show of a tag.
const MAX_TAG: usize = 32;

/// Each sink, in the order in which they are tried.
type Sink = fn(&mut System, &Line) -> Result<(), Error>;
const SINKS: [Sink; 3] = [System::android, System::syslog, System::kernel];

pub struct System {
    tag: String,
    android: PathBuf,
    syslog: PathBuf,
    kernel: PathBuf,
    /// The kernel limits the rate of each opened descriptor on its own (`printk.devkmsg=ratelimit`): a service that prints
    /// without end shall not fill its log.
    opened_kernel: Option<File>,
}

impl System {
    pub fn new(name: &str, root: &crate::root::Root) -> Self {
        let harmless = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let name: String = name.chars().map(harmless).collect();
        Self {
            tag: format!("vestibule-{name}").chars().take(MAX_TAG).collect(),
            android: root.join("/dev/socket/logdw"),
            syslog: root.join("/dev/log"),
            kernel: root.join("/dev/kmsg"),
            opened_kernel: None,
        }
    }

    /// Whether somebody took it. A logger that is there and behind with its work is not passed by: the line is lost, as
    /// every program's would be, and the kernel's log not flooded.
    pub fn put(&mut self, line: &Line) -> bool {
        for sink in SINKS {
            match sink(self, line) {
                Ok(()) => return true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_not_there) => {}
            }
        }
        false
    }

    fn android(&mut self, line: &Line) -> Result<(), Error> {
        // logd takes the process from the socket's credentials; the thread is cut to 16 bits there, too.
        let thread = (nix::unistd::gettid().as_raw() as u16).to_ne_bytes();
        let seconds = (line.time.as_secs() as u32).to_ne_bytes();
        let nanoseconds = line.time.subsec_nanos().to_ne_bytes();
        let zeros_and_priority = 3;
        let text = cut(&format!("{}: {}", line.who, line.text), MAX_ANDROID - self.tag.len() - zeros_and_priority);
        let header = [&[MAIN_BUFFER][..], &thread, &seconds, &nanoseconds].concat();
        send(&self.android, &[&header, &[INFO][..], self.tag.as_bytes(), b"\0", text.as_bytes(), b"\0"].concat())
    }

    fn syslog(&mut self, line: &Line) -> Result<(), Error> {
        let Moment { month, day, hour, minute, second, .. } = Moment::of(line.time.as_secs() as i64);
        let date = format!("{} {day:>2} {hour:02}:{minute:02}:{second:02}", MONTHS[month]);
        let text = format!("{PRIORITY}{date} {}: {}: {}", self.tag, line.who, line.text);
        send(&self.syslog, cut(&text, MAX_SYSLOG).as_bytes())
    }

    fn kernel(&mut self, line: &Line) -> Result<(), Error> {
        let text = cut(&format!("{PRIORITY}{}: {}: {}", self.tag, line.who, line.text), MAX_KERNEL);
        let mut device = match self.opened_kernel.take() {
            Some(device) => device,
            None => OpenOptions::new().append(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&self.kernel)?,
        };
        device.write_all(format!("{text}\n").as_bytes())?;
        self.opened_kernel = Some(device); // one that failed is opened anew for the next line
        Ok(())
    }
}

/// One datagram, without waiting until there is room for it.
fn send(socket: &Path, bytes: &[u8]) -> Result<(), Error> {
    let from = UnixDatagram::unbound()?;
    from.set_nonblocking(true)?;
    from.send_to(bytes, socket).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;
    use std::time::Duration;

    /// Of 2026-11-01T20:15:03Z.
    const TIME: Duration = Duration::new(1_793_564_103, 5);

    fn line(text: &str) -> Line<'_> {
        Line { time: TIME, who: "ssh", text }
    }

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        // Sent before `put` returned.
        socket.set_nonblocking(true).unwrap();
        let length = socket.recv(&mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    }

    /// Each one that is there goes before those after it, and what it gets is what its readers parse.
    #[test]
    fn forms_and_order() {
        let root = Fixture::new(&[("/dev/kmsg", b""), ("/dev/socket/x", b"")]);
        let mut system = System::new("my debian", &root);
        assert!(system.put(&line("one")));
        let kernel = || std::fs::read_to_string(root.join("/dev/kmsg")).unwrap();
        assert_eq!(kernel(), "<30>vestibule-my-debian: ssh: one\n");

        let syslog = UnixDatagram::bind(root.join("/dev/log")).unwrap();
        assert!(system.put(&line("two")));
        assert_eq!(received(&syslog), b"<30>Nov  1 20:15:03 vestibule-my-debian: ssh: two");

        let android = UnixDatagram::bind(root.join("/dev/socket/logdw")).unwrap();
        assert!(system.put(&line("three")));
        let datagram = received(&android);
        let (header, payload) = datagram.split_at(11);
        assert_eq!((header[0], &header[1..3]), (0, &(nix::unistd::gettid().as_raw() as u16).to_ne_bytes()[..]));
        let [seconds, nanoseconds] =
            [&header[3..7], &header[7..]].map(|four| u32::from_ne_bytes(four.try_into().unwrap()));
        assert_eq!((u64::from(seconds), nanoseconds), (TIME.as_secs(), 5));
        assert_eq!(payload, b"\x04vestibule-my-debian\0ssh: three\0");

        assert!(system.put(&line(&"ä".repeat(4000))));
        let datagram = received(&android);
        assert!(datagram.len() - 11 <= MAX_ANDROID && datagram.ends_with("ä…\0".as_bytes()), "{}", datagram.len());

        // A logger that died leaves its socket.
        drop(android);
        assert!(system.put(&line("four")));
        assert!(received(&syslog).ends_with(b"ssh: four"));
        assert!(system.put(&line(&"x".repeat(4000))));
        assert_eq!(received(&syslog).len(), MAX_SYSLOG);
        drop(syslog);
        assert!(system.put(&line(&"x".repeat(4000))));
        assert_eq!(kernel().lines().nth(1).unwrap().len(), MAX_KERNEL);

        // One descriptor for all lines, so that the kernel can count them.
        std::fs::rename(root.join("/dev/kmsg"), root.join("/dev/moved")).unwrap();
        assert!(system.put(&line("five")));
        assert!(std::fs::read_to_string(root.join("/dev/moved")).unwrap().ends_with("ssh: five\n"));
    }

    #[test]
    fn a_logger_that_is_behind_stops_nobody() {
        let root = Fixture::new(&[("/dev/kmsg", b"")]);
        let syslog = UnixDatagram::bind(root.join("/dev/log")).unwrap();
        let mut system = System::new("debian", &root);
        // Nobody reads; the kernel holds some, and no more.
        let taken = (0..1_000_000).take_while(|_| system.put(&line("one"))).count();
        assert!((1..1_000_000).contains(&taken), "{taken}");
        assert_eq!(std::fs::read(root.join("/dev/kmsg")).unwrap(), b"");
        received(&syslog);
        assert!(system.put(&line("two")));
    }

    #[test]
    fn nobody_is_there() {
        let root = Fixture::new(&[]);
        assert!(!System::new("debian", &root).put(&line("one")));
    }
}
