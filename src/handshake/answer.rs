//! A server's HTTP answers, and their safe arrival.

use std::time::{Duration, SystemTime};

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::transport::raw::Given;

/// How long a refused peer may take to read why, and how many of its further bytes are read meanwhile: a socket that is
/// closed with unread bytes is reset, and the answer is lost with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_LEN: u64 = 256 * 1024;

/// What an answer that opens a connection says before the digest of the key.
const SWITCHING: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ";

/// Most answers fit.
const USUAL_LEN: usize = 256;

/// The head of an answer, and a line of text.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Without its line break; empty on an answer that is no refusal.
    pub(super) line: String,
    pub(super) content: Content,
    /// On the one that opens a connection: the digest of the request's key (RFC 6455, section 4.2.2).
    pub(super) accept: Option<String>,
}

/// Whether the line is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Content {
    Sent,
    /// Only its length is sent: the request was a HEAD (RFC 9110, section 9.3.2).
    Measured,
    /// The status has no content (RFC 9110, sections 15.2, 15.3.5 and 15.4.5).
    None,
}

impl Answer {
    pub(super) fn new(status: StatusCode, line: impl Into<String>) -> Self {
        let has_content = !matches!(status.as_u16(), 100..=199 | 204 | 304);
        let content = if has_content { Content::Sent } else { Content::None };
        Self { status, headers: Vec::new(), line: line.into(), content, accept: None }
    }

    /// Opens a connection.
    pub(super) fn switching(accept: String) -> Self {
        Self { accept: Some(accept), ..Self::new(StatusCode::SWITCHING_PROTOCOLS, "") }
    }

