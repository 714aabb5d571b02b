//! [`ConnRequest`]: what one attempt to connect asks for.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{ConnConfig, WsError, ws::handshake::Ask};

/// What a client is about to ask a server for, in one attempt: given to the function set with `request`, which changes it
/// and gives it back.
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
    ask: Result<Ask, WsError>,
    /// As the client was built.
    endpoint: ConnConfig,
    attempt: u32,
}

impl ConnRequest {
    pub(crate) fn new(ask: Ask, attempt: u32) -> Self {
        Self { endpoint: ask.endpoint.clone(), ask: Ok(ask), attempt }
    }

    /// What to ask for, or what is wrong with it.
    pub(crate) fn into_ask(self) -> Result<Ask, WsError> {
        self.ask
    }

    /// How many attempts have failed in a row before this one.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Where this attempt goes.
    pub fn endpoint(&self) -> &ConnConfig {
        self.ask.as_ref().map_or(&self.endpoint, |ask| &ask.endpoint)
    }

    /// Goes to another address. What is pushed and received stays tagged with the path that the client was built with.
    ///
    /// One that is not an address makes the attempt fail with [`WsError::InvalidUrl`].
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

    /// Sets a header of the opening handshake, in place of any of that name.
    ///
    /// One that is not valid HTTP makes the attempt fail with [`WsError::InvalidHeader`].
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.change(|ask| {
            let (name, value) = valid_header(name.as_ref(), value.as_ref())?;
            ask.headers.insert(name, value);
            Ok(())
        });
        self
    }

    /// Offers these subprotocols (RFC 6455, section 1.9) instead, the preferred one first.
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.change(|ask| {
            ask.subprotocols = names.into_iter().map(Into::into).collect();
            Ok(())
        });
        self
    }

    /// The first mistake is kept as the attempt's error.
    fn change(&mut self, change: impl FnOnce(&mut Ask) -> Result<(), WsError>) {
        if let Ok(ask) = &mut self.ask
            && let Err(error) = change(ask)
        {
            self.ask = Err(error);
        }
    }
}

/// Adds a header to those that a client always sends.
pub(crate) fn add_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), WsError> {
    let (name, value) = valid_header(name, value)?;
    headers.append(name, value);
    Ok(())
}

fn valid_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), WsError> {
    match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        // The value may be a secret: it is not repeated, nor where it was written into the name.
        _ => Err(WsError::InvalidHeader(name.split(':').next().unwrap_or_default().into())),
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
