//! `stop` and `restart` that somebody inside asks for (`chroot /proc/1/root vestibule chroot restart`): they end whoever asks, and
//! would be ended with the login's session or its terminal, half way. So a process in a session of its own does the work.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, ensure};

use super::processes::{self, Seen};
use super::{Chroot, Which, mounts, namespace, supervise};
use crate::root::Root;

/// The action that such a process does another one by.
pub const ACTION: &str = "apart";

/// Whether what is to be ended has begun this process, or its session.
pub fn is_needed(chroot: &Chroot) -> anyhow::Result<bool> {
    let supervisor = supervise::status(&chroot.state)?.and_then(|supervised| supervised.pid);
    let goes = |pid: i32| Some(pid) == supervisor || processes::is_within(pid, &chroot.place);
    let this =
        Seen::read(std::process::id().cast_signed()).context("looking at this process: /proc must be mounted")?;
    let mut ancestors = std::iter::successors(Some(this.parent), |pid| Seen::read(*pid).map(|seen| seen.parent));
    Ok(goes(this.session) || ancestors.any(goes))
}

/// Has the action done; what it says is passed on then, if this process still lives and somebody listens.
pub fn have_done(action: &str, chroot: &Chroot, which: &Which, root: &Root) -> anyhow::Result<ExitCode> {
    // mount(2) and umount(2) are refused where the root directory is of another namespace: it would end half way.
    let is_in_its_namespace = mounts::journal(&chroot.state)?.namespace == namespace::current()?;
    ensure!(
        !(chroot.definition.private && is_in_its_namespace),
        "{0} has private mounts, among which it can't be done ({action}); go out of them with: nsenter --mount --target 1 \
         vestibule chroot {action} {0}",
        chroot.name
    );
    let mut command = Command::new("/proc/self/exe");
    command.arg("--root").arg(root.join("/")).args(["chroot", ACTION, action]);
    match which {
        Which { name: Some(name), .. } => command.arg(name),
        // As it was given it might be relative, and this process has gone to /.
        Which { name: None, .. } => command.arg("--root").arg(chroot.place.path()),
    };
    // Pipes, as the terminal may be one of inside, which would keep a mount busy.
    let done = command.current_dir("/").stdin(Stdio::null()).output();
    let done = done.context("starting /proc/self/exe, to go on without the terminal (is /proc mounted?)")?;
    let _ = std::io::stderr().write_all(&done.stderr);
    let _ = std::io::stdout().write_all(&done.stdout);
    Ok(done.status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// This process belongs to nobody any more. To be called before it has opened anything.
pub fn begin() -> anyhow::Result<()> {
    supervise::close_inherited();
    nix::unistd::setsid().context("beginning a session; this command is for vestibule itself")?;
    Ok(())
}
