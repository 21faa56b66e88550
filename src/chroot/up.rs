//! A chroot is brought up and taken down, in order. One process at a time does either.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::mounts::{self, MountState, MountStatus};
use super::{Chroot, namespace};
use crate::root::Root;

/// For another that starts or stops the same chroot: what runs in it has ten seconds to end, by default.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);
/// For what still keeps a mount busy when everything in the chroot has ended.
const BUSY_DEADLINE: Duration = Duration::from_secs(3);
/// Its name in the state: a start that came to its end. What a failed one leaves must go; what runs must not.
const UP: &str = "up";

/// What became of it, for people.
#[derive(Debug, Default)]
pub struct Report {
    /// There was something to do.
    pub changed: bool,
    pub notes: Vec<String>,
}

/// All of it, for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub name: String,
    pub root: PathBuf,
    /// Everything that is wanted is there.
    pub up: bool,
    /// Nothing of it is there.
    pub down: bool,
    pub mounts: Vec<MountStatus>,
}

/// What has been done when this fails is undone.
pub fn start(chroot: &mut Chroot, root: &Root) -> anyhow::Result<Report> {
    let _lock = chroot.state.lock(LOCK_DEADLINE)?;
    start_locked(chroot, root)
}

/// Tries everything; an error says what stays.
pub fn stop(chroot: &mut Chroot) -> anyhow::Result<Report> {
    let _lock = chroot.state.lock(LOCK_DEADLINE)?;
    stop_locked(chroot)
}

pub fn restart(chroot: &mut Chroot, root: &Root) -> anyhow::Result<Report> {
    let _lock = chroot.state.lock(LOCK_DEADLINE)?;
    let outside = namespace::Outside::remember()?;
    let stopped = stop_locked(chroot)?;
    outside.return_to()?;
    chroot.look_again()?;
    let mut started = start_locked(chroot, root)?;
    started.notes.splice(..0, stopped.notes);
    started.changed = true;
    Ok(started)
}

pub fn status(chroot: &mut Chroot) -> anyhow::Result<Status> {
    chroot.join()?;
    let mounts = mounts::status(&chroot.definition.mounts, &chroot.place, &chroot.state)?;
    let has_started = chroot.state.read(UP)?.is_some();
    let missing = |mount: &MountStatus| mount.state == MountState::Missing && !mount.optional;
    let up = has_started && !mounts.iter().any(missing);
    let down = !has_started && mounts.iter().all(|mount| mount.state != MountState::Mounted);
    Ok(Status { name: chroot.name.clone(), root: chroot.place.path().to_owned(), up, down, mounts })
}

fn start_locked(chroot: &mut Chroot, _root: &Root) -> anyhow::Result<Report> {
    let was_up = chroot.state.read(UP)?.is_some();
    let mut report = Report { changed: false, notes: mounts::check_root(&chroot.place)? };
    if !chroot.join()? && chroot.definition.private {
        namespace::enter_new()?;
        chroot.look_again()?;
    }
    let kept = if was_up { mounts::ours(&chroot.place, &chroot.state)? } else { Vec::new() };
    match bring_up(chroot, &mut report) {
        Ok(()) => Ok(report),
        Err(error) => {
            let notes = match mounts::undo(&chroot.place, &chroot.state, &kept, BUSY_DEADLINE) {
                Ok(notes) => notes,
                Err(second) => vec![format!("{second:#}")],
            };
            Err(if notes.is_empty() {
                error
            } else {
                anyhow::anyhow!("{error:#}; while it was undone: {}", notes.join("; "))
            })
        }
    }
}

fn bring_up(chroot: &Chroot, report: &mut Report) -> anyhow::Result<()> {
    let Chroot { definition, place, state, .. } = chroot;
    let made = mounts::make(&definition.mounts, place, state)?;
    report.notes.extend(made.notes);
    report.changed |= made.count > 0 || state.read(UP)?.is_none();
    state.write(UP, "").context("remembering that it is up")
}

fn stop_locked(chroot: &mut Chroot) -> anyhow::Result<Report> {
    let was_up = chroot.state.read(UP)?.is_some();
    chroot.join()?;
    let Chroot { place, state, .. } = chroot;
    let mine = mounts::ours(place, state)?;
    let notes = mounts::undo(place, state, &[], BUSY_DEADLINE)?;
    state.remove(UP)?;
    Ok(Report { changed: was_up || !mine.is_empty(), notes })
}
