//! A server's side of the opening handshake.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{
    Grant, Granted, Policy, Refuse, UpgradeRequest,
    admission::{Evicted, MADE_ROOM, Permit},
    answer::Answer,
    head::{self, Head, Unreadable},
    policy::Opening,
    subprotocol::{self, Mode},
};
use crate::{
    Addr,
    limits::Limits,
    protocol::deflate::Agreed,
    transport::{Transport, raw::Raw, tls::ServerTls},
};

/// Why nobody is let in for the time being. Without a `Retry-After`: another server may have room at once.
const SUSPENDED: &str = "this server has no link to the others at present (BusLost::CloseClients)";

/// A connection that is let in.
pub(crate) struct Entrant {
    pub(crate) stream: Transport,
    /// The bytes that came together with the handshake.
    pub(crate) early_bytes: Bytes,
    /// The answer that tells the peer that it is let in, unless it has been told.
    pub(crate) answer: Vec<u8>,
    pub(crate) asked: Asked,
}

/// A request that is let in, and the subprotocol chosen for it.
pub(crate) struct Asked {
    pub(crate) request: UpgradeRequest,
    pub(crate) subprotocol: Option<String>,
    /// What both sides have agreed on, if messages may be compressed.
    pub(crate) deflate: Option<Agreed>,
    pub(crate) grant: Option<Granted>,
}

impl Asked {
    /// Whether the peer speaks the resumable mode.
    #[cfg(feature = "mount")]
    pub(crate) fn is_resumable(&self) -> bool {
        self.subprotocol.as_deref().is_some_and(|chosen| subprotocol::split(chosen).1 == Mode::Resumable)
    }

    /// Takes the mode out of the subprotocol, of which the application's part remains.
    pub(crate) fn take_mode(&mut self) -> Mode {
        let Some(chosen) = self.subprotocol.take() else { return Mode::Plain };
        let (application, mode) = subprotocol::split(&chosen);
        self.subprotocol = application.map(str::to_owned);
        mode
    }
}

/// The reason why a request was answered with an HTTP status instead of a connection.
pub(crate) struct Refused {
    /// `None` when there was no request to answer.
    pub(crate) status: Option<u16>,
    pub(crate) reason: Arc<str>,
    /// The stream of a peer that has its answer, and still has to read it.
    pub(crate) stream: Option<Transport>,
}

impl Refused {
    pub(crate) fn unanswered(reason: impl Into<Arc<str>>) -> Self {
        Self { status: None, reason: reason.into(), stream: None }
    }
}

/// Makes the opening handshake with a client, TLS included. The caller bounds the time.
///
/// A peer that is let in goes through `register`, which sends it the answer once it is connected.
pub(crate) async fn accept<R>(
    mut stream: Raw,
    addr: Addr,
    permit: &mut Permit,
    policy: &Policy,
    tls: Option<&ServerTls>,
    limits: &Limits,
    register: impl AsyncFnOnce(Entrant) -> Result<R, Refused>,
) -> Result<R, Refused> {
    let broken = |error: io::Error| Refused::unanswered(error.to_string());
    // A peer that sends nothing costs no buffer.
    stream.readable().await.map_err(broken)?;
    // The rest is boxed: thousands of tasks may be parked in `head::read`, and otherwise each would have room for all of it.
    let mut stream: Transport = match tls {
        Some(tls) => Box::pin(tls.accept(stream)).await.map_err(Refused::unanswered)?,
        None => stream.into(),
    };
    let head = head::read(&mut stream, limits).await;
    Box::pin(reply(stream, addr, head, permit, policy, register)).await
}

/// Lets a peer in, or answers with the reason why not.
async fn reply<R>(
    mut stream: Transport,
    addr: Addr,
    head: Result<(Head, Bytes), Unreadable>,
    permit: &mut Permit,
    policy: &Policy,
    register: impl AsyncFnOnce(Entrant) -> Result<R, Refused>,
) -> Result<R, Refused> {
    let broken = |error: io::Error| Refused::unanswered(error.to_string());
    let is_head = matches!(&head, Ok((request, _)) if request.method == Method::HEAD);
    let verdict = match head {
        Ok((request, early_bytes)) => {
            let judged = judge(request, addr, permit, policy, None).await;
            judged.map(|let_in| (let_in, early_bytes))
        }
        Err(Unreadable::Gone(error)) => return Err(broken(error)),
        Err(Unreadable::TooLarge) => Err(too_large()),
        Err(Unreadable::NoHttp { looks_like_tls }) => Err(no_http(looks_like_tls && stream.is_plain())),
    };
    match verdict {
        Ok(((answer, asked), early_bytes)) => {
            let answer = answer.bytes();
            Box::pin(register(Entrant { stream, early_bytes, answer, asked })).await
        }
        Err(answer) => {
            let answer = if is_head { answer.measured() } else { answer };
            answer.write_last(&mut stream).await;
            let (status, reason) = (Some(answer.status.as_u16()), answer.line.into());
            Err(Refused { status, reason, stream: Some(stream) })
        }
    }
}

/// Decides on a request, by the program last. Returns the answer that lets it in.
pub(super) async fn judge(
    request: Head,
    addr: Addr,
    permit: &mut Permit,
    policy: &Policy,
    given: Option<Grant>,
) -> Result<(Answer, Asked), Answer> {
    let (opening, request) = consider(request, addr, permit, policy)?;
    let grant = match (given, &policy.authorize) {
        (Some(grant), _) => Some(grant),
        // In a box, as several parts of a handshake: an allocator has room for less than 1 KiB at hand, and looks for more.
        (None, Some(authorize)) => {
            let deciding = Box::pin(authorize.decide(request.clone()));
            Some(deciding.await.map_err(Refuse::into_answer)?)
        }
        (None, None) => None,
    };
    // A request that asks for no connection, and that `authorize` lets in, gets the answer 426 or 405.
    let Opening { mut answer, subprotocol, deflate } = opening?;
    let grant = grant.map(|Grant { value, mut headers }| {
        answer.headers.append(&mut headers);
        value
    });
    Ok((answer, Asked { request, subprotocol, deflate, grant }))
}

/// Decides on a request as far as the program does not: by the protocol first, then by the served paths and origins, and then by
/// the state of the server and the room left.
fn consider(
    request: Head,
    addr: Addr,
    permit: &mut Permit,
    policy: &Policy,
) -> Result<(Result<Opening, Answer>, UpgradeRequest), Answer> {
    let full = |line: &str| Answer::new(StatusCode::SERVICE_UNAVAILABLE, line);
    if let Some(refusal) = permit.refusal() {
        return Err(full(refusal));
    }
    let opening = match policy.judge(&request) {
        Err(answer) if !policy.answers_plainly(&request) => return Err(answer),
        opening => opening,
    };
    if opening.is_ok() && policy.is_suspended() {
        return Err(full(SUSPENDED));
    }
    permit.stay().map_err(|Evicted| full(MADE_ROOM))?;
    if opening.is_ok() {
        permit.take_path(&request.path).map_err(full)?;
    }
    let asks_to_upgrade = opening.is_ok();
    Ok((opening, UpgradeRequest::new(request, addr, asks_to_upgrade)))
}

pub(super) fn too_large() -> Answer {
    let line = "the head of the request is too large (Limits::header_len, Limits::headers)";
    Answer::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, line)
}

fn no_http(looks_like_tls: bool) -> Answer {
    let line = match looks_like_tls {
        true => "this server speaks no TLS; connect with ws:// instead of wss://",
        false => "this is no HTTP/1.1 request",
    };
    Answer::new(StatusCode::BAD_REQUEST, line)
}
