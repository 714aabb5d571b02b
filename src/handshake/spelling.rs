//! Header names as RFC 6455 spells them. Their case means nothing (RFC 9110, section 5.1), but some servers look for exactly
//! `Sec-WebSocket-Key`, and hyper writes `Sec-Websocket-Key`.

use std::{
    borrow::Cow,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How hyper begins a header line of the opening handshake.
const HYPERS: &[u8] = b"\r\nSec-Websocket-";

/// How RFC 6455 does.
const STANDARD: &[u8; HYPERS.len()] = b"\r\nSec-WebSocket-";

/// A stream on which the head of a request is written by hyper.
pub(super) struct Spelled<S>(pub(super) S);

/// hyper writes a head at once; if a stream takes a part that ends within a name, that name stays as hyper spells it.
fn spelled(head: &[u8]) -> Cow<'_, [u8]> {
    let mut spelled = Cow::Borrowed(head);
    for (at, _) in head.windows(HYPERS.len()).enumerate().filter(|(_, part)| *part == HYPERS) {
        spelled.to_mut()[at..at + HYPERS.len()].copy_from_slice(STANDARD);
    }
    spelled
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Spelled<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &spelled(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Spelled<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_the_standard_has_them_and_nothing_else_is_touched() {
        let head = b"GET /Sec-Websocket- HTTP/1.1\r\nSec-Websocket-Key: a\r\nX: Sec-Websocket-Key\r\nSec-Websocket-Version: 13\r\n";
        let expected = b"GET /Sec-Websocket- HTTP/1.1\r\nSec-WebSocket-Key: a\r\nX: Sec-Websocket-Key\r\nSec-WebSocket-Version: 13\r\n";
        assert_eq!(&*spelled(head), expected);
        assert!(matches!(spelled(b"Sec-Websocket-Key"), Cow::Borrowed(_)));
    }
}
