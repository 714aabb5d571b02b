//! The errors, as values that a user can act on.

use std::{convert::Infallible, error::Error, fmt, io, iter, sync::Arc, time::Duration};

use crate::{
    ConnConfig, HttpResponse, SessionLoss,
    advice::{bind_advice, rejection_advice, said},
    one_line::OneLine,
    runtime::callback,
};

/// Why an endpoint could not be made, or why it ended.
///
/// `Clone`, since every observer receives its own copy; the cause is in [`source`](Error::source), so a printed chain of
/// errors states each fact once. `Debug` prints that chain, so a `main` that returns a `WsError` says what helps:
///
/// ```text
/// Error: cannot listen on ws://127.0.0.1:80/: ports below 1024 usually need privileges: Permission denied (os error 13)
/// ```
#[non_exhaustive]
#[derive(Clone, thiserror::Error)]
pub enum WsError {
    /// The text given as an address is invalid.
    #[error(
        "cannot use \"{}\" as a WebSocket address: {}; write it as ws://host:port/path",
        OneLine(.url),
        OneLine(.reason)
    )]
    InvalidUrl {
        /// The text given. If there is an `@` in it, the part before the last `@` is left out, as it may be a password.
        url: String,
        /// The mistake in it.
        reason: String,
    },
    /// The server could not listen.
    #[error("cannot listen on {endpoint}: {}", bind_advice(.source, .endpoint))]
    Bind {
        /// The address.
        endpoint: ConnConfig,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// A header given for the opening handshake is not valid HTTP.
    #[error("\"{}\" is not a valid HTTP header, or its value is not: use visible ASCII without line breaks", OneLine(.0))]
    InvalidHeader(String),
    /// The text given to a server as an origin to serve is not an origin.
    #[error(
        "{0:?} is not an origin; write it as browsers send it, such as https://example.org or http://localhost:8080"
    )]
    InvalidOrigin(String),
    /// A header given for the opening handshake is one that the handshake sets itself (RFC 6455, section 4.1).
    #[error("the header {0:?} is set by the opening handshake itself; leave it out")]
    ReservedHeader(String),
    /// A subprotocol of the program cannot be sent (RFC 6455, section 4.1, item 10), or is a name of the resumable mode.
    #[error(
        "{0:?} cannot be a subprotocol; use visible ASCII without commas, as in \"mqtt\", and no name of the resumable mode"
    )]
    InvalidSubprotocol(String),
    /// The text given as a pattern of paths is none, or matches the same paths as another one.
    #[error("cannot use \"{}\" as a pattern of paths: {}; write it as /rooms/{{room}}", OneLine(.pattern), OneLine(.reason))]
    InvalidPattern {
        /// The text given.
        pattern: String,
        /// The mistake in it.
        reason: String,
    },
    /// The client could not reach a server: the name is unknown, or nothing listens there.
    #[error("cannot reach {endpoint}; is a server listening there?")]
    Connect {
        /// The server.
        endpoint: ConnConfig,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// Connecting and the opening handshake (RFC 6455, section 4) outlasted the connect timeout.
    #[error("no handshake answer from {endpoint} within {after:?}; is a WebSocket server listening there?")]
    HandshakeTimedOut {
        /// The server.
        endpoint: ConnConfig,
        /// The limit, `connect_timeout`.
        after: Duration,
    },
    /// The server answered the opening handshake with an HTTP status of its own.
    #[error(
        "{endpoint} refused the connection with HTTP status {status}{}{}",
        rejection_advice(*.status), said(&.response.line())
    )]
    Rejected {
        /// The server.
        endpoint: ConnConfig,
        /// The HTTP status, such as 404.
        status: u16,
        /// The whole answer: its headers, and the beginning of its body.
        response: HttpResponse,
    },
    /// The server's answer to the opening handshake breaks RFC 6455, section 4.1.
    #[error("{endpoint} does not speak WebSocket: {}", OneLine(.reason))]
    Handshake {
        /// The server.
        endpoint: ConnConfig,
        /// The rule that the answer broke.
        reason: String,
    },
    /// The server's certificate is for other names. Waiting does not change that: see
    /// [`RetryPolicy::on_rejected`](crate::RetryPolicy::on_rejected).
    #[error("the certificate of {endpoint} is not for \"{}\"; it is for: {}", .endpoint.host(), OneLine(.names))]
    CertificateName {
        /// The server.
        endpoint: ConnConfig,
        /// The names in the certificate.
        names: String,
    },
    /// The server's certificate is out of date.
    #[error("the certificate of {0} has expired; its owner must renew it, or this machine's clock is wrong")]
    CertificateExpired(ConnConfig),
    /// The server's certificate is from an issuer that the client does not trust.
    #[error(
        "the certificate of {0} is from an issuer not trusted here; trust one of your own, or a self-signed certificate, \
         with ClientTls::with_roots_pem"
    )]
    UnknownIssuer(ConnConfig),
    /// The server's certificate cannot be used for another reason.
    #[error("the certificate of {endpoint} cannot be used: {}", OneLine(.reason))]
    Certificate {
        /// The server.
        endpoint: ConnConfig,
        /// Why not.
        reason: String,
    },
    /// The server wants a certificate from the client.
    #[error("{0} wants a client certificate; show one with ClientTls::with_roots_and_identity_pem")]
    CertificateRequired(ConnConfig),
    /// TLS with the server failed otherwise.
    #[error("cannot set up TLS with {endpoint}; does it speak TLS, on this port?")]
    Tls {
        /// The server.
        endpoint: ConnConfig,
        /// The error of TLS.
        source: Arc<io::Error>,
    },
    /// A certificate, a key or an address cannot be used for TLS.
    #[error("cannot use {} for TLS: {}", OneLine(.what), OneLine(.reason))]
    TlsSetup {
        /// The certificate, the key or the address.
        what: String,
        /// Why not.
        reason: String,
    },
    /// The transport failed.
    #[error("the connection to {} broke", OneLine(.peer))]
    Transport {
        /// The other end of the connection.
        peer: String,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// The peer broke the protocol or exceeded a limit.
    #[error("{} broke the protocol: {}", OneLine(.peer), OneLine(.reason))]
    Protocol {
        /// The peer.
        peer: String,
        /// The rule or the limit.
        reason: String,
    },
    /// Nothing came from the peer for longer than `ping_interval + ping_timeout`, and for `ping_timeout` after a ping.
    #[error("{} has been silent for {silent:?}, longer than ping_interval + ping_timeout", OneLine(.peer))]
    PeerGone {
        /// The peer.
        peer: String,
        /// How long nothing came.
        silent: Duration,
    },
    /// The peer has taken none of the written bytes for longer than the limit.
    #[error("{} has taken nothing for {stalled:?}; it reads too slowly or not at all", OneLine(.peer))]
    WriteStalled {
        /// The peer.
        peer: String,
        /// The limit, `Limits::write_stalled`.
        stalled: Duration,
    },
    /// The connection ended without a closing handshake (RFC 6455, section 7.1.5: code 1006).
    #[error("{} ended the connection without a closing handshake", OneLine(.peer))]
    AbnormalClosure {
        /// The peer.
        peer: String,
    },
    /// A group has reached its bound of paths.
    #[error(
        "{} has no room for another path beside {max_paths}; close(path) makes some, and so does idle_timeout",
        OneLine(.name)
    )]
    TooManyPaths {
        /// The group's name.
        name: String,
        /// Its bound, [`max_paths`](crate::GroupBuilder::max_paths).
        max_paths: usize,
    },
    /// The peer closed the connection, with a closing handshake. A client that gives up names it as the last cause.
    #[error("{} closed the connection with code {code}{}", OneLine(.peer), said(.reason))]
    ClosedByPeer {
        /// The peer.
        peer: String,
        /// The close code (RFC 6455, section 7.4); 1005 when there was none.
        code: u16,
        /// The close reason.
        reason: Arc<str>,
    },
    /// A connection was to be closed with a code or a reason that must not be sent (RFC 6455, sections 5.5 and 7.4).
    #[error("cannot close with code {code} and reason {reason:?}; use 1000 or 3000 to 4999, and at most 123 bytes")]
    InvalidClose {
        /// The code given.
        code: u16,
        /// The reason given.
        reason: String,
    },
    /// The connection was dropped to make a new one.
    #[error("the connection to {} was dropped by reconnect()", OneLine(.0))]
    Cut(String),
    /// The closing handshake (RFC 6455, section 7), with the messages before it, outlasted its limit.
    #[error("{} did not take the last messages or answer the closing handshake in time", OneLine(.peer))]
    ClosingTimedOut {
        /// The peer.
        peer: String,
    },
    /// The retry policy allows no further attempt.
    #[error("gave up connecting to {endpoint} after {attempts} attempts")]
    RetriesExhausted {
        /// The server.
        endpoint: ConnConfig,
        /// How many attempts failed in a row.
        attempts: u32,
        /// Why the last one failed.
        source: Arc<WsError>,
    },
    /// The outbox was full and its [`Overflow`](crate::Overflow) is `Disconnect`.
    #[error(
        "{} pushed more than its outbox holds, under Overflow::Disconnect; {messages} messages of {len} bytes are lost",
        OneLine(.name)
    )]
    OutboxFull {
        /// The component's name.
        name: String,
        /// How many messages were dropped.
        messages: u64,
        /// The bytes of their payloads.
        len: u64,
    },
    /// The link to the broker of a bus could not be made, or broke.
    #[error("no link to the broker at {}", OneLine(.server))]
    Broker {
        /// Its address.
        server: String,
        /// Why.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The broker of a bus refused the credentials. Waiting does not change that: see
    /// [`RetryPolicy::on_rejected`](crate::RetryPolicy::on_rejected).
    #[error("the broker at {} refused the credentials; it wants another token, user or password", OneLine(.0))]
    BrokerRefused(String),
    /// A bus cannot be made with an option.
    #[error("cannot make a bus with {what} \"{}\": {reason}", OneLine(.value))]
    InvalidBus {
        /// The option.
        what: &'static str,
        /// Its value. If it is an address, without a user and a password.
        value: String,
        /// Why not.
        reason: String,
    },
    /// The session of a [resumable](crate::Resume) client is over, without a closing handshake.
    #[error("the session of {} is lost: {why}; {unconfirmed} messages are unconfirmed, {unsent} unsent", OneLine(.peer))]
    SessionLost {
        /// The client.
        peer: String,
        /// Why.
        why: SessionLoss,
        /// How many messages were written, and nobody knows whether they have arrived.
        unconfirmed: u64,
        /// How many messages were not written.
        unsent: u64,
    },
    /// A tag cannot be a room of a connection.
    #[error("{0:?} cannot be a room: begin it with a /, as in /rooms/7, and use at most 1,024 bytes")]
    InvalidRoom(String),
    /// A connection is in as many rooms as its server allows.
    #[error("{} is in as many rooms as Limits::rooms allows: let it leave one, or raise that", OneLine(.0))]
    TooManyRooms(String),
    /// A blocking wait was called on the very thread whose work it waits for.
    #[error("{0} would wait for its own thread: call it on another one, await closed(), or subscribe to state()")]
    WouldDeadlock(&'static str),
    /// The tokio runtime given to [`IoRuntime::from_tokio`](crate::IoRuntime::from_tokio) was shut down before the component
    /// had closed.
    #[error(
        "the tokio runtime of {} has been shut down; it must outlive what runs on it: wait for that with wait_closed first",
        OneLine(.0)
    )]
    RuntimeEnded(String),
    /// The tokio runtime given to [`IoRuntime::from_tokio`](crate::IoRuntime::from_tokio) cannot serve sockets.
    #[error("the tokio runtime lacks its I/O or its time driver; build it with enable_all(): {}", OneLine(.0))]
    RuntimeUnfit(Arc<str>),
    /// A task that served a component or a connection panicked, outside the program's own code.
    #[error(
        "{} panicked: {}; does the system refuse threads or memory? If not, it is a bug in rxplus",
        OneLine(.what),
        OneLine(.panic)
    )]
    Panicked {
        /// The task, and its owner.
        what: String,
        /// The message of the panic.
        panic: Arc<str>,
    },
    /// An awaited event did not happen in time.
    #[error("{what} did not happen within {after:?}")]
    TimedOut {
        /// The awaited event.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// A request was not sent, so nobody has done what it asked for.
    #[error("{} did not send the request: {}", OneLine(.name), OneLine(.reason))]
    NotSent {
        /// The endpoint.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A request was sent, and the connection ended before the reply: nobody knows whether the peer has done what it asked for.
    #[error("{} has sent the request, and lost the connection before the reply", OneLine(.name))]
    Unanswered {
        /// The endpoint.
        name: String,
        /// How the connection ended, if that is known.
        source: Option<Arc<WsError>>,
    },
    /// The component ended before an awaited event could happen.
    #[error("{} is closed", OneLine(.0))]
    Closed(String),
    /// The datatype could not encode an item that was sent through a [`sink`](crate::RxWsClient::sink).
    #[error("a message of {} could not be encoded", OneLine(.name))]
    Encode {
        /// The endpoint.
        name: String,
        /// Why not.
        source: DatatypeError,
    },
    /// The background thread could not be started.
    #[error("cannot start a background I/O thread")]
    Runtime(#[source] Arc<io::Error>),
    /// An error of the program itself, as given to `error(..)`.
    #[error("{}", OneLine(.0))]
    Application(Arc<str>),
}

impl WsError {
    /// Makes an error of the program itself, to end a subject with.
    pub fn application(message: impl fmt::Display) -> Self {
        Self::Application(message.to_string().into())
    }
}

impl fmt::Debug for WsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Chain(self))
    }
}

