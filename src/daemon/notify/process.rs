//! The process that posts: `vestibule post` (see `crate::post`), started over a connection that the daemon has made.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::post::{Answer, Order};

/// For request and answer, and TLS before it. A push server answers within a second or two.
const DEADLINE: Duration = Duration::from_secs(20);
/// The longest answer of the process, in bytes: a number, or a sentence.
const MAX_ANSWER: u64 = 4096;

/// Has the order carried out over this connection. Dropped, it ends the process.
pub async fn post(stream: TcpStream, order: &Order) -> Answer {
    let (mut child, mut control) =
        start(stream).await.map_err(|error| format!("the process that posts could not be started: {error}"))?;
    let exchanged = timeout(DEADLINE, exchange(&mut control, order)).await;
    // It has answered, or has no business any more.
    if let Err(error) = child.start_kill() {
        log::debug!("the process that posts had ended: {error}");
    }
    let status = child.wait().await;
    match exchanged {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Err(format!("the process that posts failed: {error} ({status:?})")),
        Err(_elapsed) => Err(format!("the server has not answered within {} s", DEADLINE.as_secs())),
    }
}

/// The connection is its descriptor 0, the daemon its descriptor 1, and it has nothing else.
async fn start(stream: TcpStream) -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("post")
        .env_clear()
        .stdin(OwnedFd::from(stream.into_std()?))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .process_group(0)
        .kill_on_drop(true);
    let child = tokio::task::spawn_blocking(move || command.spawn()).await.map_err(std::io::Error::other)??;
    Ok((child, UnixStream::from_std(ours)?))
}

async fn exchange(control: &mut UnixStream, order: &Order) -> std::io::Result<Answer> {
    let bytes = Zeroizing::new(postcard::to_allocvec(order).map_err(std::io::Error::other)?);
    control.write_all(&bytes).await?;
    control.shutdown().await?;
    let mut answer = Vec::new();
    control.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    postcard::from_bytes(&answer).map_err(|_| std::io::Error::other("it ended without an answer"))
}
