//! A load that speaks the resumable mode: it takes a session, and acknowledges what it hears as rxplus does.

use std::{
    io::{Read, Write},
    mem::take,
    net::{SocketAddr, TcpStream},
};

use crate::wire::{self, masked};

/// What a client offers.
const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol: rxplus.resume.1\r\n";

/// The first byte of a control message.
const DLE: u8 = 0x10;

/// When an acknowledgement is due: at so many messages, or so many bytes.
const ACK_MESSAGES: u64 = 128;
const ACK_LEN: usize = 32 * 1024;

/// The client's side of a session: tells the program's messages from the session's own, and counts them.
#[derive(Default)]
pub(crate) struct Session {
    /// The beginning of a frame whose kind is not known yet.
    begun: Vec<u8>,
    /// The bytes of beginnings that have turned out to be messages.
    late: usize,
    /// The bytes that are still to come of the frame, and whether it is a message of the program.
    left: usize,
    is_payload: bool,
    received: u64,
    acked: u64,
    unacked_len: usize,
}

impl Session {
    /// Reads what the server wrote. Returns how many bytes of it are messages of the program, with their heads.
    pub(crate) fn hear(&mut self, mut bytes: &[u8]) -> usize {
        let mut of_payloads = 0;
        while !bytes.is_empty() {
            let (len, is_payload) = if self.left > 0 { self.go_on(bytes) } else { self.begin(bytes) };
            of_payloads += if is_payload { len } else { 0 };
            bytes = &bytes[len..];
        }
        of_payloads + take(&mut self.late)
    }

    /// Takes the rest of a frame, or what has come of it.
    fn go_on(&mut self, bytes: &[u8]) -> (usize, bool) {
        let len = self.left.min(bytes.len());
        self.left -= len;
        (len, self.is_payload)
    }

    /// Takes the head of a frame and its first byte, or what has come of them.
    fn begin(&mut self, bytes: &[u8]) -> (usize, bool) {
        let before = self.begun.len();
        let begun = match before {
            0 => Begun::read(bytes),
            _ => {
                self.begun.extend(&bytes[..bytes.len().min(Begun::MAX_LEN - before)]);
                Begun::read(&self.begun)
            }
        };
        let Some(Begun { len, left, is_payload }) = begun else {
            if before == 0 {
                self.begun.extend(bytes);
            }
            return (bytes.len(), false);
        };
        self.begun.clear();
        (self.left, self.is_payload) = (left, is_payload);
        if is_payload {
            self.received += 1;
            self.unacked_len += left + 1;
            self.late += before;
        }
        (len - before, is_payload)
    }

    /// The acknowledgement that is due.
    pub(crate) fn ack(&mut self) -> Option<Vec<u8>> {
        let is_due = self.received - self.acked >= ACK_MESSAGES || self.unacked_len >= ACK_LEN;
        is_due.then(|| {
            (self.acked, self.unacked_len) = (self.received, 0);
            control(&format!("ack {}", self.received))
        })
    }
}

fn control(text: &str) -> Vec<u8> {
    masked(&[&[DLE], text.as_bytes()].concat())
}

/// The head of a frame with the first byte of its payload, and how many bytes follow.
struct Begun {
    len: usize,
    left: usize,
    is_payload: bool,
}

impl Begun {
    const MAX_LEN: usize = 11;

    /// None if it is not whole. No frame is empty here.
    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        let (head_len, payload_len) = match *bytes.get(1)? {
            126 => (4, number(bytes.get(2..4)?)),
            127 => (10, number(bytes.get(2..10)?)),
            len => (2, usize::from(len)),
        };
        Some(Self { len: head_len + 1, left: payload_len - 1, is_payload: *bytes.get(head_len)? != DLE })
    }
}

/// Opens as many connections as `paths` has, each with a session.
pub(crate) fn connect_all(addr: SocketAddr, paths: impl Iterator<Item = String>) -> Vec<TcpStream> {
    paths.map(|path| connect(addr, &path)).collect()
}

fn connect(addr: SocketAddr, path: &str) -> TcpStream {
    let mut stream = wire::dial(addr);
    wire::ask(&mut stream, addr, path, SUBPROTOCOL);
    let mut answer = Vec::new();
    read_until(&mut stream, &mut answer, |answer| ends_with_control(answer, "hello"));
    assert!(answer.starts_with(b"HTTP/1.1 101"), "the server lets a resumable client in");
    stream.write_all(&control("new")).expect("the server reads");
    answer.clear();
    read_until(&mut stream, &mut answer, |answer| ends_with_control(answer, "ack 0"));
    stream
}

/// Whether the last frame that has arrived is whole, and a control message that begins so.
fn ends_with_control(answer: &[u8], verb: &str) -> bool {
    let Some(at) = answer.iter().rposition(|byte| *byte == DLE) else { return false };
    let text = &answer[at..];
    at > 0 && text.len() == usize::from(answer[at - 1]) && text[1..].starts_with(verb.as_bytes())
}

fn read_until(stream: &mut TcpStream, answer: &mut Vec<u8>, is_whole: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 1024];
    while !is_whole(answer) {
        let len = stream.read(&mut buffer).expect("an answer in time");
        assert!(len > 0, "the server hung up before the session began");
        answer.extend(&buffer[..len]);
    }
}
