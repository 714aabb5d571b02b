//! Everything that happens beside the data, as values: events and states.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Addr, DatatypeError, DropReason, HttpResponse, SessionEvent, Tag, TaggedData, Tally, WsError,
    endpoint::trace,
    subject::{Merge, Merged},
};

/// The state of a client's connection.
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
    /// There will never be a connection again.
    Closed,
}

/// How many messages a component had not sent when it closed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseReport {
    /// How many messages were still queued when it closed, and never written. Messages that were dropped earlier are in the
    /// stats.
    pub unsent: u64,
    /// The bytes of their payloads.
    pub unsent_len: u64,
}

impl From<Tally> for CloseReport {
    fn from(unsent: Tally) -> Self {
        Self { unsent: unsent.messages, unsent_len: unsent.len }
    }
}

/// An event of a client, outside its data stream.
///
/// An event may stand for several of its kind that came while it waited for its subscribers. If it has a `count`, or a
/// [`Tally`], the sum over all events equals the stats. While more than 1,024 events wait, no further attempt is made.
///
/// A group emits these tagged with the path of the client that they happened to.
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
        /// Whether messages on it may be compressed.
        compressed: bool,
    },
    /// An attempt to connect failed.
    ConnectFailed {
        /// How many attempts failed before this one.
        attempt: u32,
        /// Why. [`WsError::Rejected`] has the headers and the beginning of the body of a server that refused it.
        error: WsError,
    },
    /// A connection ended. All messages that had arrived on it were emitted before, as far as the operating system still
    /// gave them.
    Disconnected {
        /// The close code; 1006 when there was no closing handshake (RFC 6455, section 7.1.5).
        code: u16,
        /// The close reason.
        reason: Arc<str>,
        /// What went wrong; `None` after a closing handshake.
        error: Option<WsError>,
        /// Messages written since the last ping that a pong answered: at most this many can have been lost. When this side
        /// closes, a ping precedes its close frame unless the heartbeat is off, so a peer that has read everything leaves none.
        unconfirmed: u64,
        /// How long it was open, from the end of its opening handshake.
        lasted: Duration,
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
        /// How many this event stands for. Later ones that come while it waits for its subscribers are added to it; it
        /// describes the first.
        count: u64,
    },
    /// A message given to `next` could not be encoded. It was not sent.
    Unencodable {
        /// Why.
        error: DatatypeError,
        /// How many this event stands for. Later ones that come while it waits for its subscribers are added to it; it
        /// describes the first.
        count: u64,
    },
    /// A message is given up because it made link after link end: twice in a row with a close code by which the server
    /// refuses a message (1003, 1007, 1008 or 1009), or because 8 links in a row, over 10 s or more, ended while they
    /// wrote it, or in the resumable mode before it had arrived. It is the oldest one that waited; a [`Dropped`](Self::Dropped) event counts it, or in the resumable mode
    /// [`SendStats::lost`](crate::SendStats::lost).
    Undeliverable {
        /// The bytes of its payload.
        len: usize,
        /// How many links have begun to write it.
        links: u32,
        /// How the last one of them ended.
        error: WsError,
    },
    /// Accepted messages will never be written. The first drops are told at once, those of the next 50 ms by one event for each
    /// reason.
    Dropped {
        /// Why.
        reason: DropReason,
        /// How many, since the previous event of this kind.
        dropped: Tally,
    },
    /// A group refused messages, since it has as many paths as [`max_paths`](crate::GroupBuilder::max_paths) allows. They
    /// were for the path that tags this event, and perhaps for others: refusals that come together share an event.
    PathRefused {
        /// How many, since the previous event of this kind.
        refused: Tally,
    },
    /// A group closes this client: nothing was sent, received or queued for its
    /// [`idle_timeout`](crate::GroupBuilder::idle_timeout).
    Idle,
    /// Received messages were lost, because nobody has subscribed yet and the buffer for that is full. Emitted once, when
    /// the loss begins; the stats have the sum.
    EarlyLost,
    /// A subscriber panicked and was removed.
    SubscriberPanicked,
    /// Something happened to the session of a [resumable](crate::Resume) client.
    Session(SessionEvent),
    /// The client cannot go on, and its subject errors with this: the retry policy is used up, the outbox was full under
    /// [`Overflow::Disconnect`](crate::Overflow), or the tokio runtime that it ran on was shut down.
    Failed {
        /// Why.
        error: WsError,
    },
    /// The client is closed; the last event.
    Closed(CloseReport),
}

/// The connection of a server that an event is about.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The connection's number, unique within its server.
    pub id: u64,
    /// The path that it asked for.
    pub path: Tag,
    /// Its address.
    pub addr: Addr,
}

/// The form that errors use.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.addr, self.path)
    }
}

