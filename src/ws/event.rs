//! What happens beside the data, as values: events and states.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use crate::{DatatypeError, DropReason, HttpResponse, Tag, Tally, WsError};

/// What a client's connection is doing.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// There is no connection.
    Disconnected,
    /// An attempt is under way.
    Connecting,
    /// The opening handshake is over: messages flow.
    Connected,
    /// Waiting before the next attempt.
    Reconnecting {
        /// How many attempts have failed in a row.
        attempt: u32,
        /// How long the wait is.
        delay: Duration,
    },
    /// There will be no connection any more.
    Closed,
}

/// What became of the messages of a component that has closed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseReport {
    /// How many queued messages were never written.
    pub unsent: u64,
    /// The bytes of their payloads.
    pub unsent_len: u64,
}

impl From<Tally> for CloseReport {
    fn from(unsent: Tally) -> Self {
        Self { unsent: unsent.messages, unsent_len: unsent.len }
    }
}

/// What happened to a client outside of its data stream.
///
/// A group emits these tagged with the path of the child they happened to.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// A connection is open.
    Connected {
        /// How many attempts failed before this one.
        attempt: u32,
        /// The subprotocol that the server chose.
        subprotocol: Option<String>,
        /// The answer that opened it, with its headers.
        response: HttpResponse,
    },
    /// An attempt to connect failed.
    ConnectFailed {
        /// How many attempts failed before this one.
        attempt: u32,
        /// Why. [`WsError::Rejected`] has the headers and the beginning of the body of a server that refused it.
        error: WsError,
    },
    /// A connection ended, and all that had arrived on it was emitted, as far as the operating system still gave it.
    Disconnected {
        /// The close code; 1006 when there was no closing handshake (RFC 6455, section 7.1.5).
        code: u16,
        /// The close reason.
        reason: Arc<str>,
        /// What went wrong; `None` after a closing handshake.
        error: Option<WsError>,
        /// Messages written since the last ping that a pong answered: the most that can have been lost.
        unconfirmed: u64,
    },
    /// The next attempt will be made after a wait.
    Reconnecting {
        /// How many attempts have failed in a row.
        attempt: u32,
        /// How long the wait is.
        delay: Duration,
    },
    /// A message arrived that the datatype cannot decode. It was skipped.
    Undecodable {
        /// Why.
        error: DatatypeError,
        /// The bytes of its payload.
        len: usize,
    },
    /// A message given to `next` could not be encoded. It was not sent.
    Unencodable {
        /// Why.
        error: DatatypeError,
    },
    /// A message is given up because it made link after link end: twice in a row with a close code by which the server refuses
    /// a message (1003, 1007, 1008 or 1009), or none of 8 links that began to write it came to its end. It is the oldest one that
    /// waited; a [`Dropped`](Self::Dropped) event counts it.
    Undeliverable {
        /// The bytes of its payload.
        len: usize,
        /// How many links have begun to write it.
        links: u32,
        /// How the last one of them ended.
        error: WsError,
    },
    /// Accepted messages will never be written.
    Dropped {
        /// Why.
        reason: DropReason,
        /// How many, since the event of this kind before.
        dropped: Tally,
    },
    /// A group refused messages, since it has as many paths as [`max_paths`](crate::GroupBuilder::max_paths) allows. They
    /// were for the path that this is tagged with, and for others perhaps: those that come together share an event.
    PathRefused {
        /// How many, since the event of this kind before.
        refused: Tally,
    },
    /// A group closes this client: nothing was sent, received or queued for its
    /// [`idle_timeout`](crate::GroupBuilder::idle_timeout).
    Idle,
    /// Received messages were lost, because nobody has subscribed yet and the buffer for that is full. Emitted once, when
    /// it begins; the stats have the sum.
    EarlyLost,
    /// A subscriber panicked and was removed.
    SubscriberPanicked,
    /// The client cannot go on, and its subject errors with this: the retry policy is used up, the outbox was full under
    /// [`Overflow::Disconnect`](crate::Overflow), or the tokio runtime that it ran on was shut down.
    Failed {
        /// Why.
        error: WsError,
    },
    /// The client is closed; the last event.
    Closed(CloseReport),
}

/// Which connection of a server an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The connection's number, unique within its server.
    pub id: u64,
    /// The path it asked for.
    pub path: Tag,
    /// Where it comes from.
    pub addr: SocketAddr,
}

/// As errors name it.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.addr, self.path)
    }
}

/// What happened to a server outside of its data stream.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum ServerEvent {
    /// A connection is open.
    Connected {
        /// Which.
        peer: Peer,
    },
    /// A connection ended.
    Disconnected {
        /// Which.
        peer: Peer,
        /// The close code; 1006 when there was no closing handshake (RFC 6455, section 7.1.5).
        code: u16,
        /// The close reason.
        reason: Arc<str>,
        /// What went wrong; `None` after a closing handshake.
        error: Option<WsError>,
        /// Messages written since the last ping that a pong answered: the most that can have been lost.
        unconfirmed: u64,
    },
    /// A request was answered with an HTTP status instead of a connection, or not at all.
    Rejected {
        /// Where it came from.
        addr: SocketAddr,
        /// The HTTP status of the answer, if there was one.
        status: Option<u16>,
        /// Why.
        reason: Arc<str>,
    },
    /// The operating system refused to accept a connection, for want of file descriptors, say. Accepting goes on after a
    /// pause.
    AcceptFailed {
        /// What it said.
        error: WsError,
    },
    /// A message arrived that the datatype cannot decode. It was skipped.
    Undecodable {
        /// From whom.
        peer: Peer,
        /// Why.
        error: DatatypeError,
        /// The bytes of its payload.
        len: usize,
    },
    /// A message given to `next` could not be encoded. It was not sent.
    Unencodable {
        /// The path it was for.
        path: Tag,
        /// Why.
        error: DatatypeError,
    },
    /// Messages accepted for a connection will never be written.
    Dropped {
        /// Which connection.
        peer: Peer,
        /// Why.
        reason: DropReason,
        /// How many, since the event of this kind before.
        dropped: Tally,
    },
    /// Received messages were lost, because nobody has subscribed yet and the buffer for that is full. Emitted once, when
    /// it begins; the stats have the sum.
    EarlyLost,
    /// A subscriber panicked and was removed.
    SubscriberPanicked,
    /// The server cannot go on, and its subject errors with this.
    Failed {
        /// Why.
        error: WsError,
    },
    /// The server is closed; the last event.
    Closed(CloseReport),
}
