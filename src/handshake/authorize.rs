//! The input and the results of a server's `authorize`: [`UpgradeRequest`], [`Grant`] and [`Refuse`].

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::{
    answer::{Answer, added_header},
    head::{Form, Head, Headers},
};
use crate::{
    Addr, Tag,
    runtime::{UserValue, callback},
};

/// The HTTP request that is to become a connection. Cheap to clone.
#[derive(Clone)]
pub struct UpgradeRequest(Arc<Parts>);

struct Parts {
    /// `None` for `GET`, which all have that become connections.
    method: Option<Box<Method>>,
    /// Shared with all parts that name the connection by its path.
    path: Tag,
    query: Option<Box<str>>,
    headers: Headers,
    /// The headers as a map, made when it is first asked for.
    map: OnceLock<Box<HeaderMap>>,
    peer_addr: Addr,
    asks_to_upgrade: bool,
}

impl UpgradeRequest {
    pub(super) fn new(head: Head, peer_addr: Addr, asks_to_upgrade: bool) -> Self {
        let Head { method, path, query, headers, .. } = head;
        let (method, map) = ((method != Method::GET).then(|| method.into()), OnceLock::new());
        Self(Arc::new(Parts { method, path, query, headers, map, peer_addr, asks_to_upgrade }))
    }

    /// That of a stream whose handshake the program has made: without headers.
    pub(crate) fn made_elsewhere(path: Tag, peer_addr: Addr) -> Self {
        let (method, version, headers) = (Method::GET, Version::HTTP_11, (&HeaderMap::new()).into());
        Self::new(Head { method, path, query: None, version, headers, form: Form::Upgrade }, peer_addr, true)
    }

    /// Whether it asks for a WebSocket connection. A server's `authorize` sees other requests only after
    /// [`answer_plain_requests`](crate::ServerBuilder::answer_plain_requests).
    #[must_use]
    pub fn asks_to_upgrade(&self) -> bool {
        self.0.asks_to_upgrade
    }

    /// The method. It is `GET`, unless the request [asks for no connection](Self::asks_to_upgrade).
    #[must_use]
    pub fn method(&self) -> &str {
        self.0.method.as_deref().unwrap_or(&Method::GET).as_str()
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    pub(crate) fn tag(&self) -> &Tag {
        &self.0.path
    }

    /// The query string: the part after the `?`, as it stands in the URL.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.0.query.as_deref()
    }

    /// The parts of the query string, decoded: names and values, in their order. `+` is a blank, `%2B` a plus; a part without `=`
    /// has an empty value, and bytes that are no UTF-8 become `U+FFFD` (the URL standard's `application/x-www-form-urlencoded`).
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
    ///     .authorize(|request| async move {
    ///         let token = request.query_pairs().find(|(name, _)| name == "token").map(|(_, value)| value.into_owned());
    ///         token.filter(|token| token == "open sesame").ok_or(Refuse::status(401))
    ///     })
    ///     .bind()?;
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.query().unwrap_or_default().as_bytes())
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.0.map.get_or_init(|| Box::new(self.0.headers.to_map()))
    }

    /// The first value of a header, if it is text; names are the same in upper and lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// As [`header`](Self::header), in any bytes, and without making a map of all that an open connection would then keep.
    pub(crate) fn packed_header(&self, name: &HeaderName) -> Option<&[u8]> {
        self.0.headers.get_all(name).next()
    }

    /// The address of the client, or of the last proxy before the server.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.0.peer_addr.clone()
    }
}

/// The headers may hold secrets, and are left out.
impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { path, peer_addr, .. } = &*self.0;
        f.debug_struct("UpgradeRequest").field("path", path).field("peer_addr", peer_addr).finish_non_exhaustive()
    }
}

/// A result that [`authorize`](crate::ServerBuilder::authorize) may return instead of a plain value, to add headers to the
/// answer that opens the connection.
///
/// ```
/// use rxplus::Grant;
///
/// struct User(String);
///
/// let grant = Grant::new(User("Ali".into())).header("Set-Cookie", "session=7; HttpOnly");
/// ```
#[must_use]
pub struct Grant {
    pub(super) value: Granted,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Grant {
    /// Lets a request in. [`Connection::grant`](crate::Connection::grant) finds `value`.
    pub fn new(value: impl Any + Send + Sync) -> Self {
        Self { value: Granted::new(Box::new(value)), headers: Vec::new() }
    }

    /// Adds a header to the answer.
    ///
    /// # Panics
    ///
    /// If it is not valid HTTP, or one that the handshake or HTTP itself sets: `Connection`, `Upgrade`, `Content-Length`,
    /// `Transfer-Encoding` and all names that begin with `Sec-WebSocket-`.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(header_or_panic(name, value));
        self
    }

