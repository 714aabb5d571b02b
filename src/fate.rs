//! The fate of single messages: what an outbox tells of a message that is tracked.

use std::sync::Arc;

use crate::DropReason;

/// How far a message has come.
///
/// It is queued, then written, and then exactly one of the two ends; a message that is dropped may never be written.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// It waits in the outbox.
    Queued,
    /// The operating system has taken its last byte.
    Written,
    /// It has arrived. In the [resumable mode](crate::Resume) the peer has handed it to its subscribers, or to what it keeps for the
    /// first of them; otherwise a pong that answers a ping behind it shows that the peer's WebSocket has it.
    Acknowledged,
    /// It was given up. [`DropReason::Unconfirmed`] alone leaves open whether it has arrived.
    Dropped(DropReason),
}

/// The end of a message.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivered {
    /// See [`DeliveryStatus::Acknowledged`].
    Acknowledged,
    /// See [`DeliveryStatus::Dropped`].
    Dropped(DropReason),
}

impl DeliveryStatus {
    /// The end that this is, if it is one.
    pub(crate) fn end(self) -> Option<Delivered> {
        match self {
            Self::Queued | Self::Written => None,
            Self::Acknowledged => Some(Delivered::Acknowledged),
            Self::Dropped(reason) => Some(Delivered::Dropped(reason)),
        }
    }
}

/// Hears of one copy of a tracked message. An outbox calls it outside all locks, on any thread; calls for one copy may
/// overtake each other.
pub(crate) trait Fate: Send + Sync {
    /// A copy has a place in an outbox. Called under the lock of that, and calls nobody.
    fn queued(&self);

    /// The copy is written. Called under the lock of the outbox, and calls nobody; [`moved`](Self::moved) says so later.
    fn written(&self) {}

    /// Whether a pong is to tell that the copy has arrived, on a plain link. Otherwise nothing is told of it there after it was written.
    fn needs_pong(&self) -> bool {
        true
    }

    fn moved(&self, from: DeliveryStatus, to: DeliveryStatus);
}

/// A step of a tracked message, to be told once all locks are released.
pub(crate) struct Step {
    pub(crate) fate: Arc<dyn Fate>,
    pub(crate) from: DeliveryStatus,
    pub(crate) to: DeliveryStatus,
}

impl Step {
    pub(crate) fn tell(self) {
        self.fate.moved(self.from, self.to);
    }
}