/// Prints an error and its causes on one line, each once, even if they quote a peer's text.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", OneLine(self.0))?;
        let causes = iter::successors(self.0.source(), |&cause| cause.source());
        causes.map(OneLine).try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl From<Infallible> for WsError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Why a message could not be encoded or a frame could not be decoded. `Debug` prints it with its causes.
///
/// It may quote text that a peer sent: both ways to print it escape control characters, so it stays on one line.
#[derive(Clone, thiserror::Error)]
#[error("{}", OneLine(.message))]
pub struct DatatypeError {
    message: Arc<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl DatatypeError {
    /// States the mistake, in lower case and without a full stop.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string().into(), source: None }
    }

    /// The same, with the error that caused it.
    pub fn with_source(message: impl fmt::Display, source: impl Error + Send + Sync + 'static) -> Self {
        let mut error = Self::new(message);
        error.source = Some(Arc::new(source));
        error
    }
}

/// Its cause may be the program's, and its last copy go in a task, or with other causes.
impl Drop for DatatypeError {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            callback::isolate("the destructor of an error", || drop(source));
        }
    }
}

impl fmt::Debug for DatatypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Chain(self))
    }
}

/// The reason why `send` refused an item, together with the item. `Debug` prints the reason, and not the item.
#[non_exhaustive]
#[derive(Clone)]
pub enum SendError<I> {
    /// The outbox is at its bound.
    Full(I),
    /// A group has as many paths as [`max_paths`](crate::GroupBuilder::max_paths) allows, and the item is for another one.
    TooManyPaths(I),
    /// A terminal event came earlier.
    Closed(I),
    /// The datatype could not encode it.
    Encode(I, DatatypeError),
    /// [`send_timeout`](crate::RxWsClient::send_timeout) was called on the thread that would have to make room.
    WouldDeadlock(I),
}

