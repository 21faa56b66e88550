//! What has come in from the peer for one channel and was not used yet. The connection's loop puts it in and never waits
//! (see `backlog`); whoever serves the channel takes it out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::backlog::{Backlog, TooMuch};
use crate::control::message::Size;

/// Small packets are put together up to this size, so that a flood of them costs little more than its bytes.
const CHUNK: usize = 64 << 10;
/// Signals that wait. They are passed on at once, so only a flood gets here, and loses some.
const MAX_SIGNALS: usize = 16;

/// What waits on all channels of a connection.
pub type Shared = Arc<Mutex<Backlog<u32>>>;

/// One channel's.
pub struct Inbox {
    id: u32,
    backlog: Shared,
    waiting: Mutex<Waiting>,
    /// There are bytes, or the end of them.
    bytes: Notify,
    orders: Notify,
    closed: Notify,
}

#[derive(Default)]
struct Waiting {
    chunks: VecDeque<Vec<u8>>,
    ended: bool,
    /// Nobody reads on: what comes is dropped.
    unread: bool,
    closed: bool,
    size: Option<Size>,
    signals: VecDeque<String>,
}

/// What is not part of the stream of bytes and overtakes it.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    Size(Size),
    /// Its name without `SIG`.
    Signal(String),
}

impl Inbox {
    /// `id` is the channel's.
    pub fn new(id: u32, backlog: Shared) -> Arc<Self> {
        let (bytes, orders, closed) = (Notify::new(), Notify::new(), Notify::new());
        Arc::new(Self { id, backlog, waiting: Mutex::default(), bytes, orders, closed })
    }

    pub fn push(&self, data: &[u8]) -> Result<(), TooMuch> {
        let mut waiting = self.waiting();
        if waiting.unread || waiting.closed || waiting.ended {
            return Ok(());
        }
        match waiting.chunks.back_mut() {
            Some(last) if last.len() + data.len() <= CHUNK => last.extend_from_slice(data),
            _ => waiting.chunks.push_back(chunk(data)),
        }
        self.bytes.notify_one();
        self.backlog().add(self.id, data.len())
    }

    /// No more bytes will come.
    pub fn end(&self) {
        let mut waiting = self.waiting();
        waiting.ended |= !waiting.closed;
        self.bytes.notify_one();
    }

    pub fn order(&self, order: Order) {
        let mut waiting = self.waiting();
        match order {
            Order::Size(size) => waiting.size = Some(size),
            Order::Signal(name) if waiting.signals.len() < MAX_SIGNALS => waiting.signals.push_back(name),
            Order::Signal(_) => {}
        }
        self.orders.notify_one();
    }

    /// The channel is gone. What came before its end is still there to be taken, unless that is too much of many channels:
    /// then it has no end.
    pub fn close(&self) {
        let mut waiting = self.waiting();
        if !waiting.closed {
            let all_came = waiting.ended;
            waiting.ended = all_came && self.backlog().rest(self.id);
            if !waiting.ended {
                waiting.chunks.clear();
            }
            if !all_came {
                self.backlog().forget(self.id);
            }
            waiting.closed = true;
        }
        self.closed.notify_one();
    }

    /// What came next; `None` at the end, which a channel that is closed without one never gets to: what came is not all.
    /// For one caller at a time.
    pub async fn next(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut waiting = self.waiting();
                if let Some(chunk) = waiting.chunks.pop_front() {
                    match waiting.closed {
                        true => self.backlog().rested(chunk.len()),
                        false => self.backlog().remove(self.id, chunk.len()),
                    }
                    return Some(chunk);
                }
                if waiting.ended {
                    return None;
                }
            }
            self.bytes.notified().await;
        }
    }

    /// For one caller at a time.
    pub async fn next_order(&self) -> Order {
        loop {
            {
                let mut waiting = self.waiting();
                if let Some(size) = waiting.size.take() {
                    return Order::Size(size);
                }
                if let Some(name) = waiting.signals.pop_front() {
                    return Order::Signal(name);
                }
            }
            self.orders.notified().await;
        }
    }

    /// Nobody will read what comes from now on.
    pub fn discard(&self) {
        let mut waiting = self.waiting();
        waiting.unread = true;
        let dropped = waiting.forget();
        match waiting.closed {
            true => self.backlog().rested(dropped),
            false => self.backlog().forget(self.id),
        }
    }

    /// Until the channel is gone. For one caller.
    pub async fn closed(&self) {
        while !self.waiting().closed {
            self.closed.notified().await;
        }
    }

    /// Whether all of the bytes have come.
    pub fn has_ended(&self) -> bool {
        self.waiting().ended
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no panic while held")
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog<u32>> {
        self.backlog.lock().expect("no panic while held")
    }
}

