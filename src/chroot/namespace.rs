//! The mount namespace of a chroot with `private = true`, and of one that was started where other mounts are seen (on Android
//! each app may have its own): whoever stops it, looks at it or enters it must be there, too.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{Mode, OFlags};

/// Where this process was when this was made: its namespace, and its root in it, as setns(2) changes both.
pub struct Outside {
    namespace: File,
    name: String,
    root: OwnedFd,
}

impl Outside {
    pub fn remember() -> anyhow::Result<Self> {
        let namespace = File::open("/proc/self/ns/mnt").context("opening /proc/self/ns/mnt: /proc must be mounted")?;
        Ok(Self { namespace, name: current()?, root: directory("/")? })
    }

    /// Goes back there. Like [`Holder::join`], it can only be done while the process has a single thread; it changes to `/`.
    pub fn return_to(&self) -> anyhow::Result<()> {
        if current()? == self.name {
            return Ok(());
        }
        setns(&self.namespace, CloneFlags::CLONE_NEWNS).context("going back to the mount namespace of outside")?;
        // Else one who is in a chroot would be out of it.
        make_root(&self.root).context("going back to the root directory of outside")
    }
}

/// From here on, this process and those that it starts see the mounts of the machine as they are now, and nobody sees theirs.
pub fn enter_new() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context(
        "making a mount namespace of the chroot's own: the kernel refuses; without it, write private = false",
    )?;
    match mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>) {
        // mount(2): it is no mount point.
        Err(Errno::EINVAL) => bail!(
            "/ is no mount point here, since this program runs in a chroot itself, and what is mounted could be seen by \
             others: write private = false, or start it from outside of that chroot"
        ),
        done => done.context("keeping mounts of the chroot from the rest of the machine"),
    }
}

/// Hold of a process's namespace, and of its root, also when the process has ended.
pub struct Holder {
    pid: i32,
    namespace: File,
    root: OwnedFd,
}

impl Holder {
    fn of(pid: i32) -> anyhow::Result<Self> {
        let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
        Ok(Self { pid, namespace, root: directory(&format!("/proc/{pid}/root"))? })
    }

    /// Goes into the namespace. It can only be done while the process has a single thread; it changes to `/`, and a
    /// [`super::place::Place`] must be opened anew. The holder's `/` becomes ours if ours isn't that of the namespace, as in a
    /// chroot; one that `is_inside` the chroot that is meant has no `/` in which that could be found.
    pub fn join(self, is_inside: bool) -> anyhow::Result<()> {
        let (pid, before) = (self.pid, identity(&directory("/")?)?);
        setns(&self.namespace, CloneFlags::CLONE_NEWNS)
            .with_context(|| format!("going into the mount namespace of process {pid}"))?;
        if identity(&directory("/")?)? == before {
            return Ok(());
        }
        ensure!(
            !is_inside,
            "the chroot's mounts are in a namespace of their own, and this program runs in a chroot itself, from which there is \
             no way there: run it from outside of that chroot, or end process {pid} and all others that run in the one that is \
             meant"
        );
        make_root(&self.root).with_context(|| format!("going to the root directory of process {pid}"))
    }
}

/// What the kernel calls the namespace of this process, such as `mnt:[4026531841]`. Another one may get the name of one that
/// has gone.
pub fn current() -> anyhow::Result<String> {
    name("self").context("reading /proc/self/ns/mnt: /proc must be mounted")
}

/// A process in the namespace of this name whose number and mount table are as `looks_right` has it.
pub fn holder_of(namespace: &str, looks_right: impl Fn(i32, &[u8]) -> bool) -> anyhow::Result<Option<Holder>> {
    let processes = std::fs::read_dir("/proc").context("reading /proc")?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // A process may end between two of these steps; then it holds no namespace.
    let mut looked_at = pids.filter_map(|pid| {
        let holder = Holder::of(pid).ok().filter(|_| name(&pid.to_string()).is_ok_and(|found| found == namespace))?;
        let table = std::fs::read(format!("/proc/{pid}/mountinfo")).ok()?;
        looks_right(pid, &table).then_some(holder)
    });
    Ok(looked_at.next())
}

fn name(process: &str) -> std::io::Result<String> {
    let link: PathBuf = ["/proc", process, "ns/mnt"].iter().collect();
    Ok(std::fs::read_link(link)?.to_string_lossy().into_owned())
}

/// Hold (`O_PATH`) of it.
fn directory(path: &str) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("opening {path}"))
}

/// By which a directory is known again, in all namespaces.
fn identity(directory: &OwnedFd) -> anyhow::Result<(u64, u64)> {
    let found = rustix::fs::fstat(directory).context("looking at /")?;
    Ok((found.st_dev, found.st_ino))
}

fn make_root(directory: &OwnedFd) -> anyhow::Result<()> {
    rustix::process::fchdir(directory).context("changing to it")?;
    nix::unistd::chroot(".").context("making it /")
}
