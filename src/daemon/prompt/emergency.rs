//! The emergency shell that holds a boot which failed: seen, and ended as if somebody had typed `exit` there.
//!
//! What each initramfs does when its shell ends, read in the scripts:
//! - systemd: the shell is `sulogin` of `emergency.service` or `rescue.service`; their `ExecStopPost=` (dracut 059 and
//!   106) or `systemd-sulogin-shell` (systemd 252, 257) starts `default.target` again, with all that had failed.
//! - dracut's hooks under systemd: `dracut-emergency.service`, which the initqueue waits for. It then goes on waiting
//!   for the root device (059), or leaves that to systemd (106).
//! - dracut 059 without systemd: `emergency_shell` returns to the main loop of `init`, which looks again for the root
//!   device, or mounts it.
//! - initramfs-tools 0.142: `panic` returns to `local_device_setup`, which looks again for the root device.
//! - mkinitcpio with busybox: `init` does **not** try again to mount the root, and has nothing left to do without one. So
//!   its shell is ended only where somebody has mounted the root there.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::process::{self, Process};
use crate::config::cmdline::CommandLine;
use crate::root::Root;

/// How often it is looked for one. With systemd this is a few open(2) that fail; without, a read for each process.
const POLL: Duration = Duration::from_secs(1);

/// Units that hold the boot for a person.
const UNITS: [&str; 3] = ["emergency.service", "dracut-emergency.service", "rescue.service"];
/// Where systemd keeps its groups of processes: unified, legacy, hybrid.
const HIERARCHIES: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
const SHELLS: [&str; 7] = ["sh", "ash", "dash", "bash", "ksh", "mksh", "zsh"];
/// Kernel arguments that ask for a shell: dracut.cmdline(7), initramfs-tools(7), mkinitcpio(8).
const BREAKS: [&str; 3] = ["rd.break", "rdbreak", "break"];
/// Kernel arguments that ask systemd for such a mode in the initramfs: kernel-command-line(7). `rd.emergency=` with a
/// value is dracut's and means something else.
const MODES: [&str; 2] = ["rd.emergency", "rd.rescue"];
/// No initramfs nests its scripts deeper than this.
const MAX_DEPTH: usize = 16;

/// What holds the boot now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The unit, or what the family calls its shell.
    pub by: String,
    /// Processes that wait at the console for a person; none yet while the shell is being prepared.
    waiting: Vec<(i32, Role)>,
    /// Why it is not ended, where ending it would be wrong.
    pub kept: Option<&'static str>,
}

/// What waits at the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Ignores SIGTERM and ends at SIGHUP, in dash, bash and busybox alike.
    Shell,
    /// `sulogin`, before it becomes a shell. Ignores SIGHUP and ends at SIGTERM (util-linux 2.38, 2.41).
    Login,
}

/// Publishes what holds the boot, at each change.
pub fn watch(root: Root) -> watch::Receiver<Option<Hold>> {
    let (publish, hold) = watch::channel(look(&root));
    crate::task::spawn(async move {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = publish.closed() => return,
            }
            let now = look(&root);
            publish.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
        }
    });
    hold
}

impl Hold {
    /// Whether [`Hold::end`] does something.
    pub fn can_end(&self) -> bool {
        self.kept.is_none() && !self.waiting.is_empty()
    }

