//! Peers that write each byte themselves.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tungstenite::{
    handshake::derive_accept_key,
    protocol::{
        Role,
        frame::{
            Frame, FrameSocket,
            coding::{Control, Data, OpCode},
        },
    },
};

use crate::support::foreign::{Foreign, tcp, upgrade_request};

pub(crate) struct Peer {
    pub(crate) socket: FrameSocket<TcpStream>,
    /// The answer to its request; of a server, the request.
    pub(crate) answer: String,
    /// The key of its frames.
    key: Option<[u8; 4]>,
}

impl Peer {
    /// Connects, with these offers.
    pub(crate) fn connect(server: rxplus::Addr, path: &str, offers: &str) -> Self {
        let mut stream = tcp(&server);
        let request = upgrade_request(path);
        let request = request.trim_end().to_owned() + "\r\nSec-WebSocket-Extensions: " + offers + "\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_head(&mut stream);
        Self { socket: FrameSocket::new(stream), answer, key: Some([0; 4]) }
    }

    /// The server's side of a connection, with these headers in its answer.
    pub(crate) fn accept(mut stream: TcpStream, headers: &str) -> Self {
        let request = answer(&mut stream, headers);
        Self { socket: FrameSocket::new(stream), answer: request, key: None }
    }

    /// Sends a frame that begins with this byte; a client masks it, with zeros.
    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        let (mut frame, mask) = (vec![first], if self.key.is_some() { 0x80 } else { 0 });
        match payload.len() {
            len @ 0..126 => frame.push(mask | len as u8),
            len @ 126..0x1_0000 => frame.extend([&[mask | 126], &(len as u16).to_be_bytes()[..]].concat()),
            len => frame.extend([&[mask | 127], &(len as u64).to_be_bytes()[..]].concat()),
        }
        frame.extend(self.key.iter().flatten());
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

    /// The next text, and whether it was compressed, without reference to an earlier one. `None` if there is none any more.
    pub(crate) fn text(&mut self) -> Option<(String, bool)> {
        let frame = self.receive().filter(|frame| matches!(frame.header().opcode, OpCode::Data(_)))?;
        let (header, key) = (frame.header().clone(), frame.header().mask.unwrap_or_default());
        assert!(header.is_final && header.opcode == OpCode::Data(Data::Text));
        let mut payload: Vec<_> =
            frame.payload().iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        if header.rsv1 {
            payload.extend([0x00, 0x00, 0xff, 0xff]);
            let mut inflated = Vec::with_capacity(1 << 20);
            Decompress::new(false).decompress_vec(&payload, &mut inflated, FlushDecompress::Sync).unwrap();
            payload = inflated;
        }
        Some((String::from_utf8(payload).unwrap(), header.rsv1))
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
    answer(&mut stream, &format!("Sec-WebSocket-Extensions: {extensions}\r\n"));
    Foreign::from_raw_socket(stream, Role::Server, None)
}

/// Reads a client's request, and answers it with these headers.
fn answer(stream: &mut TcpStream, headers: &str) -> String {
    let request = read_head(stream);
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a client has a key");
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{headers}\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).unwrap();
    request
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
