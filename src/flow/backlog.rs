//! How much the peer may still send while programs don't read what it has sent. Pure.
//!
//! RFC 4254 section 5.2 gives each channel a window. russh 0.65 gives it back as soon as data has come in, to the size
//! that its handler named last (`Handler::adjust_window`), which holds for all channels of the connection, and it can't
//! be told to wait: a window is given back when data comes, or never. So the size that is named shrinks as what is
//! queued grows, down to [`TRICKLE`]: a client that has used up its window then sends two bytes at a time. These keep
//! asking; when the program has read on, the next of them brings a larger window. Nothing blocks: what the client says
//! otherwise, on this channel and on others, is read as always.

use std::collections::HashMap;
use std::hash::Hash;

/// What a peer may have under way on one channel: as OpenSSH's `CHAN_SES_WINDOW_DEFAULT` and
/// `CHAN_TCP_WINDOW_DEFAULT`, 2 MiB, which is 40 MB/s at a round trip of 50 ms.
pub const WINDOW: u32 = 2 << 20;
/// The smallest window that is ever given back: russh gives back what is below half of the target, so 1 would be never.
const TRICKLE: u32 = 2;
/// Smaller windows would make many small packets.
const SMALLEST: u32 = 32 << 10;
/// What a channel gets at a time when another one is stuck, which may get as much by mistake.
const SHARE: u32 = 256 << 10;
/// The most that waits for one program. Windows alone keep it below two of them, except for a peer that doesn't heed
/// them, and for a program that does not read at all while others take much.
const MAX_CHANNEL: usize = 8 << 20;
/// What waits for one reader when no more is read from the network, where windows can't be kept small: whatever is under
/// way by then, it stays below 4 MiB.
const FULL_CHANNEL: usize = 3 << 20;
/// And for all of them.
const FULL_TOTAL: usize = 60 << 20;
/// The most that waits on one connection: a quarter of a session's address space (`hardening`).
const MAX_TOTAL: usize = 64 << 20;

/// Of these, what channels may hold that their peer has closed: their readers go on, but nothing that is held up makes room
/// here. Half, so that what fills the rest is queues that can be waited for.
const MAX_RESTING: usize = MAX_TOTAL / 2;

/// What waits for the programs of one connection, by channel.
#[derive(Debug)]
pub struct Backlog<Id> {
    queued: HashMap<Id, Queue>,
    /// All that waits, with what rests.
    total: usize,
    /// What waits for readers of channels that are closed.
    resting: usize,
    /// What was named last.
    named: u32,
    /// The channel that reads on and got no more than a trickle.
    wanting: Option<Id>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: usize,
    /// All that was ever taken of it, in bytes.
    taken: u64,
}

/// The channel has more waiting than is good for this process.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMuch;

impl<Id: Copy + Eq + Hash> Default for Backlog<Id> {
    fn default() -> Self {
        Self { queued: HashMap::new(), total: 0, resting: 0, named: WINDOW, wanting: None }
    }
}

impl<Id: Copy + Eq + Hash> Backlog<Id> {
    /// Data has come in.
    pub fn add(&mut self, id: Id, bytes: usize) -> Result<(), TooMuch> {
        let queue = self.queued.entry(id).or_default();
        queue.bytes += bytes;
        self.total += bytes;
        if queue.bytes > MAX_CHANNEL || self.total > MAX_TOTAL { Err(TooMuch) } else { Ok(()) }
    }

    /// The program has taken it.
    pub fn remove(&mut self, id: Id, bytes: usize) {
        if let Some(queue) = self.queued.get_mut(&id) {
            queue.bytes -= bytes;
            queue.taken += bytes as u64;
            self.total -= bytes;
        }
    }

    /// The channel is gone, and what waits there with it.
    pub fn forget(&mut self, id: Id) {
        self.total -= self.queued.remove(&id).map_or(0, |queue| queue.bytes);
        self.wanting = self.wanting.filter(|wanting| *wanting != id);
    }

    /// The channel is gone, but what waits there may still be taken: see [`Backlog::rested`]. False if so much of that waits
    /// already that it has to go with the channel.
    pub fn rest(&mut self, id: Id) -> bool {
        let bytes = self.queued.get(&id).map_or(0, |queue| queue.bytes);
        let fits = self.resting + bytes <= MAX_RESTING;
        self.forget(id);
        if fits {
            self.resting += bytes;
            self.total += bytes;
        }
        fits
    }

    /// So much of what rests is taken, or dropped.
    pub fn rested(&mut self, bytes: usize) {
        self.resting -= bytes;
        self.total -= bytes;
    }

    /// The window from now on, of all channels. `id` was just given back the one that was named last.
    pub fn window(&mut self, id: Id) -> u32 {
        let worst = self.queued.values().map(|queue| queue.bytes).max().unwrap_or(0);
        let fit = |queued: usize| match WINDOW.saturating_sub(u32::try_from(queued).unwrap_or(u32::MAX)) {
            small if small < SMALLEST => TRICKLE,
            window => window,
        };
        let reads_on = fit(self.queued.get(&id).map_or(0, |queue| queue.bytes)) > TRICKLE;
        if self.named > TRICKLE {
            self.wanting = self.wanting.filter(|wanting| *wanting != id);
        } else if reads_on {
            self.wanting = Some(id);
        }
        self.named = match (fit(worst), self.wanting) {
            (TRICKLE, Some(_)) => SHARE,
            (window, _) => window,
        };
        self.named
    }

