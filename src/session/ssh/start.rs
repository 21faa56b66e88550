//! Starting what a client asks for, from within the connection's loop, which waits for none of it.

use russh::server::{ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Sig};
use tokio::sync::watch;

use super::channel::Work;
use super::forward::{Back, Outgoing};
use super::handler::{Connection, Progress};
use super::request::{Prelude, Wanted, plan};
use crate::control::message::{Destination, Request, Start, What};
use crate::flow::relay::STDERR;
use crate::flow::table::Served;

/// A session channel that nothing was asked of yet.
pub struct Opened {
    pub write: ChannelWriteHalf<Msg>,
    pub served: Served,
    pub prelude: Prelude,
}

impl Connection {
    /// Answers a shell, exec or subsystem request by starting what it asks for.
    pub(super) fn start(&mut self, id: ChannelId, wanted: Wanted, session: &mut Session) -> Result<(), russh::Error> {
        let Some(opened) = self.opened.remove(&id) else { return session.channel_failure(id) }; // one for each channel
        let Some(admission) = &self.admission else { return session.channel_failure(id) };
        session.channel_success(id)?;
        let Opened { write, served, prelude } = opened;
        let (terminal, environment) = (prelude.terminal.clone(), prelude.environment.clone());
        let shell = Start { what: What::Shell, terminal: terminal.clone(), environment };
        let work = Work {
            plan: plan(wanted, prelude, &admission.role, &self.grants),
            terminal,
            shell: self.grants.permit(&Request::Start(shell.clone())).is_ok().then_some(shell),
            client: self.client.clone(),
            write,
            handle: session.handle(),
            served,
            leaving: self.leaving.clone(),
            farewell: self.farewell,
        };
        let running = Running::new(&self.progress);
        crate::task::spawn(async move {
            work.run().await;
            drop(running);
        });
        Ok(())
    }

    pub(super) async fn connect(&mut self, channel: Channel<Msg>, to: Destination, reply: ChannelOpenHandle) {
        let (_, write) = channel.split();
        match self.table.enter(write.id()) {
            Some(served) if self.admission.is_some() => {
                let (grants, client) = (self.grants.clone(), self.client.clone());
                crate::task::spawn(Outgoing { to, grants, client, write, served }.run(reply));
            }
            _ => reply.reject(ChannelOpenFailure::ResourceShortage).await,
        }
    }

    /// The port, if it listens now. The protocol has no place for a reason: the client is told beside it.
    pub(super) async fn listen(&mut self, on: Destination, session: &mut Session) -> Result<Option<u16>, russh::Error> {
        let back = Back { client: self.client.clone(), handle: session.handle(), table: self.table.clone() };
        match self.listeners.listen(on, back).await {
            Ok(port) => Ok(Some(port)),
            Err(reason) => {
                session.debug(true, &format!("forward refused: {reason}"), "en")?;
                Ok(None)
            }
        }
    }

    /// Closes a channel whose program does not read while its client sends on.
    pub(super) fn overflow(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        let text = "vestibule: closed, as too much was sent that is not read at this end\n";
        session.extended_data(id, STDERR, text.as_bytes().to_vec())?;
        self.table.close(id);
        session.close(id)
    }
}

/// Counts a command as running until it is dropped.
struct Running(watch::Sender<Progress>);

impl Running {
    fn new(progress: &watch::Sender<Progress>) -> Self {
        progress.send_modify(|progress| progress.commands += 1);
        Self(progress.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|progress| progress.commands -= 1);
    }
}

/// Without `SIG`, as it came.
pub fn name_of(signal: Sig) -> String {
    let known = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => return name,
    };
    known.to_owned()
}
