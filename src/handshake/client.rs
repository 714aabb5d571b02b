//! A client's side of the opening handshake.

use std::{error::Error, future::Future, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version,
    header::{
        CONNECTION, HOST, LOCATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::{
    Connector, Opened, has_token, only,
    reach::reach,
    redirect,
    response::{BODY_LEN, HttpResponse},
    spelling::Spelled,
};
use crate::{
    ConnConfig, WsError,
    limits::Limits,
    protocol::deflate::{Agreed, Offer},
    transport::{
        Transport,
        raw::Raw,
        tls::{ClientTls, certificate_failure},
    },
};

/// How many redirects are followed in a row.
const MAX_REDIRECTS: usize = 5;

/// How long the client waits for the body of a refusal. If the server sends it at once, that costs no time.
const BODY_PATIENCE: Duration = Duration::from_secs(1);

/// A client's request to connect.
#[derive(Clone, Debug)]
pub(crate) struct ConnectAsk {
    pub(crate) endpoint: ConnConfig,
    pub(crate) headers: HeaderMap,
    pub(crate) subprotocols: Arc<[String]>,
    /// `None` to have nothing compressed.
    pub(crate) compression: Option<Offer>,
    /// `None` for the system's roots, if TLS is needed at all.
    pub(crate) tls: Option<ClientTls>,
    pub(crate) follows_redirects: bool,
    /// `None` for TCP.
    pub(crate) connector: Option<Connector>,
}

/// A connection that a server has opened.
pub(crate) struct Connected {
    pub(crate) opened: Opened,
    /// The answer that opened it.
    pub(crate) response: HttpResponse,
}

/// A server's answer.
enum Reply {
    Opened(Connected),
    /// The address to connect to instead.
    Moved(HeaderValue),
}

/// Connects to a server and makes the opening handshake. The caller ends it at `deadline`.
pub(crate) async fn connect(ask: &ConnectAsk, limits: &Limits, deadline: Instant) -> Result<Connected, WsError> {
    let mut ask = ask.clone();
    for _ in 0..=MAX_REDIRECTS {
        match exchange(&ask, limits, deadline).await? {
            Reply::Opened(connected) => return Ok(connected),
            Reply::Moved(location) => ask = redirect::follow(&ask, &location)?,
        }
    }
    Err(no_websocket(&ask.endpoint, format!("more than {MAX_REDIRECTS} redirects led to it")))
}

async fn exchange(ask: &ConnectAsk, limits: &Limits, deadline: Instant) -> Result<Reply, WsError> {
    let endpoint = &ask.endpoint;
    let stream = open(ask).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(limits.headers)
        .max_buf_size(limits.header_len)
        .title_case_headers(true)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(Spelled(stream)))
        .await
        .map_err(|error| failed(endpoint, &error))?;
    let key = generate_key();
    let request = request(ask, &key)?;
    let exchange = async {
        let mut response = sender.send_request(request).await.map_err(|error| failed(endpoint, &error))?;
        if ask.follows_redirects
            && let Some(location) = moved(&response)
        {
            return Ok(Reply::Moved(location));
        }
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(endpoint, response, deadline).await);
        }
        let Chosen { subprotocol, deflate } = check(ask, &key, &response)?;
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| failed(endpoint, &error))?;
        let (stream, early_bytes) =
            into_stream(upgraded).ok_or_else(|| no_websocket(endpoint, "the upgrade failed"))?;
        let (head, _) = response.into_parts();
        let response = HttpResponse::new(head.status, head.headers, Bytes::new());
        Ok(Reply::Opened(Connected { opened: Opened { stream, early_bytes, subprotocol, deflate }, response }))
    };
    beside(connection.with_upgrades(), exchange).await
}

/// Connects, with TLS if the endpoint has it.
async fn open(ask: &ConnectAsk) -> Result<Transport, WsError> {
    let endpoint = &ask.endpoint;
    let unreachable = |error| WsError::Connect { endpoint: endpoint.clone(), source: Arc::new(error) };
    let reached = match &ask.connector {
        Some(connector) => connector.connect(endpoint).await,
        None => reach(endpoint.host(), endpoint.port()).await.and_then(Raw::try_from),
    };
    let stream = reached.map_err(unreachable)?;
    match (endpoint.is_tls(), &ask.tls) {
        (false, _) => Ok(stream.into()),
        (true, Some(tls)) => tls.connect(stream, endpoint).await,
        (true, None) => ClientTls::system()?.connect(stream, endpoint).await,
    }
}

/// Polls `connection` as long as `exchange`, which needs it, is not done.
async fn beside<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let mut connection = pin!(connection);
    let mut exchange = pin!(exchange);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        // It has handed over everything that the exchange needs.
        _ = &mut connection => exchange.await,
    }
}

/// Host and port for the `Host` header, which omits the scheme's own port (RFC 6455, section 4.1, item 4).
fn host(endpoint: &ConnConfig) -> String {
    let mut host = endpoint.authority();
    let own_port = if endpoint.is_tls() { ":443" } else { ":80" };
    if host.ends_with(own_port) {
        host.truncate(host.len() - own_port.len());
    }
    host
}

fn request(ask: &ConnectAsk, key: &str) -> Result<Request<Empty<Bytes>>, WsError> {
    let endpoint = &ask.endpoint;
    let mut builder = Request::get(endpoint.request_target())
        .header(HOST, host(endpoint))
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key);
    if !ask.subprotocols.is_empty() {
        builder = builder.header(SEC_WEBSOCKET_PROTOCOL, ask.subprotocols.join(", "));
    }
    if let Some(offer) = ask.compression.as_ref().and_then(|offer| offer.value(endpoint.as_path())) {
        builder = builder.header(SEC_WEBSOCKET_EXTENSIONS, offer);
    }
    if let Some(headers) = builder.headers_mut() {
        headers.extend(ask.headers.clone());
    }
    builder.body(Empty::new()).map_err(|error| no_websocket(endpoint, error))
}

