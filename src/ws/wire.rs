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

/// How many bytes that still wait are moved to the front to make room for more.
const MOVED_LEN: usize = 64 * 1024;

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
        self.out.fixed = self.out.end();
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
    /// Where the last frame that is no message ends, counted like the ends of messages.
    fixed: u64,
    /// A transport with a buffer of its own, such as TLS, has not emptied it yet.
    unflushed: bool,
}

/// A message in the write buffer.
struct Placed {
    /// Where it ends, counted from the first byte of the connection.
    end: u64,
    len: usize,
}

impl Placed {
    fn start(&self) -> u64 {
        self.end - self.len as u64
    }
}

impl WriteBuffer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// How many bytes wait that nobody here has sent: pongs, which the peer's pings cause.
    pub(crate) fn answers_len(&self) -> usize {
        let begun = self.messages.front().map_or(0, |first| first.len.saturating_sub(self.left_of(first)));
        self.len() + begun - self.messages_len
    }

    /// How many bytes lie before the end of a message.
    fn left_of(&self, message: &Placed) -> usize {
        (message.end - self.written()) as usize
    }

    /// How many bytes of the connection the socket has taken.
    fn written(&self) -> u64 {
        self.before + self.taken as u64
    }

    /// How many bytes there have been.
    fn end(&self) -> u64 {
        self.before + self.bytes.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg(test)]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
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
        self.messages.push_back(Placed { end: self.end(), len });
        self.messages_len += len;
    }

    /// Removes the messages of which no byte was taken and which no other frame follows, and returns how many.
    pub(crate) fn take_back(&mut self) -> usize {
        let kept_len = self.written().max(self.fixed);
        let kept = self.messages.partition_point(|message| message.start() < kept_len);
        let Some(first) = self.messages.get(kept) else { return 0 };
        self.bytes.truncate((first.start() - self.before) as usize);
        let removed = self.messages.split_off(kept);
        self.messages_len -= removed.iter().map(|message| message.len).sum::<usize>();
        removed.len()
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
        self.reclaim();
        Poll::Ready(Ok(ended))
    }

    /// Counts the messages that the socket has now taken whole.
    fn end_messages(&mut self) -> usize {
        let written = self.written();
        let ended = self.messages.iter().take_while(|message| message.end <= written).count();
        self.messages_len -= self.messages.drain(..ended).map(|message| message.len).sum::<usize>();
        ended
    }

    /// Gives back the memory of what the socket has taken. Not only when nothing is left: a peer that is always a little
    /// behind may never come to that.
    fn reclaim(&mut self) {
        let left = self.len();
        if left > self.taken.min(MOVED_LEN) {
            return;
        }
        self.bytes.drain(..self.taken);
        self.before += self.taken as u64;
        self.taken = 0;
        self.bytes.shrink_to(if left == 0 { KEPT_LEN } else { 2 * MOVED_LEN });
        self.messages.shrink_to(KEPT_LEN / size_of::<Placed>());
    }
}

