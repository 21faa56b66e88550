//! The russh handler: authentication and channels, turned into commands with byte streams. It decides nothing about
//! disks or prompts and opens nothing.
//!
//! Where russh bites and what is done about it: one unread channel would freeze the connection, so data goes into a
//! bounded queue and a channel that overflows it is closed; key probes never count, so they are counted here; handler
//! calls run inside the connection's loop, so commands run in tasks of their own.

use std::collections::HashMap;
use std::time::SystemTime;

use russh::keys::{Certificate, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelWriteHalf, Pty};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::auth::{Admission, Policy};
use super::authorized_keys::fingerprint;
use crate::control::client::Client;
use crate::control::message::{Login, Request};
use crate::session::command::{self, Command};
use crate::session::run::{Input, Io, Output, run};

/// Keys that one connection may offer. An agent with more than this is rare, and each offer is work for us. russh counts
/// those that are refused (`session::AUTH_TRIES`), here they are counted all.
pub const MAX_OFFERS: u32 = 30;
/// Channels of one connection at once; people multiplex a handful.
const MAX_CHANNELS: usize = 8;
/// Packets from the user that a command has not read yet. Commands read at once, so only a flood gets here.
const INPUT_QUEUE: usize = 64;
const OUTPUT_QUEUE: usize = 16;

/// What the session process wants to know of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub authenticated: bool,
    /// Commands that are running.
    pub commands: usize,
}

pub struct Connection {
    client: Client,
    policy: Policy,
    admission: Option<Admission>,
    offers: u32,
    failed: u32,
    channels: HashMap<ChannelId, State>,
    progress: watch::Sender<Progress>,
}

/// One session channel.
struct State {
    write: Option<ChannelWriteHalf<Msg>>,
    terminal: Option<u32>,
    input: Option<mpsc::Sender<Input>>,
    task: Option<JoinHandle<()>>,
}

impl Connection {
    pub fn new(client: Client, policy: Policy, progress: watch::Sender<Progress>) -> Self {
        Self { client, policy, admission: None, offers: 0, failed: 0, channels: HashMap::new(), progress }
    }

    /// Lets the daemon know who has logged in; it may still refuse.
    async fn log_in(&mut self, user: &str, decision: Result<Admission, String>) -> Auth {
        let granted = match decision {
            Ok(admission) => {
                let Admission { role, key, narrowing, .. } = admission.clone();
                self.client.granted(Request::Login(Login { role, key, narrowing })).await.map(|()| admission)
            }
            refused => refused,
        };
        match granted {
            Ok(admission) => {
                self.admission = Some(admission);
                Auth::Accept
            }
            Err(reason) => {
                self.report(user, reason).await;
                Auth::reject()
            }
        }
    }

    /// Tells the daemon of a failure, for the log; the first few of a connection are enough.
    async fn report(&mut self, user: &str, reason: String) {
        const REPORTED: u32 = 3;
        self.failed += 1;
        if self.failed <= REPORTED {
            let user: String = user.chars().take(64).collect();
            // Refused only when the daemon is stopping: nobody is left to log it.
            let _ = self.client.granted(Request::LoginFailed { user, reason }).await;
        }
    }

    /// Answers a shell or exec request by starting the command.
    fn start(&mut self, id: ChannelId, line: Option<&str>, session: &mut Session) -> Result<(), russh::Error> {
        let forced = self.admission.as_ref().and_then(|admission| admission.grants.command.as_deref());
        let line = forced.or(line);
        let Some(state) = self.channels.get_mut(&id) else { return session.channel_failure(id) };
        let Some(write) = state.write.take() else { return session.channel_failure(id) }; // one command per channel
        session.channel_success(id)?;
        let (input, receiver) = mpsc::channel(INPUT_QUEUE);
        state.input = Some(input);
        let work = Work {
            command: match line {
                None | Some("") => Ok(Command::Unlock(command::Unlock {
                    wait: command::DEFAULT_WAIT_SECONDS,
                    ..command::Unlock::default()
                })),
                Some(line) => command::parse(line),
            },
            client: self.client.clone(),
            write,
            progress: self.progress.clone(),
        };
        state.task = Some(crate::task::spawn(work.run(receiver, state.terminal)));
        Ok(())
    }

    fn feed(&mut self, id: ChannelId, input: Input, session: &mut Session) -> Result<(), russh::Error> {
        let Some(sender) = self.channels.get_mut(&id).and_then(|state| state.input.as_ref()) else { return Ok(()) };
        match sender.try_send(input) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()), // a command that has ended reads no more
            Err(mpsc::error::TrySendError::Full(_)) => session.close(id),
        }
    }

    fn forget(&mut self, id: ChannelId) {
        if let Some(state) = self.channels.remove(&id)
            && let Some(task) = state.task
        {
            task.abort();
        }
    }
}

