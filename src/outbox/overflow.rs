//! The bounds of an outbox, and the policy for a message that finds no room; `queue` applies it.

use serde::{Deserialize, Serialize};

use crate::SendError;

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
