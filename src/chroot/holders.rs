//! Who keeps a mount busy: for messages only.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// As many as fit into a line.
const MOST_NAMED: usize = 5;

/// Processes with something open on the mount of this number, or standing in it, by name and number; "somebody" where the kernel
/// doesn't say (before Linux 3.15), or where another mount namespace has it.
pub fn of(mount: u64) -> String {
    let Ok(processes) = std::fs::read_dir("/proc") else { return "somebody".to_owned() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let found: BTreeSet<u32> = pids.filter(|pid| *pid != std::process::id() && holds(*pid, mount)).collect();
    let mut names: Vec<String> = found.iter().take(MOST_NAMED).map(|pid| named(*pid)).collect();
    if found.len() > MOST_NAMED {
        names.push(format!("{} more", found.len() - MOST_NAMED));
    }
    if names.is_empty() { "somebody".to_owned() } else { names.join(", ") }
}

fn holds(pid: u32, mount: u64) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten();
    let links = descriptors.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    ["cwd", "root", "exe"].into_iter().map(|link| process.join(link)).chain(links).any(|link| is_on(&link, mount))
}

/// Looks at the file itself, without opening it: the kernel tells the mount of a descriptor only.
fn is_on(link: &Path, mount: u64) -> bool {
    let Ok(node) = rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return false };
    let Ok(about) = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", node.as_raw_fd())) else { return false };
    about.lines().any(|line| line.strip_prefix("mnt_id:").is_some_and(|id| id.trim() == mount.to_string()))
}

fn named(pid: u32) -> String {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    shown(&name, pid)
}

/// A process calls itself what it likes (`PR_SET_NAME` of prctl(2)), and this is read at root's terminal.
fn shown(name: &[u8], pid: u32) -> String {
    format!("{} ({pid})", name.trim_ascii_end().escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_harm_no_terminal() {
        assert_eq!(shown(b"sleep\n", 7), "sleep (7)");
        assert_eq!(shown(b"\x1b[2J\xff\n\n", 7), r"\x1b[2J\xff (7)");
    }
}
