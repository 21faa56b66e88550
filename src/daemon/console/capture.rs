//! Keeps what is written to a console that has no screen, with the help of the relay.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::kernel_log::{Entry, KernelLog};
use super::terminal::Terminal;
use super::{device, relay};
use crate::root::Root;

/// How often it is tried again: somebody else may have the console, or its driver may come late.
const RETRY: Duration = Duration::from_secs(5);
/// A relay that fails so often will go on failing.
const MAX_FAILURES: u32 = 3;
/// The relay's own deadlines at its end add up to less.
const END: Duration = Duration::from_secs(4);
/// What a pipe holds is read in a few turns.
const CHUNK: usize = 8192;
/// Where plymouth's daemon is. It redirects the console itself and shows the text; it must find that free.
const PLYMOUTH: [&str; 3] = ["/usr/sbin/plymouthd", "/sbin/plymouthd", "/usr/bin/plymouthd"];

/// What the console shows, for those who look.
#[derive(Default)]
pub struct Captured {
    pub terminal: Terminal,
    /// The console's device while its text is captured.
    pub device: Option<PathBuf>,
}

/// The task that captures.
pub struct Capture {
    captured: Arc<Mutex<Captured>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Capture {
    /// `plymouth`: the kernel command line lets it run.
    pub fn start(root: Root, plymouth: bool) -> Self {
        let captured = Arc::<Mutex<Captured>>::default();
        let (stop, stopped) = watch::channel(false);
        let run = Run { root, plymouth, captured: captured.clone(), stopped, failures: 0, told: false };
        Self { captured, stop, task: crate::task::spawn(run.run()) }
    }

    pub fn captured(&self) -> Arc<Mutex<Captured>> {
        self.captured.clone()
    }

    /// Gives the console back.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            log::error!("the capture of the console ended badly: {error}; going on");
        }
    }
}

struct Run {
    root: Root,
    plymouth: bool,
    captured: Arc<Mutex<Captured>>,
    stopped: watch::Receiver<bool>,
    failures: u32,
    /// That the console is somebody else's has been said.
    told: bool,
}

impl Run {
    async fn run(mut self) {
        let plymouth = self.plymouth && PLYMOUTH.iter().any(|path| self.root.join(path).exists());
        while !*self.stopped.borrow() && self.failures < MAX_FAILURES {
            if let Some(device) = device::unseen(&self.root) {
                if plymouth {
                    log::info!("{}: peek can't show the console's text, which plymouth has", device.display());
                    return;
                }
                self.capture(&device).await;
                self.lock().device = None;
            }
            self.pause().await;
        }
    }

    /// Until the next try, or the end.
    async fn pause(&mut self) {
        // Not `changed()`: that the end has come may have been seen before. An error: the daemon is gone, and with it the wish.
        tokio::select! {
            _ = self.stopped.wait_for(|&stopped| stopped) => {}
            () = sleep(RETRY) => {}
        }
    }

    /// One relay, from its start to its end.
    async fn capture(&mut self, device: &Path) {
        let failed = match start_relay(device) {
            Ok(mut relay) => {
                self.follow(&mut relay, device).await;
                self.end(relay).await
            }
            Err(error) => Some(format!("it can't be started: {error}")),
        };
        if let Some(reason) = failed {
            self.failures += 1;
            if self.failures == 1 {
                log::warn!("{}: its text can't be captured for peek: the relay failed: {reason}", device.display());
            }
        }
    }

    /// Reads what the relay and the kernel say, in the order in which it comes, until the relay ends or has to.
    async fn follow(&mut self, relay: &mut Child, device: &Path) {
        let Some(mut copy) = relay.stdout.take() else { return };
        let mut log = KernelLog::open(&self.root).ok(); // no log: then the text alone is shown
        let mut buffer = [0; CHUNK];
        loop {
            tokio::select! {
                read = copy.read(&mut buffer) => match read {
                    Ok(count) if count > 0 => {
                        let mut captured = self.lock();
                        if captured.device.replace(device.to_owned()).is_none() {
                            log::info!("{}: what is written to the console is kept for peek", device.display());
                        }
                        captured.terminal.feed(&buffer[..count]);
                    }
                    _ => return,
                },
                Some(entries) = kernel_lines(log.as_mut()) => {
                    let shown = shown(&entries, console_level(&self.root));
                    self.lock().terminal.feed(shown.as_bytes());
                }
                _ = self.stopped.changed() => return,
            }
        }
    }

