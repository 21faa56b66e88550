//! Makes a chroot's mounts and undoes them, with a journal of what we made. The order and whose a mount is are decided in
//! [`super::plan`].

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{StatVfsMountFlags as Has, statvfs};
use serde::Serialize;

use super::definition::{Mount, What};
use super::mountinfo::{Mounted, Table};
use super::place::{Place, by_descriptor, is_same, mount_id};
use super::plan::{Found, Journal, Like, Undo};
use super::state::State;
use super::{holders, namespace, options};

/// The journal's name in the state.
const JOURNAL: &str = "mounts";
/// Between two tries at a busy mount.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Mounts that are undone in one go: more than can be made, so that two who fight end.
const MAX_STEPS: usize = 1000;

/// One mount for `status`.
#[derive(Clone, Debug, Serialize)]
pub struct MountStatus {
    pub target: PathBuf,
    /// `bind of /dev`, or the file system's type.
    pub what: String,
    pub state: MountState,
    pub optional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountState {
    Mounted,
    /// By somebody else.
    Foreign,
    Missing,
}

/// What was made, what was used, and what people should know.
#[derive(Debug, Default)]
pub struct Made {
    pub count: usize,
    pub notes: Vec<String>,
}

/// Makes those that are missing, in order. What it made until it failed stays, in the journal.
pub fn make(mounts: &[Mount], place: &Place, state: &State) -> anyhow::Result<Made> {
    let mut journal = journal(state)?;
    journal.namespace = namespace::current()?;
    let mut made = Made::default();
    for mount in mounts {
        let shown = place.outside(&mount.target);
        match journal.found(&table()?, &mount.target, place.path()) {
            Found::Ours => continue,
            Found::Moved(mounted) => bail!(
                "{} was mounted, and is at {} now, since a directory above it was renamed: rename that back, or stop the chroot \
                 first",
                shown.display(),
                mounted.target.display()
            ),
            Found::Theirs(other) => {
                made.notes.push(format!(
                    "{} is a mount point already ({} of {}): it is used as it is, and stays at the end",
                    shown.display(),
                    other.kind,
                    other.source
                ));
                continue;
            }
            // It may lack its options.
            Found::HalfMade => unmount(place, &mount.target, MntFlags::MNT_DETACH)
                .with_context(|| format!("undoing {}, at which an earlier start was killed", shown.display()))?,
            Found::Nothing => {}
        }
        match stays_inside(mount, place, &journal).and_then(|()| make_one(mount, place, &mut journal, state)) {
            Ok(note) => {
                made.count += 1;
                made.notes.extend(note);
            }
            Err(error) => {
                journal.forget(&mount.target);
                write(state, &journal)?;
                let error = error.context(format!("mounting {} at {}", described(&mount.what), shown.display()));
                if !mount.optional {
                    return Err(error);
                }
                made.notes.push(format!("{error:#}; going on without it, as it is optional"));
            }
        }
    }
    Ok(made)
}

fn stays_inside(mount: &Mount, place: &Place, journal: &Journal) -> anyhow::Result<()> {
    let table = table()?;
    let Some((carrier, other)) = journal.seen_also(&table, &mount.target, place.path()) else { return Ok(()) };
    let carrier = carrier.target.display();
    bail!(
        "{carrier}, which somebody else has mounted, is shared with {}, where it would appear, too: unmount {carrier}, or make \
         it private (mount --make-private {carrier})",
        other.target.display()
    )
}

/// Targets of those that are there by us.
pub fn ours(place: &Place, state: &State) -> anyhow::Result<Vec<PathBuf>> {
    Ok(journal(state)?.present(&table()?, place.path()))
}

/// Undoes ours but those of `keep`, the last first, with what stands on them. Who keeps one busy has until the deadline; then it
/// is detached, and the kernel undoes it when they have gone. Tries everything; the strings say what was out of the ordinary.
pub fn undo(place: &Place, state: &State, keep: &[PathBuf], deadline: Duration) -> anyhow::Result<Vec<String>> {
    let mut journal = journal(state)?;
    let mut notes = Vec::new();
    let mut failed = HashSet::new();
    let since = Instant::now();
    for _step in 0..MAX_STEPS {
        // Anew each time: others mount, too, and a mount may take copies of itself along.
        let steps = journal.to_undo(&table()?, place.path(), keep);
        let Some(step) = steps.into_iter().find(|step| !failed.contains(&step.mounted.id)) else { break };
        match undo_one(place, &step, deadline.saturating_sub(since.elapsed())) {
            Ok(note) => notes.extend(note),
            Err(error) => {
                failed.insert(step.mounted.id);
                notes.push(format!("{error:#}"));
            }
        }
    }
    let left = journal.to_undo(&table()?, place.path(), keep);
    let present = journal.present(&table()?, place.path());
    journal.entries.retain(|entry| keep.contains(&entry.target) || present.contains(&entry.target));
    match journal.entries.is_empty() {
        true => state.remove(JOURNAL)?,
        false => write(state, &journal)?,
    }
    ensure!(left.is_empty(), "mounts stay: {}", notes.join("; "));
    Ok(notes)
}

pub fn status(mounts: &[Mount], place: &Place, state: &State) -> anyhow::Result<Vec<MountStatus>> {
    let (journal, table) = (journal(state)?, table()?);
    let status = |mount: &Mount| MountStatus {
        target: mount.target.clone(),
        what: described(&mount.what),
        state: match journal.found(&table, &mount.target, place.path()) {
            Found::Ours => MountState::Mounted,
            Found::Theirs(_) => MountState::Foreign,
            Found::Nothing | Found::HalfMade | Found::Moved(_) => MountState::Missing,
        },
        optional: mount.optional,
    };
    Ok(mounts.iter().map(status).collect())
}

/// What the file system of the chroot's directory does not allow; an error where nothing could run.
pub fn check_root(place: &Place) -> anyhow::Result<Vec<String>> {
    let shown = place.path().display();
    let flags = statvfs(place.path()).with_context(|| format!("looking at the file system of {shown}"))?.f_flag;
    ensure!(
        !flags.contains(Has::NOEXEC),
        "{shown} is on a file system that is mounted noexec, so that no program in it can be run: mount it anew without \
         (mount -o remount,exec), or move the chroot to another one"
    );
    let trouble = [
        (Has::NOSUID, "nosuid", "sudo, su and ping can't get the rights that they need"),
        (Has::NODEV, "nodev", "device files in it don't work, but for those in /dev, which come from outside"),
        (Has::RDONLY, "ro", "nothing in it can be changed, but in /tmp and /run"),
    ];
    let said =
        |(_, name, means): &(_, &str, &str)| format!("{shown} is on a file system that is mounted {name}: {means}");
    Ok(trouble.iter().filter(|(flag, ..)| flags.contains(*flag)).map(said).collect())
}

/// What we made in this namespace: about mounts in another one, which may look the same, the journal says nothing.
pub fn journal(state: &State) -> anyhow::Result<Journal> {
    let journal = recorded(state)?;
    Ok(if journal.namespace == namespace::current()? { journal } else { Journal::default() })
}

/// What was made last, in whatever namespace.
pub fn recorded(state: &State) -> anyhow::Result<Journal> {
    let Some(text) = state.read(JOURNAL)? else { return Ok(Journal::default()) };
    serde_json::from_str(&text).with_context(|| {
        format!(
            "reading {}: remove it, and undo the chroot's mounts by umount(8)",
            state.directory().join(JOURNAL).display()
        )
    })
}

/// What was made is gone with its namespace.
pub fn forget(state: &State) -> anyhow::Result<()> {
    state.remove(JOURNAL)
}

/// The mount table of this process.
pub fn table() -> anyhow::Result<Table> {
    let text = std::fs::read("/proc/self/mountinfo")
        .context("reading /proc/self/mountinfo: /proc must be mounted (mount -t proc proc /proc)")?;
    Table::parse(&text).map_err(|line| anyhow::anyhow!("/proc/self/mountinfo has a line that can't be read: {line}"))
}

fn write(state: &State, journal: &Journal) -> anyhow::Result<()> {
    state.write(JOURNAL, &serde_json::to_string(journal).context("writing the journal of mounts")?)
}

/// The note is for people.
fn make_one(mount: &Mount, place: &Place, journal: &mut Journal, state: &State) -> anyhow::Result<Option<String>> {
    let is_directory = match &mount.what {
        What::Bind(source) => std::fs::metadata(source)
            .with_context(|| format!("looking at the source {}, which must be there", source.display()))?
            .is_dir(),
        What::New { .. } => true,
    };
    let target = make_target(place, &mount.target, is_directory)?;
    journal.intend(&mount.target, like(&mount.what)?);
    write(state, journal)?;
    let before = table()?;
    let done = mount_at(mount, place, &target);
    match done {
        Ok(_) => {
            let (outside, table) = (place.outside(&mount.target), table()?);
            let mounted = table.at(&outside).context("it was mounted, and has gone again")?;
            journal.made(&mount.target, mounted);
            write(state, journal)?;
        }
        // Without its options it must not stay; nor where it is called otherwise by now.
        Err(_) => {
            let (after, ground) = (table()?, mount_id(&target)?);
            let is_new = |mounted: &&Mounted| before.all().all(|other| other.id != mounted.id);
            let own = after.all().filter(is_new).filter(|mounted| ground.is_none_or(|id| id == mounted.parent));
            for target in own.filter_map(|mounted| inside(place, &mounted.target)) {
                unmount(place, &target, MntFlags::MNT_DETACH).context("undoing what could be done of it")?;
            }
        }
    }
    done
}

/// What it will look like in the mount table, as far as that is known.
fn like(what: &What) -> anyhow::Result<Option<Like>> {
    let source = match what {
        What::New { kind, .. } => return Ok(Some(Like { kind: kind.clone(), source: None })),
        What::Bind(source) => {
            std::fs::canonicalize(source).with_context(|| format!("following {}", source.display()))?
        }
    };
    let of = |mounted: &Mounted| Like { kind: mounted.kind.clone(), source: Some(mounted.source.clone()) };
    Ok(table()?.mount_of(&source).map(of))
}

/// Hold of the mount point, which is made if it is missing.
fn make_target(place: &Place, target: &Path, is_directory: bool) -> anyhow::Result<OwnedFd> {
    let shown = place.outside(target);
    let missing = || format!("the mount point {} is missing, and can't be made: make it", shown.display());
    if place.node(target)?.is_none() {
        if is_directory {
            // As everybody has it; seen when nothing is mounted there.
            let mode = if target == Path::new("/tmp") { 0o1777 } else { 0o755 };
            place.make_directory(target, mode).with_context(missing)?;
        } else {
            let parent = target.parent().unwrap_or(Path::new("/"));
            place.make_directory(parent, 0o755).and_then(|()| place.write(target, b"", 0o644)).with_context(missing)?;
        }
    }
    match place.node(target)?.with_context(missing)? {
        (node, kind) if kind.is_dir() == is_directory => Ok(node),
        _ if is_directory => bail!("{} is no directory: remove it, or choose another target", shown.display()),
        _ => bail!("{} is a directory, and the source a file: choose another target", shown.display()),
    }
}

/// Mounts it on the target that is held: its name may lead elsewhere by now, as users of the chroot may own the directory that
/// has it. If it fails, something may be mounted nevertheless.
fn mount_at(wanted: &Mount, place: &Place, target: &OwnedFd) -> anyhow::Result<Option<String>> {
    let is_bind = matches!(wanted.what, What::Bind(_));
    let options = options::parse(&wanted.options, is_bind).map_err(anyhow::Error::msg)?;
    let at = by_descriptor(target);
    let none = None::<&str>;
    let mut note = None;
    match &wanted.what {
        What::Bind(source) => mount(Some(source), &at, none, MsFlags::MS_BIND, none).context("the kernel refuses")?,
        What::New { kind, source } => {
            let data = (!options.data.is_empty()).then_some(&*options.data);
            let done = mount(Some(&**source), &at, Some(&**kind), options.flags, data);
            match done.map_err(|error| (error, stand_in(kind))) {
                Ok(()) => {}
                Err((error, Some(other))) => {
                    mount(Some(other), &at, none, MsFlags::MS_BIND, none)
                        .with_context(|| format!("the kernel refuses a new one ({error}), and to bind {other}, too"))?;
                    note = Some(format!("the kernel refuses a new {kind} ({error}): it is {other} of outside"));
                }
                Err((Errno::ENODEV, None)) => bail!("this kernel does not know the file system {kind}"),
                Err((error, None)) => bail!("the kernel refuses ({error}); the options are “{}”", wanted.options),
            }
        }
    }
    // From here on it is the mount itself, and no other, that is changed.
    let mounted = place.node(&wanted.target)?.filter(|(node, _)| !is_same(node, target).unwrap_or(true));
    let (mounted, _) = mounted.context("somebody has renamed the mount point meanwhile; try again")?;
    let at = by_descriptor(&mounted);
    // Else what is mounted or unmounted below would come and go outside, too.
    mount(none, &at, none, MsFlags::MS_PRIVATE, none)
        .context("keeping what is mounted below it from the rest of the machine")?;
    if (is_bind || note.is_some()) && !(options.flags | options.without).is_empty() {
        let flags = (of_mount_point(&at)? - options.without) | options.flags;
        mount(none, &at, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, none)
            .with_context(|| format!("giving it the options {}", wanted.options))?;
    }
    Ok(note)
}

/// Kernels refuse a new sysfs to some that have all rights, such as those in a container with the network of another.
fn stand_in(kind: &str) -> Option<&'static str> {
    (kind == "sysfs").then_some("/sys")
}

