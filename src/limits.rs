//! [`Limits`]: the bounds on the time and memory that peers take.

use std::time::Duration;

/// How much time and memory a peer may take from an endpoint.
///
/// The other connections never notice when one exceeds its limits.
///
/// | name | on a server | on a client | exceeding it |
/// |---|--:|--:|---|
/// | [`handshake`](Self::handshake) | 10 s | | drops the peer, whether it is in the TLS or the HTTP part |
/// | [`handshakes`](Self::handshakes) | 4,000 | | drops the one that has waited longest; if none has waited for 0.5 s, answers 503 at once |
/// | [`header_len`](Self::header_len) | 16 KiB | 16 KiB | is answered with 431; on a client [`WsError::Handshake`] |
/// | [`headers`](Self::headers) | 100 | 100 | the same |
/// | [`message_len`](Self::message_len) | 1 MiB | 16 MiB | closes the connection with 1009, [`WsError::Protocol`] |
/// | [`frame_len`](Self::frame_len) | as a message | as a message | the same |
/// | [`undecodable`](Self::undecodable) | 1,000 in a row | | closes the connection with 1007, [`WsError::Protocol`] |
/// | [`write_stalled`](Self::write_stalled) | 30 s | 30 s | drops the connection, [`WsError::WriteStalled`] |
/// | [`write_buffer_len`](Self::write_buffer_len) | 2 MiB | 2 MiB | pauses reading from the peer until it takes the waiting bytes |
/// | [`close_timeout`](Self::close_timeout) | 5 s | 5 s | drops the connection; the queued messages are counted as dropped |
/// | [`connections`](Self::connections) | 10,000 | | takes the place of a handshake silent for 0.5 s; if there is none, is answered with 503 |
/// | [`connections_per_address`](Self::connections_per_address) | no limit | | is answered with 503 |
/// | [`connections_per_path`](Self::connections_per_path) | no limit | | is answered with 503 |
/// | [`rooms`](Self::rooms) | 128 | | is refused with [`WsError::TooManyRooms`] |
/// | [`sessions`](Self::sessions) | 10,000 without a link | | ends the session that has been without a link for longest |
/// | [`parked_len`](Self::parked_len) | 256 MiB | | the same |
///
/// How long a client waits for its server is the builder's `connect_timeout`; `outbox` bounds the messages that wait to be
/// sent.
///
/// [`WsError::Handshake`]: crate::WsError::Handshake
/// [`WsError::Protocol`]: crate::WsError::Protocol
/// [`WsError::TooManyRooms`]: crate::WsError::TooManyRooms
/// [`WsError::WriteStalled`]: crate::WsError::WriteStalled
///
/// ```
/// use std::time::Duration;
/// use rxplus::Limits;
///
/// let limits = Limits::server().message_len(64 * 1024).handshake(Duration::from_secs(3)).connections(500);
/// assert_ne!(limits, Limits::server());
/// ```
#[must_use]
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub(crate) handshake: Duration,
    pub(crate) handshakes: usize,
    pub(crate) message_len: usize,
    /// `None` for `message_len`.
    pub(crate) frame_len: Option<usize>,
    pub(crate) undecodable: Option<usize>,
    pub(crate) write_stalled: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) write_buffer_len: usize,
    pub(crate) header_len: usize,
    pub(crate) headers: usize,
    pub(crate) connections: Option<usize>,
    pub(crate) connections_per_address: Option<usize>,
    pub(crate) connections_per_path: Option<usize>,
    pub(crate) rooms: usize,
    pub(crate) sessions: usize,
    pub(crate) parked_len: u64,
}

/// The smallest request head that hyper can be limited to.
const MIN_HEADER_LEN: usize = 8 * 1024;

/// The headers of every request: Host, Upgrade, Connection, Sec-WebSocket-Key and Sec-WebSocket-Version (RFC 6455, section
/// 4.1).
const MIN_HEADERS: usize = 5;

/// Well below the 24,576 headers at which a `HeaderMap` panics.
const MAX_HEADERS: usize = 1000;

