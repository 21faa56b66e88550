//! `vestibule chroot`: a Linux system in a directory, brought up inside whatever runs here: a rooted phone, a board, a rescue
//! medium.

pub mod android;
pub mod definition;
pub mod file;
pub mod log;
pub mod namespace;
pub mod options;
pub mod place;
pub mod resolv_conf;
pub mod state;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};

use crate::root::Root;
use definition::Definition;
use place::Place;
use state::State;

/// Where definitions are looked for: Android's /etc can't be written to.
const DIRECTORIES: [&str; 2] = ["/etc/vestibule/chroots", "/data/vestibule/chroots"];

/// A Linux system in a directory: its mounts, what runs in it, and the way into it.
#[derive(Parser)]
#[command(name = "vestibule chroot", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make its mounts and start what runs in it; nothing happens to what is there already
    Start(Which),
    /// End what runs in it and undo its mounts
    Stop(Which),
    /// Stop it, and start it again
    Restart(Which),
    /// Say what is mounted and what runs. Exit status: 0 it is up, 3 it is not, or not wholly
    Status {
        #[command(flatten)]
        which: Which,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Have it started at boot, by whatever runs programs then
    Install(android::install::Install),
}

/// The chroot that is meant.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Of /etc/vestibule/chroots/NAME.toml, or /data/vestibule/chroots/NAME.toml
    pub name: Option<String>,
    /// A directory, in place of a file about it: everything as it is by default
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// A chroot, found, in this process's mount namespace; whether it is up or not.
pub struct Chroot {
    /// For people.
    pub name: String,
    pub definition: Definition,
    pub place: Place,
    pub state: State,
}

/// Does what the arguments, those after `chroot`, say.
pub fn command(root: &Root, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let words = [OsString::from("vestibule chroot")].into_iter().chain(arguments.iter().cloned());
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            error.print().context("printing the usage")?;
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    ensure!(nix::unistd::geteuid().is_root(), "only root can make mounts and change the root directory: be root");
    match arguments.action {
        Action::Install(install) => android::install::command(root, &install),
        Action::Start(which) | Action::Stop(which) | Action::Restart(which) | Action::Status { which, .. } => {
            let _chroot = Chroot::find(root, &which)?;
            bail!("not built yet");
        }
    }
}

impl Chroot {
    pub fn find(root: &Root, which: &Which) -> anyhow::Result<Self> {
        let (name, definition) = find_definition(root, which)?;
        let place = Place::open(&definition.root)?;
        let state = State::open(&place, root)?;
        Ok(Self { name, definition, place, state })
    }
}

fn find_definition(root: &Root, which: &Which) -> anyhow::Result<(String, Definition)> {
    let name = match which {
        Which { root: Some(directory), .. } => {
            let directory = std::path::absolute(directory).context("looking for the current directory")?;
            return Ok((directory.display().to_string(), Definition::of(directory)));
        }
        Which { name, root: None } => name.clone().context("name a chroot, or its directory with --root")?,
    };
    ensure!(
        definition::is_name(&name),
        "{name:?} is no name of a chroot (letters, digits and -_. alone); for a directory write --root {name}"
    );
    for directory in DIRECTORIES {
        let path = root.join(directory).join(format!("{name}.toml"));
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let definition = file::parse(&text).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
                return Ok((name, definition));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
    let [etc, data] = DIRECTORIES;
    bail!(
        "there is no {etc}/{name}.toml and no {data}/{name}.toml: write one (chroot.example.toml), or name the directory with --root"
    )
}