/// An event of a server, outside its data stream.
///
/// An event may stand for several of its kind that came while it waited for its subscribers. If it has a `count`, or a
/// [`Tally`], the sum over all events equals the stats. While more than 1,024 events wait, no further connection is let in.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum ServerEvent {
    /// A connection is open.
    Connected {
        /// Which.
        peer: Peer,
        /// Whether messages on it may be compressed.
        compressed: bool,
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
        /// Messages written since the last ping that a pong answered: at most this many can have been lost. When this side
        /// closes, a ping precedes its close frame unless the heartbeat is off, so a peer that has read everything leaves none.
        unconfirmed: u64,
        /// How long it was open, from the end of its opening handshake.
        lasted: Duration,
    },
    /// A request was answered with an HTTP status instead of a connection, or not at all.
    Rejected {
        /// The address of the client.
        addr: Addr,
        /// The HTTP status of the answer, if there was one.
        status: Option<u16>,
        /// Why.
        reason: Arc<str>,
        /// How many this event stands for. Later ones that come while it waits for its subscribers are added to it; it
        /// describes the first.
        count: u64,
    },
    /// The operating system refused to accept a connection, for want of file descriptors for example. Accepting goes on
    /// after a pause.
    AcceptFailed {
        /// The error of the operating system.
        error: WsError,
        /// How many this event stands for. Later ones that come while it waits for its subscribers are added to it; it
        /// describes the first.
        count: u64,
    },
    /// A message arrived that the datatype cannot decode. It was skipped.
    Undecodable {
        /// The connection that sent it.
        peer: Peer,
        /// Why.
        error: DatatypeError,
        /// The bytes of its payload.
        len: usize,
        /// How many this event stands for. Later ones that come while it waits for its subscribers are added to it; it
        /// describes the first.
        count: u64,
    },
    /// A message given to `next` could not be encoded. It was not sent.
    Unencodable {
        /// The path it was for.
        path: Tag,
        /// Why.
        error: DatatypeError,
        /// How many this event stands for. Later ones that come while it waits for its subscribers are added to it; it
        /// describes the first.
        count: u64,
    },
    /// Messages accepted for a connection will never be written. The first drops of a connection are told at once, those of the
    /// next 50 ms by one event for each reason.
    Dropped {
        /// Which connection.
        peer: Peer,
        /// Why.
        reason: DropReason,
        /// How many, since the previous event of this kind.
        dropped: Tally,
    },
    /// Received messages were lost, because nobody has subscribed yet and the buffer for that is full. Emitted once, when
    /// the loss begins; the stats have the sum.
    EarlyLost,
    /// A subscriber panicked and was removed.
    SubscriberPanicked,
    /// Something happened to the session of a [resumable](crate::Resume) client.
    Session {
        /// Its connection.
        peer: Peer,
        /// What.
        event: SessionEvent,
    },
    /// The server cannot go on, and its subject errors with this.
    Failed {
        /// Why.
        error: WsError,
    },
    /// The server is closed; the last event.
    Closed(CloseReport),
}

/// The events that every endpoint has.
pub(crate) trait EndpointEvent: Clone + Merge + Send + Sync + 'static {
    fn subscriber_panicked() -> Self;

    fn failed(error: WsError) -> Self;

    /// Makes a `tracing` event of it, of the endpoint with this name.
    fn trace(&self, name: &str);
}

/// The events of endpoints that keep messages for their first subscriber.
pub(crate) trait EarlyEvent: EndpointEvent {
    fn early_lost() -> Self;
}

impl EarlyEvent for ClientEvent {
    fn early_lost() -> Self {
        Self::EarlyLost
    }
}

impl EarlyEvent for ServerEvent {
    fn early_lost() -> Self {
        Self::EarlyLost
    }
}

/// Of a group as a whole, so without a path.
impl EarlyEvent for TaggedData<ClientEvent> {
    fn early_lost() -> Self {
        Self::new("", ClientEvent::EarlyLost)
    }
}

impl EndpointEvent for ClientEvent {
    fn subscriber_panicked() -> Self {
        Self::SubscriberPanicked
    }

    fn failed(error: WsError) -> Self {
        Self::Failed { error }
    }

    fn trace(&self, name: &str) {
        trace::client_event(name, None, self);
    }
}

impl EndpointEvent for ServerEvent {
    fn subscriber_panicked() -> Self {
        Self::SubscriberPanicked
    }

    fn failed(error: WsError) -> Self {
        Self::Failed { error }
    }

    fn trace(&self, name: &str) {
        trace::server_event(name, self);
    }
}

/// Of a group as a whole, so without a path.
impl EndpointEvent for TaggedData<ClientEvent> {
    fn subscriber_panicked() -> Self {
        Self::new("", ClientEvent::SubscriberPanicked)
    }

    fn failed(error: WsError) -> Self {
        Self::new("", ClientEvent::failed(error))
    }

    fn trace(&self, name: &str) {
        trace::client_event(name, Some(&*self.tag).filter(|path| !path.is_empty()), &self.data);
    }
}

