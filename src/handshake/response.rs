//! [`HttpResponse`]: a server's answer to a client's opening handshake.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{DATE, RETRY_AFTER},
};

/// How many bytes of a refusal's body are kept.
pub(super) const BODY_LEN: usize = 1024;

/// How many characters of a refusal's body an error quotes.
const QUOTED_LEN: usize = 120;

/// A server's answer to the opening handshake of a client: the status, the headers, and the beginning of a refusal's body.
/// Cheap to clone.
///
/// [`ClientEvent::Connected`](crate::ClientEvent) has the answer that opened a connection, and
/// [`WsError::Rejected`](crate::WsError) the one that refused it:
///
/// ```no_run
/// use rxplus::prelude::*;
///
/// let client = RxWsClient::connect("ws://127.0.0.1:8765/chat", WsStr)?;
/// client.events().subscribe(|event| {
///     if let ClientEvent::ConnectFailed { error: WsError::Rejected { response, .. }, .. } = event {
///         println!("{}: {:?}", response.status(), response.header("X-Request-Id"));
///     }
/// });
/// # Ok::<(), WsError>(())
/// ```
#[derive(Clone)]
pub struct HttpResponse(Arc<Parts>);

struct Parts {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl HttpResponse {
    pub(crate) fn new(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Self {
        headers.values_mut().for_each(detach);
        Self(Arc::new(Parts { status, headers, body }))
    }

    /// The HTTP status; 101 if it opened a connection.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status.as_u16()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// The first value of a header, if it is text; names are the same in upper and lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The first 1,024 bytes of the body, or as many of them as came in time. Empty on an answer that opened a connection.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// How long the server asks the client to wait, by a `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3). A
    /// date is compared with the answer's own `Date`, so the clocks need not agree.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let given = self.header(RETRY_AFTER.as_str())?.trim();
        if !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit()) {
            // A number that is too large for its type stands for the longest time.
            return Some(Duration::from_secs(given.parse().unwrap_or(u64::MAX)));
        }
        let until = httpdate::parse_http_date(given).ok()?;
        let now = self.date(&DATE).unwrap_or_else(SystemTime::now);
        Some(until.duration_since(now).unwrap_or_default())
    }

    fn date(&self, name: &HeaderName) -> Option<SystemTime> {
        httpdate::parse_http_date(self.header(name.as_str())?).ok()
    }

    /// The first line of the body, cut short: the text of a refusal for people. Empty if the body is a page of HTML.
    pub(crate) fn line(&self) -> String {
        let body = String::from_utf8_lossy(self.body());
        let line = body.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        if line.starts_with('<') { String::new() } else { line.chars().take(QUOTED_LEN).collect() }
    }
}

/// Copies a value, so that it does not keep the memory that the whole answer was read into.
fn detach(value: &mut HeaderValue) {
    // Never an error: the value is valid already.
    if let Ok(copied) = HeaderValue::from_bytes(value.as_bytes()) {
        *value = copied;
    }
}

/// The headers may hold secrets, and are left out.
impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status())
            .field("line", &self.line())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(HeaderName, &str)], body: &'static str) -> HttpResponse {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        HttpResponse::new(StatusCode::SERVICE_UNAVAILABLE, headers.collect(), Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        const SUNDAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        let wait = |after: &str| response(&[(RETRY_AFTER, after), (DATE, SUNDAY)], "").retry_after();
        let secs = |secs| Some(Duration::from_secs(secs));
        assert_eq!(wait("120"), secs(120));
        assert_eq!(wait("99999999999999999999999"), secs(u64::MAX));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT"), secs(30));
        assert_eq!(wait("Sunday, 06-Nov-94 08:50:07 GMT"), secs(30));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:07 GMT"), secs(0));
        for nonsense in ["", "-1", "1.5", "soon", "+5"] {
            assert_eq!(wait(nonsense), None, "{nonsense}");
        }
        assert_eq!(response(&[], "").retry_after(), None);
    }

    #[test]
    fn retry_after_as_a_date_is_held_against_the_clock_where_the_answer_has_no_date() {
        let after = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
        let wait = response(&[(RETRY_AFTER, &after)], "").retry_after().unwrap();
        assert!((3500..=3600).contains(&wait.as_secs()), "{wait:?}");
    }

    #[test]
    fn line_is_the_first_of_the_body_and_no_page() {
        assert_eq!(response(&[], "\r\n  slow down \r\nplease").line(), "slow down");
        assert_eq!(response(&[], "<!DOCTYPE html>\n<p>no").line(), "");
        assert_eq!(response(&[], "").line(), "");
        assert_eq!(
            HttpResponse::new(StatusCode::OK, HeaderMap::new(), "x".repeat(900).into()).line().len(),
            QUOTED_LEN
        );
    }

    #[test]
    fn headers_do_not_hold_on_to_the_memory_of_the_answer() {
        let answer = Bytes::from(vec![b'x'; 8192]);
        let value = HeaderValue::from_maybe_shared(answer.slice(10..20)).unwrap();
        let headers = HeaderMap::from_iter([(DATE, value.clone()), (DATE, value)]);
        let response = HttpResponse::new(StatusCode::OK, headers, Bytes::new());
        assert_eq!(response.header("Date"), Some("xxxxxxxxxx"));
        assert!(answer.is_unique());
    }

    #[test]
    fn debug_has_no_headers_and_escapes_what_the_server_says() {
        let response = response(&[(http::header::SET_COOKIE, "session=secret")], "no\u{1b}[2J");
        let debug = format!("{response:?}");
        assert!(!debug.contains("secret") && !debug.contains('\u{1b}') && debug.contains("no\\u{1b}"), "{debug}");
    }
}
