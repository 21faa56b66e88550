//! The mount namespace of a chroot with `private = true`, and of one that was started where other mounts are seen (on Android
//! each app may have its own): whoever stops it, looks at it or enters it must be there, too.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// The namespace in which this process was when this was made.
pub struct Outside(File);

impl Outside {
    pub fn remember() -> anyhow::Result<Self> {
        File::open("/proc/self/ns/mnt").map(Self).context("opening /proc/self/ns/mnt: /proc must be mounted")
    }

    /// Goes back there. Like [`join_of`], it can only be done while the process has a single thread; it changes to `/`.
    pub fn return_to(&self) -> anyhow::Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNS).context("going back to the mount namespace of outside")
    }
}

/// From here on, this process and those that it starts see the mounts of the machine as they are now, and nobody sees theirs.
pub fn enter_new() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context(
        "making a mount namespace of the chroot's own: the kernel refuses; without it, write private = false",
    )?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("keeping mounts of the chroot from the rest of the machine")
}

/// Goes into the mount namespace of this process. It can only be done while the process has a single thread; it changes to `/`,
/// and a [`super::place::Place`] must be opened anew.
pub fn join_of(pid: i32) -> anyhow::Result<()> {
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = File::open(&path).with_context(|| format!("opening {path}: has process {pid} ended?"))?;
    setns(namespace, CloneFlags::CLONE_NEWNS)
        .with_context(|| format!("going into the mount namespace of process {pid}"))
}

/// What the kernel calls the namespace of this process, such as `mnt:[4026531841]`. Another one may get the name of one that
/// has gone.
pub fn current() -> anyhow::Result<String> {
    name("self").context("reading /proc/self/ns/mnt: /proc must be mounted")
}

/// A process in the namespace of this name whose mount table is as `looks_right` has it.
pub fn process_in(namespace: &str, looks_right: impl Fn(&[u8]) -> bool) -> anyhow::Result<Option<i32>> {
    let processes = std::fs::read_dir("/proc").context("reading /proc")?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // A process may end between two of these steps; then it holds no namespace.
    let holds = |pid: &i32| {
        let pid = pid.to_string();
        name(&pid).is_ok_and(|found| found == namespace)
            && std::fs::read(Path::new("/proc").join(&pid).join("mountinfo")).is_ok_and(|table| looks_right(&table))
    };
    Ok(pids.into_iter().find(holds))
}

fn name(process: &str) -> std::io::Result<String> {
    let link: PathBuf = ["/proc", process, "ns/mnt"].iter().collect();
    Ok(std::fs::read_link(link)?.to_string_lossy().into_owned())
}
