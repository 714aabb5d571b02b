//! The opening handshake (RFC 6455, section 4) of both sides, over hyper: the only place that knows HTTP.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        ALLOW, CONNECTION, CONTENT_TYPE, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
        SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use http_body_util::{Empty, Full};
use hyper::{
    body::Incoming,
    service::service_fn,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::{ConnConfig, WsError, ws::config::Limits};

/// A stream after its opening handshake.
pub(crate) struct Opened {
    pub(crate) stream: TcpStream,
    /// What came together with the handshake.
    pub(crate) early_bytes: Bytes,
    pub(crate) subprotocol: Option<String>,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) endpoint: ConnConfig,
    pub(crate) headers: HeaderMap,
    pub(crate) subprotocols: Arc<[String]>,
}

/// Connects to a server and makes the opening handshake. The caller bounds the time.
pub(crate) async fn connect(ask: &Ask, limits: &Limits) -> Result<Opened, WsError> {
    let endpoint = &ask.endpoint;
    if endpoint.is_tls() {
        let reason = "TLS is not built in".into();
        return Err(WsError::InvalidUrl { url: endpoint.to_string(), reason });
    }
    let unreachable = |error| WsError::Connect { endpoint: endpoint.clone(), source: Arc::new(error) };
    let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;

    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_headers(limits.headers)
        .max_buf_size(limits.header_len)
        .title_case_headers(true)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| no_websocket(endpoint, error))?;
    let key = generate_key();
    let request = request(ask, &key)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| no_websocket(endpoint, error))?;
        let subprotocol = check(ask, &key, &response)?;
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| no_websocket(endpoint, error))?;
        Ok::<_, WsError>((upgraded, subprotocol))
    };
    let (upgraded, subprotocol) = beside(connection.with_upgrades(), exchange).await?;
    let (stream, early_bytes) = into_stream(upgraded).ok_or_else(|| no_websocket(endpoint, "the upgrade failed"))?;
    Ok(Opened { stream, early_bytes, subprotocol })
}

/// Polls `connection` as long as `exchange`, which needs it, is not done.
async fn beside<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let mut connection = pin!(connection);
    let mut exchange = pin!(exchange);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        // It has handed over what the exchange waits for.
        _ = &mut connection => exchange.await,
    }
}

fn request(ask: &Ask, key: &str) -> Result<Request<Empty<Bytes>>, WsError> {
    let endpoint = &ask.endpoint;
    let mut builder = Request::get(endpoint.request_target())
        .header(HOST, endpoint.authority())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key);
    if !ask.subprotocols.is_empty() {
        builder = builder.header(SEC_WEBSOCKET_PROTOCOL, ask.subprotocols.join(", "));
    }
    if let Some(headers) = builder.headers_mut() {
        headers.extend(ask.headers.clone());
    }
    builder.body(Empty::new()).map_err(|error| no_websocket(endpoint, error))
}

/// Holds the server's answer against RFC 6455, section 4.1, and returns the subprotocol it chose.
fn check(ask: &Ask, key: &str, response: &Response<Incoming>) -> Result<Option<String>, WsError> {
    let endpoint = &ask.endpoint;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(WsError::Rejected { endpoint: endpoint.clone(), status: response.status().as_u16() });
    }
    let headers = response.headers();
    let accept = derive_accept_key(key.as_bytes());
    let chosen = headers.get(SEC_WEBSOCKET_PROTOCOL).map(|value| value.to_str().unwrap_or("").to_owned());
    let broken = if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        Some("the answer does not upgrade to WebSocket")
    } else if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value.as_bytes() != accept.as_bytes()) {
        Some("the answer's Sec-WebSocket-Accept does not belong to this request")
    } else if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        Some("the answer uses an extension that was not offered")
    } else if chosen.as_ref().is_some_and(|chosen| !ask.subprotocols.contains(chosen)) {
        Some("the answer chooses a subprotocol that was not offered")
    } else {
        None
    };
    match broken {
        Some(reason) => Err(no_websocket(endpoint, reason)),
        None => Ok(chosen),
    }
}

fn no_websocket(endpoint: &ConnConfig, reason: impl ToString) -> WsError {
    WsError::Handshake { endpoint: endpoint.clone(), reason: reason.to_string() }
}

fn into_stream(upgraded: Upgraded) -> Option<(TcpStream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

/// Whether a header that is a list of tokens has this one, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// What a server lets in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    /// The paths served; `None` for all.
    pub(crate) paths: Option<Arc<[String]>>,
    /// The origins served, as browsers send them; `None` for all.
    pub(crate) origins: Option<Arc<[String]>>,
    /// In the order of preference.
    pub(crate) subprotocols: Arc<[String]>,
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) addr: SocketAddr,
}

/// Why a request was answered with an HTTP status instead of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// `None` when there was no request to answer.
    pub(crate) status: Option<u16>,
    pub(crate) reason: Arc<str>,
}

