//! A server's side of the opening handshake where another HTTP server reads the request and writes the answer.

use std::io;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::HOST, request::Parts};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{net::TcpStream, sync::oneshot};

use super::{
    Asked, Grant, Policy, Refused,
    admission::Permit,
    answer::Answer,
    head::{Form, Head},
    server,
};
use crate::{
    Addr,
    limits::Limits,
    protocol::deflate::Agreed,
    runtime::{UserValue, callback},
    transport::{Transport, raw::Given},
};

/// Why a request has no answer.
const GIVEN_UP: &str = "the server in front has given up the request";

/// A request that another HTTP server has read.
pub(crate) struct Mounted {
    head: Head,
    /// The grant of the program's own handler, instead of one by `authorize`.
    grant: Option<Grant>,
    /// Resolves when the answer is written.
    upgrade: OnUpgrade,
    reply: Reply,
}

/// A request that is let in, before the answer is written.
pub(crate) struct Upgrading {
    answer: Answer,
    /// What both sides have agreed on, if messages may be compressed.
    pub(crate) deflate: Option<Agreed>,
    upgrade: OnUpgrade,
    reply: Reply,
}

/// Where the answer goes. It wakes a task of the other server when it is sent or dropped, and that one's waker may be user code.
struct Reply(UserValue<oneshot::Sender<Answer>>);

/// The answer to such a request, which is on its way.
pub(crate) struct Replying(oneshot::Receiver<Answer>);

impl Mounted {
    /// `path` takes the place of the request's own.
    pub(crate) fn new<B>(mut request: Request<B>, path: Option<String>, grant: Option<Grant>) -> (Self, Replying) {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let (reply, replying) = oneshot::channel();
        let reply = Reply(UserValue::new(reply));
        (Self { head: head(parts, path), grant, upgrade, reply }, Replying(replying))
    }

    /// Decides on the request, unless the other server gives it up meanwhile. The caller bounds the time.
    pub(crate) async fn decide(
        self,
        addr: Addr,
        permit: &mut Permit,
        policy: &Policy,
        limits: &Limits,
    ) -> Result<(Asked, Upgrading), Refused> {
        let Self { head, grant, upgrade, mut reply } = self;
        let form = head.form;
        let judged = async {
            if !head.fits(limits) {
                return Err(server::too_large());
            }
            server::judge(head, addr, permit, policy, grant).await
        };
        let judged = tokio::select! {
            biased;
            // First: the program is not asked about a request that nobody waits for.
            () = reply.0.closed() => return Err(Refused::unanswered(GIVEN_UP)),
            judged = judged => judged,
        };
        match judged {
            Ok((answer, asked)) => {
                let deflate = asked.deflate;
                Ok((asked, Upgrading { answer, deflate, upgrade, reply }))
            }
            Err(answer) => {
                let answer = form.refusal(answer);
                let (status, reason) = (Some(answer.status.as_u16()), answer.line.as_str().into());
                let _ = reply.send(answer);
                Err(Refused { status, reason, stream: None })
            }
        }
    }
}

impl Reply {
    /// An error means that the other server has given up the request.
    fn send(self, answer: Answer) -> io::Result<()> {
        let sent = callback::attempt("a waker", || self.0.into_inner().send(answer));
        // It is sent before its task is woken.
        sent.unwrap_or(Ok(())).map_err(|_| io::Error::other(GIVEN_UP))
    }
}

impl Upgrading {
    /// Sends the answer to the other server, which writes it. Returns the stream, and the bytes that came with the request.
    pub(crate) async fn stream(self) -> io::Result<(Transport, Bytes)> {
        let Self { answer, upgrade, reply, .. } = self;
        reply.send(answer)?;
        let (stream, early_bytes) = stream(upgrade.await.map_err(io::Error::other)?);
        Ok((stream.into_raw()?.into(), early_bytes))
    }
}

impl Replying {
    /// The answer, once it is decided. `otherwise` is the line of a refusal for want of a decision.
    pub(crate) async fn reply(self, otherwise: &str) -> Response<Full<Bytes>> {
        self.0.await.unwrap_or_else(|_| unavailable(otherwise)).into_response()
    }
}

/// The answer of a server that has no room, or is ending.
pub(crate) fn refusal(line: &str) -> Response<Full<Bytes>> {
    unavailable(line).into_response()
}

fn unavailable(line: &str) -> Answer {
    Answer::new(StatusCode::SERVICE_UNAVAILABLE, line)
}

/// Without the request's extensions: axum keeps a slice of its read buffer of 16 KiB in them.
fn head(parts: Parts, path: Option<String>) -> Head {
    let form = form(&parts);
    let Parts { method, uri, version, mut headers, .. } = parts;
    // HTTP/2 has it beside the headers (RFC 9113, section 8.3.1).
    if let Some(host) = uri.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok()) {
        headers.entry(HOST).or_insert(host);
    }
    let (path, headers) = (path.unwrap_or_else(|| uri.path().to_owned()), (&headers).into());
    Head { method, path: path.into(), query: uri.query().map(Into::into), version, headers, form }
}

#[cfg(feature = "http2")]
fn form(parts: &Parts) -> Form {
    let protocol = parts.extensions.get::<hyper::ext::Protocol>();
    let is_websocket = protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"));
    if is_websocket && parts.method == http::Method::CONNECT { Form::Connect } else { Form::Upgrade }
}

#[cfg(not(feature = "http2"))]
fn form(_: &Parts) -> Form {
    Form::Upgrade
}

/// The stream below an upgraded connection, and the bytes that came with the request. The TCP socket itself where there is
/// one, since through hyper and the reactor of the other server an echo costs half as much again.
fn stream(upgraded: Upgraded) -> (Given, Bytes) {
    let tcp = auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded).map(|parts| (parts.io, parts.read_buf));
    let tcp = tcp.or_else(|upgraded| upgraded.downcast().map(|parts| (parts.io, parts.read_buf)));
    match tcp {
        // Copied: a slice would keep hyper's read buffer.
        Ok((stream, early_bytes)) => (Given::Tcp(stream.into_inner()), Bytes::copy_from_slice(&early_bytes)),
        Err(upgraded) => (Given::new(TokioIo::new(upgraded)), Bytes::new()),
    }
}
