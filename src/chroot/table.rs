//! The status for people. Pure.

use super::mounts::{MountState, MountStatus};
use super::supervise::{Condition, SupervisedService};
use super::up::Status;

pub fn of(status: &Status) -> String {
    let how = match status {
        Status { up: true, .. } => "up",
        Status { down: true, .. } => "down",
        _ => "not wholly up",
    };
    let mut text = format!("{}: {how}, at {}\n", status.name, status.root.display());
    let rows = status.mounts.iter().map(|mount| [mount.target.display().to_string(), mount.what.clone(), said(mount)]);
    text.push_str(&columns("mount", rows.collect()));
    let rows = status.services.iter().map(|service| [service.name.clone(), runs(service)]);
    text.push_str(&columns("service", rows.collect()));
    if status.supervisor.is_none() && !status.services.is_empty() {
        text.push_str("  the supervisor was killed, and nobody starts services again: vestibule chroot start\n");
    }
    status.remarks.iter().for_each(|remark| text.push_str(&format!("  {remark}\n")));
    text
}

fn runs(service: &SupervisedService) -> String {
    let state = match service.state {
        Condition::Preparing => "being prepared",
        Condition::Running => "running",
        Condition::Background => "running in the background",
        Condition::Waiting => "ended, started again soon",
        Condition::Ending => "ending",
        Condition::Ended => "ended",
    };
    let process = service.pid.map(|pid| format!(", process {pid}"));
    let restarts = (service.restarts > 0).then(|| format!(", restarts: {}", service.restarts));
    let last = service.last_exit.as_ref().map(|last| format!(", last time it {last}"));
    [Some(state.to_owned()), process, restarts, last].into_iter().flatten().collect()
}

fn said(mount: &MountStatus) -> String {
    match mount {
        MountStatus { state: MountState::Mounted, .. } => "mounted".to_owned(),
        MountStatus { state: MountState::Foreign, .. } => "mounted by somebody else".to_owned(),
        MountStatus { state: MountState::Missing, optional: true, .. } => "missing (optional)".to_owned(),
        MountStatus { state: MountState::Missing, .. } => "missing".to_owned(),
    }
}

/// Each row after `kind`, below one another.
fn columns<const N: usize>(kind: &str, rows: Vec<[String; N]>) -> String {
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells: String = row.iter().zip(widths).map(|(cell, width)| format!("  {cell:width$}")).collect();
        format!("  {kind}{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_well() {
        let mount = |target: &str, what: &str, state, optional| MountStatus {
            target: target.into(),
            what: what.to_owned(),
            state,
            optional,
        };
        let status = Status {
            name: "debian".to_owned(),
            root: "/data/debian".into(),
            up: false,
            down: false,
            mounts: vec![
                mount("/dev", "bind of /dev", MountState::Mounted, false),
                mount("/dev/pts", "bind of /dev/pts", MountState::Missing, true),
                mount("/proc", "proc", MountState::Foreign, false),
            ],
            supervisor: None,
            services: vec![SupervisedService {
                name: "ssh".to_owned(),
                state: Condition::Waiting,
                pid: Some(7),
                restarts: 2,
                last_exit: Some("ended with status 3".to_owned()),
            }],
            remarks: vec!["SELinux context: u:r:su:s0".to_owned()],
        };
        let expected = "debian: not wholly up, at /data/debian\n\
            \x20 mount  /dev      bind of /dev      mounted\n\
            \x20 mount  /dev/pts  bind of /dev/pts  missing (optional)\n\
            \x20 mount  /proc     proc              mounted by somebody else\n\
            \x20 service  ssh  ended, started again soon, process 7, restarts: 2, last time it ended with status 3\n\
            \x20 the supervisor was killed, and nobody starts services again: vestibule chroot start\n\
            \x20 SELinux context: u:r:su:s0\n";
        assert_eq!(of(&status), expected);
    }
}
