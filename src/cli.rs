//! Arguments, the names that the binary answers to, and the local side of the commands that also work over SSH.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{self, SetArg, Termios};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::config::family::Family;
use crate::control::client::Client;
use crate::control::message::{Event, Request};
use crate::control::{SOCKET, client};
use crate::root::Root;
use crate::session::command::{Command, resolve_applet};
use crate::session::run::{End, Input, Io, Output, run};
use crate::{chroot, daemon, dialler, hub, image, open, post, session, sftp, tunnel};

/// `vestibule stop` gives up waiting after this; the daemon's own deadlines add up to less, and what says that the boot is
/// held comes more often.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// SSH into a machine before its disk is unlocked.
///
/// In the initramfs, `vestibule serve` brings up the network, serves SSH, shows what the machine is waiting for and
/// carries a passphrase to it. The other commands talk to it (unlock, peek, status, stop), or prepare an image (keys,
/// check).
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Take this directory for / (for image builds and tests)
    #[arg(long, value_name = "DIR", global = true, default_value = "/", hide_default_value = true)]
    root: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run the daemon (in the initramfs)
    Serve {
        /// The kind of initramfs, where its askers need particular care
        #[arg(long)]
        family: Option<Family>,
        /// Serve one session, and end as at hand-over when it is over
        #[arg(long)]
        once: bool,
        /// Serve SSH on standard input and output, or on the sockets of systemd or inetd, with a daemon or without
        #[arg(long, conflicts_with_all = ["family", "once"])]
        stdio: bool,
        /// Nothing boots here: who logs in is in the system that runs, and has its login shell
        #[arg(long, requires = "stdio", hide = true)]
        system: bool,
    },
    /// Ask for a passphrase here and over SSH, and open the volume (for hooks of an initramfs)
    Open(open::What),
    /// End the daemon as at hand-over, and wait until it is gone
    Stop,
    #[command(flatten)]
    Command(Command),
    /// Make the SSH host key unless there is one; print its fingerprint and known_hosts line
    Keys {
        /// Of the server, where the configuration doesn't say it
        #[arg(long, hide = true)]
        port: Option<u16>,
    },
    /// Check that somebody will be able to log in: keys, configuration, host key
    Check {
        /// Print the files that the image needs instead, one "source<TAB>destination" per line
        #[arg(long)]
        files: bool,
        /// Print the kernel modules that the image needs for it instead, one per line
        #[arg(long, conflicts_with = "files")]
        modules: bool,
    },
    /// Take over the keys and settings of another SSH server for the initramfs, and say what became of each
    Import {
        from: ImportFrom,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep tunnels through an SSH server open, on a running system
    Dial(tunnel::Options),
    /// On a hub, the SSH server that machines behind NAT dial
    #[command(subcommand)]
    Hub(hub::Action),
    /// Bring up a Linux system in a directory, on a phone, a board or a rescue medium: mounts, programs, SSH
    #[command(disable_help_flag = true)]
    Chroot {
        /// start, stop, restart, status, enter, exec, install; --help says more
        // They are read by the room itself: after the first, --root is the chroot's and not the machine's.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ACTION")]
        arguments: Vec<OsString>,
    },
    /// Pass on what is written to the console (started by the daemon)
    #[command(hide = true)]
    ConsoleRelay { device: PathBuf },
    /// Become a program that a session asked for (started by the daemon)
    #[command(hide = true)]
    Launch(daemon::rescue::launch::Launch),
    /// Become a program inside a chroot (started by vestibule chroot)
    #[command(hide = true)]
    ChrootLaunch(chroot::inside::launch::Launch),
    /// Serve the files below --root as SFTP on standard input and output (started by the daemon)
    #[command(hide = true)]
    SftpServer(sftp::Options),
}

/// The whole life of a process of ours that takes no arguments.
type Process = fn() -> anyhow::Result<()>;

/// Processes that the daemon starts by the dozen: they start without the parser of arguments, which would be the larger part
/// of what that costs. And the supervisor of a chroot, which stays as small.
const PROCESSES: &[(&str, Process)] = &[
    ("session", session::main),
    ("dial-session", dialler::main),
    ("post", post::main),
    (chroot::supervise::ACTION, chroot::supervise::main),
];

/// Whose.
#[derive(Clone, Copy, clap::ValueEnum)]
enum ImportFrom {
    /// Of dropbear-initramfs
    Dropbear,
}

