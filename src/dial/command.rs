//! A command on the server that let us in (RFC 4254 section 6.5), for what asks machines rather than hubs.

use super::{Error, Hub, Stream, handler};

impl Hub {
    /// Runs a command; its output is what comes on the stream. What it says on standard error is lost.
    pub async fn run(&self, command: &str) -> Result<Stream, Error> {
        let handle = self.handle.clone();
        let opening = async move { handle.channel_open_session().await };
        let channel = match self.opened(opening, "opening a session").await? {
            Ok(channel) => channel,
            Err(russh::Error::ChannelOpenFailure(why)) => {
                return Err(Error::Unreachable(command.to_owned(), handler::explain(&why)));
            }
            Err(_) => return Err(self.lost().await),
        };
        // Asked for before its output can come. An answer is not awaited: one that is refused has no output.
        if channel.exec(false, command).await.is_err() {
            return Err(self.lost().await);
        }
        let closed = || Error::Unreachable(command.to_owned(), "closed again".to_owned());
        Stream::new(channel, &self.table).ok_or_else(closed)
    }
}