impl<I> SendError<I> {
    /// Takes the refused item back.
    pub fn into_item(self) -> I {
        match self {
            Self::Full(item) | Self::TooManyPaths(item) | Self::Closed(item) => item,
            Self::Encode(item, _) | Self::WouldDeadlock(item) => item,
        }
    }

    /// Replaces the item, keeping the reason.
    pub fn map<J>(self, f: impl FnOnce(I) -> J) -> SendError<J> {
        match self {
            Self::Full(item) => SendError::Full(f(item)),
            Self::TooManyPaths(item) => SendError::TooManyPaths(f(item)),
            Self::Closed(item) => SendError::Closed(f(item)),
            Self::Encode(item, why) => SendError::Encode(f(item), why),
            Self::WouldDeadlock(item) => SendError::WouldDeadlock(f(item)),
        }
    }
}

impl<I> fmt::Display for SendError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the outbox is full: nobody takes messages as fast as they are sent"),
            Self::TooManyPaths(_) => {
                f.write_str("the group has no room for another path: see max_paths and idle_timeout")
            }
            Self::Closed(_) => f.write_str("the endpoint is closed: nothing can be sent after a terminal event"),
            Self::Encode(..) => f.write_str("the message could not be encoded"),
            Self::WouldDeadlock(_) => f.write_str(
                "waiting for room would block the thread that makes it: send on another thread, or use send_when_ready",
            ),
        }
    }
}