/// The answer of a server that opens no connection, as an error.
async fn refusal(endpoint: &ConnConfig, response: Response<Incoming>, deadline: Instant) -> WsError {
    let (head, body) = response.into_parts();
    let mut start = BytesMut::new();
    let now = Instant::now();
    // Well before the deadline: a body that does not come must not make the refusal a time-out.
    let patience = BODY_PATIENCE.min(deadline.saturating_duration_since(now) / 2);
    // The bytes that have arrived by then are kept.
    let _ = timeout_at(now + patience, read_start(body, &mut start)).await;
    let (status, response) = (head.status.as_u16(), HttpResponse::new(head.status, head.headers, start.freeze()));
    WsError::Rejected { endpoint: endpoint.clone(), status, response }
}

/// Reads the beginning of `body`; a body that breaks off ends there.
async fn read_start(mut body: Incoming, start: &mut BytesMut) {
    while start.len() < BODY_LEN
        && let Some(Ok(frame)) = body.frame().await
    {
        let data = frame.data_ref().map_or(&[][..], |data| data);
        start.extend_from_slice(&data[..data.len().min(BODY_LEN - start.len())]);
    }
}

/// What a server chose of a client's offers.
struct Chosen {
    subprotocol: Option<String>,
    deflate: Option<Agreed>,
}

/// Checks the server's answer against RFC 6455, section 4.1.
fn check(ask: &ConnectAsk, key: &str, response: &Response<Incoming>) -> Result<Chosen, WsError> {
    let endpoint = &ask.endpoint;
    let headers = response.headers();
    let accept = derive_accept_key(key.as_bytes());
    let mut chosen = given(headers, &SEC_WEBSOCKET_PROTOCOL);
    let (chosen, another) = (chosen.next().map(|value| value.to_str().unwrap_or("").to_owned()), chosen.next());
    let upgrades = response.version() >= Version::HTTP_11
        && has_token(all(headers, &UPGRADE), "websocket")
        && has_token(all(headers, &CONNECTION), "upgrade");
    let deflate = confirmed(ask, headers);
    let broken = if !upgrades {
        Some("the answer does not upgrade to WebSocket")
    } else if only(all(headers, &SEC_WEBSOCKET_ACCEPT)) != Some(accept.as_bytes()) {
        Some("the answer's Sec-WebSocket-Accept does not belong to this request")
    } else if let Err(mistake) = deflate {
        Some(mistake)
    } else if another.is_some() || chosen.as_ref().is_some_and(|chosen| !ask.subprotocols.contains(chosen)) {
        Some("the answer chooses a subprotocol that was not offered")
    } else {
        None
    };
    match broken {
        Some(reason) => Err(no_websocket(endpoint, reason)),
        None => Ok(Chosen { subprotocol: chosen, deflate: deflate.unwrap_or_default() }),
    }
}

/// What the server says about compression, or its mistake.
fn confirmed(ask: &ConnectAsk, headers: &HeaderMap) -> Result<Option<Agreed>, &'static str> {
    let mut answers = given(headers, &SEC_WEBSOCKET_EXTENSIONS);
    match ask.compression.as_ref().filter(|offer| offer.value(ask.endpoint.as_path()).is_some()) {
        Some(offer) => offer.confirm(answers.map(|value| value.to_str().unwrap_or("/"))),
        None if answers.next().is_some() => Err("the answer uses an extension that was not offered"),
        None => Ok(None),
    }
}

/// The values of a header. An empty one, which some servers send if they chose nothing, stands for none.
fn given<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
    headers.get_all(name).into_iter().filter(|value| !value.as_bytes().trim_ascii().is_empty())
}

/// The values of all headers with this name.
fn all<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().map(HeaderValue::as_bytes)
}

/// The address that a redirect leads to.
fn moved(response: &Response<Incoming>) -> Option<HeaderValue> {
    let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    only(response.headers().get_all(&LOCATION).into_iter()).filter(|_| moved).cloned()
}

/// hyper's error in the exchange, with its cause.
fn failed(endpoint: &ConnConfig, error: &hyper::Error) -> WsError {
    // hyper's client has no other way to recognise this.
    if error.is_parse() && error.to_string().contains("too large") {
        return no_websocket(endpoint, "the head of its answer is too large (Limits::header_len, Limits::headers)");
    }
    let transport = error.source().and_then(|source| source.downcast_ref());
    if let Some(error) = transport.and_then(|error| certificate_failure(endpoint, error)) {
        return error;
    }
    match error.source() {
        Some(source) => no_websocket(endpoint, format!("{error}: {source}")),
        None => no_websocket(endpoint, error),
    }
}

pub(super) fn no_websocket(endpoint: &ConnConfig, reason: impl ToString) -> WsError {
    WsError::Handshake { endpoint: endpoint.clone(), reason: reason.to_string() }
}

fn into_stream(upgraded: Upgraded) -> Option<(Transport, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Spelled<Transport>>>().ok()?;
    Some((parts.io.into_inner().0, parts.read_buf))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_header_has_the_port_unless_it_is_the_schemes_own() {
        for (url, expected) in [
            ("ws://h.example/x", "h.example"),
            ("ws://h.example:443", "h.example:443"),
            ("ws://h.example:8080", "h.example:8080"),
            ("wss://h.example", "h.example"),
            ("wss://h.example:80", "h.example:80"),
            ("ws://[::80]:80", "[::80]"),
            ("wss://[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(host(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
