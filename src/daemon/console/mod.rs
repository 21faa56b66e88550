//! What a person at the machine would see: the screens of virtual terminals, what is written to a console that has no
//! screen, and the kernel log.

mod backlog;
pub mod capture;
mod device;
pub mod kernel_log;
pub mod relay;
mod screen;
mod terminal;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::interval;

use crate::root::Root;
use capture::Captured;
use kernel_log::{Entry, KernelLog};

/// Lines of the kernel log that a look at a serial console begins with.
const LOG_LINES: usize = 100;
/// Lines above the unlock screen when it opens.
const TAIL_LINES: usize = 8;
/// How often a followed screen is read again. Screens announce no change.
const FOLLOW: Duration = Duration::from_millis(500);
/// Chunks on their way to a client that reads slowly; then reading pauses.
const QUEUE: usize = 8;

#[derive(Clone)]
pub struct Console {
    root: Root,
    captured: Option<Arc<Mutex<Captured>>>,
}

impl Console {
    /// `captured` is what is written to the console, if somebody keeps it.
    pub fn new(root: Root, captured: Option<Arc<Mutex<Captured>>>) -> Self {
        Self { root, captured }
    }

    /// The last lines of the kernel log, then new ones as they come, until the receiver is dropped.
    pub fn log(&self) -> mpsc::Receiver<Vec<String>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let root = self.root.clone();
        crate::task::spawn(async move {
            let Ok(mut log) = KernelLog::open(&root) else { return }; // no log: an empty tail is the truth
            let mut tail = texts(log.drain());
            tail.drain(..tail.len().saturating_sub(TAIL_LINES));
            if sender.send(tail).await.is_err() {
                return;
            }
            loop {
                tokio::select! {
                    lines = log.next() => {
                        let Ok(lines) = lines else { return };
                        if sender.send(texts(lines)).await.is_err() {
                            return;
                        }
                    }
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }

    /// All consoles as text; with `follow`, again at each change. `questions` gives what is asked, in words, for
    /// consoles that can't be read back.
    pub fn peek(&self, follow: bool, questions: impl Fn() -> Vec<Asked> + Send + 'static) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut looker = Looker {
            root: self.root.clone(),
            captured: self.captured.clone(),
            seen: 0,
            log: KernelLog::open(&self.root).ok(),
            before: Vec::new(),
            asked: Vec::new(),
        };
        crate::task::spawn(async move {
            let mut ticks = interval(FOLLOW);
            loop {
                ticks.tick().await;
                let text = looker.look(questions());
                let unsent = !text.is_empty() && sender.send(text).await.is_err();
                if unsent || !follow || sender.is_closed() {
                    return;
                }
            }
        });
        receiver
    }
}

/// A question, for consoles that don't show it by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Told again when the same words are asked anew.
    pub number: u64,
    pub words: String,
}

/// Reads the consoles and remembers what it has told already.
struct Looker {
    root: Root,
    captured: Option<Arc<Mutex<Captured>>>,
    /// How much of what was captured has been told.
    seen: u64,
    log: Option<KernelLog>,
    /// Per console, what was shown last.
    before: Vec<(String, String)>,
    asked: Vec<Asked>,
}

impl Looker {
    fn look(&mut self, questions: Vec<Asked>) -> String {
        if let Some(text) = self.look_at_captured(&questions) {
            return text;
        }
        let consoles = active_consoles(&self.root);
        let (mut text, mut unreadable) = (String::new(), Vec::new());
        for name in &consoles {
            match screen::read(&self.root, name) {
                Ok(shown) => text += &self.if_changed(name, shown),
                Err(_) => unreadable.push(name.clone()), // a serial line, or a VT that is not there
            }
        }
        if !unreadable.is_empty() || consoles.is_empty() {
            let title = match unreadable.as_slice() {
                [] => "kernel log".to_owned(),
                names => format!("{} (can't be read back: kernel log and questions)", names.join(" ")),
            };
            let mut log = self.log.as_mut().map(KernelLog::drain).map(texts).unwrap_or_default();
            log.drain(..log.len().saturating_sub(LOG_LINES));
            let first = self.before.iter().all(|(known, _)| known != "log");
            if first {
                text += &format!("── {title} ──\n");
                self.before.push(("log".to_owned(), String::new()));
            }
            for line in log {
                text += &(line + "\n");
            }
            text += &self.if_asked(questions);
        }
        text
    }

    /// The console whose text is captured; then it is the only one.
    fn look_at_captured(&mut self, questions: &[Asked]) -> Option<String> {
        let captured = self.captured.clone()?;
        let captured = captured.lock().expect("no panic while held");
        let name = captured.device.as_ref()?.file_name()?.to_string_lossy().into_owned();
        let (mut lines, now) = captured.terminal.changed_since(self.seen);
        let first = std::mem::replace(&mut self.seen, now) == 0;
        lines.drain(..lines.len().saturating_sub(LOG_LINES));
        let mut text = if first { format!("── {name} ──\n") } else { String::new() };
        for line in &lines {
            text += &format!("{line}\n");
        }
        // Who writes to the device directly, as systemd's agent does, is not captured: what it asks is known all the same.
        let all = captured.terminal.changed_since(0).0;
        let recent = &all[all.len().saturating_sub(LOG_LINES)..];
        let is_missing = |asked: &&Asked| !recent.iter().any(|line| line.contains(asked.words.trim_end()));
        let missing = questions.iter().filter(is_missing).cloned().collect();
        drop(captured);
        Some(text + &self.if_asked(missing))
    }

