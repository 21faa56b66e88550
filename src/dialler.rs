//! The process of one connection to a hub: it speaks SSH over the stream that it is given, and asks the daemon what to do
//! with each stream that comes in. As a session, it opens nothing itself, and is confined before it reads a byte.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, bail};
use russh::keys::PrivateKey;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::control::dial::{Dial, Order, Report};
use crate::control::{frame, stream};
use crate::dial::{Error, Hub, Incoming, Login, Patience, Pins, Stream, connect_with};
use crate::flow::table::MAX_CHANNELS;
use crate::hardening;

/// The daemon says at once how to log in; without it there is nothing to do here.
const SETUP_DEADLINE: Duration = Duration::from_secs(5);
/// How long what sessions said last may take on its way to the hub.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves the connection on descriptor 0, with the daemon on descriptor 1 (see `daemon::dial`).
pub fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let refused = hardening::confine_session();
    runtime.block_on(async {
        let stream = std::net::TcpStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        stream.set_nonblocking(true)?;
        let control = std::os::unix::net::UnixStream::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        control.set_nonblocking(true).context("descriptor 1 is no control socket; this command is for the daemon")?;
        for reason in refused {
            eprintln!("vestibule dial-session: ignoring: {reason}");
        }
        serve(TcpStream::from_std(stream)?, UnixStream::from_std(control)?).await
    })
}

/// The whole life of a connection, in order.
async fn serve(to_hub: TcpStream, control: UnixStream) -> anyhow::Result<()> {
    let (mut orders, mut reports) = stream::split(control);
    let order =
        timeout(SETUP_DEADLINE, frame::read(&mut orders)).await.context("the daemon did not say how to dial")??;
    let Some(Order::Dial(Dial { user, key, pins, listen })) = order else {
        bail!("the daemon said something else first")
    };
    let key = PrivateKey::from_openssh(key.expose()).context("reading the key to log in with")?;
    let pins = Pins::parse(&pins).map_err(anyhow::Error::msg)?;
    let over = match connect_with(to_hub, Login { user, key, pins }, Patience::SESSIONS).await {
        Err(error) => error,
        Ok((hub, incoming)) => match hub.listen(&listen).await {
            Err(error) => {
                hub.goodbye("not permitted to listen").await;
                error
            }
            Ok(bound) => {
                frame::write(&mut reports, &Report::Listening(bound.to_string())).await?;
                match attend(hub, incoming, (&mut orders, &mut reports)).await? {
                    Some(error) => error,
                    None => return Ok(()), // the daemon wants it so, or is gone
                }
            }
        },
    };
    let loud = matches!(over, Error::KeyChanged { .. });
    Ok(frame::write(&mut reports, &Report::Over { why: over.to_string(), loud }).await?)
}

/// Until the connection ends, which gives a reason, or the daemon ends it.
async fn attend(
    hub: Hub,
    mut incoming: mpsc::Receiver<Incoming>,
    (orders, reports): (&mut stream::Reader, &mut stream::Writer),
) -> anyhow::Result<Option<Error>> {
    let (orders_in, mut queue) = mpsc::channel(1);
    let mut relays = JoinSet::new();
    let mut waiting: HashMap<u32, Stream> = HashMap::new();
    let mut next = 0;
    let closed = hub.closed();
    // Frames must be read whole, so not in `select!`.
    let reading = async move {
        while let Some(order) = frame::read::<Order>(orders).await? {
            let descriptor = orders.take(order.descriptors())?.pop();
            if orders_in.send((order, descriptor)).await.is_err() {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    tokio::pin!(closed, reading);
    let mut open = true;
    loop {
        tokio::select! {
            // Orders first: each makes room for another stream.
            biased;
            error = &mut closed => return Ok(Some(error)),
            read = &mut reading, if open => {
                read.context("the daemon's orders can't be read")?;
                open = false; // what was read is still in the queue, and then its end
            }
            order = queue.recv() => match order {
                Some((Order::Take(number), Some(socket))) => if let Some(stream) = waiting.remove(&number) {
                    // What goes wrong with one stream is seen at both of its ends.
                    relays.spawn(async move { drop(stream.relay(socket).await) });
                },
                Some((Order::Refuse(number), _)) => if let Some(stream) = waiting.remove(&number) {
                    relays.spawn(stream.refuse());
                },
                Some((Order::Leave, _)) | None => break,
                Some(_) => bail!("the daemon's orders make no sense"),
            },
            Some(_) = relays.join_next() => {}
            // As many as the daemon has not judged yet, and its judgements, fit into a socket: neither side ever waits for the
            // other to read, however fast a hub opens streams and closes them again.
            Some(Incoming { stream, originator, .. }) = incoming.recv(), if waiting.len() < MAX_CHANNELS => {
                next += 1;
                waiting.insert(next, stream);
                let address = originator.map(|(address, _)| address);
                frame::write(reports, &Report::Incoming { number: next, address }).await?;
            }
        }
    }
    let _ = timeout(FAREWELL, async { while relays.join_next().await.is_some() {} }).await; // then it is cut
    hub.goodbye("the boot continues").await;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::tests::{logged_in, port};

    /// A hub that opens and closes as fast as it can, and a daemon that doesn't get to reading: no more is told than fits.
    #[tokio::test]
    async fn no_more_streams_are_announced_than_the_daemon_may_have_to_judge() {
        let (hub, incoming, server) = logged_in(Patience::SESSIONS).await;
        hub.listen(&port(2000)).await.unwrap();
        let (daemon, control) = UnixStream::pair().unwrap();
        let (mut orders, mut reports) = stream::split(control);
        let attending = tokio::spawn(async move { attend(hub, incoming, (&mut orders, &mut reports)).await.is_ok() });
        let mut opened = 0;
        while let Ok(channel) = server.channel_open_forwarded_tcpip("localhost", 2000, "192.0.2.1", 1).await {
            opened += 1;
            assert!(opened <= 2 * MAX_CHANNELS, "one for each that is told, and one for each that waits to be");
            channel.close().await.unwrap();
        }
        assert!(opened >= MAX_CHANNELS, "{opened}");
        // The others are told as soon as there is room.
        let (mut told, mut judged) = stream::split(daemon);
        for _ in 0..opened {
            let Some(Report::Incoming { number, .. }) = frame::read(&mut told).await.unwrap() else {
                panic!("no stream")
            };
            frame::write(&mut judged, &Order::Refuse(number)).await.unwrap();
        }
        frame::write(&mut judged, &Order::Leave).await.unwrap();
        assert!(timeout(Duration::from_secs(60), attending).await.unwrap().unwrap());
    }
}
