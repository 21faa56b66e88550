//! Processes of ours that speak with strangers: each gets one stream and a socket to the daemon, and has nothing else.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use tokio::net::UnixStream;
pub use tokio::process::Child;
use tokio::process::Command;

/// Starts `vestibule ACTION`: the stream is its descriptor 0, the daemon its descriptor 1. It is killed when the child is
/// dropped. What it gives up further is its own affair, before it reads anything (`hardening`).
pub async fn start(action: &'static str, stream: OwnedFd) -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(action)
        .env_clear()
        .stdin(stream)
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .process_group(0)
        .kill_on_drop(true);
    // Starting waits until the new program runs (vfork(2)). On a busy machine that takes a while, and others should not wait
    // for it.
    let child = tokio::task::spawn_blocking(move || command.spawn()).await.map_err(std::io::Error::other)??;
    Ok((child, UnixStream::from_std(ours)?))
}
