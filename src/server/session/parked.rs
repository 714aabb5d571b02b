//! Sessions without a link: how many there may be, and how much may wait for them.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{Door, Parked, Sessions, State};
use crate::{
    outbox::{Outbox, Outflow, Relief, Spent},
    stats::DropReason,
};

/// The place of a session among the parked ones, until it is dropped.
pub(crate) struct Place<'a> {
    sessions: &'a Sessions,
    number: u64,
    door: Arc<Door>,
}

impl Sessions {
    /// Gives a session a place among those that wait for their client. If there is no room, the one that has waited for longest
    /// is given up.
    pub(super) fn park(&self, door: &Arc<Door>) -> Place<'_> {
        let mut state = self.lock();
        state.parkings += 1;
        let number = state.parkings;
        state.parked.insert(number, Parked { door: door.clone(), len: 0 });
        state.evict_beyond(self.limits.sessions, self.limits.parked_len);
        drop(state);
        Place { sessions: self, number, door: door.clone() }
    }
}

impl Place<'_> {
    /// Notes how many bytes wait for the client.
    pub(super) fn note_len(&self, len: u64) {
        let mut state = self.sessions.lock();
        let Some(parked) = state.parked.get_mut(&self.number) else { return };
        let before = std::mem::replace(&mut parked.len, len);
        state.parked_len = state.parked_len - before + len;
        state.evict_beyond(self.sessions.limits.sessions, self.sessions.limits.parked_len);
    }
}

impl Place<'_> {
    /// Resolves when the place is another's. A session that was on its way out of it goes on, and may be parked again.
    pub(super) async fn lost(&self) {
        while self.sessions.lock().parked.contains_key(&self.number) {
            self.door.evicted().await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.sessions.lock().forget_parked(self.number);
    }
}

impl State {
    fn evict_beyond(&mut self, sessions: usize, len: u64) {
        while (self.parked.len() > sessions || self.parked_len > len)
            && let Some((&oldest, parked)) = self.parked.first_key_value()
        {
            parked.door.evict();
            self.forget_parked(oldest);
        }
    }

    fn forget_parked(&mut self, number: u64) {
        if let Some(parked) = self.parked.remove(&number) {
            self.parked_len -= parked.len;
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