/// Does what the arguments say.
pub fn main(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let arguments: Vec<_> = arguments.collect();
    if let [_, word] = &arguments[..]
        && let Some((_, process)) = PROCESSES.iter().find(|(name, _)| word == name)
    {
        return process().map(|()| ExitCode::SUCCESS);
    }
    let arguments = arguments.into_iter();
    let arguments = match Arguments::try_parse_from(with_applet(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            error.print().context("printing the usage")?;
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    let root = Root::new(arguments.root);
    match arguments.action {
        Action::Serve { stdio: true, system, .. } => daemon::stdio::main(root, system)?,
        Action::Serve { family, once, stdio: false, .. } => daemon::main(root, family, once)?,
        Action::Open(what) => return open::command(&root, what),
        Action::Chroot { arguments } => return chroot::command(&root, &arguments),
        Action::ConsoleRelay { device } => return daemon::console::relay::main(&root, &device),
        Action::Launch(launch) => return Ok(daemon::rescue::launch::main(launch)),
        Action::ChrootLaunch(launch) => return Ok(chroot::inside::launch::main(&launch)),
        Action::SftpServer(options) => sftp::main(root.join("/").as_path(), &options)?,
        Action::Stop => stop(&root)?,
        Action::Keys { port } => image::keys::command(&root, port)?,
        Action::Check { files: true, .. } => image::check::print_files(&root),
        Action::Check { modules: true, .. } => image::check::print_modules(&root),
        Action::Check { .. } => image::check::command(&root)?,
        Action::Import { from: ImportFrom::Dropbear, dry_run } => image::import::command(&root, dry_run)?,
        Action::Dial(options) => tunnel::command(&root, options)?,
        Action::Hub(action) => return hub::command(action),
        Action::Command(command) => return local(command, &root),
    }
    Ok(ExitCode::SUCCESS)
}

/// `console_peek …` → `vestibule peek …`
fn with_applet(mut arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let name = arguments.next().unwrap_or_else(|| "vestibule".into());
    let base = Path::new(&name).file_name().and_then(|base| base.to_str()).unwrap_or_default().to_owned();
    let command = resolve_applet(&base);
    let applet = (command != base).then(|| OsString::from(command));
    [Some("vestibule".into()), applet].into_iter().flatten().chain(arguments).collect()
}

fn stop(root: &Root) -> anyhow::Result<()> {
    let path = root.join(SOCKET);
    block_on(async {
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            // Not running, which is what was asked for; a daemon that was killed may have left its socket.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return daemon::clean_up_after(root).await,
            Err(error) => return Err(error).with_context(|| format!("connecting to {}", path.display())),
        };
        let daemon = stream.peer_cred().ok().and_then(|credentials| credentials.pid());
        let client = Client::start(stream);
        let mut events = client.request(Request::Stop);
        let mut told = false;
        // A boot that is held waits for somebody; each time that the daemon says so, it lives.
        while let Ok(next) = tokio::time::timeout(STOP_DEADLINE, events.next()).await {
            match next {
                Ok(Event::Text(held)) if !std::mem::replace(&mut told, true) => {
                    eprintln!("vestibule: {held} (vestibule release)");
                }
                Ok(_) => {}
                Err(_gone) => return Ok(()),
            }
        }
        // Better a daemon that was killed than one that lives on in the real system.
        if let Some(pid) = daemon {
            kill(Pid::from_raw(pid), Signal::SIGKILL).context("killing the daemon")?;
            daemon::clean_up_after(root).await?;
        }
        bail!("the daemon did not end within {} s and was killed", STOP_DEADLINE.as_secs())
    })
}

fn local(command: Command, root: &Root) -> anyhow::Result<ExitCode> {
    let reading = matches!(command, Command::Unlock(_) | Command::Feed(_));
    let terminal = (reading && std::io::stdin().is_terminal()).then(RawTerminal::enter).transpose()?;
    let columns = terminal.as_ref().map(|_| columns());
    let status = block_on(async {
        let client = connect(root).await?;
        let (input_sender, input) = mpsc::channel(16);
        let (output, mut queue) = mpsc::channel(16);
        if reading {
            // Reading blocks; this process has nothing else to do with the thread, and ends with it.
            std::thread::spawn(move || read_input(&input_sender));
        }
        let printing = async {
            while let Some(output) = queue.recv().await {
                let written = match output {
                    Output::Out(bytes) => std::io::stdout().write_all(&bytes).and_then(|()| std::io::stdout().flush()),
                    Output::Err(bytes) => std::io::stderr().write_all(&bytes),
                };
                if written.is_err() {
                    return; // whoever read it has gone; the command sees its queue closed
                }
            }
        };
        let io = Io { input, output, terminal: columns, shell: false };
        match tokio::join!(run(command, &client, io), printing).0 {
            End::Exit(status) => Ok(status),
            End::Shell { .. } => bail!("whoever is here has a shell"), // it was not offered
        }
    })?;
    drop(terminal);
    Ok(ExitCode::from(status))
}

fn read_input(sender: &mpsc::Sender<Input>) {
    let mut buffer = zeroize::Zeroizing::new([0; 1024]);
    loop {
        match std::io::stdin().read(&mut *buffer) {
            Ok(0) => return, // dropping the sender is the end of file
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return drop(sender.blocking_send(Input::Failed(error.to_string()))),
            Ok(length) => {
                if sender.blocking_send(Input::Bytes(buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
        }
    }
}

async fn connect(root: &Root) -> anyhow::Result<client::Client> {
    let path = root.join(SOCKET);
    let stream = UnixStream::connect(&path).await.with_context(|| {
        format!("no vestibule daemon answers at {}; is it running (vestibule serve), and are you root?", path.display())
    })?;
    Ok(Client::start(stream))
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let result = runtime.block_on(future);
    runtime.shutdown_background(); // a thread may still be reading standard input
    result
}

/// The terminal without echo and line editing, until dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> anyhow::Result<Self> {
        let before = termios::tcgetattr(std::io::stdin().as_fd()).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(std::io::stdin().as_fd(), SetArg::TCSAFLUSH, &raw).context("switching off the echo")?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Err(error) = termios::tcsetattr(std::io::stdin().as_fd(), SetArg::TCSAFLUSH, &self.0) {
            eprintln!("vestibule: the terminal's echo could not be restored ({error}); type: stty sane");
        }
    }
}

fn columns() -> u32 {
    rustix::termios::tcgetwinsize(std::io::stdin()).map_or(0, |size| u32::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn applets() {
        for (given, expected) in [
            ("/bin/console_peek -f", "vestibule peek -f"),
            ("console_auth", "vestibule unlock"),
            ("/usr/bin/vestibule serve", "vestibule serve"),
            ("./renamed status", "vestibule status"),
        ] {
            let arguments = with_applet(given.split(' ').map(OsString::from));
            assert_eq!(arguments.join(" ".as_ref()), expected, "{given}");
        }
    }
}