impl Limits {
    /// The defaults of a server: messages of at most 1 MiB and at most 10,000 connections.
    pub fn server() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            handshakes: 4000,
            message_len: 1024 * 1024,
            frame_len: None,
            undecodable: Some(1000),
            write_stalled: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            write_buffer_len: 2 * 1024 * 1024,
            header_len: 16 * 1024,
            headers: 100,
            connections: Some(10_000),
            connections_per_address: None,
            connections_per_path: None,
            rooms: 128,
            sessions: 10_000,
            parked_len: 256 * 1024 * 1024,
        }
    }

    /// The defaults of a client or a group: messages of at most 16 MiB, since a client has chosen its server.
    pub fn client() -> Self {
        Self { message_len: 16 * 1024 * 1024, undecodable: None, connections: None, ..Self::server() }
    }

    /// Sets how long a server waits for an opening handshake, from the accepted connection to its answer. The default
    /// is 10 s.
    ///
    /// A peer that takes longer is disconnected, so that silent peers cannot hold connections. A client has
    /// `connect_timeout` instead.
    ///
    /// # Panics
    ///
    /// If `time` is zero, in which no handshake can succeed.
    pub fn handshake(mut self, time: Duration) -> Self {
        assert!(!time.is_zero(), "the handshake limit must be longer than zero");
        self.handshake = time;
        self
    }

    /// Sets how many peers may be in their opening handshake at once: peers that have not sent their whole request yet, or
    /// that are being told why it is refused. The default is 4,000.
    ///
    /// A further peer takes the place of the one that has waited longest, which is disconnected, so that silent peers cannot
    /// keep others out. While none has waited for 0.5 s, as in a rush of clients that reconnect, the new one is answered
    /// with HTTP status 503 instead, at once (with TLS: disconnected). A server has no more sockets than this and
    /// [`connections`](Self::connections) together. It has no effect on a client.
    ///
    /// # Panics
    ///
    /// If `count` is zero: such a server would serve nobody.
    pub fn handshakes(mut self, count: usize) -> Self {
        assert!(count > 0, "handshakes must be at least 1");
        self.handshakes = count;
        self
    }

    /// Sets the longest message, in bytes, that is received. The default is 1 MiB on a server, 16 MiB on a client.
    ///
    /// The limit holds for a whole message, whatever the number of its frames. A longer message closes the connection with
    /// code 1009 (RFC 6455, section 7.4.1) as soon as a frame announces it, before memory is reserved. Of a compressed message
    /// it is the length that it is inflated to, counted meanwhile; its compressed form may be longer by an eighth and 64 bytes.
    ///
    /// # Panics
    ///
    /// If `len` is zero.
    pub fn message_len(mut self, len: usize) -> Self {
        assert!(len > 0, "message_len must be at least one byte");
        self.message_len = len;
        self
    }

    /// Sets the longest frame, in bytes of payload, that is received. The default is the limit of a message; a larger value
    /// has no effect.
    ///
    /// A longer frame closes the connection with code 1009, as soon as its header has arrived. The frames of a compressed message
    /// may be longer by an eighth and 64 bytes.
    ///
    /// # Panics
    ///
    /// If `len` is zero.
    pub fn frame_len(mut self, len: usize) -> Self {
        assert!(len > 0, "frame_len must be at least one byte");
        self.frame_len = Some(len);
        self
    }

    /// Sets how many undecodable messages in a row a server takes from a client. The default is 1,000; `None` is no limit.
    ///
    /// The last of them closes the connection with code 1007 (RFC 6455, section 7.4.1). Until then each is skipped, counted,
    /// and reported as `Undecodable`. It has no effect on a client, which has chosen its server.
    ///
    /// # Panics
    ///
    /// If `count` is zero.
    pub fn undecodable(mut self, count: impl Into<Option<usize>>) -> Self {
        self.undecodable = count.into();
        assert!(self.undecodable != Some(0), "undecodable must be at least 1, or None for no limit");
        self
    }

    /// Sets how long a peer may take none of the bytes that are written to it. The default is 30 s.
    ///
    /// Then the connection is dropped, with [`WsError::WriteStalled`](crate::WsError::WriteStalled).
    ///
    /// # Panics
    ///
    /// If `time` is zero, which would drop every connection at its first wait.
    pub fn write_stalled(mut self, time: Duration) -> Self {
        assert!(!time.is_zero(), "write_stalled must be longer than zero");
        self.write_stalled = time;
        self
    }

    /// Sets how long closing may take: flushing the outbox, and the closing handshake. The default is 5 s.
    ///
    /// Then the socket is closed all the same, and the messages left in the outbox are counted as dropped. If callbacks were
    /// too slow for the messages that had arrived by then, they have up to 1 s more.
    ///
    /// # Panics
    ///
    /// If `time` is zero, which would lose all queued messages.
    pub fn close_timeout(mut self, time: Duration) -> Self {
        assert!(!time.is_zero(), "close_timeout must be longer than zero");
        self.close_timeout = time;
        self
    }

    /// Sets how many bytes of answers to its pings may wait for a peer to take them. The default is 2 MiB.
    ///
    /// While more wait, nothing is read from the peer: a peer that sends pings and does not take the pongs cannot make them
    /// pile up. Messages wait in the outbox, which has its own bound; 128 KiB of them are made ready for the operating
    /// system at a time, and the rest of the last one.
    ///
    /// # Panics
    ///
    /// If `len` is zero.
    pub fn write_buffer_len(mut self, len: usize) -> Self {
        assert!(len > 0, "write_buffer_len must be at least one byte");
        self.write_buffer_len = len;
        self
    }

    /// Sets the longest head, in bytes, of the HTTP request or answer that opens a connection. The default is 16 KiB.
    ///
    /// A server answers a longer one with HTTP status 431; a client reports
    /// [`WsError::Handshake`](crate::WsError::Handshake).
    ///
    /// # Panics
    ///
    /// If `len` is below 8 KiB, which large cookies and tokens fill.
    pub fn header_len(mut self, len: usize) -> Self {
        assert!(len >= MIN_HEADER_LEN, "header_len must be at least {MIN_HEADER_LEN} bytes, not {len}");
        self.header_len = len;
        self
    }

    /// Sets how many header fields the HTTP request or answer that opens a connection may have. The default is 100.
    ///
    /// A server answers a request with more of them with HTTP status 431; a client reports
    /// [`WsError::Handshake`](crate::WsError::Handshake).
    ///
    /// # Panics
    ///
    /// If `count` is below 5, the number that every WebSocket request has, or above 1,000.
    pub fn headers(mut self, count: usize) -> Self {
        let range = MIN_HEADERS..=MAX_HEADERS;
        assert!(range.contains(&count), "headers must be {MIN_HEADERS} to {MAX_HEADERS}, not {count}");
        self.headers = count;
        self
    }

    /// Sets how many connections a server holds at once, handshakes included. The default is 10,000; `None` is no limit.
    ///
    /// A further one takes the place of a peer that has not sent its request for 0.5 s, so that silent peers cannot keep
    /// others out; if there is no such peer, it is answered with HTTP status 503. It has no effect on a client.
    ///
    /// # Panics
    ///
    /// If `count` is zero: such a server would serve nobody.
    pub fn connections(mut self, count: impl Into<Option<usize>>) -> Self {
        self.connections = count.into();
        assert!(self.connections != Some(0), "connections must be at least 1, or None for no limit");
        self
    }

    /// Sets how many connections a server holds at once from one address, handshakes included. The default is `None`, no
    /// limit: behind a proxy, all clients have the proxy's address.
    ///
    /// A further one is answered with HTTP status 503. IPv6 addresses of one /64 network, which a provider gives to one
    /// subscriber, count as one. Connections without an address ([`Addr`](crate::Addr)) are not counted here. It has no effect on a
    /// client.
    ///
    /// # Panics
    ///
    /// If `count` is zero: such a server would serve nobody.
    pub fn connections_per_address(mut self, count: impl Into<Option<usize>>) -> Self {
        self.connections_per_address = count.into();
        let some = self.connections_per_address != Some(0);
        assert!(some, "connections_per_address must be at least 1, or None for no limit");
        self
    }

    /// Sets how many rooms a connection may be in at once. The default is 128. One more is refused with
    /// [`WsError::TooManyRooms`](crate::WsError::TooManyRooms).
    ///
    /// A room takes some 200 bytes beside its name, for each connection that is there; peers whose wishes are granted choose how
    /// many they are in, and the names. With 0 there are no rooms. See [`Connection::join`](crate::Connection::join). It has no effect on a client.
    pub fn rooms(mut self, count: usize) -> Self {
        self.rooms = count;
        self
    }

    /// Sets how many sessions of the [resumable mode](crate::Resume) may be without a link. The default is 10,000. Beyond it,
    /// the one whose client has been away for longest is ended; that client hears so when it comes back. While one address has
    /// more than an equal share of them (of IPv6 a /64 network), each of its further ones ends one of its own instead. It has no
    /// effect on a client.
    pub fn sessions(mut self, count: usize) -> Self {
        self.sessions = count;
        self
    }

    /// Sets how many bytes may wait for all clients that are away, in the [resumable mode](crate::Resume). The default is 256
    /// MiB. A message that waits for several of them counts for each. Beyond it, the same as beyond
    /// [`sessions`](Self::sessions) happens.
    pub fn parked_len(mut self, len: u64) -> Self {
        self.parked_len = len;
        self
    }

    /// Sets how many connections a server holds at once on one path. The default is `None`, no limit.
    ///
    /// A further one is answered with HTTP status 503. It has no effect on a client.
    ///
    /// # Panics
    ///
    /// If `count` is zero: such a server would serve nobody.
    pub fn connections_per_path(mut self, count: impl Into<Option<usize>>) -> Self {
        self.connections_per_path = count.into();
        let some = self.connections_per_path != Some(0);
        assert!(some, "connections_per_path must be at least 1, or None for no limit");
        self
    }

    /// The longest frame that is received.
    pub(crate) fn frame(&self) -> usize {
        self.frame_len.map_or(self.message_len, |len| len.min(self.message_len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_table() {
        // Without `..`: a new limit has to be looked at here, and given its row.
        let Limits {
            handshake,
            handshakes,
            message_len,
            frame_len,
            undecodable,
            write_stalled,
            close_timeout,
            write_buffer_len,
            header_len,
            headers,
            connections,
            connections_per_address,
            connections_per_path,
            rooms,
            sessions,
            parked_len,
        } = Limits::server();
        let seconds = [handshake, write_stalled, close_timeout].map(|time| time.as_secs_f64());
        assert_eq!(seconds, [10.0, 30.0, 5.0]);
        assert_eq!((header_len, message_len, write_buffer_len), (16 << 10, 1 << 20, 2 << 20));
        assert_eq!((handshakes, headers, frame_len, undecodable), (4000, 100, None, Some(1000)));
        assert_eq!((connections, connections_per_address, connections_per_path), (Some(10_000), None, None));
        assert_eq!((rooms, sessions, parked_len), (128, 10_000, 256 << 20));
        let client = Limits::server().message_len(16 << 20).undecodable(None).connections(None);
        assert_eq!(Limits::client(), client);
    }

    #[test]
    #[should_panic(expected = "header_len must be at least 8192 bytes, not 80")]
    fn header_len_that_hyper_refuses_panics() {
        let _ = Limits::server().header_len(80);
    }

    #[test]
    #[should_panic(expected = "headers must be 5 to 1000, not 1001")]
    fn more_headers_than_can_be_held_panic() {
        let _ = Limits::server().headers(1001);
    }

    #[test]
    #[should_panic(expected = "connections must be at least 1")]
    fn no_connections_at_all_panics() {
        let _ = Limits::server().connections(0);
    }

    #[test]
    #[should_panic(expected = "connections_per_path must be at least 1")]
    fn no_connections_on_any_path_panics() {
        let _ = Limits::server().connections_per_path(0);
    }

    #[test]
    fn none_lifts_the_limit_of_connections() {
        assert_eq!(Limits::server().connections, Some(10_000));
        assert_eq!(Limits::server().connections(None).connections, None);
        assert_eq!(Limits::server().connections(7).connections, Some(7));
    }

    #[test]
    fn frame_is_at_most_a_message() {
        assert_eq!(Limits::server().message_len(10).frame(), 10);
        assert_eq!(Limits::server().message_len(10).frame_len(20).frame(), 10);
        assert_eq!(Limits::server().message_len(10).frame_len(5).frame(), 5);
    }
}