/// A command and the channel that it runs on.
struct Work {
    command: Result<Command, command::Usage>,
    client: Client,
    write: ChannelWriteHalf<Msg>,
    progress: watch::Sender<Progress>,
}

impl Work {
    async fn run(self, input: mpsc::Receiver<Input>, terminal: Option<u32>) {
        self.progress.send_modify(|progress| progress.commands += 1);
        let _ended = Ended(self.progress.clone());
        let (output, mut queue) = mpsc::channel(OUTPUT_QUEUE);
        let mut out = Box::pin(self.write.make_writer());
        let mut err = Box::pin(self.write.make_writer_ext(Some(STDERR)));
        let pump = async move {
            while let Some(output) = queue.recv().await {
                let written = match output {
                    Output::Out(bytes) => out.write_all(&bytes).await,
                    Output::Err(bytes) => err.write_all(&bytes).await,
                };
                if written.is_err() {
                    break; // the command sees its queue closed
                }
            }
        };
        let command = async {
            match self.command {
                Ok(command) => run(command, &self.client, Io { input, output, terminal }).await,
                Err(usage) => {
                    let text = if terminal.is_some() { usage.text.replace('\n', "\r\n") } else { usage.text };
                    let text = text.into_bytes();
                    let text = if usage.status == 0 { Output::Out(text) } else { Output::Err(text) };
                    let _ = output.send(text).await; // a peer that has gone does not read it
                    usage.status
                }
            }
        };
        let (status, ()) = tokio::join!(command, pump);
        // Each of these fails only when the connection is gone, and then there is nobody to tell.
        let _ = self.write.exit_status(u32::from(status)).await;
        let _ = self.write.eof().await;
        let _ = self.write.close().await;
    }
}

/// SSH_EXTENDED_DATA_STDERR, RFC 4254 section 5.2.
const STDERR: u32 = 1;

/// Counts a command as ended, also when its task is aborted.
struct Ended(watch::Sender<Progress>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_modify(|progress| progress.commands -= 1);
    }
}

fn with_key(reason: String, key: &PublicKey) -> String {
    format!("{reason}: {}", fingerprint(key))
}

/// Seconds since 1970 by the machine's clock, which may be wrong; see [`Policy::built`].
fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs())
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        self.offers += 1;
        if self.offers > MAX_OFFERS {
            self.report(user, format!("more than {MAX_OFFERS} keys offered")).await;
            return Err(russh::Error::Disconnect);
        }
        match self.policy.offer(user, (offer.public_key, offer.algorithm), now()) {
            Ok(()) => {
                // So the daemon lets others go first if it has to. A daemon that is stopping refuses it: no matter.
                let _ = self.client.granted(Request::KeyKnown).await;
                Ok(Auth::Accept)
            }
            Err(reason) => {
                self.report(user, with_key(reason, offer.public_key)).await;
                Ok(Auth::reject())
            }
        }
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let decision = self.policy.key(user, (key.public_key, key.algorithm), now());
        Ok(self.log_in(user, decision.map_err(|reason| with_key(reason, key.public_key))).await)
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Self::Error> {
        let decision = self.policy.certificate(user, certificate, now());
        Ok(self.log_in(user, decision).await)
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), Self::Error> {
        self.progress.send_modify(|progress| progress.authenticated = true);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // `channel_close` is called only where the peer closes first: those that a command's end has closed go here.
        self.channels.retain(|_, state| !state.task.as_ref().is_some_and(JoinHandle::is_finished));
        if self.admission.is_none() || self.channels.len() >= MAX_CHANNELS {
            reply.reject(russh::ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        let (_, write) = channel.split(); // the read half is dropped: data comes through `Handler::data`
        self.channels.insert(id, State { write: Some(write), terminal: None, input: None, task: None });
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        columns: u32,
        _rows: u32,
        _pixel_width: u32,
        _pixel_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let allowed = self.admission.as_ref().is_some_and(|admission| admission.grants.pty);
        match self.channels.get_mut(&id) {
            Some(state) if allowed && state.input.is_none() => {
                state.terminal = Some(columns);
                session.channel_success(id)
            }
            _ => session.channel_failure(id),
        }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, None, session)
    }

    async fn exec_request(&mut self, id: ChannelId, line: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Some(&String::from_utf8_lossy(line)), session)
    }

    async fn subsystem_request(&mut self, id: ChannelId, _: &str, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        _rows: u32,
        _pixel_width: u32,
        _pixel_height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.feed(id, Input::Columns(columns), session)
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        self.feed(id, Input::Bytes(data.to_vec()), session)
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(state) = self.channels.get_mut(&id) {
            state.input = None;
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.forget(id);
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for id in self.channels.keys().copied().collect::<Vec<_>>() {
            self.forget(id);
        }
    }
}