    /// Ends a relay; `Some` says what went wrong with it.
    async fn end(&mut self, mut relay: Child) -> Option<String> {
        drop(relay.stdin.take());
        let status = match timeout(END, relay.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Some(error.to_string()),
            Err(_) => {
                // With it the kernel drops the redirection.
                let killed = relay.kill().await.err().map(|error| format!("; killing it: {error}"));
                return Some(format!("it did not end within {} s{}", END.as_secs(), killed.unwrap_or_default()));
            }
        };
        match status.code() {
            Some(0) => None,
            Some(code) if code == i32::from(relay::BUSY) => {
                if !std::mem::replace(&mut self.told, true) {
                    log::info!(
                        "peek can't show the serial console's text: something else has redirected it (TIOCCONS)"
                    );
                }
                None
            }
            _ => Some(format!("it ended with {status}")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        self.captured.lock().expect("no panic while held")
    }
}

/// It lives in its own process group, like a session, and ends when its standard input does.
fn start_relay(device: &Path) -> std::io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg("console-relay")
        .arg(device)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
}

async fn kernel_lines(log: Option<&mut KernelLog>) -> Option<Vec<Entry>> {
    match log {
        Some(log) => log.next().await.ok(),
        None => std::future::pending().await,
    }
}

/// Of these, what the kernel prints on its consoles.
fn shown(entries: &[Entry], level: u8) -> String {
    entries.iter().filter(|entry| entry.level < level).map(|entry| format!("{}\n", entry.text)).collect()
}

/// Messages below this level are printed: the first number of /proc/sys/kernel/printk (proc(5)).
fn console_level(root: &Root) -> u8 {
    /// `CONSOLE_LOGLEVEL_DEFAULT` of the kernel's configuration.
    const DEFAULT: u8 = 7;
    let text = std::fs::read_to_string(root.join("/proc/sys/kernel/printk")).unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::root::tests::Fixture;

    #[test]
    fn kernel_lines_are_shown_as_the_console_shows_them() {
        let entry = |level, text: &str| Entry { level, text: text.to_owned() };
        let entries = [entry(3, "error"), entry(4, "warning"), entry(6, "info")];
        assert_eq!(shown(&entries, 4), "error\n");
        assert_eq!(shown(&entries, 7), "error\nwarning\ninfo\n");
        assert_eq!(console_level(&Fixture::new(&[("proc/sys/kernel/printk", b"4\t4\t1\t7\n")])), 4);
        assert_eq!(console_level(&Fixture::new(&[])), 7);
    }

    #[tokio::test]
    async fn an_end_that_was_seen_already_is_not_waited_for() {
        let (stop, mut stopped) = watch::channel(false);
        stop.send_replace(true);
        stopped.borrow_and_update(); // as while a relay was followed
        let (captured, root) = (Arc::default(), Root::default());
        let mut run = Run { root, plymouth: false, captured, stopped, failures: 0, told: false };
        assert!(run.pause().now_or_never().is_some(), "the hand-over must not stand still");
    }

    #[tokio::test]
    async fn plymouth_is_left_alone() {
        let root = Fixture::new(&[("usr/sbin/plymouthd", b""), ("proc/consoles", b"null   -W- (EC  p a)    1:3\n")]);
        root.put("dev/kmsg", b"");
        std::os::unix::fs::symlink("/dev/null", root.join("/dev/null")).unwrap();
        // Ends by itself: nothing is started, and nothing tried again.
        let capture = Capture::start(root.clone(), true);
        timeout(RETRY / 2, capture.task).await.expect("it ends").unwrap();
        assert!(capture.captured.lock().unwrap().device.is_none());
    }
}
