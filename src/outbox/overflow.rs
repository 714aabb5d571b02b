//! The bounds of an outbox, how they are kept, and the policy for a message that finds no room; `queue` applies it.

use std::{
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{Key, Outbox, OutboxFrame, Outflow, Spent, queue::State};
use crate::{
    Frame, SendError,
    fate::Fate,
    stats::{DropReason, Tally},
};

/// How many times one push makes the link write, while others fill the room that this makes.
const RELIEFS_PER_PUSH: usize = 256;

/// The shortest and the longest time for which a [`Stall`] is believed.
const BELIEVED: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

/// How many greetings a link has at most: as many as a client's outbox holds messages by default.
pub(super) const GREETINGS: Tally = Tally { messages: 65_536, len: 64 * 1024 * 1024 };

/// How a full outbox treats one more message.
///
/// An outbox is full for a connection whose socket takes nothing: a push into a full one first writes as much as the socket
/// takes at that moment, and only then is this applied. A client without a connection has no socket to write to.
///
/// In a configuration file (feature `config`): `"disconnect"`, `"drop_oldest"`, `"drop_latest"`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Overflow {
    /// Ends the connection: an accepted one with close code 1013, a client with [`WsError::OutboxFull`](crate::WsError).
    Disconnect,
    /// Drops the oldest messages of which nothing was written yet. A message that is being written keeps its place: if such
    /// messages take all places, the new one is refused. So an outbox for only the latest value needs two places or more,
    /// not one.
    DropOldest,
    /// Refuses the new message.
    DropLatest,
}

/// The bounds of an outbox, and how it treats a message when it is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxBound {
    pub(crate) messages: usize,
    /// In bytes of payload.
    pub(crate) len: usize,
    pub(crate) overflow: Overflow,
    /// Messages may have keys.
    pub(crate) conflates: bool,
}

impl OutboxBound {
    /// # Panics
    ///
    /// If `messages` is zero.
    pub(crate) const fn new(messages: usize, len: usize, overflow: Overflow) -> Self {
        assert!(messages > 0, "an outbox must hold at least one message");
        Self { messages, len, overflow, conflates: false }
    }
}

/// Why a message got no place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
}

impl Refusal {
    /// The error that hands `item` back.
    pub(crate) fn of<I>(self, item: I) -> SendError<I> {
        match self {
            Self::Full => SendError::Full(item),
            Self::Closed => SendError::Closed(item),
        }
    }
}

/// A socket that takes nothing. A push that asks it costs several times as much as one that does not, and the link's task
/// hears of it as soon as it takes something again: so a full outbox that drops messages does not ask each time.
///
/// By tokio's clock: what a test on a paused one drops must not depend on how long it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    since: Instant,
    asked: Instant,
}

impl Stall {
    /// Whether the socket need not be asked at this moment: it is after it has taken nothing for twice as long.
    fn is_believed(&self, now: Instant) -> bool {
        let (least, most) = BELIEVED;
        // A thread that is not the test's has another clock than a paused one, which may be behind.
        let elapsed = now.checked_duration_since(self.asked);
        elapsed.is_some_and(|elapsed| elapsed < (self.asked - self.since).clamp(least, most))
    }
}

/// A push that finds no room.
impl Outbox {
    /// Writes as much as the socket takes, and applies the overflow policy only if the outbox is still full.
    pub(super) fn offer_to_full<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        frame: OutboxFrame,
        key: Option<Key>,
        fate: Option<&Arc<dyn Fate>>,
    ) -> (Result<(), Refusal>, Spent) {
        let mut spent = Spent::default();
        for _ in 0..RELIEFS_PER_PUSH {
            let Some(link) = state.link_to_relieve(&frame) else { break };
            // The link's lock must be taken before the outbox's, and the last handle of a link not be dropped under that.
            drop(state);
            let relief = link.relieve();
            drop(link);
            spent.append(relief.spent);
            state = self.lock();
            if !relief.takes {
                break;
            }
        }
        let (answer, effects) = self.apply_to(state, |state| state.push_tracked(frame, key, fate, self.core.overflow));
        spent.append(effects.run());
        (answer, spent)
    }

    /// Notes that the socket has taken none of the bytes it was offered, as it has done `since` then.
    pub(crate) fn note_blocked(&self, since: Instant) {
        // An overflow that ends the connection happens once: before it, the socket is asked in any case.
        if self.core.overflow != Overflow::Disconnect {
            self.lock().rare().stall = Some(Stall { since, asked: Instant::now() });
        }
    }
}

