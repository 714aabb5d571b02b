//! [`ConnRequest`]: the request of one attempt to connect.

use std::fmt;

use http::{
    HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
};

use crate::{
    ConnConfig, WsError,
    handshake::{ConnectAsk, subprotocol},
};

/// The request that a client is about to make to a server, in one attempt. It is given to the function set with `request`,
/// which changes it and gives it back.
///
/// ```no_run
/// use rxplus::prelude::*;
/// # fn fresh_token() -> String { String::new() }
///
/// let client = RxWsClient::builder("ws://a.example:8765/chat", WsStr)
///     .request(|request| {
///         let standby = request.attempt() % 2 == 1;
///         let request = request.header("Authorization", format!("Bearer {}", fresh_token()));
///         if standby { request.url("ws://b.example:8765/chat") } else { request }
///     })
///     .connect()?;
/// # Ok::<(), WsError>(())
/// ```
#[must_use]
#[derive(Clone)]
pub struct ConnRequest {
    ask: Result<ConnectAsk, WsError>,
    /// As the client was built.
    endpoint: ConnConfig,
    attempt: u32,
}

impl ConnRequest {
    pub(crate) fn new(ask: ConnectAsk, attempt: u32) -> Self {
        Self { endpoint: ask.endpoint.clone(), ask: Ok(ask), attempt }
    }

    /// The request, or the mistake in it.
    pub(crate) fn into_ask(self) -> Result<ConnectAsk, WsError> {
        let ask = self.ask?;
        check_subprotocols(&ask.subprotocols)?;
        Ok(ask)
    }

    /// How many attempts have failed in a row before this one.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The address of this attempt.
    pub fn endpoint(&self) -> &ConnConfig {
        self.ask.as_ref().map_or(&self.endpoint, |ask| &ask.endpoint)
    }

    /// Goes to another address. Pushed and received items stay tagged with the path that the client was built with.
    ///
    /// An invalid address makes the attempt fail with [`WsError::InvalidUrl`].
    pub fn url<A>(mut self, address: A) -> Self
    where
        A: TryInto<ConnConfig>,
        A::Error: Into<WsError>,
    {
        self.change(|ask| {
            ask.endpoint = address.try_into().map_err(Into::into)?;
            Ok(())
        });
        self
    }

    /// Sets a header of the opening handshake, in place of any of that name. `Sec-WebSocket-Protocol` is the same as
    /// [`subprotocols`](Self::subprotocols).
    ///
    /// A header that is not valid HTTP makes the attempt fail with [`WsError::InvalidHeader`], and one that the handshake
    /// sets itself with [`WsError::ReservedHeader`].
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.change(|ask| {
            match given_header(name.as_ref(), value.as_ref())? {
                GivenHeader::Other(name, value) => _ = ask.headers.insert(name, value),
                GivenHeader::Subprotocols(names) => ask.subprotocols = names.into(),
            }
            Ok(())
        });
        self
    }

    /// Offers these subprotocols (RFC 6455, section 1.9) instead, the preferred one first.
    ///
    /// A name that cannot be sent makes the attempt fail with [`WsError::InvalidSubprotocol`].
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.change(|ask| {
            ask.subprotocols = names.into_iter().map(Into::into).collect();
            Ok(())
        });
        self
    }

    /// The first mistake is kept as the attempt's error.
    fn change(&mut self, change: impl FnOnce(&mut ConnectAsk) -> Result<(), WsError>) {
        if let Ok(ask) = &mut self.ask
            && let Err(error) = change(ask)
        {
            self.ask = Err(error);
        }
    }
}

/// The headers by which the handshake and HTTP itself work: another value of them could only break it.
const RESERVED: [HeaderName; 8] = [
    CONNECTION,
    UPGRADE,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_ACCEPT,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
];

/// A header as a program gives it.
pub(crate) enum GivenHeader {
    Other(HeaderName, HeaderValue),
    /// The answer is checked against these, however they were given.
    Subprotocols(Vec<String>),
}

pub(crate) fn given_header(name: &str, value: &str) -> Result<GivenHeader, WsError> {
    match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        (Ok(name), _) if RESERVED.contains(&name) => Err(WsError::ReservedHeader(name.to_string())),
        (Ok(SEC_WEBSOCKET_PROTOCOL), Ok(_)) => {
            let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
            Ok(GivenHeader::Subprotocols(names.map(String::from).collect()))
        }
        (Ok(name), Ok(value)) => Ok(GivenHeader::Other(name, value)),
        // The value may be a secret: it is not repeated.
        _ => Err(WsError::InvalidHeader(name.into())),
    }
}

/// Whether all of them can stand in one `Sec-WebSocket-Protocol` header, and come back from it unchanged; those of the resumable
/// mode do not.
pub(crate) fn check_subprotocols(names: &[String]) -> Result<(), WsError> {
    let is_token = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let is_valid = |name: &str| is_token(name) && !subprotocol::is_reserved(name);
    match names.iter().find(|name| !is_valid(name)) {
        Some(name) => Err(WsError::InvalidSubprotocol(name.clone())),
        None => Ok(()),
    }
}

/// Without the headers and the query string, which may be secrets.
impl fmt::Debug for ConnRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, path) = (self.endpoint().host(), self.endpoint().as_path());
        f.debug_struct("ConnRequest")
            .field("host", &host)
            .field("path", &path)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
