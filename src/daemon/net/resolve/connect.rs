//! A connection to a name: its addresses are tried one after the other, without waiting long for one that is silent (RFC
//! 8305, with more patience).

use std::{fmt, io, net::SocketAddr, time::Duration};

use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};

use super::{ResolveError, Resolver};

/// So long an address is waited for before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_secs(2);
/// For all addresses together, after the look-up: a lost first packet is sent again after 1, 3 and 7 s (tcp(7)). The
/// kernel's own patience is two minutes.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// Host, port, and why it has no address.
    Resolve(String, u16, ResolveError),
    /// Host, port, and what became of each address that was tried.
    Failed(String, u16, Vec<(SocketAddr, io::Error)>),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Resolve(host, port, error) => write!(f, "{host} port {port} can't be reached: {error}"),
            Self::Failed(host, port, tried) => {
                write!(f, "{host} port {port} can't be reached:")?;
                for (number, (address, error)) in tried.iter().enumerate() {
                    write!(f, "{} {address}: {error}", if number == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConnectError {}

impl Resolver {
    /// Connects to a host as [`Resolver::resolve`] finds it; 20 s at most.
    ///
    /// # Errors
    /// Why it can't, for a person.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let addresses =
            self.resolve(host, port).await.map_err(|error| ConnectError::Resolve(host.to_owned(), port, error))?;
        connect(&addresses).await.map_err(|tried| ConnectError::Failed(host.to_owned(), port, tried))
    }
}

/// The first connection that comes to be; the other attempts end with it.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Vec<(SocketAddr, io::Error)>> {
    let deadline = Instant::now() + DEADLINE;
    let (to, mut results) = mpsc::channel(addresses.len().max(1));
    let mut waiting = addresses.iter().copied();
    let (mut failed, mut running) = (Vec::new(), 0);
    loop {
        if let Some(address) = waiting.next() {
            running += 1;
            let to = to.clone();
            crate::task::spawn(async move {
                let attempt = timeout_at(deadline, TcpStream::connect(address));
                let result = tokio::select! {
                    result = attempt => result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                    () = to.closed() => return, // another was faster, or nobody waits any more
                };
                // Nobody may listen any more; the connection ends then.
                let _ = to.send((address, result)).await;
            });
        }
        let next = if waiting.len() == 0 { deadline + HEAD_START } else { Instant::now() + HEAD_START };
        tokio::select! {
            Some((address, result)) = results.recv() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    running -= 1;
                    failed.push((address, error));
                }
            },
            () = sleep_until(next) => {}
        }
        if running == 0 && waiting.len() == 0 {
            return Err(failed);
        }
    }
}
