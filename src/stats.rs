//! Counts: how many messages, of how many bytes, went which way.

use std::{
    ops::{AddAssign, SubAssign},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::Frame;

/// A number of messages and the bytes of their payloads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many messages.
    pub messages: u64,
    /// The bytes of their payloads.
    pub len: u64,
}

impl Tally {
    pub(crate) fn of(frame: &Frame) -> Self {
        Self { messages: 1, len: frame.len() as u64 }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.len += other.len;
    }
}

impl SubAssign for Tally {
    fn sub_assign(&mut self, other: Self) {
        self.messages -= other.messages;
        self.len -= other.len;
    }
}

/// A tally that any thread adds to.
#[derive(Debug, Default)]
pub(crate) struct AtomicTally {
    messages: AtomicU64,
    len: AtomicU64,
}

impl AtomicTally {
    /// Adds a message of `len` bytes.
    pub(crate) fn add(&self, len: usize) {
        self.messages.fetch_add(1, Relaxed);
        self.len.fetch_add(len as u64, Relaxed);
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally { messages: self.messages.load(Relaxed), len: self.len.load(Relaxed) }
    }
}

/// Why an accepted message was never written.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The outbox was full.
    Overflow,
    /// It waited when the connection, or the component, ended.
    Closed,
    /// `clear_outbox()` was called.
    Cleared,
    /// It was a greeting of a link that broke before it was written, or told the server of a [topic](crate::RxWsClient::multiplex); the next link
    /// has its own.
    Greeting,
    /// It made link after link end, and was never written whole: twice in a row with a close code that says so (1003, 1007,
    /// 1008 or 1009), or on 8 links in a row over 10 s or more.
    Undeliverable,
    /// A newer message with the same key took its place, in an outbox that [conflates](crate::ClientBuilder::conflate).
    Replaced,
    /// It was written, and nobody can know whether it has arrived: its link ended before a pong, or in the resumable mode its
    /// session was lost. Of single messages alone, as a [`DeliveryStatus`](crate::DeliveryStatus); [`SendStats::lost`] counts it.
    Unconfirmed,
    /// It has not arrived, in the resumable mode: the server refused it with a close code that says so (1003, 1007, 1008 or
    /// 1009), or 8 links in a row, over 10 s or more, ended at it. Of single messages alone; [`SendStats::lost`] counts it.
    Refused,
}

/// How many messages were dropped, by reason.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// See [`DropReason::Overflow`].
    pub overflow: Tally,
    /// See [`DropReason::Closed`].
    pub closed: Tally,
    /// See [`DropReason::Cleared`].
    pub cleared: Tally,
    /// See [`DropReason::Greeting`].
    pub greeting: Tally,
    /// See [`DropReason::Undeliverable`].
    pub undeliverable: Tally,
    /// See [`DropReason::Replaced`]. No event tells it.
    pub replaced: Tally,
}

impl Dropped {
    pub(crate) fn add(&mut self, reason: DropReason, tally: Tally) {
        let count = match reason {
            DropReason::Overflow => &mut self.overflow,
            DropReason::Closed => &mut self.closed,
            DropReason::Cleared => &mut self.cleared,
            DropReason::Greeting => &mut self.greeting,
            DropReason::Undeliverable => &mut self.undeliverable,
            DropReason::Replaced => &mut self.replaced,
            // They were written.
            DropReason::Unconfirmed | DropReason::Refused => return,
        };
        *count += tally;
    }

    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut total = self.overflow;
        for tally in [self.closed, self.cleared, self.greeting, self.undeliverable, self.replaced] {
            total += tally;
        }
        total
    }
}

/// The fate of the messages given to an outbox. At any moment `accepted` is `written + queued + dropped`, and the messages
/// of `written` are `acknowledged + retained + lost`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendStats {
    /// Messages offered to the outbox while it was open, greetings included.
    pub accepted: Tally,
    /// Messages that the operating system has taken to the last byte.
    pub written: Tally,
    /// Messages that wait, or are on the way to the operating system.
    pub queued: Tally,
    /// Messages that will never be written.
    pub dropped: Dropped,
    /// How many written messages have arrived. In the [resumable mode](crate::Resume) the peer has handed them to its
    /// subscribers; otherwise a pong that answers a later ping shows that its WebSocket has them. A closing handshake that this side begins has one.
    pub acknowledged: u64,
    /// How many written messages may still be acknowledged. In the resumable mode they are kept, and written again if the link
    /// breaks.
    pub retained: u64,
    /// How many written messages will not be acknowledged any more: their link, or in the resumable mode their session, ended
    /// before, and nobody knows whether they have arrived. The few that are [`Refused`](DropReason::Refused) count here too.
    pub lost: u64,
    /// How often a message was written once more, in the resumable mode; `written` counts it once.
    pub resent: u64,
    /// What was written in compressed form, counted each time: the messages, and the bytes of their payloads.
    pub compressed: Tally,
    /// The bytes that those payloads were compressed to.
    pub compressed_to: u64,
}