    /// Ends what waits at the console, gently. Each process is looked at again when its number can't change its owner
    /// any more.
    pub fn end(&self, root: &Root) {
        for &(pid, role) in self.waiting.iter().filter(|_| self.kept.is_none()) {
            let ended = match Process::open(pid) {
                Ok(Some(process)) if self::role(root, pid) == Some(role) => match role {
                    Role::Shell => process.hang_up(),
                    Role::Login => process.terminate(),
                },
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            match ended {
                Ok(()) => {
                    log::warn!("what was asked is unlocked: ending {} (process {pid}), the boot goes on", self.by)
                }
                Err(error) => log::error!("{} (process {pid}) can't be ended: {error}; type exit there", self.by),
            }
        }
    }

    /// For `status`.
    pub fn in_words(&self) -> String {
        match self.kept {
            None => format!("the boot is held by {}; unlocking the last volume ends it, as exit does there", self.by),
            Some(reason) => format!("the boot is held by {} until somebody types exit there: {reason}", self.by),
        }
    }
}

fn look(root: &Root) -> Option<Hold> {
    let systemd = root.join("/run/systemd/system").exists();
    let (by, waiting) = if systemd { in_units(root)? } else { below_init(root)? };
    Some(Hold { by, waiting, kept: kept(root) })
}

/// With systemd: what waits in one of its units.
fn in_units(root: &Root) -> Option<(String, Vec<(i32, Role)>)> {
    let unit =
        |unit: &&str| HIERARCHIES.iter().map(move |tree| format!("{tree}/system.slice/{unit}")).collect::<Vec<_>>();
    UNITS.iter().find_map(|name| {
        let members = unit(name).iter().map(|group| process::members(root, group)).find(|pids| !pids.is_empty())?;
        let waiting = members.iter().filter_map(|&pid| Some((pid, role(root, pid)?)));
        // A sulogin for several consoles waits for those that it has started.
        let parents: Vec<_> = members.iter().filter_map(|&pid| process::parent(root, pid)).collect();
        let waiting = waiting.filter(|(pid, role)| *role == Role::Shell || !parents.contains(pid)).collect();
        Some((name.to_string(), waiting))
    })
}

/// Without systemd: interactive shells on a console that init's scripts have started.
fn below_init(root: &Root) -> Option<(String, Vec<(i32, Role)>)> {
    let all = process::all(root).unwrap_or_default().into_iter();
    let shells = all.filter(|&pid| pid != 1 && interactive(&words(root, pid)) && on_a_console(root, pid));
    let waiting: Vec<_> = shells.filter(|&pid| is_inits(root, pid)).map(|pid| (pid, Role::Shell)).collect();
    (!waiting.is_empty()).then(|| ("the emergency shell on the console".to_owned(), waiting))
}

fn role(root: &Root, pid: i32) -> Option<Role> {
    let words = words(root, pid);
    match name(&words) {
        "sulogin" => Some(Role::Login),
        _ if is_shell(&words) && on_a_console(root, pid) => Some(Role::Shell),
        _ => None,
    }
}

fn words(root: &Root, pid: i32) -> Vec<String> {
    process::arguments(root, pid).iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The name that a program was started by; `-sh` is a login shell.
fn name(words: &[String]) -> &str {
    let first = words.first().map(String::as_str).unwrap_or_default();
    let first = first.strip_prefix('-').unwrap_or(first);
    Path::new(first).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// A shell that runs neither a script nor a command.
fn is_shell(words: &[String]) -> bool {
    let options = words.get(1..).unwrap_or_default();
    let command = |option: &str| !option.starts_with("--") && option.contains('c');
    SHELLS.contains(&name(words)) && options.iter().all(|option| option.starts_with('-') && !command(option))
}

/// All three families start theirs with `-i`.
fn interactive(words: &[String]) -> bool {
    let flagged = |option: &String| !option.starts_with("--") && option.contains('i');
    is_shell(words) && words[1..].iter().any(flagged)
}

/// Its standard input is a console: a virtual terminal or a serial line, not the terminal of a remote session.
fn on_a_console(root: &Root, pid: i32) -> bool {
    let input = std::fs::read_link(root.join(format!("/proc/{pid}/fd/0"))).unwrap_or_default();
    let device = input.strip_prefix("/dev").ok().and_then(Path::to_str).unwrap_or_default();
    device == "console" || (device.starts_with("tty") && device != "tty") || device.starts_with("hvc")
}

/// Whether nothing but shells stands between it and PID 1: what others started there (a login over the network, a
/// session of ours) is theirs.
fn is_inits(root: &Root, pid: i32) -> bool {
    let mut ancestor = process::parent(root, pid);
    for _ in 0..MAX_DEPTH {
        match ancestor {
            Some(1) => return true,
            Some(pid) if SHELLS.contains(&name(&words(root, pid))) => ancestor = process::parent(root, pid),
            _ => return false,
        }
    }
    false
}

/// Why a shell must stay, where it must.
fn kept(root: &Root) -> Option<&'static str> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    if wanted(&CommandLine::parse(&read("/proc/cmdline"))) {
        return Some("the kernel command line asks for it");
    }
    let mounts = read("/proc/mounts");
    let mounted =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).any(|at| ["/new_root", "/sysroot"].contains(&at));
    let mkinitcpio = root.join("/init_functions").exists() && !root.join("/run/systemd/system").exists();
    (mkinitcpio && !mounted).then_some("mkinitcpio's init doesn't mount the root by itself again; mount it there first")
}

fn wanted(arguments: &CommandLine) -> bool {
    let unit = arguments.last("rd.systemd.unit");
    BREAKS.iter().any(|name| arguments.last(name).is_some())
        || MODES.iter().any(|name| arguments.last(name) == Some(""))
        || unit.is_some_and(|unit| unit.starts_with("emergency") || unit.starts_with("rescue"))
}

#[cfg(test)]
mod tests;