    /// The channel with most in its queue, and how much, if that is full, or all together are.
    pub fn fullest(&self) -> Option<(Id, usize)> {
        let most = self.queued.iter().map(|(id, queue)| (*id, queue.bytes)).max_by_key(|(_, queued)| *queued);
        most.filter(|(_, queued)| *queued >= FULL_CHANNEL || self.total >= FULL_TOTAL)
    }

    /// The channels with so much in their queues, and how much was ever taken of each.
    pub fn heavy(&self, least: usize) -> impl Iterator<Item = (Id, u64)> {
        self.queued.iter().filter(move |(_, queue)| queue.bytes >= least).map(|(id, queue)| (*id, queue.taken))
    }

    /// Whether clients that have much to send do so by twos.
    pub fn trickles(&self) -> bool {
        self.named == TRICKLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// russh's side and a client that always sends as much as it may, packet by packet: `Encrypted::adjust_window_size`
    /// in src/session.rs of russh 0.65.1.
    #[derive(Default)]
    struct Wire {
        backlog: Backlog<u32>,
        windows: HashMap<u32, u32>,
        target: Option<u32>,
    }

    impl Wire {
        fn send(&mut self, id: u32) -> Result<usize, TooMuch> {
            let window = self.windows.entry(id).or_insert(WINDOW);
            let packet = (*window).min(32 << 10);
            *window -= packet;
            let target = self.target.unwrap_or(WINDOW);
            if *window < target / 2 {
                *window = target;
                self.target = Some(self.backlog.window(id));
            }
            self.backlog.add(id, packet as usize).map(|()| packet as usize)
        }
    }

    #[test]
    fn a_program_that_does_not_read_stops_its_client_and_one_that_reads_on_starts_it_again() {
        let mut wire = Wire::default();
        let sent: usize = (0..10_000).map(|_| wire.send(1).unwrap()).sum();
        assert!((2 << 20..5 << 20).contains(&sent), "{sent}");
        assert!(wire.backlog.trickles());
        wire.backlog.remove(1, sent);
        let resumed: Vec<usize> = (0..4).map(|_| wire.send(1).unwrap()).collect();
        assert_eq!((resumed[0], resumed[3]), (2, 32 << 10), "{resumed:?}");
        assert!(!wire.backlog.trickles());
    }

    #[test]
    fn another_channel_goes_on_beside_one_that_is_stuck() {
        let mut wire = Wire::default();
        while !wire.backlog.trickles() {
            wire.send(1).unwrap();
        }
        let mut moved = 0;
        for _ in 0..1000 {
            wire.send(1).unwrap();
            let read = wire.send(2).unwrap();
            wire.backlog.remove(2, read);
            moved += read;
            if moved > 4 << 20 {
                return;
            }
        }
        panic!("only {moved} bytes in 1000 packets");
    }

    #[test]
    fn a_client_that_heeds_no_window_is_noticed() {
        let mut backlog = Backlog::default();
        let fits = (0..1000).take_while(|_| backlog.add(1, 64 << 10).is_ok()).count();
        assert_eq!(fits, MAX_CHANNEL / (64 << 10));
        let many = (2..1000).take_while(|id| backlog.add(*id, 2 << 20).is_ok()).count();
        assert!(many < 32, "{many}");
        backlog.forget(1);
        assert_eq!(backlog.add(2000, 1), Ok(()));
    }

    #[test]
    fn what_waits_on_closed_channels_counts_but_is_nobodys_queue() {
        let mut backlog = Backlog::default();
        let kept = (0..1000).take_while(|id| backlog.add(*id, FULL_CHANNEL).is_ok() && backlog.rest(*id)).count();
        assert_eq!(kept, MAX_RESTING / FULL_CHANNEL);
        backlog.add(2000, 1).unwrap();
        assert_eq!((backlog.fullest(), backlog.heavy(1).count()), (None, 1), "who holds little is not to blame");
        let others = (3000..).take_while(|id| backlog.add(*id, 1 << 20).is_ok()).count();
        assert!(others <= (MAX_TOTAL - kept * FULL_CHANNEL) >> 20, "{others}");
        backlog.rested(kept * FULL_CHANNEL);
        assert!(backlog.add(2000, 1).is_ok() && backlog.rest(2000));
    }

    proptest! {
        /// One channel alone never gets near what closes it, however its program reads, and is never left without a
        /// window that its client can use.
        #[test]
        fn one_channel_alone_is_bounded(reads in proptest::collection::vec((1usize..200, 0usize..4_000_000), 1..100)) {
            let mut wire = Wire::default();
            let mut queued = 0;
            for (packets, read) in reads {
                for _ in 0..packets {
                    let sent = wire.send(7).unwrap();
                    prop_assert!(sent > 0);
                    queued += sent;
                }
                prop_assert!(queued <= 2 * WINDOW as usize + (64 << 10), "{queued}");
                let read = read.min(queued);
                wire.backlog.remove(7, read);
                queued -= read;
            }
        }
    }
}