/// Makes the opening handshake with a client. The caller bounds the time.
///
/// With `is_full` every request is told so.
pub(crate) async fn accept(
    stream: TcpStream,
    addr: SocketAddr,
    gate: &Gate,
    is_full: bool,
    limits: &Limits,
) -> Result<(Opened, Asked), Refused> {
    let outcome = Mutex::new(None);
    let service = service_fn(|mut request: Request<Incoming>| {
        let verdict = if is_full { Err(full()) } else { gate.judge(&request) };
        let (answer, result) = match verdict {
            Ok((response, subprotocol)) => {
                let upgrade = hyper::upgrade::on(&mut request);
                (response, Ok((upgrade, subprotocol, asked(request, addr))))
            }
            Err(refusal) => {
                let refused = Refused { status: Some(refusal.status.as_u16()), reason: refusal.reason.into() };
                (refusal.into_response(), Err(refused))
            }
        };
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        async { Ok::<_, Infallible>(answer) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .max_headers(limits.headers)
        .max_buf_size(limits.header_len)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    let outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    let gone = |reason: String| Refused { status: None, reason: reason.into() };
    let (upgrade, subprotocol, asked): (OnUpgrade, _, _) = match (outcome, served) {
        (Some(result), _) => result?,
        (None, Err(error)) => return Err(gone(error.to_string())),
        (None, Ok(())) => return Err(gone("no request came".into())),
    };
    let upgraded = upgrade.await.map_err(|error| gone(error.to_string()))?;
    let (stream, early_bytes) = into_stream(upgraded).ok_or_else(|| gone("the upgrade failed".into()))?;
    Ok((Opened { stream, early_bytes, subprotocol }, asked))
}

fn asked(request: Request<Incoming>, addr: SocketAddr) -> Asked {
    let (mut parts, _) = request.into_parts();
    // Copied, since they would keep all of the buffer that the request was read into.
    for value in parts.headers.values_mut() {
        *value = HeaderValue::from_bytes(value.as_bytes()).expect("it is a header value");
    }
    Asked {
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        addr,
    }
}

impl Gate {
    /// Holds a request against RFC 6455, section 4.2.1, and what this server serves.
    fn judge(&self, request: &Request<Incoming>) -> Result<(Response<Full<Bytes>>, Option<String>), Refusal> {
        let headers = request.headers();
        if request.method() != Method::GET {
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "a WebSocket connection begins with GET");
            return Err(refusal.with(ALLOW, "GET"));
        }
        if request.version() < Version::HTTP_11
            || !has_token(headers, &UPGRADE, "websocket")
            || !has_token(headers, &CONNECTION, "upgrade")
        {
            return Err(upgrade_required("this is a WebSocket server; connect with a WebSocket client"));
        }
        if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(upgrade_required("this server speaks version 13 of the WebSocket protocol"));
        }
        if !headers.contains_key(HOST) {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "the Host header is missing"));
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes())).ok_or_else(|| {
            Refusal::new(StatusCode::BAD_REQUEST, "one Sec-WebSocket-Key of 16 bytes in base64 is needed")
        })?;
        self.admit(request)?;
        // Exactly as it was offered: the client compares it with what it sent (RFC 6455, section 4.1).
        let is_offered = |name: &&String| tokens(headers, &SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == **name);
        let subprotocol = self.subprotocols.iter().find(is_offered);
        Ok((switching(key, subprotocol), subprotocol.cloned()))
    }

    fn admit(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let path = request.uri().path();
        if self.paths.as_ref().is_some_and(|paths| !paths.iter().any(|served| served == path)) {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "this path is not served"));
        }
        // Other programs than browsers send no origin and are not bound by it (RFC 6455, section 10.2).
        let refused = |origin: &HeaderValue| match &self.origins {
            Some(origins) => !origins.iter().any(|served| served.as_bytes() == origin.as_bytes()),
            None => false,
        };
        if request.headers().get_all(ORIGIN).into_iter().any(refused) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "this origin is not served"));
        }
        Ok(())
    }
}

/// The value of a header that is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether this is the base64 of 16 bytes, as RFC 6455, section 4.2.1, wants it.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
}

fn switching(key: &HeaderValue, subprotocol: Option<&String>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.expect("base64 is a header value"));
    if let Some(Ok(name)) = subprotocol.map(HeaderValue::try_from) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    response
}

/// An answer other than a connection.
struct Refusal {
    status: StatusCode,
    reason: &'static str,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason, header: None }
    }

    fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(format!("{}\n", self.reason)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        // Said here and not to hyper as a rule: it would add it to the answer that upgrades too, and clients that want that
        // header to be "Upgrade" alone would leave.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

fn full() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "this server has as many connections as it allows")
}

/// Tells which protocol and version to come with (RFC 6455, section 4.4).
fn upgrade_required(reason: &'static str) -> Refusal {
    Refusal::new(StatusCode::UPGRADE_REQUIRED, reason).with(SEC_WEBSOCKET_VERSION, "13")
}
