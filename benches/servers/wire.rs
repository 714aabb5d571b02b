//! Frames and handshakes by hand: what a load generator needs costs as little as it can.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Only fails a run that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const MASK: [u8; 4] = [0x3a, 0x91, 0x5c, 0xe7];

/// A text frame as a client sends it.
pub(crate) fn masked_frame(payload_len: usize) -> Vec<u8> {
    masked(&(0..payload_len).map(letter).collect::<Vec<_>>())
}

/// The same, with this text.
pub(crate) fn masked(text: &[u8]) -> Vec<u8> {
    let mut frame = header(text.len(), 0x80);
    frame.extend(MASK);
    frame.extend(text.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    frame
}

/// A text frame as a server sends it.
pub(crate) fn plain_frame(payload_len: usize) -> Vec<u8> {
    plain(&(0..payload_len).map(letter).collect::<Vec<_>>())
}

/// The same, with this text.
pub(crate) fn plain(text: &[u8]) -> Vec<u8> {
    let mut frame = header(text.len(), 0);
    frame.extend(text);
    frame
}

fn letter(at: usize) -> u8 {
    b'a' + (at % 26) as u8
}

fn header(payload_len: usize, mask_bit: u8) -> Vec<u8> {
    const FINAL_TEXT: u8 = 0x81;
    match payload_len {
        0..=125 => vec![FINAL_TEXT, mask_bit | payload_len as u8],
        126..=0xffff => [&[FINAL_TEXT, mask_bit | 126], &(payload_len as u16).to_be_bytes()[..]].concat(),
        _ => [&[FINAL_TEXT, mask_bit | 127], &(payload_len as u64).to_be_bytes()[..]].concat(),
    }
}

pub(crate) fn dial(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).expect("the server listens");
    socket.set_nodelay(true).expect("a connected socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a connected socket");
    socket
}

/// Asks for a connection, without waiting for the answer. `more` is lines of the request.
pub(crate) fn ask(stream: &mut impl Write, addr: SocketAddr, path: &str, more: &str) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the server reads");
}

/// Waits for the answer to [`ask`].
fn answered<S: Read>(mut stream: S) -> S {
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101"), "the server answered {head}");
    stream
}

/// Reads an HTTP head; nothing may follow it before we speak.
pub(crate) fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let len = stream.read(&mut buffer).expect("an HTTP head in time");
        assert!(len > 0, "the peer hung up in its handshake");
        head.extend(&buffer[..len]);
    }
    String::from_utf8(head).expect("an HTTP head is ASCII")
}

/// Opens as many connections as `paths` has.
pub(crate) fn connect_all(addr: SocketAddr, paths: impl Iterator<Item = String>) -> Vec<TcpStream> {
    connect_all_asking("", |socket| socket, addr, paths)
}

/// As [`connect_all`], over what `wrap` makes of a socket. `more` is lines of the requests.
pub(crate) fn connect_all_asking<S: Read + Write>(
    more: &str,
    wrap: impl Fn(TcpStream) -> S,
    addr: SocketAddr,
    paths: impl Iterator<Item = String>,
) -> Vec<S> {
    /// Below the backlog of any listener.
    const AT_A_TIME: usize = 50;
    let mut open = Vec::new();
    let mut asked = Vec::new();
    for path in paths {
        let mut stream = wrap(dial(addr));
        ask(&mut stream, addr, &path, more);
        asked.push(stream);
        if asked.len() == AT_A_TIME {
            open.extend(asked.drain(..).map(answered));
        }
    }
    open.extend(asked.into_iter().map(answered));
    open
}