    /// The grant that `authorize` returned, or a new one around its plain value.
    pub(crate) fn of(returned: impl Any + Send + Sync) -> Self {
        let returned: Box<dyn Any + Send + Sync> = Box::new(returned);
        match returned.downcast::<Self>() {
            Ok(grant) => *grant,
            Err(value) => Self { value: Granted::new(value), headers: Vec::new() },
        }
    }
}

impl Grant {
    pub(crate) fn into_value(self) -> Granted {
        self.value
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").finish_non_exhaustive()
    }
}

fn header_or_panic(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    let header = added_header(name, value);
    header.unwrap_or_else(|| panic!("\"{name}\" is not a header that can be added to an answer, or its value is not"))
}

/// The answer to a request that is not to become a connection: [`authorize`](crate::ServerBuilder::authorize) returns it
/// instead of a grant.
///
/// ```
/// use rxplus::Refuse;
///
/// let refuse = Refuse::status(401).because("log in first").header("WWW-Authenticate", "Bearer");
/// let healthy = Refuse::status(200).because("fine");
/// ```
#[must_use]
#[derive(Clone, Debug)]
pub struct Refuse(Answer);

impl Refuse {
    /// Answers with an HTTP status and its usual text.
    ///
    /// # Panics
    ///
    /// If `status` is not from 200 to 599: other statuses are no final answer.
    pub fn status(status: u16) -> Self {
        let valid = StatusCode::from_u16(status).ok().filter(|_| (200..=599).contains(&status));
        let status = valid.unwrap_or_else(|| panic!("an answer has a status from 200 to 599, not {status}"));
        Self(Answer::new(status, status.canonical_reason().unwrap_or("refused").to_lowercase()))
    }

    /// Sets the line of text in the answer. The peer reads it, and the server's event has it too.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.0.line = reason.into();
        self
    }

    /// Adds a header to the answer, such as `Retry-After` or `Location`.
    ///
    /// # Panics
    ///
    /// As [`Grant::header`].
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers.push(header_or_panic(name, value));
        self
    }

    pub(super) fn into_answer(self) -> Answer {
        self.0
    }
}

/// The value that `authorize` has given to a connection. It goes with whatever holds the connection last, and that may be a loop
/// over all connections.
pub(crate) type Granted = UserValue<Box<dyn Any + Send + Sync>>;

type Deciding = Pin<Box<dyn Future<Output = Result<Grant, Refuse>> + Send>>;

/// The program's decision on whom to let in.
#[derive(Clone)]
pub(crate) struct Authorize(Arc<dyn Fn(UpgradeRequest) -> Deciding + Send + Sync>);

impl Authorize {
    pub(crate) fn new<F, R, G>(decide: F) -> Self
    where
        F: Fn(UpgradeRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<G, Refuse>> + Send + 'static,
        G: Send + Sync + 'static,
    {
        let decide = UserValue::new(decide);
        Self(Arc::new(move |request| {
            let deciding = decide(request);
            Box::pin(async { deciding.await.map(Grant::of) })
        }))
    }

    /// Asks the program. If it panics, the answer has status 500, and the panic goes no further.
    pub(super) async fn decide(&self, request: UpgradeRequest) -> Result<Grant, Refuse> {
        let mut deciding = None;
        callback::run(|| callback::isolate("authorize", || deciding = Some((self.0)(request))));
        match deciding {
            Some(deciding) => Isolated(UserValue::new(deciding)).await,
            None => Err(failed()),
        }
    }
}

impl fmt::Debug for Authorize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorize")
    }
}

fn failed() -> Refuse {
    Refuse::status(500).because("the server failed to decide on this request")
}

/// A decision whose pushes wait until it yields, and whose panics go no further, including those of its destructor.
struct Isolated(UserValue<Deciding>);

impl Future for Isolated {
    type Output = Result<Grant, Refuse>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut polled = Poll::Ready(Err(failed()));
        callback::run(|| callback::isolate("authorize", || polled = self.0.as_mut().poll(cx)));
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_header_is_found_without_a_map_of_all() {
        let lines = [("x-origin", "no"), ("origin", "http://a:8"), ("origin", "second")];
        let named = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers = HeaderMap::new();
        lines.map(named).into_iter().for_each(|(name, value)| _ = headers.append(name, value));
        let (path, method, version) = (Tag::from("/"), Method::GET, Version::HTTP_11);
        let head = Head { method, path, query: None, version, headers: (&headers).into(), form: Form::Upgrade };
        let request = UpgradeRequest::new(head, Addr::Unknown, true);
        assert_eq!(request.packed_header(&http::header::ORIGIN), Some(&b"http://a:8"[..]));
        assert_eq!(request.packed_header(&http::header::HOST), None);
        assert!(request.0.map.get().is_none());
    }
}