impl State {
    /// The link that has to make room for `frame`, unless its socket is known to take nothing.
    fn link_to_relieve(&self, frame: &OutboxFrame) -> Option<Arc<dyn Outflow>> {
        let stall = self.rare.as_ref().and_then(|rare| rare.stall);
        if stall.is_some_and(|stall| stall.is_believed(Instant::now())) || self.is_closing() || self.has_room(frame) {
            return None;
        }
        self.link.clone()
    }

    /// Notes that the socket has taken something, or that there is another socket.
    pub(crate) fn note_progress(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.stall = None;
        }
    }
}

/// The room that is left.
impl State {
    // Inlined, as `bounded` and `fits` are: the common push needs nothing else of this file.
    #[inline]
    pub(crate) fn has_room(&self, frame: &OutboxFrame) -> bool {
        self.has_room_for(frame.len())
    }

    /// As [`has_room`](Self::has_room), by the length of the message.
    #[inline]
    pub(super) fn has_room_for(&self, len: usize) -> bool {
        fits_len(self.bounded(), len, self.room())
    }

    /// Whether there is room for any message: an empty one, at least.
    pub(super) fn has_room_at_all(&self) -> bool {
        let (held, room) = (self.bounded(), self.room());
        held.messages == 0 || (held.messages < room.messages && held.len <= room.len)
    }

    /// The part of the queue that the bound counts: all messages except the greetings. A full outbox must have room for
    /// those too.
    #[inline]
    pub(crate) fn bounded(&self) -> Tally {
        let mut bounded = self.queued();
        bounded -= self.rare.as_ref().map_or_else(Tally::default, |rare| rare.greetings);
        bounded
    }

    /// Drops the oldest messages that the link has not taken, and the newest one too if nothing else helps.
    pub(super) fn make_room(&mut self) -> Result<(), Refusal> {
        let room = self.room();
        let is_over = |held: Tally| held.messages > 1 && (held.messages > room.messages || held.len > room.len);
        // It stays the same, whatever goes.
        let first = self.droppable();
        while is_over(self.bounded()) && self.drop_at(first, DropReason::Overflow) {}
        // The newest is the last one that can go.
        if first < self.queue.len() {
            return Ok(());
        }
        if let Some(window) = self.window_mut() {
            window.places.take_back_end();
        }
        Err(Refusal::Full)
    }

    #[inline]
    pub(super) fn room(&self) -> Tally {
        Tally { messages: self.room_messages.into(), len: self.room_len }
    }
}

/// Whether there is room for one more message. An empty queue takes a message of any length.
#[inline]
pub(super) fn fits(held: Tally, frame: &OutboxFrame, room: Tally) -> bool {
    fits_len(held, frame.len(), room)
}

#[inline]
fn fits_len(held: Tally, len: usize, room: Tally) -> bool {
    held.messages == 0 || (held.messages < room.messages && held.len + len as u64 <= room.len)
}

/// Whether a link that begins with these messages may begin with this one, too.
pub(crate) fn may_greet(greetings: Tally, frame: &Frame) -> bool {
    fits_len(greetings, frame.len(), GREETINGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_that_takes_nothing_is_asked_after_twice_as_long_each_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut stall = Stall { since: start, asked: start };
        let mut asked = Vec::new();
        for millis in 0..200 {
            if !stall.is_believed(at(millis)) {
                stall.asked = at(millis);
                asked.push(millis);
            }
        }
        assert_eq!(asked, [1, 2, 4, 8, 16, 32, 64, 128, 192]);
    }
}
