//! A chroot is brought up and taken down, in order. One process at a time does either.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::definition::{Definition, SSH};
use super::mounts::{self, MountState, MountStatus};
use super::supervise::{self, Supervised, SupervisedService};
use super::{Chroot, android, left, namespace, processes, resolv_conf, server};
use crate::root::Root;

/// For another that starts or stops the same chroot: what runs in it has ten seconds to end, by default.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);
/// For what still keeps a mount busy when everything in the chroot has ended.
const BUSY_DEADLINE: Duration = Duration::from_secs(3);
/// Between telling a shell that somebody has left in the chroot to end, and killing it.
const GRACE: Duration = Duration::from_secs(5);
/// Its name in the state: a start that came to its end. What a failed one leaves must go; what runs must not.
const UP: &str = "up";

/// What became of it, for people.
#[derive(Debug, Default)]
pub struct Report {
    /// There was something to do.
    pub changed: bool,
    /// It is up, but not all services run.
    pub lacks_services: bool,
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
    /// The process that keeps the services running.
    pub supervisor: Option<i32>,
    pub services: Vec<SupervisedService>,
    /// What is to be known of the system outside, and what is to be done.
    pub remarks: Vec<String>,
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

pub fn status(chroot: &mut Chroot, root: &Root) -> anyhow::Result<Status> {
    chroot.join()?;
    let mounts = mounts::status(&chroot.definition.mounts, &chroot.place, &chroot.state)?;
    let has_started = chroot.state.read(UP)?.is_some();
    let supervised = supervise::status(&chroot.state)?;
    let unknown = unknown_services(&chroot.definition, supervised.as_ref());
    let runs = match &supervised {
        Some(supervised) => supervised.is_up() && unknown.is_empty(),
        None => !wants_supervisor(&chroot.definition),
    };
    let missing = |mount: &MountStatus| mount.state == MountState::Missing && !mount.optional;
    let up = has_started && runs && !mounts.iter().any(missing);
    let nothing_runs = supervised.as_ref().is_none_or(|supervised| supervised.pid.is_none());
    let down = !has_started && nothing_runs && mounts.iter().all(|mount| mount.state != MountState::Mounted);
    let (supervisor, services) = supervised.map(|it| (it.pid, it.services)).unwrap_or_default();
    let Chroot { name, place, .. } = chroot;
    let (name, mut remarks, root) = (name.clone(), android::remarks(root), place.path().to_owned());
    remarks.extend(restart_for(&unknown));
    Ok(Status { name, root, up, down, mounts, supervisor, services, remarks })
}

/// It also holds a mount namespace that is the chroot's own.
fn wants_supervisor(definition: &Definition) -> bool {
    definition.private || definition.ssh.is_some() || !definition.services.is_empty()
}

/// Those that are defined, and that the supervisor has not been told of: it knows the definition that there was when it was started.
fn unknown_services<'a>(definition: &'a Definition, supervised: Option<&Supervised>) -> Vec<&'a str> {
    let Some(supervised) = supervised.filter(|supervised| supervised.pid.is_some()) else { return Vec::new() };
    let known = |name: &&str| supervised.services.iter().any(|service| service.name == *name);
    let defined = definition.services.iter().map(|service| service.name.as_str());
    defined.chain(definition.ssh.as_ref().map(|_| SSH)).filter(|name| !known(name)).collect()
}

fn restart_for(unknown: &[&str]) -> Option<String> {
    let services = unknown.join(", ");
    (!unknown.is_empty()).then(|| format!("not started, as it was defined later: {services}; vestibule chroot restart"))
}

fn start_locked(chroot: &mut Chroot, root: &Root) -> anyhow::Result<Report> {
    let was_up = chroot.state.read(UP)?.is_some();
    let mut report = Report { changed: !was_up, notes: mounts::check_root(&chroot.place)?, ..Report::default() };
    report.notes.extend(android::remarks(root));
    if !chroot.join()? && chroot.definition.private {
        chroot.enter_new_namespace()?;
    }
    // Somebody may have entered one that is not up. What a start that was killed has left goes.
    let half_up = || supervise::status(&chroot.state).is_ok_and(|status| status.is_some());
    let in_use = was_up || !half_up() && !processes::within(&chroot.place).is_empty();
    let kept = if in_use { mounts::ours(&chroot.place, &chroot.state)? } else { Vec::new() };
    let Err(error) = bring_up(chroot, root, &mut report) else { return Ok(report) };
    let mut notes = Vec::new();
    if !was_up && let Err(second) = end_services(chroot, &mut notes) {
        notes.push(format!("{second:#}"));
    }
    if !in_use {
        notes.extend(processes::end_all(&chroot.place, GRACE));
    }
    match mounts::undo(&chroot.place, &chroot.state, &kept, BUSY_DEADLINE) {
        Ok(told) => notes.extend(told),
        Err(second) => notes.push(format!("{second:#}")),
    }
    Err(if notes.is_empty() { error } else { anyhow::anyhow!("{error:#}; while it was undone: {}", notes.join("; ")) })
}

fn bring_up(chroot: &Chroot, root: &Root, report: &mut Report) -> anyhow::Result<()> {
    let Chroot { definition, place, state, .. } = chroot;
    let made = mounts::make(&definition.mounts, place, state)?;
    report.notes.extend(made.notes);
    report.changed |= made.count > 0;
    // Without names of hosts there is still a way in.
    match resolv_conf::write(place, definition.resolv_conf, root) {
        Ok(note) => report.notes.extend(note),
        Err(error) => report.notes.push(format!("{error:#}; going on with the resolv.conf that is there")),
    }
    if wants_supervisor(definition) {
        let was_running = supervise::is_running(state)?;
        report.changed |= !was_running;
        report.notes.extend(supervise::start(definition, place, state, root)?);
        // One that has just been started says so itself.
        let lacks_a_key = definition.ssh.as_ref().filter(|_| was_running).and_then(|_| server::lacking(place));
        report.notes.extend(lacks_a_key);
        let supervised = supervise::status(state)?;
        let unknown = unknown_services(definition, supervised.as_ref());
        report.notes.extend(restart_for(&unknown));
        report.lacks_services = !unknown.is_empty() || supervised.is_none_or(|supervised| supervised.lacks_some());
    }
    state.write(UP, "").context("remembering that it is up")
}

fn stop_locked(chroot: &mut Chroot) -> anyhow::Result<Report> {
    let was_up = chroot.state.read(UP)?.is_some() || supervise::status(&chroot.state)?.is_some();
    let changed = chroot.join()? || was_up;
    let mut notes = Vec::new();
    let mut failures = Vec::new();
    if changed {
        failures.extend(end_services(chroot, &mut notes).err());
        notes.extend(processes::end_all(&chroot.place, GRACE));
    }
    match mounts::undo(&chroot.place, &chroot.state, &[], BUSY_DEADLINE) {
        Ok(told) => notes.extend(told),
        Err(error) => failures.push(error),
    }
    if !failures.is_empty() {
        let failures = failures.iter().map(|error| format!("{error:#}"));
        anyhow::bail!("{}", failures.chain(notes).collect::<Vec<_>>().join("; "));
    }
    notes.extend(left::still_below(&chroot.place, &chroot.state)?);
    chroot.state.remove(UP)?;
    Ok(Report { changed, notes, ..Report::default() })
}

fn end_services(chroot: &Chroot, notes: &mut Vec<String>) -> anyhow::Result<()> {
    let Chroot { definition, place, state, .. } = chroot;
    notes.extend(supervise::stop(place, state, supervise::stop_deadline(definition, state))?);
    Ok(())
}