/// A file comes in packets that fill half of a chunk: there is room for the next one without moving the first.
fn chunk(data: &[u8]) -> Vec<u8> {
    let room = if data.len() * 2 > CHUNK / 2 { CHUNK.max(data.len()) } else { data.len() };
    let mut chunk = Vec::with_capacity(room);
    chunk.extend_from_slice(data);
    chunk
}

impl Waiting {
    /// Drops what waits, and says how much that was.
    fn forget(&mut self) -> usize {
        self.chunks.drain(..).map(|chunk| chunk.len()).sum()
    }
}

/// Whoever served the channel may go before it has taken everything.
impl Drop for Inbox {
    fn drop(&mut self) {
        // A panic elsewhere has broken the locks, and ends the process.
        let (Ok(waiting), Ok(mut backlog)) = (self.waiting.get_mut(), self.backlog.lock()) else { return };
        match waiting.closed {
            true => backlog.rested(waiting.forget()),
            false => backlog.forget(self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_in_order_and_orders_overtake_them() {
        let inbox = Inbox::new(1, Shared::default());
        inbox.push(b"one ").unwrap();
        inbox.order(Order::Signal("INT".to_owned()));
        inbox.push(b"two").unwrap();
        inbox.push(&[b'x'; CHUNK]).unwrap();
        inbox.end();
        inbox.push(b"after the end").unwrap();
        assert_eq!(inbox.next_order().await, Order::Signal("INT".to_owned()));
        assert_eq!(inbox.next().await.unwrap(), b"one two");
        assert_eq!(inbox.next().await.unwrap().len(), CHUNK);
        assert_eq!(inbox.next().await, None);
    }

    #[tokio::test]
    async fn only_the_last_size_counts() {
        let inbox = Inbox::new(1, Shared::default());
        for columns in 1..9 {
            inbox.order(Order::Size(Size { columns, ..Size::default() }));
        }
        assert_eq!(inbox.next_order().await, Order::Size(Size { columns: 8, ..Size::default() }));
    }

    #[tokio::test]
    async fn what_nobody_reads_is_no_backlog() {
        let shared = Shared::default();
        let inbox = Inbox::new(1, shared.clone());
        for _ in 0..1000 {
            inbox.push(&[0; 4096]).unwrap();
            inbox.next().await.unwrap();
        }
        inbox.discard();
        for _ in 0..10_000 {
            inbox.push(&[0; 4096]).unwrap();
        }
        assert_eq!(shared.lock().unwrap().add(1, 8 << 20), Ok(()));
    }

    #[tokio::test]
    async fn a_channel_that_is_closed_has_no_end() {
        let inbox = Inbox::new(1, Shared::default());
        inbox.push(b"half of a").unwrap();
        inbox.close();
        inbox.end();
        inbox.closed().await;
        let next = tokio::time::timeout(std::time::Duration::from_millis(50), inbox.next());
        assert!(next.await.is_err(), "neither the rest nor an end");
    }

    #[tokio::test]
    async fn a_channel_that_is_closed_after_its_end_has_lost_nothing() {
        let inbox = Inbox::new(1, Shared::default());
        inbox.push(b"all of it").unwrap();
        inbox.end();
        inbox.close();
        inbox.closed().await;
        assert_eq!(inbox.next().await.unwrap(), b"all of it");
        assert_eq!(inbox.next().await, None);
    }

    /// A peer that opens, sends, ends and closes again and again fills no more memory than one that doesn't close.
    #[tokio::test]
    async fn what_closed_channels_hold_is_counted_until_it_is_taken() {
        let shared = Shared::default();
        let mut held = Vec::new();
        for id in 0..100 {
            let inbox = Inbox::new(id, shared.clone());
            inbox.push(&[0; 1 << 20]).unwrap();
            inbox.end();
            inbox.close();
            held.push(inbox);
        }
        assert_eq!(held.iter().filter(|inbox| inbox.has_ended()).count(), 32, "the others have lost what they held");
        let fits = || {
            let mut backlog = shared.lock().unwrap();
            let fits = (1000..1100).take_while(|id| backlog.add(*id, 1 << 20).is_ok()).count();
            (1000..1100).for_each(|id| backlog.forget(id));
            fits
        };
        assert_eq!(fits(), 32);
        assert_eq!(held[0].next().await.unwrap().len(), 1 << 20);
        assert_eq!(held[0].next().await, None);
        held[1].discard();
        assert_eq!(fits(), 34);
        drop(held);
        assert_eq!(fits(), 64);
    }
}
