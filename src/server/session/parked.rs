//! Sessions without a link: how many there may be, and how much may wait for them.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::Notify;

use super::{Sessions, State};
use crate::{
    handshake::admission::subscriber,
    limits::Limits,
    outbox::{Outbox, Outflow, Relief, Spent},
    stats::DropReason,
};

/// The place of a session among the parked ones, until it is dropped.
pub(crate) struct Place<'a> {
    sessions: &'a Sessions,
    number: u64,
    evicted: Arc<Notify>,
}

impl Sessions {
    /// Gives a session a place among those that wait for their client, which comes from `address`. If there is no room, one of
    /// them is given up.
    pub(super) fn park(&self, address: Option<IpAddr>) -> Place<'_> {
        let (mut state, evicted) = (self.lock(), Arc::new(Notify::new()));
        let number = state.parked.insert(evicted.clone(), address.map(subscriber));
        state.evict_beyond(&self.limits, number);
        drop(state);
        Place { sessions: self, number, evicted }
    }
}

impl Place<'_> {
    /// Notes how many bytes wait for the client.
    pub(super) fn note_len(&self, len: u64) {
        let mut state = self.sessions.lock();
        state.parked.note_len(self.number, len);
        state.evict_beyond(&self.sessions.limits, self.number);
    }
}

impl Place<'_> {
    /// Resolves when the place is another's. A session that was on its way out of it goes on, and may be parked again.
    pub(super) async fn lost(&self) {
        while self.sessions.lock().parked.contains(self.number) {
            self.evicted.notified().await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.sessions.lock().parked.remove(self.number);
    }
}

impl State {
    fn evict_beyond(&mut self, limits: &Limits, grown: u64) {
        while let Some(evicted) = self.parked.evict(grown, limits) {
            evicted.notify_one();
        }
    }
}

/// Takes the place of the link of an outbox that has none: tells the session's task of pushes.
struct Absence {
    outbox: Outbox,
    pushed: Arc<Notify>,
}

/// An outbox without a link, until this is dropped.
pub(super) struct Absent<'a> {
    outbox: &'a Outbox,
    pushed: Arc<Notify>,
    /// The bytes that were written and not acknowledged.
    written_len: u64,
}

impl<'a> Absent<'a> {
    pub(super) fn new(outbox: &'a Outbox) -> Self {
        let pushed = Arc::new(Notify::new());
        outbox.attach(Arc::new(Absence { outbox: outbox.clone(), pushed: pushed.clone() }));
        Self { outbox, pushed, written_len: outbox.written_len() }
    }

    /// How many bytes wait for the client. The next push [is told](Self::pushed).
    pub(super) fn len(&self) -> u64 {
        // Before the look, so that a push after it is told.
        self.outbox.wake_at_push();
        self.written_len + self.outbox.stats().queued.len
    }

    pub(super) async fn pushed(&self) {
        self.pushed.notified().await;
    }
}

impl Drop for Absent<'_> {
    /// The outbox holds the absence, which holds the outbox.
    fn drop(&mut self) {
        self.outbox.detach(false);
    }
}

impl Outflow for Absence {
    fn wake(self: Arc<Self>) {
        self.pushed.notify_one();
    }

    fn relieve(&self) -> Relief {
        Relief { takes: false, spent: Spent::default() }
    }

    fn clear(&self) {
        drop(self.outbox.untake(0, Some(DropReason::Cleared)).run());
    }
}
