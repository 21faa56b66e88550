//! One session channel (RFC 4254 section 6) from its request to its exit status.

use std::convert::Infallible;

use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use tokio::sync::{mpsc, watch};

use super::program::{self, Side};
use super::request::Plan;
use crate::control::client::Client;
use crate::control::message::{Event, Exit, Request, Start, Terminal, What};
use crate::flow::inbox::{Inbox, Order};
use crate::flow::relay::STDERR;
use crate::flow::table::Served;
use crate::session::run::{End, Input, Io, Output, run};
use crate::session::text::exit;

/// Pieces of input on their way to a command. It reads at once, except while it waits for a verdict.
const INPUT_QUEUE: usize = 16;
const OUTPUT_QUEUE: usize = 16;

/// A channel and what it was asked to run.
pub struct Work {
    pub plan: Plan,
    pub terminal: Option<Terminal>,
    /// A shell that the unlock screen offers; none if the role has none.
    pub shell: Option<Start>,
    pub client: Client,
    pub write: ChannelWriteHalf<Msg>,
    pub handle: Handle,
    pub served: Served,
    /// True when the boot continues.
    pub leaving: watch::Receiver<bool>,
    /// Why, for the user.
    pub farewell: &'static str,
}

impl Work {
    /// Until it has ended and the client knows how, or the channel is gone.
    pub async fn run(self) {
        let inbox = self.served.inbox.clone();
        tokio::select! {
            biased;
            () = inbox.closed() => {}
            () = self.until_it_ends() => {}
        }
    }

    async fn until_it_ends(self) {
        let exit = match &self.plan {
            Plan::Say { status, text } => {
                self.say(*status, text).await;
                Exit::Status(*status)
            }
            Plan::Command(_) => Exit::Status(self.command().await),
            Plan::Program { start, hold_seconds: None } => self.program(start.clone()).await,
            Plan::Program { start, hold_seconds: Some(seconds) } => self.held(start.clone(), *seconds).await,
        };
        // Each of these fails only when the connection is gone, and then there is nobody to tell.
        let id = self.write.id();
        let _ = match exit {
            Exit::Status(status) => self.write.exit_status(u32::from(status)).await.is_ok(),
            Exit::Signal { name, core_dumped } => {
                let (text, language) = (String::new(), String::new());
                self.handle.exit_signal_request(id, Sig::Custom(name), core_dumped, text, language).await.is_ok()
            }
        };
        let _ = self.write.eof().await;
        let _ = self.write.close().await;
    }

    /// A command of ours; from the unlock screen perhaps to a shell and back.
    async fn command(&self) -> u8 {
        let Plan::Command(command) = &self.plan else { return exit::USAGE };
        let mut columns = self.terminal.as_ref().map(|terminal| terminal.size.columns);
        loop {
            let (input, receiver) = mpsc::channel(INPUT_QUEUE);
            let (output, queue) = mpsc::channel(OUTPUT_QUEUE);
            let io = Io { input: receiver, output, terminal: columns, shell: self.shell.is_some() };
            let (command, inbox) = (run(command.clone(), &self.client, io), &self.served.inbox);
            let running = async { tokio::join!(command, print(queue, &self.write)).0 };
            let end = tokio::select! {
                end = running => end,
                never = pass_on(inbox, input) => match never {},
            };
            match (end, &self.shell) {
                (End::Exit(status), _) => return status,
                (End::Shell { columns: now }, Some(shell)) => {
                    columns = Some(now);
                    let mut shell = shell.clone();
                    if let Some(terminal) = &mut shell.terminal {
                        terminal.size.columns = now;
                    }
                    self.program(shell).await;
                }
                (End::Shell { .. }, None) => return exit::NOT_PERMITTED,
            }
        }
    }

    async fn program(&self, start: Start) -> Exit {
        let sftp = start.what == What::Sftp;
        let side = Side {
            client: &self.client,
            write: &self.write,
            inbox: &self.served.inbox,
            leaving: self.leaving.clone(),
            farewell: self.farewell,
        };
        match program::run(start, side).await {
            Ok(exit) => exit,
            Err(reason) => {
                let status = if sftp { exit::USAGE } else { exit::NOT_PERMITTED };
                self.say(status, &format!("vestibule: {reason}\n")).await;
                Exit::Status(status)
            }
        }
    }

    /// The boot waits for it.
    async fn held(&self, start: Start, seconds: u32) -> Exit {
        // It ends when this is dropped, and with the session.
        let mut hold = self.client.request(Request::HoldWhile { seconds });
        let refused = match hold.next().await {
            Ok(Event::Holding) => return self.program(start).await,
            Ok(Event::Refused(reason)) => reason,
            Ok(_) => "the boot can't be held".to_owned(),
            Err(gone) => gone.to_string(),
        };
        self.say(exit::NOT_PERMITTED, &format!("vestibule: {refused}\n")).await;
        Exit::Status(exit::NOT_PERMITTED)
    }

    async fn say(&self, status: u8, text: &str) {
        let text = if self.terminal.is_some() { text.replace('\n', "\r\n") } else { text.to_owned() }.into_bytes();
        // Fails only when the connection is gone.
        let _ = match status {
            0 => self.write.data_bytes(text).await,
            _ => self.write.extended_data_bytes(STDERR, text).await,
        };
    }
}

/// What a command prints.
async fn print(mut queue: mpsc::Receiver<Output>, write: &ChannelWriteHalf<Msg>) {
    while let Some(output) = queue.recv().await {
        let written = match output {
            Output::Out(bytes) => write.data_bytes(bytes).await,
            Output::Err(bytes) => write.extended_data_bytes(STDERR, bytes).await,
        };
        if written.is_err() {
            break; // the command sees its queue closed
        }
    }
}

/// What a command reads.
async fn pass_on(inbox: &Inbox, input: mpsc::Sender<Input>) -> Infallible {
    let sizes = input.downgrade();
    let bytes = async move {
        // The place first: what is taken out of the inbox does arrive.
        while let Ok(place) = input.reserve().await {
            match inbox.next().await {
                Some(bytes) => place.send(Input::Bytes(bytes)),
                None => break,
            }
        }
    };
    let orders = async {
        loop {
            if let (Order::Size(size), Some(input)) = (inbox.next_order().await, sizes.upgrade()) {
                // A command that is busy learns of a later size.
                let _ = input.try_send(Input::Columns(size.columns));
            }
        }
    };
    tokio::join!(bytes, orders).1
}
