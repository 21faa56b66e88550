//! The channels of one connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use russh::ChannelId;

use super::inbox::{Inbox, Shared};

/// Channels of one connection at once, forwarded connections among them. A browser behind `ssh -L` opens dozens.
pub const MAX_CHANNELS: usize = 64;
/// Of these, such that run a program or a command: as `MaxSessions` in sshd_config(5), and some more.
pub const MAX_SESSIONS: usize = 16;
/// Listeners of one connection (`ssh -R`). Each is a line that somebody wrote.
pub const MAX_LISTENERS: usize = 16;

/// Shared by the connection's loop, which puts in what comes, and by the tasks that serve channels.
#[derive(Clone, Default)]
pub struct Table {
    channels: Arc<Mutex<HashMap<ChannelId, Arc<Inbox>>>>,
    backlog: Shared,
}

/// A channel that is served as long as this is there.
pub struct Served {
    table: Table,
    id: ChannelId,
    pub inbox: Arc<Inbox>,
}

impl Table {
    /// Enters a channel that the client opens; `None` if there are too many.
    pub fn enter(&self, id: ChannelId) -> Option<Served> {
        if self.is_full() {
            return None;
        }
        self.confirm(id);
        self.confirmed(id)
    }

    /// Enters a channel that was opened from here: data may come before `confirmed` is asked for it.
    pub fn confirm(&self, id: ChannelId) {
        self.channels().insert(id, Inbox::new(id.into(), self.backlog.clone()));
    }

    /// To serve a channel that was entered; `None` if it is closed already.
    pub fn confirmed(&self, id: ChannelId) -> Option<Served> {
        let inbox = self.find(id)?;
        Some(Served { table: self.clone(), id, inbox })
    }

    pub fn is_full(&self) -> bool {
        self.channels().len() >= MAX_CHANNELS
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.channels().is_empty()
    }

    pub fn find(&self, id: ChannelId) -> Option<Arc<Inbox>> {
        self.channels().get(&id).cloned()
    }

    /// The client has closed it, or broken its rules.
    pub fn close(&self, id: ChannelId) {
        let inbox = self.channels().remove(&id);
        if let Some(inbox) = inbox {
            inbox.close();
        }
    }

    /// Nobody takes what comes there: it is closed from here, see [`Inbox::close`].
    pub fn cut(&self, id: u32) {
        let cut: Vec<_> = self.channels().extract_if(|channel, _| u32::from(*channel) == id).collect();
        cut.iter().for_each(|(_, inbox)| inbox.close());
    }

    /// See [`Backlog::heavy`](super::backlog::Backlog::heavy).
    pub fn heavy(&self, least: usize) -> HashMap<u32, u64> {
        self.backlog.lock().expect("no panic while held").heavy(least).collect()
    }

    /// The channel whose queue is full, and how much waits there; see [`Backlog::fullest`](super::backlog::Backlog).
    pub fn fullest(&self) -> Option<(u32, usize)> {
        self.backlog.lock().expect("no panic while held").fullest()
    }

    /// The connection is gone.
    pub fn close_all(&self) {
        let all: Vec<_> = self.channels().drain().collect();
        for (_, inbox) in all {
            inbox.close();
        }
    }

    /// For `Handler::adjust_window`.
    pub fn window(&self, id: ChannelId) -> u32 {
        self.backlog.lock().expect("no panic while held").window(id.into())
    }

    pub fn backlog(&self) -> Shared {
        self.backlog.clone()
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelId, Arc<Inbox>>> {
        self.channels.lock().expect("no panic while held")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.table.close(self.id);
    }
}
