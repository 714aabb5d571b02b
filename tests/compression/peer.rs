//! Peers that write each byte themselves.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use flate2::{Compress, Compression, FlushCompress};
use tungstenite::{
    handshake::derive_accept_key,
    protocol::{
        Role,
        frame::{
            Frame, FrameSocket,
            coding::{Control, OpCode},
        },
    },
};

use crate::support::foreign::{Foreign, tcp, upgrade_request};

pub(crate) struct Peer {
    pub(crate) socket: FrameSocket<TcpStream>,
    /// The answer to its request.
    pub(crate) answer: String,
}

impl Peer {
    /// Connects, with these offers.
    pub(crate) fn connect(server: rxplus::Addr, path: &str, offers: &str) -> Self {
        let mut stream = tcp(&server);
        let request = upgrade_request(path);
        let request = request.trim_end().to_owned() + "\r\nSec-WebSocket-Extensions: " + offers + "\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_head(&mut stream);
        Self { socket: FrameSocket::new(stream), answer }
    }

    /// Sends a frame that begins with this byte, masked with zeros.
    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(0x80 | len as u8),
            len @ 126..0x1_0000 => frame.extend([&[0x80 | 126], &(len as u16).to_be_bytes()[..]].concat()),
            len => frame.extend([&[0x80 | 127], &(len as u64).to_be_bytes()[..]].concat()),
        }
        frame.extend([0; 4]);
        frame.extend_from_slice(payload);
        // The server may have hung up.
        let _ = self.socket.get_mut().write_all(&frame);
    }

    /// The next frame that is no ping.
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        loop {
            let frame = self.socket.read(None).ok().flatten()?;
            if !matches!(frame.header().opcode, OpCode::Control(Control::Ping)) {
                return Some(frame);
            }
        }
    }

    /// The code of the close frame that comes next.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            let frame = self.receive().expect("a close frame comes");
            if let OpCode::Control(_) = frame.header().opcode {
                return u16::from_be_bytes(frame.payload()[..2].try_into().unwrap());
            }
        }
    }
}

/// The server's side of a connection, with this answer to the client's offers.
pub(crate) fn accept(mut stream: TcpStream, extensions: &str) -> Foreign {
    let request = read_head(&mut stream);
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a client has a key");
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Extensions: {extensions}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).unwrap();
    Foreign::from_raw_socket(stream, Role::Server, None)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// The compressed form of a message.
pub(crate) fn compress(compress: &mut Compress, payload: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(payload.len() / 8 + 1024);
    compress.compress_vec(payload, &mut compressed, FlushCompress::Sync).unwrap();
    assert!(compressed.len() < compressed.capacity(), "there is room for it");
    compressed.truncate(compressed.len() - 4);
    compressed
}

pub(crate) fn compressor() -> Compress {
    Compress::new_with_window_bits(Compression::new(9), false, 15)
}
