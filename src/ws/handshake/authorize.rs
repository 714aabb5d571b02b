//! What a server's `authorize` sees and says: [`UpgradeRequest`] and [`Refuse`].

use std::{
    any::Any,
    fmt,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::answer::Answer;
use crate::callback;

/// The HTTP request that is to become a connection. Cheap to clone.
#[derive(Clone)]
pub struct UpgradeRequest(Arc<Parts>);

struct Parts {
    method: Method,
    path: Box<str>,
    query: Option<Box<str>>,
    /// The headers as they go over the wire: an open connection keeps them, and as a map they take 100 bytes each.
    packed: Box<[u8]>,
    /// Made when they are first asked for.
    headers: OnceLock<Box<HeaderMap>>,
    peer_addr: SocketAddr,
}

impl UpgradeRequest {
    pub(super) fn new(request: http::Request<()>, peer_addr: SocketAddr) -> Self {
        let (parts, ()) = request.into_parts();
        let (path, query) = (parts.uri.path().into(), parts.uri.query().map(Into::into));
        let (packed, headers) = (pack(&parts.headers), OnceLock::new());
        Self(Arc::new(Parts { method: parts.method, path, query, packed, headers, peer_addr }))
    }

    /// The method, which is `GET`: others have been refused already.
    #[must_use]
    pub fn method(&self) -> &str {
        self.0.method.as_str()
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// What follows the `?`, as it stands in the URL.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.0.query.as_deref()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers.get_or_init(|| Box::new(unpack(&self.0.packed)))
    }

    /// The first value of a header, if it is text; names are the same in upper and lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Where it comes from: the client, or the last proxy before the server.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.0.peer_addr
    }
}

fn pack(headers: &HeaderMap) -> Box<[u8]> {
    let lines = headers.iter().map(|(name, value)| [name.as_str().as_bytes(), b":", value.as_bytes(), b"\n"].concat());
    lines.collect::<Vec<_>>().concat().into()
}

fn unpack(packed: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    packed.split(|byte| *byte == b'\n').filter_map(header).for_each(|(name, value)| _ = headers.append(name, value));
    headers
}

/// Neither a name nor a value has a line feed, and a name has no colon (RFC 9110, section 5).
fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let name_len = line.iter().position(|byte| *byte == b':')?;
    Some((HeaderName::from_bytes(&line[..name_len]).ok()?, HeaderValue::from_bytes(&line[name_len + 1..]).ok()?))
}

/// The headers may hold secrets, and are left out.
impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { path, peer_addr, .. } = &*self.0;
        f.debug_struct("UpgradeRequest").field("path", path).field("peer_addr", peer_addr).finish_non_exhaustive()
    }
}

/// The answer to a request that is not to become a connection: what [`authorize`](crate::ServerBuilder::authorize) returns
/// to refuse one.
///
/// ```
/// use rxplus::Refuse;
///
/// let refuse = Refuse::status(401).because("log in first").header("WWW-Authenticate", "Bearer");
/// ```
#[must_use]
#[derive(Clone, Debug)]
pub struct Refuse(Answer);

impl Refuse {
    /// Answers with an HTTP status and its usual text.
    ///
    /// # Panics
    ///
    /// If `status` is not from 300 to 599: the others do not refuse.
    pub fn status(status: u16) -> Self {
        let valid = StatusCode::from_u16(status).ok().filter(|_| (300..=599).contains(&status));
        let status = valid.unwrap_or_else(|| panic!("a refusal has a status from 300 to 599, not {status}"));
        Self(Answer::new(status, status.canonical_reason().unwrap_or("refused").to_lowercase()))
    }

    /// Sets the line of text in the answer. The peer reads it, and the server's event has it too.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.0.line = reason.into();
        self
    }

    /// Adds a header to the answer, `Retry-After` or `Location` say.
    ///
    /// # Panics
    ///
    /// If it is not valid HTTP.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => self.0.headers.push((name, value)),
            _ => panic!("\"{name}\" is not a valid HTTP header, or its value is not"),
        };
        self
    }

    pub(super) fn into_answer(self) -> Answer {
        self.0
    }
}

/// What the program knows of a connection since its `authorize`.
pub(crate) type Grant = Arc<dyn Any + Send + Sync>;

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
        Self(Arc::new(move |request| {
            let deciding = decide(request);
            Box::pin(async { deciding.await.map(|grant| Arc::new(grant) as Grant) })
        }))
    }

    /// Asks the program. A panic of its is an answer with status 500, and goes no further.
    pub(super) async fn decide(&self, request: UpgradeRequest) -> Result<Grant, Refuse> {
        let mut deciding = None;
        callback::run(|| callback::isolate("authorize", || deciding = Some((self.0)(request))));
        match deciding {
            Some(deciding) => Isolated(Some(deciding)).await,
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

/// A decision whose pushes wait until it yields, and whose panics go no further, those of its destructor included.
struct Isolated(Option<Deciding>);

impl Future for Isolated {
    type Output = Result<Grant, Refuse>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(deciding) = &mut self.0 else { return Poll::Ready(Err(failed())) };
        let mut polled = Poll::Ready(Err(failed()));
        callback::run(|| callback::isolate("authorize", || polled = deciding.as_mut().poll(cx)));
        polled
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        let deciding = self.0.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(deciding))) {
            callback::isolate("authorize", || std::panic::resume_unwind(panic));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_out_as_they_went_in(lines in prop::collection::vec(("[a-c]{1,2}", "[ -~\u{e9}\t]{0,9}"), 0..9)) {
            let mut headers = HeaderMap::new();
            for (name, value) in &lines {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            prop_assert_eq!(unpack(&pack(&headers)), headers);
        }
    }
}