    /// Without any content.
    #[cfg(feature = "http2")]
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { content: Content::None, ..Self::new(status, "") }
    }

    /// As an answer to HEAD.
    pub(super) fn measured(mut self) -> Self {
        if self.content == Content::Sent {
            self.content = Content::Measured;
        }
        self
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Tells the client which protocol and version to use (RFC 6455, section 4.4).
    pub(super) fn upgrade_required(line: &str) -> Self {
        let version = HeaderValue::from_static("13");
        Self::new(StatusCode::UPGRADE_REQUIRED, line).with(SEC_WEBSOCKET_VERSION, version)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let reason = self.status.canonical_reason().unwrap_or("Refused");
        let mut bytes = Vec::with_capacity(USUAL_LEN);
        for part in ["HTTP/1.1 ", self.status.as_str(), " ", reason, "\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
        if let Some(accept) = &self.accept {
            for part in [SWITCHING, accept, "\r\n"] {
                bytes.extend_from_slice(part.as_bytes());
            }
        }
        let mut add = |name: &HeaderName, value: &[u8]| {
            spell(name, &mut bytes);
            for part in [b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        };
        self.headers.iter().for_each(|(name, value)| add(name, value.as_bytes()));
        if self.accept.is_none() {
            self.usual_headers(&mut add);
        }
        bytes.extend_from_slice(b"\r\n");
        if self.content == Content::Sent {
            bytes.extend_from_slice(self.line.as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }

    /// For another HTTP server, which writes it.
    #[cfg(feature = "mount")]
    pub(super) fn into_response(self) -> http::Response<http_body_util::Full<bytes::Bytes>> {
        let mut add = Vec::new();
        if self.content == Content::Sent {
            add.push((CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
        }
        if self.accept.is_some() || self.status == StatusCode::UPGRADE_REQUIRED {
            add.push((UPGRADE, HeaderValue::from_static("websocket")));
            add.push((CONNECTION, HeaderValue::from_static("Upgrade")));
        }
        let Self { status, headers, line, content, accept } = self;
        let accept = accept.map(|accept| HeaderValue::try_from(accept).expect("base64 is a header value"));
        add.extend(accept.map(|accept| (http::header::SEC_WEBSOCKET_ACCEPT, accept)));
        let body = if content == Content::Sent { format!("{line}\n").into() } else { bytes::Bytes::new() };
        let mut response = http::Response::new(http_body_util::Full::new(body));
        *response.status_mut() = status;
        response.headers_mut().extend(add);
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }

    /// The headers of an answer after which the connection ends, except those that it has already.
    fn usual_headers(&self, add: &mut impl FnMut(&HeaderName, &[u8])) {
        let mut add = |name, value: &str| {
            if !self.headers.iter().any(|(own, _)| own == name) {
                add(name, value.as_bytes());
            }
        };
        add(&DATE, &httpdate::fmt_http_date(SystemTime::now()));
        if self.content != Content::None {
            add(&CONTENT_TYPE, "text/plain; charset=utf-8");
            add(&CONTENT_LENGTH, &(self.line.len() + 1).to_string());
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110, sections 15.5.22 and 7.8.
            add(&UPGRADE, "websocket");
            add(&CONNECTION, "Upgrade, close");
        } else {
            add(&CONNECTION, "close");
        }
    }

    async fn write<S: AsyncWrite + Unpin>(&self, stream: &mut S) -> std::io::Result<()> {
        stream.write_all(&self.bytes()).await?;
        stream.flush().await
    }

    /// Writes a refusal, and nothing more after it. The peer is then to be [seen off](see_off).
    pub(super) async fn write_last<S: AsyncWrite + Unpin>(&self, stream: &mut S) {
        let last_word = async {
            self.write(stream).await?;
            stream.shutdown().await
        };
        // A peer need not read the answer.
        let _ = timeout(LINGER, last_word).await;
    }
}

/// Waits until a refused peer has read why and hung up: dropped with unread bytes, the socket would take the answer along.
pub(crate) async fn see_off<S: AsyncRead + Unpin>(stream: S) {
    let mut rest = stream.take(LINGER_LEN);
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// A header that the program adds to an answer, if it is valid HTTP and not one that the handshake or HTTP itself sets.
pub(super) fn added_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = (HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    let is_ours = [CONNECTION, UPGRADE, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name);
    (!is_ours && !name.as_str().starts_with("sec-websocket-")).then_some((name, value))
}

/// Appends a header's name as RFC 6455 and most programs spell it: case means nothing, but some peers do not know that.
fn spell(name: &HeaderName, bytes: &mut Vec<u8>) {
    for (number, word) in name.as_str().as_bytes().split(|byte| *byte == b'-').enumerate() {
        bytes.extend_from_slice(if number > 0 { b"-" } else { b"" });
        let begin = bytes.len();
        bytes.extend_from_slice(match word {
            b"websocket" => b"WebSocket",
            b"www" => b"WWW",
            word => word,
        });
        bytes[begin..].iter_mut().take(1).for_each(|first| first.make_ascii_uppercase());
    }
}

/// Tells a peer that there is no room for it, if its stream takes that at once: not even a task is spent on it.
pub(crate) fn turn_away(stream: Given, line: &str) {
    let answer = Answer::new(StatusCode::SERVICE_UNAVAILABLE, line).bytes();
    // A best effort: the peer is dropped in any case.
    let _ = stream.write_last(&answer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_has_a_line_of_text_and_its_length() {
        let text = String::from_utf8(Answer::upgrade_required("come with 13").bytes()).unwrap();
        assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nDate: "), "{text}");
        assert!(text.contains("\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"), "{text}");
        assert!(text.contains("Content-Length: 13\r\n") && text.ends_with("\r\n\r\ncome with 13\n"), "{text}");
    }

    #[test]
    fn answer_has_content_only_where_request_and_status_allow_it() {
        let text = |answer: Answer| String::from_utf8(answer.bytes()).unwrap();
        let head = text(Answer::new(StatusCode::OK, "fine").measured());
        assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
            let empty = text(Answer::new(status, "nothing").measured());
            assert!(!empty.contains("Content-") && empty.ends_with("\r\n\r\n"), "{empty}");
        }
    }

    #[test]
    fn names_are_spelled_as_others_spell_them() {
        let names = [("sec-websocket-accept", "Sec-WebSocket-Accept"), ("www-authenticate", "WWW-Authenticate")];
        for (name, expected) in names.into_iter().chain([("x-a", "X-A"), ("allow", "Allow"), ("-a--1-", "-A--1-")]) {
            let mut spelled = Vec::new();
            spell(&HeaderName::from_static(name), &mut spelled);
            assert_eq!(spelled, expected.as_bytes());
        }
    }

    #[test]
    fn header_that_the_program_has_set_is_not_sent_twice() {
        let (name, value) = added_header("content-type", "application/json").unwrap();
        let text = String::from_utf8(Answer::new(StatusCode::OK, "{}").with(name, value).bytes()).unwrap();
        assert_eq!(text.matches("Content-Type").count(), 1, "{text}");
        for name in ["Connection", "content-length", "SEC-WebSocket-Accept", "no name", ""] {
            assert!(added_header(name, "x").is_none(), "{name}");
        }
    }

    #[test]
    fn answer_that_opens_a_connection_has_no_body() {
        let (name, value) = added_header("x-a", "1").unwrap();
        let text = String::from_utf8(Answer::switching("digest".into()).with(name, value).bytes()).unwrap();
        assert_eq!(text, format!("HTTP/1.1 101 Switching Protocols\r\n{SWITCHING}digest\r\nX-A: 1\r\n\r\n"));
    }
}
