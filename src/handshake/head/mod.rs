//! Reading the head of a request, with hyper's parser but in no more memory than the head takes.

mod headers;

use std::io;

use bytes::{Bytes, BytesMut};
use http::{
    Method, Version,
    header::{CONNECTION, UPGRADE},
};
use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt};

#[cfg(feature = "mount")]
use super::answer::Answer;
use super::has_token;
use crate::{Tag, limits::Limits};

pub(super) use headers::Headers;

/// Most programs' heads fit; the buffer grows with the head.
const USUAL_LEN: usize = 512;

/// Most programs' heads have no more; room for more takes memory of its own.
const USUAL_HEADERS: usize = 32;

/// Up to this length, the bytes are parsed again after every read; from then on only after a line has ended. An invalid
/// request line fits in it: a peer that speaks another protocol is answered at once.
const FIRST_LOOK_LEN: usize = 64;

/// As long as a [`HeaderName`](http::HeaderName) can be.
const NAME_LEN: usize = u16::MAX as usize;

/// The first byte of a TLS record that holds a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    /// In the form sent, like the query. It does not begin with a slash if the request is for no path.
    pub(super) path: Tag,
    pub(super) query: Option<Box<str>>,
    pub(super) version: Version,
    pub(super) headers: Headers,
    pub(super) form: Form,
}

/// How a request asks for a WebSocket connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// By an upgrade of HTTP/1.1 (RFC 6455, section 4).
    Upgrade,
    /// By an extended CONNECT of HTTP/2 (RFC 8441).
    #[cfg(feature = "http2")]
    Connect,
}

/// The reason why there is no request.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The peer left.
    Gone(io::Error),
    TooLarge,
    NoHttp {
        looks_like_tls: bool,
    },
}

/// Reads the head of a request. Also returns the bytes after it.
pub(super) async fn read<S>(stream: &mut S, limits: &Limits) -> Result<(Head, Bytes), Unreadable>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = BytesMut::with_capacity(USUAL_LEN);
    loop {
        let seen = bytes.len();
        let room = limits.header_len.saturating_sub(seen) as u64;
        if room == 0 {
            return Err(Unreadable::TooLarge);
        }
        match (&mut *stream).take(room).read_buf(&mut bytes).await {
            Ok(0) => return Err(Unreadable::Gone(io::Error::new(io::ErrorKind::UnexpectedEof, "no request came"))),
            Ok(_) => {}
            Err(error) => return Err(Unreadable::Gone(error)),
        }
        // The parser passes over empty lines before a request: if they do not end, it would pass over all of them at each
        // look.
        if bytes.len() >= FIRST_LOOK_LEN && bytes[..FIRST_LOOK_LEN].iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            return Err(Unreadable::NoHttp { looks_like_tls: false });
        }
        let worth_a_look = seen < FIRST_LOOK_LEN || bytes[seen..].contains(&b'\n');
        if worth_a_look && let Some((request, len)) = parse(&bytes, limits.headers)? {
            // Copied: a slice would keep the head in memory for as long as the connection's driver has it.
            return Ok((request, Bytes::copy_from_slice(&bytes[len..])));
        }
    }
}

/// The request that `bytes` begin with, and the length of its head, if that is complete.
fn parse(bytes: &[u8], max_headers: usize) -> Result<Option<(Head, usize)>, Unreadable> {
    let mut few = [httparse::EMPTY_HEADER; USUAL_HEADERS];
    match parse_into(&mut few[..max_headers.min(USUAL_HEADERS)], bytes) {
        Err(Unreadable::TooLarge) if max_headers > USUAL_HEADERS => {
            parse_into(&mut vec![httparse::EMPTY_HEADER; max_headers], bytes)
        }
        read => read,
    }
}

/// As [`parse`], if `headers` has room for all.
fn parse_into<'b>(headers: &mut [httparse::Header<'b>], bytes: &'b [u8]) -> Result<Option<(Head, usize)>, Unreadable> {
    let mut request = httparse::Request::new(headers);
    let no_http = || Unreadable::NoHttp { looks_like_tls: bytes.first() == Some(&TLS_HANDSHAKE) };
    match request.parse(bytes) {
        Ok(Status::Complete(len)) => {
            let request = convert(&request).ok_or_else(no_http)?;
            Ok(Some((request, len)))
        }
        Ok(Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(Unreadable::TooLarge),
        Err(_) => Err(no_http()),
    }
}

fn convert(parsed: &httparse::Request<'_, '_>) -> Option<Head> {
    if parsed.headers.iter().any(|header| header.name.len() > NAME_LEN) {
        return None;
    }
    let headers = Headers::pack(parsed.headers.iter().map(|header| (header.name, header.value)));
    let method = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    let (path, query) = path_and_query(parsed.path?);
    let version = if parsed.version? == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    Some(Head { method, path: path.into(), query: query.map(Into::into), version, headers, form: Form::Upgrade })
}

