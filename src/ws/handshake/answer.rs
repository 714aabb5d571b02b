//! What a server answers over HTTP, and seeing that it arrives.

use std::{io::Write, net::TcpStream, time::Duration};

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_VERSION},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// How long a peer that was refused may take to read why, and how much of what it still sends is read meanwhile: a socket
/// that is closed with unread bytes is reset, and the answer lost with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_LEN: u64 = 256 * 1024;

/// The head of an answer, and a line of text.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Without its line break; empty on an answer that is no refusal.
    pub(super) line: String,
}

impl Answer {
    pub(super) fn new(status: StatusCode, line: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), line: line.into() }
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Tells which protocol and version to come with (RFC 6455, section 4.4).
    pub(super) fn upgrade_required(line: &str) -> Self {
        let version = HeaderValue::from_static("13");
        Self::new(StatusCode::UPGRADE_REQUIRED, line).with(SEC_WEBSOCKET_VERSION, version)
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { status, headers, line } = self;
        let reason = status.canonical_reason().unwrap_or("Refused");
        let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
        let mut add = |name: &HeaderName, value: &[u8]| {
            for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        };
        headers.iter().for_each(|(name, value)| add(name, value.as_bytes()));
        if *status != StatusCode::SWITCHING_PROTOCOLS {
            add(&CONTENT_TYPE, b"text/plain; charset=utf-8");
            add(&CONTENT_LENGTH, (line.len() + 1).to_string().as_bytes());
            add(&CONNECTION, b"close");
        }
        bytes.extend_from_slice(b"\r\n");
        if *status != StatusCode::SWITCHING_PROTOCOLS {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }

    pub(super) async fn write<S: AsyncWrite + Unpin>(&self, stream: &mut S) -> std::io::Result<()> {
        stream.write_all(&self.bytes()).await?;
        stream.flush().await
    }

    /// Writes a refusal and sees it off.
    pub(super) async fn write_last<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) {
        let farewell = async {
            self.write(&mut stream).await?;
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(LINGER_LEN), &mut tokio::io::sink()).await
        };
        // Whoever does not want to hear it does not have to.
        let _ = timeout(LINGER, farewell).await;
    }
}

/// Tells a peer that there is no room for it, if its socket takes that at once: not even a task is spent on it.
pub(crate) fn turn_away(stream: tokio::net::TcpStream, line: &str) {
    let answer = Answer::new(StatusCode::SERVICE_UNAVAILABLE, line).bytes();
    // A best effort: the peer is dropped in any case.
    let _ = stream.into_std().and_then(|mut stream: TcpStream| stream.write(&answer));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_has_a_line_of_text_and_its_length() {
        let text = String::from_utf8(Answer::upgrade_required("come with 13").bytes()).unwrap();
        assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\nsec-websocket-version: 13\r\n"), "{text}");
        assert!(text.contains("content-length: 13\r\n") && text.ends_with("\r\n\r\ncome with 13\n"), "{text}");
    }

    #[test]
    fn upgrade_has_no_body() {
        let bytes = Answer::new(StatusCode::SWITCHING_PROTOCOLS, "").bytes();
        assert_eq!(bytes, b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
    }
}
