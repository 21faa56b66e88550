//! What a person at the machine would see: the screens of virtual terminals, and the kernel log. Only looks.

pub mod kernel_log;
mod screen;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::interval;

use crate::root::Root;
use kernel_log::KernelLog;

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
}

impl Console {
    pub fn new(root: Root) -> Self {
        Self { root }
    }

    /// The last lines of the kernel log, then new ones as they come, until the receiver is dropped.
    pub fn log(&self) -> mpsc::Receiver<Vec<String>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let root = self.root.clone();
        tokio::spawn(async move {
            let Ok(mut log) = KernelLog::open(&root) else { return }; // no log: an empty tail is the truth
            let past = log.drain();
            let tail = past[past.len().saturating_sub(TAIL_LINES)..].to_vec();
            if sender.send(tail).await.is_err() {
                return;
            }
            loop {
                tokio::select! {
                    lines = log.next() => {
                        let Ok(lines) = lines else { return };
                        if sender.send(lines).await.is_err() {
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
    pub fn peek(&self, follow: bool, questions: impl Fn() -> String + Send + 'static) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut looker = Looker { root: self.root.clone(), log: KernelLog::open(&self.root).ok(), before: Vec::new() };
        tokio::spawn(async move {
            let mut ticks = interval(FOLLOW);
            loop {
                ticks.tick().await;
                let text = looker.look(&questions());
                let unsent = !text.is_empty() && sender.send(text).await.is_err();
                if unsent || !follow || sender.is_closed() {
                    return;
                }
            }
        });
        receiver
    }
}

/// Reads the consoles and remembers what it has told already.
struct Looker {
    root: Root,
    log: Option<KernelLog>,
    /// Per console, what was shown last.
    before: Vec<(String, String)>,
}

impl Looker {
    fn look(&mut self, questions: &str) -> String {
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
            let mut log = self.log.as_mut().map(KernelLog::drain).unwrap_or_default();
            log.drain(..log.len().saturating_sub(LOG_LINES));
            let first = self.before.iter().all(|(known, _)| known != "log");
            if first {
                text += &format!("── {title} ──\n");
                self.before.push(("log".to_owned(), String::new()));
            }
            for line in log {
                text += &(line + "\n");
            }
            text += &self.if_changed("questions", questions.to_owned());
        }
        text
    }

    fn if_changed(&mut self, name: &str, shown: String) -> String {
        match self.before.iter_mut().find(|(known, _)| known == name) {
            Some((_, before)) if *before == shown => return String::new(),
            Some((_, before)) => before.clone_from(&shown),
            None => self.before.push((name.to_owned(), shown.clone())),
        }
        match name {
            "questions" => shown,
            name => format!("── {name} ──\n{shown}"),
        }
    }
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
    use super::*;
    use crate::root::tests::Fixture;

    #[tokio::test]
    async fn the_screen_in_front_is_shown_and_questions_for_the_serial_line() {
        let root = Fixture::new(&[
            ("sys/class/tty/console/active", b"tty0 ttyS0\n"),
            ("sys/class/tty/tty0/active", b"tty2\n"),
            ("dev/vcsa2", &[2, 4, 0, 0]),
            ("dev/vcs2", b"ab  cd  "),
        ]);
        let mut peek = Console::new(root.clone()).peek(false, || "asked: root\n".to_owned());
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
        let mut peek = Console::new(root.clone()).peek(true, String::new);
        assert_eq!(peek.recv().await.unwrap(), "── tty1 ──\na\n");
        std::fs::write(root.join("/dev/vcs1"), "b ").unwrap();
        assert_eq!(peek.recv().await.unwrap(), "── tty1 ──\nb\n");
    }
}
