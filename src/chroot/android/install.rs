//! `vestibule chroot install android NAME`: has a chroot started at boot, by whatever roots this Android.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::script::{boot_script, file_name, is_for_another};
use crate::chroot::{Which, find_definition};
use crate::root::Root;

/// Directories whose programs are run at boot, as root, and by whom. The first that takes the script has it.
const DIRECTORIES: [(&str, &str); 5] = [
    ("/data/adb/service.d", "Magisk, KernelSU or APatch"),
    ("/data/adb/su/su.d", "SuperSU"),
    ("/su/su.d", "SuperSU"),
    ("/system/su.d", "SuperSU"),
    ("/system/etc/init.d", "a system with init.d"),
];
/// They run what is executable.
const MODE: u32 = 0o755;
/// `AID_ROOT` and `AID_SYSTEM` of Android: whose files nobody else may change. /data is the latter's.
const TRUSTED: [u32; 2] = [0, 1000];

/// What starts it, and where from.
#[derive(Clone, Debug, clap::Args)]
pub struct Install {
    pub system: System,
    /// The chroot that is started
    pub name: String,
    /// Put the script there, and not where it is looked for usually
    #[arg(long, value_name = "DIR", conflicts_with = "print")]
    pub to: Option<PathBuf>,
    /// Only print the script
    #[arg(long)]
    pub print: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum System {
    /// A rooted Android: Magisk, KernelSU, APatch, SuperSU or init.d
    Android,
}

/// Writes the script, or prints it where there is no place for it; then the exit status is 1.
pub fn command(root: &Root, install: &Install) -> anyhow::Result<ExitCode> {
    let which = Which { name: Some(install.name.clone()), root: None };
    find_definition(root, &which).context("at boot, nothing could be started")?;
    let program = std::env::current_exe().context("looking for this program's own file; /proc must be mounted")?;
    let script = boot_script(&program, &install.name)?;
    if install.print {
        print(&script)?;
        return Ok(ExitCode::SUCCESS);
    }
    for remark in exposed(&program) {
        eprintln!("vestibule: {remark}");
    }
    let name = file_name(&install.name);
    if let Some(directory) = &install.to {
        let path = directory.join(&name);
        leave_to_its_owner(&path, &install.name)?;
        write(&path, &script).with_context(|| format!("writing {}", path.display()))?;
        println!("{} starts {} at boot, if programs there are run", path.display(), install.name);
        return Ok(ExitCode::SUCCESS);
    }
    let mut refused = Vec::new();
    for (directory, whose) in DIRECTORIES {
        let path = root.join(directory).join(&name);
        leave_to_its_owner(&path, &install.name)?;
        match write(&path, &script) {
            Ok(()) => {
                println!("{} starts {} at boot, run by {whose}; to undo this, remove it", path.display(), install.name);
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => refused.push(format!("{}: {error}", path.display())),
        }
    }
    print(&script)?;
    if !refused.is_empty() {
        bail!(
            "the script could not be written ({}); it is printed above: put it where it is run at boot",
            refused.join("; ")
        );
    }
    let places: Vec<_> = DIRECTORIES.iter().map(|(directory, whose)| format!("{directory} ({whose})")).collect();
    bail!(
        "nothing here runs programs at boot. The script, which is printed above, would go, with mode 0755, to {name} in \
         one of: {}. If yours runs them from elsewhere, say so with --to DIR",
        places.join(", ")
    )
}

/// Two names of chroots can make one name of a file, as dots are not in it.
fn leave_to_its_owner(path: &Path, name: &str) -> anyhow::Result<()> {
    let there = match std::fs::read(path) {
        Ok(there) => there,
        // Nothing is there; or what it is, writing will tell.
        Err(_) => return Ok(()),
    };
    if is_for_another(&String::from_utf8_lossy(&there), name) {
        bail!(
            "{} is there and starts another chroot, whose script would have to have the same name as that of {name}: give \
             one of them another name, or remove the file if nothing is to start that chroot any more",
            path.display()
        );
    }
    Ok(())
}

/// Whole or not at all: half a script might be run.
fn write(path: &Path, script: &str) -> Result<(), Error> {
    let temporary = path.with_file_name(format!(".vestibule-{}", std::process::id()));
    let written = write_new(&temporary, script).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err()
        && let Err(error) = std::fs::remove_file(&temporary)
        && !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ReadOnlyFilesystem)
    {
        eprintln!("vestibule: {} stays ({error}): remove it", temporary.display());
    }
    written
}

fn write_new(path: &Path, script: &str) -> Result<(), Error> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(script.as_bytes())?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.sync_all()
}

fn print(script: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(script.as_bytes()).context("printing the script")
}

/// What is run as root at each boot must be nobody else's: says which file or directory is.
fn exposed(program: &Path) -> Vec<String> {
    let foreign = |path: &&Path| {
        let found = path.metadata();
        found.is_ok_and(|found| {
            !TRUSTED.contains(&found.uid()) || (found.mode() & 0o002 != 0 && found.mode() & 0o1000 == 0)
        })
    };
    let remark = |path: &Path| {
        format!(
            "{} can be changed by others than root, and would be run as root at boot: move the program to /data/vestibule, \
             and make that root's (chown -R 0:0 /data/vestibule)",
            path.display()
        )
    };
    program.ancestors().find(foreign).map(remark).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;

    /// What any user could put in the program's place would be root at the next boot.
    #[test]
    fn what_others_can_change_is_told() {
        let root = Fixture::new(&[("/vestibule/vestibule", b"")]);
        let (program, directory) = (root.join("/vestibule/vestibule"), root.join("/vestibule"));
        if !exposed(&program).is_empty() {
            return; // where this runs, all of it belongs to somebody
        }
        for (path, mode, told) in [(&directory, 0o777, true), (&directory, 0o755, false), (&program, 0o757, true)] {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            let remarks = exposed(&program);
            assert_eq!(!remarks.is_empty(), told, "{remarks:?}");
            assert!(remarks.iter().all(|remark| remark.starts_with(path.to_str().unwrap())), "{remarks:?}");
        }
    }
}
