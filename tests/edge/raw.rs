//! A peer that is nobody's library: it says what it is told, right or wrong.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    time::Duration,
};

use tungstenite::handshake::derive_accept_key;

use crate::support::PATIENCE;

/// The key of RFC 6455, section 1.3.
pub(crate) const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// A well-formed request, line by line.
pub(crate) const REQUEST: [&str; 6] =
    ["GET / HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY];

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const BINARY_BEGIN: u8 = 0x02;
pub(crate) const TEXT_BEGIN: u8 = 0x01;
pub(crate) const CONTINUATION: u8 = 0x00;
pub(crate) const LAST_CONTINUATION: u8 = 0x80;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;

/// Whose frames to make: a client's are masked (RFC 6455, section 5.1).
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A frame that begins with `first`. The mask is of zeros, which leaves the payload as it is.
pub(crate) fn frame(side: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(side, first, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

/// As [`frame`], without the payload.
pub(crate) fn header(side: Side, first: u8, len: u64) -> Vec<u8> {
    let mask = if side == Side::Client { 0x80 } else { 0 };
    let mut frame = match len {
        0..126 => vec![first, mask | len as u8],
        126..65_536 => [&[first, mask | 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, mask | 127][..], &len.to_be_bytes()].concat(),
    };
    if side == Side::Client {
        frame.extend_from_slice(&[0; 4]);
    }
    frame
}

pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) fn connect(addr: impl ToSocketAddrs) -> Self {
        Self::of(TcpStream::connect(addr).unwrap())
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// A client after its opening handshake.
    pub(crate) fn upgraded(addr: impl ToSocketAddrs) -> Self {
        Self::upgraded_on(addr, "/")
    }

    /// As [`upgraded`](Self::upgraded), on a path.
    pub(crate) fn upgraded_on(addr: impl ToSocketAddrs, path: &str) -> Self {
        let mut raw = Self::connect(addr);
        let mut request = REQUEST.map(String::from);
        request[0] = format!("GET {path} HTTP/1.1");
        raw.ask(&request);
        let answer = raw.head();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        raw
    }

    /// A server whose client has asked to upgrade, and the accept key for that.
    pub(crate) fn asked(listener: &TcpListener) -> (Self, String) {
        let (raw, request) = Self::requested(listener);
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
        let accept = derive_accept_key(key.as_bytes());
        (raw, accept)
    }

    /// A server whose client has asked to upgrade, and the request.
    pub(crate) fn requested(listener: &TcpListener) -> (Self, String) {
        let mut raw = Self::of(listener.accept().unwrap().0);
        let request = raw.head();
        (raw, request)
    }

    /// A server after its opening handshake.
    pub(crate) fn accepted(listener: &TcpListener) -> Self {
        let (mut raw, accept) = Self::asked(listener);
        raw.ask(&switching(&accept));
        raw
    }

    /// Sends the head of a request, or of an answer. What the peer refuses to take is lost.
    pub(crate) fn ask<S: AsRef<str>>(&mut self, lines: &[S]) {
        let head: String = lines.iter().map(|line| format!("{}\r\n", line.as_ref())).collect();
        self.send(format!("{head}\r\n").as_bytes());
    }

    /// Sends bytes; what a peer that has hung up does not take is lost.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Reads the head of a request or an answer, up to the empty line.
    pub(crate) fn head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && self.0.read(&mut byte).expect("a head comes") > 0 {
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// Reads `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).expect("so many bytes come");
        bytes
    }

    /// Reads to the end of the stream.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => rest,
            // Our own last words may have come to a closed socket: what was sent before is there nevertheless.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => rest,
            Err(error) => panic!("the peer does not hang up: {error}"),
        }
    }

    /// Reads to the end of the stream and returns the code of the close frame in it, 1005 for one without a code.
    pub(crate) fn close_code(&mut self) -> Option<u16> {
        let rest = self.rest();
        let mut frames = &rest[..];
        while let [first, second, ..] = *frames {
            let masked = second & 0x80 != 0;
            let (len, start) = match second & 0x7f {
                126 => (usize::from(u16::from_be_bytes(frames[2..4].try_into().unwrap())), 4),
                127 => (u64::from_be_bytes(frames[2..10].try_into().unwrap()) as usize, 10),
                len => (usize::from(len), 2),
            };
            let (key, start) =
                if masked { (frames[start..start + 4].to_vec(), start + 4) } else { (vec![0; 4], start) };
            let payload: Vec<u8> =
                frames[start..start + len].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            if first == CLOSE {
                return Some(payload.get(..2).map_or(1005, |code| u16::from_be_bytes(code.try_into().unwrap())));
            }
            frames = &frames[start + len..];
        }
        None
    }

    /// Sends until the peer takes nothing for a while, or everything was sent. Returns how much it took.
    pub(crate) fn flood(&mut self, chunk: &[u8], total: usize) -> usize {
        self.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut sent = 0;
        while sent < total {
            match self.0.write(&chunk[sent % chunk.len()..]) {
                Ok(len) => sent += len,
                Err(_) => break,
            }
        }
        sent
    }
}

/// The answer that opens a connection.
pub(crate) fn switching(accept: &str) -> Vec<String> {
    ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"]
        .map(String::from)
        .into_iter()
        .chain([format!("Sec-WebSocket-Accept: {accept}")])
        .collect()
}
