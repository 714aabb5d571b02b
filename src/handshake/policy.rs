//! Which requests a server lets in.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use http::{
    HeaderValue, Method, StatusCode, Version,
    header::{
        ALLOW, CONTENT_LENGTH, HOST, ORIGIN, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
    },
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{
    Authorize,
    answer::Answer,
    head::{Form, Head},
    only,
    origin::Origin,
    subprotocol, text, tokens,
};
use crate::protocol::deflate::{Agreed, Answered, Deflate};

/// Decides on requests by the paths, origins and subprotocols that a server serves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    /// The paths served; `None` for all.
    pub(crate) paths: Option<Arc<[String]>>,
    /// The origins served; `None` for all.
    pub(crate) origins: Option<Arc<[Origin]>>,
    /// In the order of preference.
    pub(crate) subprotocols: Arc<[String]>,
    /// Whether clients are offered sessions.
    pub(crate) is_resumable: bool,
    /// Agreed on with clients that offer it; `None` with none.
    pub(crate) deflate: Option<Deflate>,
    /// The program's own decision; `None` lets everybody in.
    pub(crate) authorize: Option<Authorize>,
    /// Whether the program also decides on requests that ask for no connection.
    pub(crate) answers_plain: bool,
    /// Whether no connection is opened for the time being.
    pub(crate) is_suspended: Arc<AtomicBool>,
}

/// The answer that opens a connection, the subprotocol it chooses, and its agreement on compression.
pub(super) struct Opening {
    pub(super) answer: Answer,
    pub(super) subprotocol: Option<String>,
    pub(super) deflate: Option<Agreed>,
}

impl Policy {
    /// Checks a request against RFC 6455, section 4.2.1, and against the paths and origins of this server.
    pub(super) fn judge(&self, request: &Head) -> Result<Opening, Answer> {
        let invitation = invitation(request)?;
        self.serves(request)?;
        let headers = &request.headers;
        // Exactly as it was offered: the client compares it with its own list (RFC 6455, section 4.1).
        let offered = tokens(headers.get_all(&SEC_WEBSOCKET_PROTOCOL));
        let chosen = subprotocol::choose(offered, &self.subprotocols, self.is_resumable);
        let answer = match chosen.as_deref().map(HeaderValue::try_from) {
            Some(Ok(name)) => invitation.with(SEC_WEBSOCKET_PROTOCOL, name),
            _ => invitation,
        };
        let (answer, deflate) = match self.agree_on_compression(request) {
            Some((agreed, value)) => (answer.with(SEC_WEBSOCKET_EXTENSIONS, value), Some(agreed)),
            None => (answer, None),
        };
        Ok(Opening { answer, subprotocol: chosen, deflate })
    }

    fn agree_on_compression(&self, request: &Head) -> Option<(Agreed, HeaderValue)> {
        let deflate = self.deflate.as_ref().filter(|deflate| deflate.covers(&request.path))?;
        let offers = request.headers.get_all(&SEC_WEBSOCKET_EXTENSIONS);
        let Answered { agreed, value } = deflate.answer(offers.filter_map(text))?;
        Some((agreed, HeaderValue::try_from(value).ok()?))
    }

    /// Whether the program is to answer a request that asks for no connection.
    pub(super) fn answers_plainly(&self, request: &Head) -> bool {
        self.answers_plain && !request.asks_to_upgrade() && has_host(request)
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.is_suspended.load(SeqCst)
    }

    fn serves(&self, request: &Head) -> Result<(), Answer> {
        if self.paths.as_ref().is_some_and(|paths| !paths.iter().any(|served| request.path == *served)) {
            return Err(Answer::new(StatusCode::NOT_FOUND, "this path is not served"));
        }
        // Other programs than browsers send no origin and are not bound by it (RFC 6455, section 10.2).
        let Some(origins) = &self.origins else { return Ok(()) };
        let is_served = |origin: &[u8]| {
            let origin = text(origin).and_then(Origin::parse);
            origin.is_some_and(|origin| origins.contains(&origin))
        };
        match request.headers.get_all(&ORIGIN).find(|origin| !is_served(origin)) {
            Some(origin) => {
                let line = format!("the origin \"{}\" is not served", origin.escape_ascii());
                Err(Answer::new(StatusCode::FORBIDDEN, line))
            }
            None => Ok(()),
        }
    }
}

/// The answer that lets a request in, if it asks for a connection as it should.
fn invitation(request: &Head) -> Result<Answer, Answer> {
    match request.form {
        Form::Upgrade => well_formed(request).map(|key| Answer::switching(derive_accept_key(key))),
        // Without a key: a CONNECT cannot be taken for another request (RFC 8441, section 5).
        #[cfg(feature = "http2")]
        Form::Connect => has_version_and_path(request).map(|()| Answer::empty(StatusCode::OK)),
    }
}

fn has_version_and_path(request: &Head) -> Result<(), Answer> {
    if only(request.headers.get_all(&SEC_WEBSOCKET_VERSION)) != Some(b"13") {
        return Err(Answer::upgrade_required("this server speaks version 13 of the WebSocket protocol"));
    }
    if !request.path.starts_with('/') {
        return Err(Answer::new(StatusCode::BAD_REQUEST, "the request is for no path"));
    }
    Ok(())
}

/// The key of a request that asks for a connection as RFC 6455, section 4.2.1, says.
fn well_formed(request: &Head) -> Result<&[u8], Answer> {
    let headers = &request.headers;
    let bad = |line| Err(Answer::new(StatusCode::BAD_REQUEST, line));
    if !has_host(request) {
        return bad("one Host header is needed");
    }
    if request.method != Method::GET {
        let answer = Answer::new(StatusCode::METHOD_NOT_ALLOWED, "a WebSocket connection begins with GET");
        return Err(answer.with(ALLOW, HeaderValue::from_static("GET")));
    }
    if !request.asks_to_upgrade() {
        return Err(Answer::upgrade_required("this is a WebSocket server; connect with a WebSocket client"));
    }
    has_version_and_path(request)?;
    // The bytes after the head are frames: a body in their place would be read as frames. Of several lengths, all count: a
    // proxy may have used another one than this server.
    if headers.get_all(&TRANSFER_ENCODING).next().is_some() || headers.get_all(&CONTENT_LENGTH).any(|len| len != b"0") {
        return bad("a request for a WebSocket connection has no body");
    }
    match only(headers.get_all(&SEC_WEBSOCKET_KEY)).filter(|key| is_key(key)) {
        Some(key) => Ok(key),
        None => bad("one Sec-WebSocket-Key of 16 bytes in base64 is needed"),
    }
}

/// RFC 9112, section 3.2: a request without a host is none, since HTTP/1.1.
fn has_host(request: &Head) -> bool {
    only(request.headers.get_all(&HOST)).is_some() || request.version < Version::HTTP_11
}

/// Whether this is the base64 of 16 bytes, as RFC 6455, section 4.2.1, demands.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
}
