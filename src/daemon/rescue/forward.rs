//! Connections that are made for a session: `ssh -L`, `-W`, `-J`.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::control::message::Destination;
use crate::daemon::net::resolve::Resolver;
use crate::root::Root;

/// For a connection to a socket in the file system. A client shows nothing meanwhile, and its user has patience for that long.
const DEADLINE: Duration = Duration::from_secs(15);

/// The stream. The error is for a person.
pub async fn connect(root: &Root, resolver: &Resolver, to: &Destination) -> Result<OwnedFd, String> {
    match to {
        Destination::Tcp { host, port } => {
            let stream = resolver.connect(host, *port).await.map_err(|why| why.to_string())?;
            usable(stream).map_err(|why| format!("{host} port {port} can't be reached: {why}"))
        }
        Destination::Unix(path) if !path.starts_with('/') => Err(format!("{path:?} is no absolute path")),
        Destination::Unix(path) => {
            let stream = timeout(DEADLINE, UnixStream::connect(root.join(path))).await;
            let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).and_then(UnixStream::into_std);
            stream.map(OwnedFd::from).map_err(|why| format!("{path} can't be connected to: {why}"))
        }
    }
}

fn usable(stream: TcpStream) -> io::Result<OwnedFd> {
    // What comes through is answered at the other end, often key by key.
    stream.set_nodelay(true)?;
    Ok(stream.into_std()?.into())
}
