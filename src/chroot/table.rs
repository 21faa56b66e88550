//! The status for people. Pure.

use super::mounts::{MountState, MountStatus};
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
    text
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
        };
        let expected = "debian: not wholly up, at /data/debian\n\
            \x20 mount  /dev      bind of /dev      mounted\n\
            \x20 mount  /dev/pts  bind of /dev/pts  missing (optional)\n\
            \x20 mount  /proc     proc              mounted by somebody else\n";
        assert_eq!(of(&status), expected);
    }
}