    fn if_changed(&mut self, name: &str, shown: String) -> String {
        match self.before.iter_mut().find(|(known, _)| known == name) {
            Some((_, before)) if *before == shown => return String::new(),
            Some((_, before)) => before.clone_from(&shown),
            None => self.before.push((name.to_owned(), shown.clone())),
        }
        format!("── {name} ──\n{shown}")
    }

    fn if_asked(&mut self, questions: Vec<Asked>) -> String {
        if self.asked == questions {
            return String::new();
        }
        self.asked = questions;
        self.asked.iter().map(|asked| format!("{}\n", asked.words)).collect()
    }
}

fn texts(entries: Vec<Entry>) -> Vec<String> {
    entries.into_iter().map(|entry| entry.text).collect()
}

/// Names of the devices behind /dev/console, `tty0` resolved to the VT that is in front
/// (`Documentation/ABI/testing/sysfs-tty`).
fn active_consoles(root: &Root) -> Vec<String> {
    let words = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default(); // no such file: no console
    let mut names: Vec<String> = words("/sys/class/tty/console/active").split_whitespace().map(str::to_owned).collect();
    let front = words("/sys/class/tty/tty0/active").trim().to_owned();
    for name in &mut names {
        if name == "tty0" && !front.is_empty() {
            name.clone_from(&front);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::root::tests::Fixture;

    fn asked(number: u64, words: &str) -> Asked {
        Asked { number, words: words.to_owned() }
    }

    #[tokio::test]
    async fn the_screen_in_front_is_shown_and_questions_for_the_serial_line() {
        let root = Fixture::new(&[
            ("sys/class/tty/console/active", b"tty0 ttyS0\n"),
            ("sys/class/tty/tty0/active", b"tty2\n"),
            ("dev/vcsa2", &[2, 4, 0, 0]),
            ("dev/vcs2", b"ab  cd  "),
        ]);
        let mut peek = Console::new(root.clone(), None).peek(false, || vec![asked(1, "asked: root")]);
        let text = peek.recv().await.unwrap();
        assert!(text.starts_with("── tty2 ──\nab\ncd\n"), "{text}");
        assert!(text.ends_with("── ttyS0 (can't be read back: kernel log and questions) ──\nasked: root\n"), "{text}");
        assert!(peek.recv().await.is_none());
    }

    #[tokio::test]
    async fn following_shows_only_changes() {
        let root = Fixture::new(&[
            ("sys/class/tty/console/active", b"tty1\n"),
            ("dev/vcsa1", &[1, 2, 0, 0]),
            ("dev/vcs1", b"a "),
        ]);
        let mut peek = Console::new(root.clone(), None).peek(true, Vec::new);
        assert_eq!(peek.recv().await.unwrap(), "── tty1 ──\na\n");
        std::fs::write(root.join("/dev/vcs1"), "b ").unwrap();
        assert_eq!(peek.recv().await.unwrap(), "── tty1 ──\nb\n");
    }

    #[tokio::test]
    async fn captured_text_is_shown_with_what_is_asked_elsewhere() {
        let captured = Arc::new(Mutex::new(Captured::default()));
        captured.lock().unwrap().terminal.feed(b"Starting x...\nEnter passphrase for /dev/vda: ");
        let console = Console::new(Fixture::new(&[]).clone(), Some(captured.clone()));
        let number = Arc::new(AtomicU64::new(2));
        let questions = {
            let number = number.clone();
            move || {
                vec![
                    asked(1, "Enter passphrase for /dev/vda:"),
                    asked(number.load(Ordering::Relaxed), "Please enter PIN:"),
                ]
            }
        };
        let mut peek = console.peek(false, questions.clone());
        assert!(peek.recv().await.unwrap().starts_with("── kernel log ──"), "not before the capture stands");
        captured.lock().unwrap().device = Some("/dev/ttyS0".into());
        let mut peek = console.peek(true, questions);
        let expected = "── ttyS0 ──\nStarting x...\nEnter passphrase for /dev/vda:\nPlease enter PIN:\n";
        assert_eq!(peek.recv().await.unwrap(), expected);
        captured.lock().unwrap().terminal.feed(b"\nStarting y...\n");
        assert_eq!(peek.recv().await.unwrap(), "Starting y...\n");
        number.store(3, Ordering::Relaxed);
        assert_eq!(peek.recv().await.unwrap(), "Please enter PIN:\n", "asked anew");
    }
}
