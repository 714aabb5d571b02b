//! Why a session is over.

use std::fmt;

/// Why a session ended otherwise than by the program's own closing.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionLoss {
    /// The server does not know the session: it was restarted, it is another one behind the same address, or the session
    /// ended too long ago. A client with another path, origin or owner hears the same.
    Unknown,
    /// The client stayed away for longer than the server waits.
    Expired,
    /// The server's outbox for this client was full, and its policy was to disconnect.
    Overflow,
    /// Too many clients were away, or too much waited for them: the one that had been away for longest was given up.
    Evicted,
    /// The connection was closed: by the server's program, or by a closing handshake of somebody on the way.
    Ended,
    /// Eight links in a row broke, and nothing that the server sent arrived on any of them.
    Stuck,
    /// Another client has the session, with a copy of its token (close code 4900).
    TakenOver,
}

impl SessionLoss {
    /// The word for it in `lost`. `TakenOver` has none of its own, since a close code says it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unknown | Self::TakenOver => "unknown",
            Self::Expired => "expired",
            Self::Overflow => "overflow",
            Self::Evicted => "evicted",
            Self::Ended => "ended",
            Self::Stuck => "stuck",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Unknown, Self::Expired, Self::Overflow, Self::Evicted, Self::Ended, Self::Stuck];
        all.into_iter().find(|why| why.word() == word)
    }
}

impl fmt::Display for SessionLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "the server does not know the session",
            Self::Expired => "the client was away for too long",
            Self::Overflow => "the server's outbox was full",
            Self::Evicted => "too many clients were away",
            Self::Ended => "the connection was closed",
            Self::Stuck => "link after link broke before anything arrived",
            Self::TakenOver => "another client has the session",
        })
    }
}
