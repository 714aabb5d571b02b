//! [`SessionEvent`]: what happens to a session of the resumable mode.

use std::time::Duration;

use super::SessionLoss;

/// An event of a session, in the [resumable mode](crate::Resume).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The peer does not speak the resumable mode: messages go as plain frames, and a link that breaks loses what was under
    /// way. Comes with each such link of a client, behind [`Connected`](crate::ClientEvent::Connected).
    Plain,
    /// A session has begun.
    Opened,
    /// The link of the session broke. The server keeps what is pushed until the client comes back. On servers alone: a
    /// client has [`Disconnected`](crate::ClientEvent::Disconnected).
    Parked,
    /// The session goes on, on another link.
    Resumed {
        /// How many messages of the peer do not come, because the peer has dropped them; 0 if what was received is complete.
        missed: u64,
        /// How many messages of this side are written once more, since they had not arrived.
        resent: u64,
        /// How long there was no link.
        away: Duration,
    },
    /// The peer has dropped messages of which nothing was written: they do not come. Emitted between the two messages that
    /// they would have come between.
    Gap {
        /// How many, since the previous event of this kind.
        missed: u64,
    },
    /// The session is over, and another one begins. On clients alone: on a server the subject of the connection ends with
    /// [`WsError::SessionLost`](crate::WsError::SessionLost).
    Lost {
        /// Why.
        why: SessionLoss,
        /// How many messages of the server do not come; `None` when nobody knows, since the server knows nothing of the
        /// session any more.
        missed: Option<u64>,
        /// How many messages of this side were written, and nobody knows whether they have arrived: 0 unless `missed` is
        /// `None`.
        unconfirmed: u64,
        /// How many messages of this side go on into the next session.
        kept: u64,
    },
}
