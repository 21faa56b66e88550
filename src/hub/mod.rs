//! `vestibule hub`: what a person does on a hub, the stock OpenSSH server that machines behind NAT dial.

mod list;
mod machines;
mod report;
mod setup;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

/// Longest file of public keys, in bytes: some thousand lines. Whatever is longer was named by mistake.
const MAX_KEYS: u64 = 4 << 20;

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print a script that sets up a stock OpenSSH server as a hub for machines that dial it
    ///
    /// An account without shell and password, an sshd configuration for it, and a line for each machine's key. Nothing
    /// is changed here: read the script, then run it as root on the hub. The same keys give the same script.
    Setup(Setup),
    /// List the machines whose tunnels end on this hub: where they are in their boot, and what they ask for
    ///
    /// Each is asked through its tunnel, within 10 s. Exit status: 0 all have answered and are well, 3 something is wrong, 2
    /// usage, 1 nobody could be asked.
    List(list::List),
}

#[derive(Debug, clap::Args)]
pub struct Setup {
    /// Files with the machines' public keys, one or more lines each; - is standard input
    ///
    /// A line with permitlisten="localhost:PORT", as `vestibule keys` prints it, gives its machine that port; others get
    /// the next free one from --base on, in their order. A key's comment is its machine's name.
    #[arg(required = true, value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// The first port that is given to a machine
    #[arg(long, value_name = "PORT", default_value_t = setup::DEFAULT_BASE, value_parser = clap::value_parser!(u16).range(1024..))]
    base: u16,
    /// The account's name on the hub
    #[arg(long, value_name = "NAME", default_value = "vestibule", value_parser = setup::account)]
    user: String,
    /// Let machines listen at UNIX sockets, too, in /var/lib/hub-NAME; OpenSSH can't say which machine at which socket
    #[arg(long)]
    sockets: bool,
}

pub fn command(action: Action) -> anyhow::Result<ExitCode> {
    match action {
        Action::Setup(asked) => set_up(&asked),
        Action::List(asked) => list::command(asked),
    }
}

fn set_up(asked: &Setup) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in &asked.keys {
        files.push((path.display().to_string(), read(path)?));
    }
    let machines = machines::machines(&files, Some(asked.base)).map_err(anyhow::Error::msg)?;
    let script = setup::script(&asked.user, &machines, asked.sockets).map_err(anyhow::Error::msg)?;
    std::io::stdout().write_all(script.as_bytes()).context("printing the script")?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let reading = match path == Path::new("-") {
        true => std::io::stdin().take(MAX_KEYS).read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|file| file.take(MAX_KEYS).read_to_string(&mut text)),
    };
    reading.with_context(|| format!("reading the public keys in {}", path.display()))?;
    anyhow::ensure!((text.len() as u64) < MAX_KEYS, "{} is too long for a file of public keys", path.display());
    Ok(text)
}