/// What a bound directory has from its source, which stays unless the options say otherwise.
fn of_mount_point(at: &Path) -> anyhow::Result<MsFlags> {
    let has = statvfs(at).context("looking at its options")?.f_flag;
    let same = [
        (Has::RDONLY, MsFlags::MS_RDONLY),
        (Has::NOSUID, MsFlags::MS_NOSUID),
        (Has::NODEV, MsFlags::MS_NODEV),
        (Has::NOEXEC, MsFlags::MS_NOEXEC),
        (Has::NOATIME, MsFlags::MS_NOATIME),
        (Has::NODIRATIME, MsFlags::MS_NODIRATIME),
        (Has::RELATIME, MsFlags::MS_RELATIME),
    ];
    Ok(same.iter().filter(|(flag, _)| has.contains(*flag)).map(|(_, flag)| *flag).collect())
}

fn undo_one(place: &Place, step: &Undo, deadline: Duration) -> anyhow::Result<Option<String>> {
    let outside = &step.mounted.target;
    let shown = outside.display();
    let target = inside(place, outside).with_context(|| format!("{shown} is not in the chroot"))?;
    let said = (!step.ours)
        .then(|| format!("{shown} ({}), which somebody has mounted in the chroot, is undone, too", step.mounted.kind));
    let since = Instant::now();
    loop {
        // By its name; so it has to be seen there.
        let id = match place.node(&target)? {
            Some((node, _)) => mount_id(&node)?.unwrap_or(step.mounted.id),
            None => 0,
        };
        ensure!(
            id == step.mounted.id,
            "{shown} can't be reached, as another mount stands before it, or a directory was renamed: undo that first"
        );
        match unmount(place, &target, MntFlags::empty()) {
            Ok(()) => return Ok(said),
            Err(error) if error.downcast_ref::<Errno>() != Some(&Errno::EBUSY) => {
                return Err(error).with_context(|| format!("unmounting {shown}; try: umount -l {shown}"));
            }
            Err(_) if since.elapsed() < deadline => std::thread::sleep(BUSY_PAUSE),
            Err(_) => break,
        }
    }
    let holders = holders::of(step.mounted.id);
    unmount(place, &target, MntFlags::MNT_DETACH)
        .with_context(|| format!("detaching {shown}, which {holders} still uses"))?;
    Ok(Some(format!("{shown} was still in use by {holders}: it is detached, and goes when they have ended")))
}

/// The uppermost mount at that point. Nothing of ours is on it meanwhile: the directory that has it is held, which stands below.
fn unmount(place: &Place, target: &Path, flags: MntFlags) -> anyhow::Result<()> {
    let (parent, name) = place.parent(target)?;
    Ok(umount2(&by_descriptor(&parent).join(name), flags | MntFlags::UMOUNT_NOFOLLOW)?)
}

fn inside(place: &Place, outside: &Path) -> Option<PathBuf> {
    outside.strip_prefix(place.path()).ok().map(|path| Path::new("/").join(path))
}

/// For people.
fn described(what: &What) -> String {
    match what {
        What::Bind(source) => format!("bind of {}", source.display()),
        What::New { kind, source } if kind == source => kind.clone(),
        What::New { kind, source } => format!("{kind} of {source}"),
    }
}
