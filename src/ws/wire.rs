//! The memory that tungstenite's synchronous core reads from and writes to instead of a socket.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;
use tungstenite::protocol::{
    Role,
    frame::{
        FrameHeader,
        coding::{Data, OpCode},
    },
};

use crate::Frame;

/// The largest write buffer that is kept while nothing is written.
const KEPT_LEN: usize = 4 * 1024;

/// A stream whose input is what was just read and whose output is the write buffer. It never blocks on writing.
pub(crate) struct Wire<'a> {
    input: &'a [u8],
    out: &'a mut WriteBuffer,
}

impl<'a> Wire<'a> {
    pub(crate) fn new(input: &'a [u8], out: &'a mut WriteBuffer) -> Self {
        Self { input, out }
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(space)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes on their way to the socket, and where the messages among them end.
#[derive(Default)]
pub(crate) struct WriteBuffer {
    bytes: Vec<u8>,
    /// How many of `bytes` the socket has taken.
    taken: usize,
    /// How many bytes the socket had taken before those in `bytes`.
    before: u64,
    /// The messages whose last byte the socket has not taken.
    messages: VecDeque<Placed>,
    /// Their bytes, with those already taken.
    messages_len: usize,
    /// A transport with a buffer of its own, such as TLS, has not emptied it yet.
    unflushed: bool,
}

/// A message in the write buffer.
struct Placed {
    /// Where it ends, counted from the first byte of the connection.
    end: u64,
    len: usize,
}

impl WriteBuffer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// How many bytes wait that nobody here has sent: pongs, which the peer's pings cause.
    pub(crate) fn answers_len(&self) -> usize {
        self.len().saturating_sub(self.messages_len)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the operating system has taken everything.
    pub(crate) fn is_flushed(&self) -> bool {
        self.is_empty() && !self.unflushed
    }

    /// Adds a message as one frame, masked if it comes from a client (RFC 6455, section 5.3).
    pub(crate) fn append(&mut self, frame: &Frame, role: Role) {
        let (kind, payload) = match frame {
            Frame::Text(text) => (Data::Text, text.as_bytes()),
            Frame::Binary(bytes) => (Data::Binary, &bytes[..]),
        };
        let key: Option<[u8; 4]> = (role == Role::Client).then(rand::random);
        let header = FrameHeader { opcode: OpCode::Data(kind), mask: key, ..FrameHeader::default() };
        let before = self.bytes.len();
        header.format(payload.len() as u64, &mut self.bytes).expect("a vector takes everything");
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        if let Some(key) = key {
            mask(&mut self.bytes[start..], key);
        }
        let len = self.bytes.len() - before;
        self.messages.push_back(Placed { end: self.before + self.bytes.len() as u64, len });
        self.messages_len += len;
    }

    /// Writes as much as the socket takes at once and returns how many messages that completed.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            ready!(Pin::new(socket).poll_flush(cx))?;
            self.unflushed = false;
            return Poll::Ready(Ok(0));
        }
        let count = ready!(Pin::new(socket).poll_write(cx, &self.bytes[self.taken..]))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.taken += count;
        self.unflushed = true;
        let ended = self.end_messages();
        if self.is_empty() {
            self.rewind();
        }
        Poll::Ready(Ok(ended))
    }

    /// Counts the messages that the socket has now taken whole.
    fn end_messages(&mut self) -> usize {
        let taken = self.before + self.taken as u64;
        let ended = self.messages.iter().take_while(|message| message.end <= taken).count();
        self.messages_len -= self.messages.drain(..ended).map(|message| message.len).sum::<usize>();
        ended
    }

    /// Starts from the front again, with what an idle connection may keep.
    fn rewind(&mut self) {
        self.before += self.taken as u64;
        self.taken = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_LEN);
        self.messages.shrink_to(KEPT_LEN / size_of::<Placed>());
    }
}

/// Masks a payload in place, eight bytes at a time.
fn mask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let masked = u64::from_ne_bytes(chunk.try_into().expect("chunks of eight")) ^ wide;
        chunk.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}