impl AddAssign for SendStats {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.written += other.written;
        self.queued += other.queued;
        self.dropped.overflow += other.dropped.overflow;
        self.dropped.closed += other.dropped.closed;
        self.dropped.cleared += other.dropped.cleared;
        self.dropped.greeting += other.dropped.greeting;
        self.dropped.undeliverable += other.dropped.undeliverable;
        self.dropped.replaced += other.dropped.replaced;
        self.acknowledged += other.acknowledged;
        self.retained += other.retained;
        self.lost += other.lost;
        self.resent += other.resent;
        self.compressed += other.compressed;
        self.compressed_to += other.compressed_to;
    }
}

/// How many requests a server has refused, by the HTTP status of its answer.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    /// Without an answer: the handshake broke, took too long or came while the server was closing.
    pub unanswered: u64,
    /// With 400: no handshake, or none that RFC 6455 allows.
    pub bad_request: u64,
    /// With 401, by `authorize`.
    pub unauthorized: u64,
    /// With 403: by its origin, or by `authorize`.
    pub forbidden: u64,
    /// With 404: by its path, or by `authorize`.
    pub not_found: u64,
    /// With 426: a plain HTTP request, or another version of WebSocket.
    pub upgrade_required: u64,
    /// With 429, by `authorize`.
    pub too_many_requests: u64,
    /// With 503: for want of room, or of a bus.
    pub unavailable: u64,
    /// With any other status, such as the 200 of a health check.
    pub other: u64,
}

impl Rejections {
    /// Counts a request that was answered with `status`.
    pub(crate) fn add(&mut self, status: Option<u16>) {
        let count = match status {
            None => &mut self.unanswered,
            Some(400) => &mut self.bad_request,
            Some(401) => &mut self.unauthorized,
            Some(403) => &mut self.forbidden,
            Some(404) => &mut self.not_found,
            Some(426) => &mut self.upgrade_required,
            Some(429) => &mut self.too_many_requests,
            Some(503) => &mut self.unavailable,
            Some(_) => &mut self.other,
        };
        *count += 1;
    }

    /// The sum over all of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let answered = self.bad_request + self.unauthorized + self.forbidden + self.not_found + self.upgrade_required;
        self.unanswered + answered + self.too_many_requests + self.unavailable + self.other
    }
}

/// The counts of a server so far, over all its connections, including those that are gone.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// How many connections are open.
    pub connections: usize,
    /// How many of them have no link: their clients may come back, in the [resumable mode](crate::Resume).
    pub parked: usize,
    /// How many connections there have been.
    pub accepted: u64,
    /// Requests that did not become connections; as many as the [`Rejected`](crate::ServerEvent::Rejected) events count.
    pub rejected: Rejections,
    /// Messages given to `next` and `send` that could be encoded; each counts once, however many connections it went to.
    pub pushed: u64,
    /// Messages among those whose path had no connection, or only connections that were ending.
    pub unrouted: u64,
    /// Messages that could not be encoded.
    pub unencodable: u64,
    /// The fate of the copies for each connection.
    pub sent: SendStats,
    /// Messages that arrived and could be decoded.
    pub received: Tally,
    /// Messages that arrived and could not be decoded.
    pub undecodable: u64,
    /// Received messages lost because nobody had subscribed to the server yet.
    pub early_lost: Tally,
}

/// How many messages a client, a group's child or a connection has sent and received so far.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The fate of the pushed messages.
    pub sent: SendStats,
    /// Messages that could not be encoded, and so were not accepted.
    pub unencodable: u64,
    /// Messages that arrived and could be decoded.
    pub received: Tally,
    /// Messages that arrived and could not be decoded.
    pub undecodable: u64,
    /// Received messages lost because nobody had subscribed yet.
    pub early_lost: Tally,
    /// How often the link was made again after the first time; always 0 for an accepted connection.
    pub reconnects: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.unencodable += other.unencodable;
        self.received += other.received;
        self.undecodable += other.undecodable;
        self.early_lost += other.early_lost;
        self.reconnects += other.reconnects;
    }
}

/// How many messages were sent and received over the connections that are open on one path of a server.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathStats {
    /// How many connections are open.
    pub connections: usize,
    /// The sums over them. A connection that is gone is counted in the [`ServerStats`] only.
    pub all: Stats,
}

/// The counts of a group so far.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// How many paths have a client.
    pub clients: usize,
    /// Messages refused because they were for one path more than [`max_paths`](crate::GroupBuilder::max_paths) allows.
    pub refused: Tally,
    /// The sums over all its clients, including those that are gone.
    pub all: Stats,
}
