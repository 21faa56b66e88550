//! Connections that are made for a session: `ssh -L`, `-W`, `-J`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::control::message::Destination;
use crate::root::Root;

/// For all of it: name and connection. A client shows nothing meanwhile, and its user has patience for that long.
const DEADLINE: Duration = Duration::from_secs(15);
/// For one of several addresses: the second SYN (after 1 s, tcp(7)) and the third (after 3 s) may be answered.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The stream. The error is for a person.
pub async fn connect(root: &Root, to: &Destination) -> Result<OwnedFd, String> {
    let deadline = Instant::now() + DEADLINE;
    match to {
        Destination::Tcp { host, port } => {
            let stream = tcp(host, *port, deadline).await;
            stream.map_err(|why| format!("{host} port {port} can't be reached: {why}"))
        }
        Destination::Unix(path) if !path.starts_with('/') => Err(format!("{path:?} is no absolute path")),
        Destination::Unix(path) => {
            let stream = timeout_at(deadline, UnixStream::connect(root.join(path))).await;
            let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).and_then(UnixStream::into_std);
            stream.map(OwnedFd::from).map_err(|why| format!("{path} can't be connected to: {why}"))
        }
    }
}

async fn tcp(host: &str, port: u16, deadline: Instant) -> io::Result<OwnedFd> {
    let resolved = timeout_at(deadline, addresses(host, port)).await;
    let addresses = resolved.unwrap_or_else(|_| Err(io::Error::other("the name servers don't answer in time")))?;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let last = index + 1 == addresses.len();
        let until = if last { deadline } else { deadline.min(Instant::now() + ATTEMPT) };
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // What comes through is answered at the other end, often key by key.
                stream.set_nodelay(true)?;
                return Ok(stream.into_std()?.into());
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(failure)
}

/// What a name or an address stands for.
async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (sender, answer) = oneshot::channel();
    let host = host.to_owned();
    // A thread of its own, since the runtime's would be waited for at the daemon's end.
    let look_up = move || drop(sender.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect)));
    std::thread::Builder::new().name("name".to_owned()).spawn(look_up)?;
    answer.await.unwrap_or_else(|_| Err(io::Error::other("the look-up of the name failed")))
}
