//! `vestibule chroot`: a Linux system in a directory, brought up inside whatever runs here: a rooted phone, a board, a rescue
//! medium.

pub mod accounts;
pub mod android;
mod apart;
pub mod definition;
pub mod enter;
pub mod file;
mod holders;
pub mod inside;
mod left;
pub mod log;
pub mod mountinfo;
pub mod mounts;
pub mod namespace;
pub mod options;
pub mod place;
pub mod plan;
pub mod processes;
pub mod resolv_conf;
pub mod server;
pub mod state;
pub mod supervise;
mod table;
pub mod up;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};

use crate::root::Root;
use definition::Definition;
use mountinfo::Table;
use place::Place;
use state::State;

/// Where definitions are looked for: Android's /etc can't be written to.
const DIRECTORIES: [&str; 2] = ["/etc/vestibule/chroots", "/data/vestibule/chroots"];

/// What `status` exits with when the chroot isn't up, or not wholly: as systemctl does.
const NOT_UP: u8 = 3;

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
    /// Log in to it at this terminal; its mounts are made if it is not up
    Enter {
        #[command(flatten)]
        which: Which,
        /// A user of the chroot, by name or number
        #[arg(long, default_value = "root")]
        user: String,
    },
    /// Run a program in it, with this input and output. The exit status is the program's; its mounts are made if it is not up
    Exec {
        #[command(flatten)]
        which: Which,
        /// A user of the chroot, by name or number
        #[arg(long, default_value = "root")]
        user: String,
        /// After --: the program, a path in the chroot or a name that is looked for there, and its arguments
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    /// Have it started at boot, by whatever runs programs then
    Install(android::install::Install),
    /// Do this in a session that it doesn't end (started by stop and restart)
    #[command(hide = true, subcommand, name = apart::ACTION)]
    Apart(Apart),
}

/// What ends whoever asks for it from inside.
#[derive(Subcommand)]
enum Apart {
    Stop(Which),
    Restart(Which),
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
    let root = &Root::new(std::path::absolute(root.join("/")).context("looking for the current directory")?);
    match arguments.action {
        Action::Install(install) => return android::install::command(root, &install),
        Action::Start(which) => {
            let mut chroot = Chroot::find(root, &which)?;
            let report = up::start(&mut chroot, root)?;
            tell(&chroot, &report, "is up", "is up already");
        }
        Action::Stop(which) => {
            let mut chroot = Chroot::find(root, &which)?;
            if apart::is_needed(&chroot)? {
                return apart::have_done("stop", &chroot, &which, root);
            }
            stop(&mut chroot)?;
        }
        Action::Restart(which) => {
            let mut chroot = Chroot::find(root, &which)?;
            if apart::is_needed(&chroot)? {
                return apart::have_done("restart", &chroot, &which, root);
            }
            restart(&mut chroot, root)?;
        }
        Action::Apart(action) => {
            apart::begin()?;
            match action {
                Apart::Stop(which) => stop(&mut Chroot::find(root, &which)?)?,
                Apart::Restart(which) => restart(&mut Chroot::find(root, &which)?, root)?,
            }
        }
        Action::Status { which, json } => {
            let status = up::status(&mut Chroot::find(root, &which)?, root)?;
            let text = if json { serde_json::to_string(&status)? + "\n" } else { table::of(&status) };
            std::io::stdout().write_all(text.as_bytes()).context("printing the status")?;
            return Ok(ExitCode::from(if status.up { 0 } else { NOT_UP }));
        }
        Action::Enter { which, user } => {
            match enter::become_it(&mut Chroot::find(root, &which)?, &user, enter::Wanted::Shell, root)? {}
        }
        Action::Exec { which, user, program } => {
            match enter::become_it(&mut Chroot::find(root, &which)?, &user, enter::Wanted::Program(program), root)? {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn stop(chroot: &mut Chroot) -> anyhow::Result<()> {
    let report = up::stop(chroot)?;
    tell(chroot, &report, "is down", "is down already");
    Ok(())
}

fn restart(chroot: &mut Chroot, root: &Root) -> anyhow::Result<()> {
    let report = up::restart(chroot, root)?;
    tell(chroot, &report, "is up again", "is up again");
    Ok(())
}

fn tell(chroot: &Chroot, report: &up::Report, changed: &str, unchanged: &str) {
    report.notes.iter().for_each(|note| tell_note(note));
    let how = if report.changed { changed } else { unchanged };
    let but = if report.lacks_services { ", but not wholly" } else { "" };
    let text = format!("{} {how}{but}\n", chroot.name);
    if let Err(error) = std::io::stdout().write_all(text.as_bytes()) {
        tell_note(&format!("“{}” can't be printed ({error}); ignoring that, as it is done", text.trim_end()));
    }
}

/// What else there is to say. `eprintln!` would panic where nobody can be told, as when a terminal has gone: half way.
fn tell_note(note: &str) {
    let _ = std::io::stderr().write_all(format!("vestibule: {note}\n").as_bytes());
}

impl Chroot {
    pub fn find(root: &Root, which: &Which) -> anyhow::Result<Self> {
        let (name, definition) = find_definition(root, which)?;
        let place = Place::open(&definition.root)?;
        let state = State::open(&place, root)?;
        // Whoever stands in one of the mounts keeps it busy.
        std::env::set_current_dir("/").context("going to /")?;
        let name = name.unwrap_or_else(|| place.path().display().to_string());
        Ok(Self { name, definition, place, state })
    }

    /// Goes to where its mounts are seen, if a process holds another mount namespace for them. Says whether they are seen.
    pub fn join(&mut self) -> anyhow::Result<bool> {
        let journal = mounts::recorded(&self.state)?;
        if journal.entries.is_empty() {
            return Ok(false);
        }
        if journal.namespace != namespace::current()? {
            let is_seen = |text: &[u8], root| Table::parse(text).is_ok_and(|table| journal.is_seen_in(&table, root));
            let outside = |_, text: &[u8]| is_seen(text, self.place.path());
            // What runs in the chroot sees the mounts below its own `/`.
            let inside = |pid, text: &[u8]| is_seen(text, Path::new("/")) && processes::is_within(pid, &self.place);
            if let Some(holder) = namespace::holder_of(&journal.namespace, outside)? {
                holder.join(false)?;
                self.look_again()?;
            } else if let Some(holder) = namespace::holder_of(&journal.namespace, inside)? {
                holder.join(true)?;
                self.look_again()?;
            }
        }
        Ok(!mounts::ours(&self.place, &self.state)?.is_empty())
    }

    /// For mounts that nobody outside sees. To be called with the lock held.
    pub fn enter_new_namespace(&mut self) -> anyhow::Result<()> {
        namespace::enter_new()?;
        // It may have the name of one that has gone, of which the journal then is; nothing in it is ours yet.
        mounts::forget(&self.state)?;
        self.look_again()
    }

    /// After a change of the mount namespace: a place belongs to the one in which it was opened.
    pub fn look_again(&mut self) -> anyhow::Result<()> {
        self.place = Place::open(self.place.path())?;
        Ok(())
    }
}

/// With its name, if it has one.
fn find_definition(root: &Root, which: &Which) -> anyhow::Result<(Option<String>, Definition)> {
    let name = match which {
        Which { root: Some(directory), .. } => {
            let directory = std::path::absolute(directory).context("looking for the current directory")?;
            return Ok((None, Definition::of(directory)));
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
                return Ok((Some(name), definition));
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
