//! The console without echo and line editing, restored when dropped.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use nix::sys::termios::{InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::root::Root;

/// Keys on their way; a person is slower.
const QUEUE: usize = 16;

pub struct Terminal {
    device: OwnedFd,
    before: Termios,
}

impl Terminal {
    /// Standard input where that is a terminal, as it is for hooks, else `/dev/console`; `None` where neither is one.
    pub fn enter(root: &Root) -> anyhow::Result<Option<Self>> {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().ok();
        let console = || std::fs::File::options().read(true).write(true).open(root.join("/dev/console")).ok();
        let terminal = |device: &OwnedFd| tcgetattr(device).is_ok();
        let Some(device) = stdin.filter(terminal).or_else(|| console().map(OwnedFd::from).filter(terminal)) else {
            return Ok(None);
        };
        let before = tcgetattr(&device).context("reading the console's settings")?;
        let mut silent = before.clone();
        // Keys that mean a signal or stop the output would reach neither the person who types nor the one at SSH.
        silent.input_flags.remove(InputFlags::IXON);
        let flags = LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::IEXTEN;
        silent.local_flags.remove(flags);
        silent.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        silent.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        // What was typed before the question is thrown away, as cryptsetup does.
        tcsetattr(&device, SetArg::TCSAFLUSH, &silent).context("switching off the console's echo")?;
        Ok(Some(Self { device, before }))
    }

    /// What is typed, until the terminal hangs up. Reading blocks, so a thread does it; it ends with the process.
    pub fn read(&self) -> mpsc::Receiver<Vec<u8>> {
        let (sender, typed) = mpsc::channel(QUEUE);
        if let Ok(device) = self.device.try_clone() {
            std::thread::spawn(move || {
                let mut buffer = Zeroizing::new([0; 256]);
                while let Ok(length @ 1..) = nix::unistd::read(&device, &mut *buffer) {
                    if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                        return;
                    }
                }
            });
        }
        typed
    }

    /// Shows a text. A console that can't be written to is no reason to stop asking.
    pub fn say(&self, text: &str) {
        let mut left = text.as_bytes();
        while !left.is_empty() {
            match nix::unistd::write(&self.device, left) {
                Ok(written @ 1..) => left = &left[written..],
                Err(nix::errno::Errno::EINTR) => {}
                Ok(0) | Err(_) => return eprint!("{}", String::from_utf8_lossy(left)),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Half a passphrase must not be left for a shell to read: what was typed and not taken is thrown away.
        if let Err(error) = tcsetattr(&self.device, SetArg::TCSAFLUSH, &self.before) {
            eprintln!("vestibule: the console's echo could not be restored ({error}); type: stty sane");
        }
    }
}
