//! Listeners that are opened for a session: `ssh -R`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::control::message::Destination;
use crate::control::server::{Accepted, Listening};
use crate::root::Root;

/// Accepted connections on their way to the session; others wait in the kernel until it has taken these.
const QUEUE: usize = 4;
/// Connections that the kernel holds until we accept them.
const BACKLOG: u32 = 32;
/// Accepting fails when descriptors or memory are short; that is not mended by trying at once.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// A port that the kernel chose may be taken for the other address family; then it chooses again.
const CHOICES: usize = 8;

/// Listens until the receiver of the connections is dropped. The error is for a person.
pub async fn listen(root: &Root, on: &Destination, gateway_ports: bool) -> Result<Listening, String> {
    let (sender, accepted) = mpsc::channel(QUEUE);
    let port = match on {
        Destination::Tcp { host, port } => {
            let addresses = addresses(host, gateway_ports)?;
            let listeners = bind_all(&addresses, *port);
            let (listeners, port) = listeners.map_err(|why| format!("port {port} can't be listened on: {why}"))?;
            for listener in listeners {
                crate::task::spawn(pass_on(Listener::Tcp(listener), None, sender.clone()));
            }
            port
        }
        Destination::Unix(path) if !path.starts_with('/') => return Err(format!("{path:?} is no absolute path")),
        Destination::Unix(path) => {
            let (listener, file) =
                bind_path(root.join(path)).map_err(|why| format!("{path} can't be listened on: {why}"))?;
            crate::task::spawn(pass_on(Listener::Unix(listener), Some(file), sender));
            0
        }
    };
    Ok(Listening { port, accepted })
}

/// What a client's word for an address means (RFC 4254 section 7.1), as sshd has it: with `GatewayPorts` off, everything is
/// loopback; else it is as the client says (`channel_fwd_bind_addr` in OpenSSH's channels.c, 9.9).
fn addresses(host: &str, gateway_ports: bool) -> Result<Vec<IpAddr>, String> {
    const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    match host.parse::<IpAddr>() {
        Ok(address) if gateway_ports || LOOPBACK.contains(&address) => Ok(vec![address]),
        _ if !gateway_ports || host == "localhost" => Ok(LOOPBACK.to_vec()),
        _ if host.is_empty() || host == "*" => Ok(ANY.to_vec()),
        _ => Err(format!("{host:?} is no address that could be listened on")),
    }
}

/// All of them on one port. An address family that the kernel doesn't have is left out.
fn bind_all(addresses: &[IpAddr], port: u16) -> io::Result<(Vec<TcpListener>, u16)> {
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for _ in 0..CHOICES {
        result = bind_once(addresses, port);
        let taken = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
        if port != 0 || !taken {
            break;
        }
    }
    result
}

fn bind_once(addresses: &[IpAddr], mut port: u16) -> io::Result<(Vec<TcpListener>, u16)> {
    let (mut listeners, mut missing) = (Vec::new(), None);
    for &address in addresses {
        match bind(SocketAddr::new(address, port)) {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            Err(error) if is_missing(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok((listeners, port)),
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?; // IPv4 has a listener of its own
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket that only root can connect to.
fn bind_path(path: PathBuf) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(&path)?;
    let socket = unix_socket()?;
    // Its file gets this mode, so there is no moment at which others can connect (`unix_bind_bsd` in net/unix/af_unix.c).
    rustix::fs::fchmod(&socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    let file = SocketFile::new(path)?;
    rustix::net::listen(&socket, BACKLOG as i32)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// What a listener left that was killed: a socket of ours that nobody listens on. Anything else stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let ours = found.file_type().is_socket() && found.uid() == rustix::process::geteuid().as_raw();
    match ours && rustix::net::connect(&unix_socket()?, &SocketAddrUnix::new(path)?) == Err(Errno::CONNREFUSED) {
        true => std::fs::remove_file(path),
        false => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of that name")),
    }
}

/// The name of a socket, removed on drop unless it is another's by then.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: PathBuf) -> io::Result<Self> {
        let made = std::fs::symlink_metadata(&path)?;
        Ok(Self { path, device: made.dev(), inode: made.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |found: &std::fs::Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| ours(&found))
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            log::warn!("{} stays: {error}", self.path.display());
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let stream = OwnedFd::from(stream.into_std()?);
                Ok(Accepted { stream, address: peer.ip().to_string(), port: peer.port() })
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted { stream: stream.into_std()?.into(), address: String::new(), port: 0 })
            }
        }
    }
}

/// Accepts no more than are taken. The file goes with the listener.
async fn pass_on(listener: Listener, _file: Option<SocketFile>, sender: mpsc::Sender<Accepted>) {
    while let Ok(place) = sender.reserve().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        match accepted {
            Ok(accepted) => place.send(accepted),
            Err(error) => {
                log::warn!("accepting a connection for a session failed: {error}; trying again");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_unless_allowed() {
        let text = |host, gateway| {
            let addresses = addresses(host, gateway).map_err(|_| ());
            addresses.map(|all| all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "))
        };
        let (both, any) = (Ok("127.0.0.1 ::1".to_owned()), Ok("0.0.0.0 ::".to_owned()));
        for (host, closed, open) in [
            ("", &both, &any),
            ("*", &both, &any),
            ("localhost", &both, &both),
            ("0.0.0.0", &both, &Ok("0.0.0.0".to_owned())),
            ("::", &both, &Ok("::".to_owned())),
            ("192.0.2.1", &both, &Ok("192.0.2.1".to_owned())),
            ("127.0.0.1", &Ok("127.0.0.1".to_owned()), &Ok("127.0.0.1".to_owned())),
            ("::1", &Ok("::1".to_owned()), &Ok("::1".to_owned())),
            ("example.org", &both, &Err(())),
        ] {
            assert_eq!((&text(host, false), &text(host, true)), (closed, open), "{host:?}");
        }
    }
}