impl<I> fmt::Debug for SendError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode(_, why) => write!(f, "{self}: {}", Chain(why)),
            Self::Full(_) | Self::TooManyPaths(_) | Self::Closed(_) | Self::WouldDeadlock(_) => write!(f, "{self}"),
        }
    }
}

impl<I> Error for SendError<I> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Encode(_, why) => Some(why),
            Self::Full(_) | Self::TooManyPaths(_) | Self::Closed(_) | Self::WouldDeadlock(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn endpoint() -> ConnConfig {
        ConnConfig::new("localhost", 80)
    }

    #[test]
    fn debug_prints_the_message_and_its_causes_for_a_main_that_returns_the_error() {
        let source = Arc::new(io::Error::from_raw_os_error(13));
        let bind = WsError::Bind { endpoint: endpoint(), source };
        assert_eq!(
            format!("{bind:?}"),
            "cannot listen on ws://localhost:80/: ports below 1024 usually need privileges: Permission denied (os error 13)"
        );
        let response = HttpResponse::new(http::StatusCode::NOT_FOUND, http::HeaderMap::new(), Bytes::new());
        let rejected = Arc::new(WsError::Rejected { endpoint: endpoint(), status: 404, response });
        let given_up = WsError::RetriesExhausted { endpoint: endpoint(), attempts: 1, source: rejected };
        let text = format!("{given_up:?}");
        assert!(text.starts_with("gave up connecting to") && text.ends_with("it does not serve this path"), "{text}");
    }

    #[test]
    fn text_of_a_peer_stays_on_one_line() {
        let (text, source) =
            (|| String::from("x\nINFO login\u{9b}\u{2028}\u{202e}"), || Arc::new(io::Error::other("a\nb")));
        let errors = [
            WsError::InvalidUrl { url: text(), reason: text() },
            WsError::InvalidHeader(text()),
            WsError::InvalidOrigin(text()),
            WsError::InvalidSubprotocol(text()),
            WsError::InvalidPattern { pattern: text(), reason: text() },
            WsError::Handshake { endpoint: endpoint(), reason: text() },
            WsError::CertificateName { endpoint: endpoint(), names: text() },
            WsError::TlsSetup { what: text(), reason: text() },
            WsError::Transport { peer: text(), source: source() },
            WsError::Protocol { peer: text(), reason: text() },
            WsError::PeerGone { peer: text(), silent: Duration::ZERO },
            WsError::WriteStalled { peer: text(), stalled: Duration::ZERO },
            WsError::AbnormalClosure { peer: text() },
            WsError::ClosedByPeer { peer: text(), code: 1000, reason: text().into() },
            WsError::InvalidClose { code: 1000, reason: text() },
            WsError::Cut(text()),
            WsError::ClosingTimedOut { peer: text() },
            WsError::OutboxFull { name: text(), messages: 1, len: 1 },
            WsError::SessionLost { peer: text(), why: crate::SessionLoss::Expired, unconfirmed: 1, unsent: 2 },
            WsError::Closed(text()),
            WsError::NotSent { name: text(), reason: text() },
            WsError::Unanswered { name: text(), source: None },
            WsError::Certificate { endpoint: endpoint(), reason: text() },
            WsError::ReservedHeader(text()),
            WsError::TooManyPaths { name: text(), max_paths: 1 },
            WsError::RuntimeEnded(text()),
            WsError::RuntimeUnfit(text().into()),
            WsError::Panicked { what: text(), panic: text().into() },
            WsError::application(text()),
        ];
        let broken = DatatypeError::with_source(text(), io::Error::other(text()));
        let shown = errors.iter().flat_map(|error| [error.to_string(), format!("{error:?}")]);
        for shown in shown.chain([broken.to_string(), format!("{broken:?}")]) {
            assert!(!shown.contains(['\n', '\u{9b}', '\u{2028}', '\u{202e}']), "{shown:?}");
        }
    }

    #[test]
    fn refusal_of_an_item_of_any_type_is_an_error_that_says_why() {
        struct Item;
        let why = DatatypeError::with_source("not a number", WsError::application("NaN"));
        let refusals: [Box<dyn Error>; 2] = [SendError::Full(Item).into(), SendError::Encode(Item, why).into()];
        let [full, encode] = refusals.map(|refusal| format!("{refusal:?}"));
        assert_eq!(full, "the outbox is full: nobody takes messages as fast as they are sent");
        assert_eq!(encode, "the message could not be encoded: not a number: NaN");
    }

    #[test]
    fn text_about_a_room_stays_on_one_line() {
        let text = || String::from("x\nINFO login");
        for error in [WsError::InvalidRoom(text()), WsError::TooManyRooms(text())] {
            assert!(!error.to_string().contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn text_about_a_bus_stays_on_one_line() {
        let text = || String::from("x\nINFO login");
        let source = Arc::new(io::Error::other("a\nb"));
        let errors = [
            WsError::Broker { server: text(), source },
            WsError::BrokerRefused(text()),
            WsError::InvalidBus { what: "the address", value: text(), reason: "write it otherwise".into() },
        ];
        for error in errors {
            assert!(!format!("{error:?}").contains('\n') && !error.to_string().contains('\n'), "{error:?}");
        }
    }
}
