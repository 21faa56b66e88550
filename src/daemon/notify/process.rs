//! The process that posts: `vestibule post` (see `crate::post`), started over a connection that the daemon has made.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::daemon::confined;
use crate::post::{Answer, Order};

/// For request and answer, and TLS before it. A push server answers within a second or two.
const DEADLINE: Duration = Duration::from_secs(20);
/// The longest answer of the process, in bytes: a number, or a sentence.
const MAX_ANSWER: u64 = 4096;

/// Has the order carried out over this connection. Dropped, it ends the process.
pub async fn post(stream: TcpStream, order: &Order) -> Answer {
    let started = match stream.into_std() {
        Ok(stream) => confined::start("post", stream.into()).await,
        Err(error) => Err(error),
    };
    let (mut child, mut control) =
        started.map_err(|error| format!("the process that posts could not be started: {error}"))?;
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

async fn exchange(control: &mut UnixStream, order: &Order) -> std::io::Result<Answer> {
    let bytes = Zeroizing::new(postcard::to_allocvec(order).map_err(std::io::Error::other)?);
    control.write_all(&bytes).await?;
    control.shutdown().await?;
    let mut answer = Vec::new();
    control.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    postcard::from_bytes(&answer).map_err(|_| std::io::Error::other("it ended without an answer"))
}
