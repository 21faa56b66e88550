//! `-L`: listens here; who comes is connected by the hub.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::demand::Demand;
use super::forward::Forward;
use super::link::Hubs;
use crate::flow::table::MAX_CHANNELS;
use crate::task;

/// Streams at once: as many as fit into one connection. Further ones wait in the kernel's queue.
const MAX_STREAMS: usize = MAX_CHANNELS;
/// How long a stream waits for a hub that is not there: dialling one takes a moment, and some attempts.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before the next attempt to accept, when there are no descriptors left.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens for all of them, for as long as the runtime runs.
pub async fn listen(forwards: &[Forward], hubs: &Hubs, demand: &Demand) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(MAX_STREAMS));
    for forward in forwards {
        let listener = bind(forward).await.with_context(|| format!("-L {forward}: can't listen there"))?;
        let address = listener.local_addr().context("asking for the address")?;
        log::info!("listening on {address} for {}", forward.target());
        task::spawn(accept(listener, forward.clone(), hubs.clone(), demand.clone(), places.clone()));
    }
    Ok(())
}

async fn bind(forward: &Forward) -> anyhow::Result<TcpListener> {
    let address: IpAddr = match forward.bind.as_deref() {
        None | Some("localhost") => Ipv4Addr::LOCALHOST.into(),
        Some("*") => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, forward.port)).await {
            // Without IPv6 in the kernel.
            Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => Ipv4Addr::UNSPECIFIED.into(),
            result => return Ok(result?),
        },
        Some(address) => match address.parse() {
            Ok(address) => address,
            Err(_) => bail!("{address:?} is no address of this machine; write one in numbers, or *"),
        },
    };
    Ok(TcpListener::bind((address, forward.port)).await?)
}

async fn accept(listener: TcpListener, forward: Forward, hubs: Hubs, demand: Demand, places: Arc<Semaphore>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("-L {forward}: a connection could not be accepted: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        // One for each listener may wait for its turn here, and the others in the kernel's queue.
        let place = places.clone().acquire_owned().await.expect("never closed");
        let (forward, hubs, wanted) = (forward.clone(), hubs.clone(), demand.want());
        task::spawn(async move {
            if let Err(why) = carry(stream, &forward, &hubs).await {
                log::warn!("-L {forward}: a connection was closed: {why}");
            }
            drop((place, wanted));
        });
    }
}

async fn carry(stream: TcpStream, forward: &Forward, hubs: &Hubs) -> Result<(), String> {
    let hub = hubs.get(PATIENCE).await;
    let hub = hub.ok_or_else(|| format!("there was no connection to the hub within {} s", PATIENCE.as_secs()))?;
    let opened = hub.open(&forward.host, forward.host_port).await.map_err(|error| error.to_string())?;
    drop(hub);
    match descriptor(stream) {
        Ok(descriptor) => opened.relay(descriptor).await.map_err(|error| error.to_string()),
        Err(error) => {
            opened.refuse().await;
            Err(error.to_string())
        }
    }
}

/// As a relay takes it. Small pieces go out at once: they are somebody's keys, or SSH's own packets.
pub fn descriptor(stream: TcpStream) -> io::Result<OwnedFd> {
    stream.set_nodelay(true)?;
    Ok(stream.into_std()?.into())
}