/// The path and the query of a request target (RFC 9112, section 3.2). Everything that the parser accepts is taken as it
/// stands: some clients leave characters unescaped that should be escaped, and other servers serve them.
fn path_and_query(target: &str) -> (&str, Option<&str>) {
    let target = target.split('#').next().unwrap_or(target);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    match path.split_once("://") {
        // The form that proxies use: with the scheme and the host before the path.
        Some((scheme, rest)) if !scheme.contains('/') && !rest.starts_with('/') && !rest.is_empty() => {
            (rest.find('/').map_or("/", |at| &rest[at..]), query)
        }
        _ => (path, query),
    }
}

#[cfg(feature = "mount")]
impl Form {
    /// The answer that refuses such a request: to a CONNECT, any status of success opens the tunnel (RFC 9110, section 9.3.6).
    pub(super) fn refusal(self, answer: Answer) -> Answer {
        match self {
            Self::Upgrade => answer,
            #[cfg(feature = "http2")]
            Self::Connect if answer.status.is_success() => Answer { status: http::StatusCode::FORBIDDEN, ..answer },
            #[cfg(feature = "http2")]
            Self::Connect => answer,
        }
    }
}

#[cfg(feature = "mount")]
impl Head {
    /// Whether it is within the limits of a head that this server reads itself.
    pub(super) fn fits(&self, limits: &Limits) -> bool {
        let target = self.path.len() + self.query.as_ref().map_or(0, |query| query.len());
        // Each line has a colon, a space and a line break (RFC 9112, section 5).
        let lines = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4);
        self.headers.iter().count() <= limits.headers && target + lines.sum::<usize>() <= limits.header_len
    }
}

impl Head {
    /// Whether it asks for a WebSocket connection, in whatever version of that protocol.
    pub(super) fn asks_to_upgrade(&self) -> bool {
        match self.form {
            Form::Upgrade => self.has_upgrade_headers(),
            #[cfg(feature = "http2")]
            Form::Connect => true,
        }
    }

    fn has_upgrade_headers(&self) -> bool {
        self.version >= Version::HTTP_11
            && has_token(self.headers.get_all(&UPGRADE), "websocket")
            && has_token(self.headers.get_all(&CONNECTION), "upgrade")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        futures::executor::block_on(future)
    }

    fn read_all(mut bytes: &[u8]) -> Result<(Head, Bytes), Unreadable> {
        run(read(&mut bytes, &Limits::server()))
    }

    #[test]
    fn head_and_what_follows_are_told_apart() {
        let (request, rest) = read_all(b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nX: \xff\r\n\r\nrest").unwrap();
        assert_eq!((&*request.path, request.query.as_deref()), ("/a", Some("b=c")));
        assert!(request.headers.iter().eq([(&b"host"[..], &b"h"[..]), (b"x", b"\xff")]));
        assert_eq!(&rest[..], b"rest");
    }

    #[test]
    fn what_is_no_request_is_known_before_its_end() {
        for bytes in [&b"\x16\x03\x01\x02"[..], b"\0", b"GET / HTTP/3.0\r\n", b"GET / HTTP/1.1\r\nno colon\r\n"] {
            // The parser waits for no more: the end of the stream would be another error.
            assert!(matches!(read_all(bytes), Err(Unreadable::NoHttp { .. })), "{bytes:?}");
        }
        assert!(matches!(read_all(b"GET / HTTP/1.1\r\n"), Err(Unreadable::Gone(_))));
    }

    #[test]
    fn as_many_headers_are_read_as_limits_can_allow_and_not_one_more() {
        let limits = Limits::server().headers(1000).header_len(1 << 20);
        let read_with = |count| {
            let lines: String = (0..count).map(|n| format!("h{n}: 1\r\n")).collect();
            run(read(&mut format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes(), &limits))
        };
        assert!(matches!(read_with(1000), Ok((request, _)) if request.headers.iter().count() == 1000));
        assert!(matches!(read_with(1001), Err(Unreadable::TooLarge)));
    }

    #[test]
    fn empty_lines_come_before_a_request_but_not_without_end() {
        assert!(read_all(b"\r\n\n\r\nGET / HTTP/1.1\r\n\r\n").is_ok());
        let endless = [&[b'\n'; FIRST_LOOK_LEN][..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert!(matches!(read_all(&endless), Err(Unreadable::NoHttp { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_the_way_they_are_split_does_not_matter(
            bytes in "(GET|POST|[A-Z]) [ -~]{0,9} HTTP/1.[01]\r\n([a-zA-Z:]{0,5}[: ]{0,3}[ -~]{0,9}\r\n){0,3}(\r\n)?.{0,9}",
            split: prop::sample::Index,
        ) {
            let bytes = bytes.as_bytes();
            let (first, second) = bytes.split_at(split.index(bytes.len() + 1));
            let mut parts = AsyncReadExt::chain(first, second);
            let split = run(read(&mut parts, &Limits::server()));
            let whole = read_all(bytes);
            let summary = |read: Result<(Head, Bytes), Unreadable>| match read {
                Ok((request, rest)) => format!("{request:?} {}", rest.len()),
                Err(error) => format!("{error:?}"),
            };
            // The bytes after the head may come later.
            if !matches!(&whole, Ok((_, rest)) if !rest.is_empty()) {
                prop_assert_eq!(summary(split), summary(whole));
            }
        }

        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes: Vec<u8>) {
            let _ = read_all(&bytes);
        }
    }
}
