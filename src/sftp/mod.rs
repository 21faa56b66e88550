//! `vestibule sftp-server`: files below one directory, over standard input and output, as SFTP version 3. A process of its
//! own for one client, which knows nothing of SSH: vestibule's daemon starts it, and OpenSSH's can (`Subsystem`).
//!
//! A packet comes in (`stream`) and is read (`message`); the account's right decides (`access`); its paths are brought
//! below the root (`path`, pure; `tree`, the only one that opens anything); `server` does what it asks.

pub mod access;
mod confine;
mod handles;
mod long_name;
pub mod message;
pub mod path;
pub mod server;
pub mod stream;
#[cfg(test)]
pub mod tests;
pub mod tree;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use access::Access;
use path::View;
use server::Server;
use tree::Tree;

/// How the directory is served.
#[derive(clap::Args)]
pub struct Options {
    /// Where the client sees the directory
    #[arg(long, value_name = "PATH", default_value = "/")]
    shown_as: PathBuf,
    #[arg(long, value_enum, default_value = "read-write")]
    access: Access,
}

/// Serves what is below `root` until standard input ends.
pub fn main(root: &Path, options: &Options) -> anyhow::Result<()> {
    let view = View::new(options.shown_as.as_os_str().as_bytes()).map_err(anyhow::Error::msg)?;
    let tree = Tree::new(root, view)?;
    confine::confine(tree.root(), options.access)?;
    stream::serve(&mut Server::new(tree, options.access), std::io::stdin(), std::io::stdout())
}
