//! A program that the daemon runs for a channel, from its start to its exit status.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::sync::watch;

use crate::control::client::{Client, Events};
use crate::control::message::{Event, Exit, Request, Start};
use crate::flow::descriptor::Descriptor;
use crate::flow::inbox::{Inbox, Order};
use crate::flow::relay::{Outward, STDERR, To, inward};

/// When a program has ended and a child of it keeps its output open, this long without output is the end. What the
/// program itself wrote is there at once, but for a terminal's, which the kernel moves with a short delay.
const QUIET: Duration = Duration::from_millis(200);
/// What is taken of such a child's output at most: what the largest pipe may have held when the program ended
/// (`/proc/sys/fs/pipe-max-size`).
const MAX_AFTER_EXIT: usize = 1 << 20;

/// The channel that a program runs on.
pub struct Side<'a> {
    pub client: &'a Client,
    pub write: &'a ChannelWriteHalf<Msg>,
    pub inbox: &'a Inbox,
    /// True when the boot continues.
    pub leaving: watch::Receiver<bool>,
    /// Why it leaves, for the user.
    pub farewell: &'static str,
}

/// Runs it. An error says for a person why it could not be started.
pub async fn run(start: Start, mut side: Side<'_>) -> Result<Exit, String> {
    let terminal = start.terminal.is_some();
    let mut events = side.client.request(Request::Start(start));
    let descriptors = match events.next_with_descriptors().await {
        Ok((Event::Started { .. }, descriptors)) => descriptors,
        Ok((Event::Refused(reason), _)) => return Err(reason),
        Ok(_) => return Err("the daemon did not start it".to_owned()),
        Err(gone) => return Err(gone.to_string()),
    };
    let ends = Ends::new(descriptors, terminal).map_err(|error| format!("its streams can't be used: {error}"))?;
    let number = events.number();
    let (ended, has_ended) = watch::channel(false);
    let exit = async {
        let exit = exit(&mut events).await;
        ended.send_replace(true);
        exit
    };
    let output = until_end(Outward::new(&ends.output, side.write, To::Output), has_ended.clone());
    let error = async {
        if let Some(error) = &ends.error {
            until_end(Outward::new(error, side.write, To::Error), has_ended).await;
        }
    };
    let (inbox, client, write) = (side.inbox, side.client, side.write);
    let input = ends.input.take(inbox);
    let orders = orders(inbox, client, number);
    let farewell = farewell((&mut side.leaving, side.farewell), write, terminal);
    tokio::select! {
        (exit, (), ()) = async { tokio::join!(exit, output, error) } => exit,
        never = async { tokio::join!(input, orders, farewell).1 } => match never {},
    }
}

/// What the daemon hands over; see [`Event::Started`].
struct Ends {
    input: Input,
    output: Arc<Descriptor>,
    error: Option<Descriptor>,
}

enum Input {
    Terminal(Arc<Descriptor>),
    Pipe(Descriptor),
    /// The other half of the output.
    Stream(Arc<Descriptor>),
}

impl Ends {
    fn new(descriptors: Vec<OwnedFd>, terminal: bool) -> io::Result<Self> {
        let mut descriptors = descriptors.into_iter().map(Descriptor::new);
        let mut next = || descriptors.next().transpose();
        match (next()?, next()?, next()?) {
            (Some(only), None, None) => {
                let output = Arc::new(only);
                let input = if terminal { Input::Terminal(output.clone()) } else { Input::Stream(output.clone()) };
                Ok(Self { input, output, error: None })
            }
            (Some(input), Some(output), Some(error)) => {
                Ok(Self { input: Input::Pipe(input), output: Arc::new(output), error: Some(error) })
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "neither one nor three came")),
        }
    }
}

impl Input {
    /// The client's bytes to the program, and their end. A terminal has no end of input: as with sshd(8), the program
    /// isn't told.
    async fn take(self, inbox: &Inbox) {
        match self {
            Self::Terminal(terminal) => drop(inward(inbox, &terminal).await),
            Self::Pipe(pipe) => drop(inward(inbox, &pipe).await), // and is closed here
            Self::Stream(stream) => {
                if inward(inbox, &stream).await {
                    stream.end_writing();
                }
            }
        }
    }
}

async fn exit(events: &mut Events) -> Result<Exit, String> {
    loop {
        match events.next().await {
            Ok(Event::Exited(exit)) => return Ok(exit),
            Ok(Event::Done) => return Err("how it ended is not known".to_owned()),
            Ok(Event::Refused(reason)) => return Err(reason),
            Ok(_) => {}
            Err(gone) => return Err(gone.to_string()),
        }
    }
}

/// Output until its end. Once the program has ended, others that keep it open don't keep the channel open.
async fn until_end(mut outward: Outward<'_, Msg>, mut has_ended: watch::Receiver<bool>) {
    let mut left = MAX_AFTER_EXIT;
    loop {
        let quiet = async {
            // The sender is there as long as this is polled.
            let _ = has_ended.wait_for(|ended| *ended).await;
            tokio::time::sleep(QUIET).await;
        };
        let read = tokio::select! {
            biased;
            read = outward.read() => read,
            () = quiet => return,
        };
        if *has_ended.borrow() {
            left = left.saturating_sub(read.as_ref().map_or(0, Vec::len));
        }
        match read {
            Ok(bytes) if !bytes.is_empty() && left > 0 => {
                if outward.pass_on(bytes).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// Sizes and signals, one after the other.
async fn orders(inbox: &Inbox, client: &Client, start: u32) -> Infallible {
    loop {
        let request = match inbox.next_order().await {
            Order::Size(size) => Request::Window { start, size },
            Order::Signal(name) => Request::Signal { start, name },
        };
        // Refused or lost: the program has ended, or the daemon has, and either is seen elsewhere.
        let _ = client.granted(request).await;
    }
}

/// Tells the user once that the boot continues, or why else; the daemon ends the program.
async fn farewell((leaving, why): (&mut watch::Receiver<bool>, &str), write: &ChannelWriteHalf<Msg>, terminal: bool) {
    if leaving.wait_for(|leaving| *leaving).await.is_err() {
        return;
    }
    let text = format!("vestibule: {why}; what runs here ends now");
    let _ = match terminal {
        true => write.data_bytes(format!("\r\n{text}\r\n").into_bytes()).await,
        false => write.extended_data_bytes(STDERR, format!("{text}\n").into_bytes()).await,
    };
}
