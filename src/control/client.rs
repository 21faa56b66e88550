//! The client end: many requests over one socket, each with its own stream of events.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use tokio::net::UnixStream;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::message::{Event, Request};
use super::{frame, stream};

/// Events that wait for a slow consumer before its stream is given up.
pub const QUEUE: usize = 256;

/// An event with the descriptors that came with it.
type Item = (Event, Vec<OwnedFd>);
type Streams = Arc<Mutex<HashMap<u32, mpsc::Sender<Item>>>>;

/// A handle for making requests. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    requests: mpsc::UnboundedSender<(u32, Request)>,
    streams: Streams,
    next: Arc<Mutex<u32>>,
}

/// The daemon closed the connection, or never was there.
#[derive(Debug)]
pub struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("the vestibule daemon has gone away")
    }
}

impl std::error::Error for Gone {}

/// The answer to one request. Dropping it cancels the request.
pub struct Events {
    number: u32,
    events: mpsc::Receiver<Item>,
    client: Client,
    /// The daemon has said its last word on it.
    ended: bool,
    /// What `ready` has seen, for `next` to take.
    ahead: Option<Option<Item>>,
}

impl Client {
    /// Starts the tasks that move frames. They end when the daemon closes the socket or every handle is dropped.
    pub fn start(stream: UnixStream) -> Self {
        let (mut reader, mut writer) = stream::split(stream);
        let (requests, mut queue) = mpsc::unbounded_channel::<(u32, Request)>();
        let streams = Streams::default();
        crate::task::spawn(async move {
            while let Some(request) = queue.recv().await {
                if frame::write(&mut writer, &request).await.is_err() {
                    break; // the reader below sees the end as well, and tells everybody
                }
            }
        });
        let to_streams = streams.clone();
        crate::task::spawn(async move {
            while let Ok(Some((number, event))) = frame::read::<(u32, Event)>(&mut reader).await {
                let Ok(descriptors) = reader.take(event.descriptors()) else { break };
                let mut streams = to_streams.lock().expect("no panic while held");
                let Some(stream) = streams.get(&number) else { continue };
                match stream.try_send((event, descriptors)) {
                    // A tail of the log that nobody reads may have gaps. Anything else that is lost ends the stream.
                    Ok(()) | Err(TrySendError::Full((Event::Log(_), _))) => {}
                    Err(_) => drop(streams.remove(&number)),
                }
            }
            to_streams.lock().expect("no panic while held").clear();
        });
        Self { requests, streams, next: Arc::new(Mutex::new(1)) }
    }

    pub fn request(&self, request: Request) -> Events {
        let number = {
            let mut next = self.next.lock().expect("no panic while held");
            *next = next.wrapping_add(1);
            *next
        };
        let (sender, events) = mpsc::channel(QUEUE);
        self.streams.lock().expect("no panic while held").insert(number, sender);
        if self.requests.send((number, request)).is_err() {
            self.streams.lock().expect("no panic while held").remove(&number);
        }
        Events { number, events, client: self.clone(), ended: false, ahead: None }
    }

    /// For requests that are only granted or refused.
    pub async fn granted(&self, request: Request) -> Result<(), String> {
        match self.request(request).next().await {
            Ok(Event::Refused(reason)) => Err(reason),
            Ok(_) => Ok(()),
            Err(gone) => Err(gone.to_string()),
        }
    }
}

impl Events {
    /// Waits until there is an event, or there will be none any more; takes nothing.
    pub async fn ready(&mut self) {
        if self.ahead.is_none() {
            self.ahead = Some(self.events.recv().await);
        }
    }

    pub async fn next(&mut self) -> Result<Event, Gone> {
        self.next_with_descriptors().await.map(|(event, _)| event)
    }

    pub async fn next_with_descriptors(&mut self) -> Result<(Event, Vec<OwnedFd>), Gone> {
        self.ready().await;
        let item = self.ahead.take().flatten().ok_or(Gone)?;
        self.ended = matches!(item.0, Event::Done | Event::Refused(_));
        Ok(item)
    }

    /// The request's number, by which others refer to it.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.client.streams.lock().expect("no panic while held").remove(&self.number);
        if !self.ended {
            // A closed queue means that the daemon is gone, and the request with it.
            let _ = self.client.requests.send((self.number, Request::Cancel));
        }
    }
}
