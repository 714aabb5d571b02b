//! The bounds of an outbox, how they are kept, and the policy for a message that finds no room; `queue` applies it.

use serde::{Deserialize, Serialize};

use super::{OutboxFrame, queue::State};
use crate::{
    Frame, SendError,
    stats::{DropReason, Tally},
};

/// How many greetings a link has at most: as many as a client's outbox holds messages by default.
pub(super) const GREETINGS: Tally = Tally { messages: 65_536, len: 64 * 1024 * 1024 };

/// How a full outbox treats one more message.
///
/// An outbox is full for a connection whose socket takes nothing: a push into a full one first writes as much as the socket
/// takes at that moment, and only then is this applied. A client without a connection has no socket to write to.
///
/// In a configuration file: `"disconnect"`, `"drop_oldest"`, `"drop_latest"`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// The room that is left.
impl State {
    // Inlined, as `bounded` and `fits` are: the common push needs nothing else of this file.
    #[inline]
    pub(crate) fn has_room(&self, frame: &OutboxFrame) -> bool {
        fits(self.bounded(), frame, self.room())
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
        let is_over = |held: Tally, room: Tally| held.messages > room.messages || held.len > room.len;
        while self.bounded().messages > 1
            && is_over(self.bounded(), self.room())
            && self.try_drop_oldest(DropReason::Overflow)
        {}
        // The newest is the last one that can go.
        if self.droppable() < self.queue.len() {
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