/// This bounds the events that wait for their subscribers: of each kind, from each source, at most one waits.
impl Merge for ClientEvent {
    fn merge(&mut self, later: &Self) -> Merged {
        match (self, later) {
            (Self::Undecodable { count, .. }, Self::Undecodable { count: more, .. })
            | (Self::Unencodable { count, .. }, Self::Unencodable { count: more, .. }) => *count += more,
            (Self::Dropped { reason, dropped }, Self::Dropped { reason: other, dropped: more }) if reason == other => {
                *dropped += *more;
            }
            (Self::Session(SessionEvent::Gap { missed }), Self::Session(SessionEvent::Gap { missed: more })) => {
                *missed += more;
            }
            // Undecodable frames of one connection must not be reported as those of another.
            (Self::Connected { .. } | Self::Disconnected { .. }, Self::Undecodable { .. }) => return Merged::Never,
            _ => return Merged::NotHere,
        }
        Merged::Done
    }
}

impl Merge for ServerEvent {
    fn merge(&mut self, later: &Self) -> Merged {
        match (self, later) {
            (Self::Rejected { count, .. }, Self::Rejected { count: more, .. })
            | (Self::AcceptFailed { count, .. }, Self::AcceptFailed { count: more, .. })
            | (Self::Unencodable { count, .. }, Self::Unencodable { count: more, .. }) => *count += more,
            (Self::Undecodable { peer, count, .. }, Self::Undecodable { peer: other, count: more, .. })
                if peer.id == other.id =>
            {
                *count += more;
            }
            (Self::Dropped { peer, reason, dropped }, Self::Dropped { peer: other, reason: why, dropped: more })
                if peer.id == other.id && reason == why =>
            {
                *dropped += *more;
            }
            (
                Self::Session { peer, event: SessionEvent::Gap { missed } },
                Self::Session { peer: other, event: SessionEvent::Gap { missed: more } },
            ) if peer.id == other.id => *missed += more,
            _ => return Merged::NotHere,
        }
        Merged::Done
    }
}

/// A group emits the events of its clients, and its own about messages for paths that may have no client.
impl Merge for TaggedData<ClientEvent> {
    fn merge(&mut self, later: &Self) -> Merged {
        match (&mut self.data, &later.data) {
            (ClientEvent::PathRefused { refused }, ClientEvent::PathRefused { refused: more }) => *refused += *more,
            (event @ ClientEvent::Unencodable { .. }, later) => return event.merge(later),
            (event, event_later) if self.tag == later.tag => return event.merge(event_later),
            _ => return Merged::NotHere,
        }
        Merged::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undecodable() -> ClientEvent {
        ClientEvent::Undecodable { error: DatatypeError::new("no number"), len: 1, count: 1 }
    }

    fn peer(id: u64) -> Peer {
        Peer { id, path: "/".into(), addr: Addr::Tcp(([127, 0, 0, 1], 80).into()) }
    }

    fn of_peer(id: u64) -> ServerEvent {
        ServerEvent::Undecodable { peer: peer(id), error: DatatypeError::new("no number"), len: 1, count: 1 }
    }

    #[test]
    fn event_stands_for_those_of_its_kind_and_source_alone() {
        let mut first = of_peer(1);
        assert_eq!([first.merge(&of_peer(2)), first.merge(&of_peer(1))], [Merged::NotHere, Merged::Done]);
        let mut unencodable = ClientEvent::Unencodable { error: DatatypeError::new("no text"), count: 1 };
        assert_eq!(unencodable.merge(&undecodable()), Merged::NotHere);
        let ServerEvent::Undecodable { count: 2, .. } = first else { panic!("{first:?}") };
    }

    #[test]
    fn what_a_connection_sent_is_not_told_as_that_of_the_one_before() {
        let mut ended = ClientEvent::Disconnected {
            code: 1006,
            reason: "".into(),
            error: None,
            unconfirmed: 0,
            lasted: Duration::ZERO,
        };
        assert_eq!(ended.merge(&undecodable()), Merged::Never);
    }

    #[test]
    fn drops_add_up_by_connection_and_reason() {
        let dropped = |id, reason| {
            let dropped = Tally { messages: 2, len: 10 };
            ServerEvent::Dropped { peer: peer(id), reason, dropped }
        };
        let mut first = dropped(1, DropReason::Overflow);
        for other in [dropped(1, DropReason::Closed), dropped(2, DropReason::Overflow)] {
            assert_eq!(first.merge(&other), Merged::NotHere);
        }
        assert_eq!(first.merge(&dropped(1, DropReason::Overflow)), Merged::Done);
        let ServerEvent::Dropped { dropped: Tally { messages: 4, len: 20 }, .. } = first else { panic!("{first:?}") };
    }

    #[test]
    fn group_tells_of_clients_apart_but_for_what_the_program_pushed() {
        let tagged = |tag: &str, event| TaggedData::new(tag, event);
        let unencodable = || ClientEvent::Unencodable { error: DatatypeError::new("no text"), count: 1 };
        let mut first = tagged("/a", undecodable());
        assert_eq!(first.merge(&tagged("/b", undecodable())), Merged::NotHere);
        assert_eq!(first.merge(&tagged("/a", undecodable())), Merged::Done);
        assert_eq!(tagged("/a", unencodable()).merge(&tagged("/b", unencodable())), Merged::Done);
    }
}