/// Masks a payload in place, eight bytes at a time.
pub(crate) fn mask(payload: &mut [u8], key: [u8; 4]) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tungstenite::protocol::frame::FrameSocket;

    use super::*;

    /// Takes the bytes of a buffer, as many at a time as `room` says.
    struct Sink {
        room: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = self.room.min(bytes.len());
            self.taken.extend(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl WriteBuffer {
        /// Has `sink` take up to `count` bytes.
        fn write_to(&mut self, sink: &mut Sink, count: usize) -> usize {
            sink.room = count;
            match self.poll_write(sink, &mut Context::from_waker(std::task::Waker::noop())) {
                Poll::Ready(written) => written.unwrap(),
                Poll::Pending => unreachable!("the sink never waits"),
            }
        }
    }

    #[test]
    fn buffer_that_never_runs_empty_does_not_grow() {
        let (mut out, mut sink) = (WriteBuffer::default(), Sink { room: 0, taken: Vec::new() });
        let frame = Frame::Binary(vec![0; 10_000].into());
        out.append(&frame, Role::Server);
        for _ in 0..1_000 {
            out.append(&frame, Role::Server);
            assert_eq!(out.write_to(&mut sink, 10_004), 1);
        }
        assert!(out.bytes.capacity() <= 2 * MOVED_LEN, "{}", out.bytes.capacity());
    }

    #[test]
    fn memory_of_a_long_message_is_given_back() {
        let (mut out, mut sink) = (WriteBuffer::default(), Sink { room: 0, taken: Vec::new() });
        out.append(&Frame::Binary(vec![0; 1 << 20].into()), Role::Client);
        (0..10_000).for_each(|_| out.append(&Frame::Binary(Default::default()), Role::Client));
        assert_eq!(out.write_to(&mut sink, usize::MAX), 10_001);
        assert!(out.bytes.capacity() <= KEPT_LEN && out.messages.capacity() <= KEPT_LEN);
    }

    /// What happens to a write buffer.
    #[derive(Clone, Debug)]
    enum Step {
        Append(usize),
        Control(usize),
        Write(usize),
        TakeBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = || prop_oneof![0..300usize, 0..100_000usize];
        prop_oneof![
            len().prop_map(Step::Append),
            len().prop_map(Step::Control),
            (1..80_000usize).prop_map(Step::Write),
            Just(Step::TakeBack)
        ]
    }

    proptest! {
        #[test]
        fn masking_is_an_exclusive_or_with_the_key_in_turn(payload: Vec<u8>, key: [u8; 4]) {
            let plain: Vec<_> = payload.iter().enumerate().map(|(n, byte)| byte ^ key[n % 4]).collect();
            let mut masked = payload;
            mask(&mut masked, key);
            prop_assert_eq!(masked, plain);
        }

        #[test]
        fn frames_are_those_that_tungstenite_reads(payload: Vec<u8>, repeat in 0..300usize, is_client: bool) {
            let payload = payload.repeat(repeat);
            let mut out = WriteBuffer::default();
            out.append(&Frame::Binary(payload.clone().into()), if is_client { Role::Client } else { Role::Server });
            let read = FrameSocket::new(io::Cursor::new(out.bytes)).read(None).unwrap().unwrap();
            let header = read.header();
            prop_assert!(header.is_final && header.opcode == OpCode::Data(Data::Binary));
            prop_assert_eq!(header.mask.is_some(), is_client);
            let mut plain = read.payload().to_vec();
            mask(&mut plain, header.mask.unwrap_or_default());
            prop_assert_eq!(plain, payload);
        }

        #[test]
        fn message_ends_and_answers_are_counted_to_the_byte(steps in prop::collection::vec(step(), 1..60)) {
            let (mut out, mut sink) = (WriteBuffer::default(), Sink { room: 0, taken: Vec::new() });
            // Every byte that was put in, by whether it belongs to a message; and where the messages begin and end.
            let (mut put, mut starts, mut ends, mut written) = (Vec::<bool>::new(), Vec::new(), Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Append(len) => {
                        let before = out.len();
                        out.append(&Frame::Binary(vec![1; len].into()), Role::Server);
                        starts.push(put.len());
                        put.extend(std::iter::repeat_n(true, out.len() - before));
                        ends.push(put.len());
                    }
                    Step::Control(len) => {
                        Wire::new(&[], &mut out).write_all(&vec![2; len]).unwrap();
                        put.extend(std::iter::repeat_n(false, len));
                    }
                    Step::TakeBack => {
                        let fixed = put.iter().rposition(|is_message| !*is_message).map_or(0, |last| last + 1);
                        let fixed = fixed.max(sink.taken.len());
                        let kept = starts.partition_point(|start| *start < fixed);
                        prop_assert_eq!(out.take_back(), starts.len() - kept);
                        put.truncate(starts.get(kept).copied().unwrap_or(put.len()));
                        starts.truncate(kept);
                        ends.truncate(kept);
                    }
                    Step::Write(_) if out.is_empty() => {}
                    Step::Write(count) => written += out.write_to(&mut sink, count),
                }
                let left = &put[sink.taken.len()..];
                prop_assert_eq!(out.len(), left.len());
                prop_assert_eq!(out.answers_len(), left.iter().filter(|is_message| !**is_message).count());
                prop_assert_eq!(written, ends.iter().filter(|end| **end <= sink.taken.len()).count());
            }
        }
    }
}
