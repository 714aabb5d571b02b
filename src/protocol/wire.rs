//! The memory that tungstenite's synchronous core reads from and writes to instead of a socket.

use std::{
    cell::Cell,
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{io::AsyncWrite, time::Instant};
use tungstenite::protocol::{
    Role,
    frame::{
        FrameHeader,
        coding::{Data, OpCode},
    },
};

use crate::Frame;

/// The shortest payload that is written from where it lies: from here on that costs less than a copy, and one of 1 MiB would
/// take its memory twice.
const INSERTED_LEN: usize = 32 * 1024;

/// How many pieces are given to the socket at once: as many long messages as a batch has, and what is between them.
pub(crate) const SLICES_A_WRITE: usize = 16;

/// How much is kept of where messages end.
const KEPT_LEN: usize = 4 * 1024;

/// How many bytes that still wait are moved to the front to make room for more.
const MOVED_LEN: usize = 128 * 1024;

/// A stream whose input is what was just read and whose output is memory. It never blocks on writing.
pub(crate) struct Wire<'a> {
    input: &'a [u8],
    out: &'a mut Vec<u8>,
}

impl<'a> Wire<'a> {
    pub(crate) fn new(input: &'a [u8], out: &'a mut Vec<u8>) -> Self {
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
        self.out.write(bytes)
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
    /// What goes out between two of `bytes`, from where it lies.
    inserts: VecDeque<Insert>,
    /// How many bytes wait.
    len: usize,
    /// How many bytes sockets have taken since this was made.
    written: u64,
    /// How many of those the operating system has: a transport with a buffer of its own, such as TLS, keeps some.
    settled: u64,
    /// The messages whose last byte the socket has not taken.
    messages: VecDeque<Placed>,
    /// Their bytes, with those already taken.
    messages_len: usize,
    /// The messages that the socket has taken, and the operating system has not.
    unsettled: VecDeque<Placed>,
    /// Where the last frame that is no message ends, counted like the ends of messages.
    fixed: u64,
    /// A transport with a buffer of its own, such as TLS, has not emptied it yet.
    unflushed: bool,
    /// Since when the socket has taken nothing of it.
    pub(crate) stalled: Option<Instant>,
}

/// A long payload.
struct Insert {
    /// How many of `bytes` are before it.
    at: usize,
    payload: Bytes,
}

/// A message in the write buffer.
struct Placed {
    /// Where it ends, counted as [`written`](WriteBuffer::written) is.
    end: u64,
    len: usize,
    /// How much of it is not an insert.
    plain_len: usize,
}

impl Placed {
    fn start(&self) -> u64 {
        self.end - self.len as u64
    }
}

impl WriteBuffer {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes wait that nobody here has sent: pongs, which the peer's pings cause.
    pub(crate) fn answers_len(&self) -> usize {
        let begun = self.messages.front().map_or(0, |first| first.len.saturating_sub(self.left_of(first)));
        self.len() + begun - self.messages_len
    }

    /// How many bytes lie before the end of a message.
    fn left_of(&self, message: &Placed) -> usize {
        (message.end - self.written) as usize
    }

    /// How many bytes there have been.
    fn end(&self) -> u64 {
        self.written + self.len as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the operating system has a part of the first message that it has not whole.
    pub(crate) fn has_begun(&self) -> bool {
        self.unsettled.front().or(self.messages.front()).is_some_and(|first| first.start() < self.settled)
    }

    #[cfg(test)]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.slices().flat_map(|slice| slice.to_vec()).collect()
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
        if key.is_none() && payload.len() >= INSERTED_LEN {
            self.inserts.push_back(Insert { at: start, payload: frame.to_bytes() });
        } else {
            self.bytes.extend_from_slice(payload);
        }
        if let Some(key) = key {
            mask(&mut self.bytes[start..], key);
        }
        let plain_len = self.bytes.len() - before;
        let len = start - before + payload.len();
        self.len += len;
        self.messages.push_back(Placed { end: self.end(), len, plain_len });
        self.messages_len += len;
    }

    /// Adds frames that are no messages.
    pub(crate) fn append_answers(&mut self, answers: Vec<u8>) {
        self.bytes.extend_from_slice(&answers);
        self.len += answers.len();
        self.fixed = self.end();
    }

    /// Removes the messages of which no byte was taken and which no other frame follows, and returns how many.
    pub(crate) fn take_back(&mut self) -> usize {
        let (kept_len, before) = (self.written.max(self.fixed), self.messages.len());
        while self.messages.back().is_some_and(|last| last.start() >= kept_len)
            && let Some(last) = self.messages.pop_back()
        {
            if last.plain_len < last.len {
                self.inserts.pop_back();
            }
            self.bytes.truncate(self.bytes.len() - last.plain_len);
            self.len -= last.len;
            self.messages_len -= last.len;
        }
        if self.is_empty() {
            // It may have to wait for long.
            self.bytes.shrink_to(KEPT_LEN);
        }
        before - self.messages.len()
    }

    /// Writes as much as the socket takes at once. Flushes what is behind it. To be followed by [`settle`](Self::settle).
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.poll_write_or_flush(socket, cx);
        if polled.is_pending() {
            self.stalled.get_or_insert_with(Instant::now);
        }
        polled
    }

    fn poll_write_or_flush<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_empty() {
            return self.poll_flush(socket, cx);
        }
        let count = if self.inserts.is_empty() {
            ready!(Pin::new(&mut *socket).poll_write(cx, &self.bytes[self.taken..]))?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_A_WRITE];
            let count = slices.iter_mut().zip(self.slices()).map(|(to, slice)| *to = IoSlice::new(slice)).count();
            ready!(Pin::new(&mut *socket).poll_write_vectored(cx, &slices[..count]))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.stalled = None;
        self.advance(count);
        self.unflushed = true;
        if self.is_empty() {
            // What goes wrong here goes wrong in the next call too.
            let _ = self.poll_flush(socket, cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush<S: AsyncWrite + Unpin>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(socket).poll_flush(cx))?;
        self.unflushed = false;
        self.stalled = None;
        Poll::Ready(Ok(()))
    }

    /// What waits, piece by piece.
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(self.taken).chain(self.inserts.iter().map(|insert| insert.at));
        let ends = self.inserts.iter().map(|insert| insert.at).chain([self.bytes.len()]);
        let payloads = self.inserts.iter().map(|insert| &insert.payload[..]).chain([&[][..]]);
        let plain = starts.zip(ends).map(|(start, end)| &self.bytes[start..end]);
        plain.zip(payloads).flat_map(|(plain, payload)| [plain, payload]).filter(|slice| !slice.is_empty())
    }

    /// Strikes off what the socket has taken.
    fn advance(&mut self, count: usize) {
        self.len -= count;
        self.written += count as u64;
        let mut left = count;
        while let Some(insert) = self.inserts.front_mut() {
            let plain = left.min(insert.at - self.taken);
            let inserted = (left - plain).min(insert.payload.len());
            self.taken += plain;
            insert.payload.advance(inserted);
            left -= plain + inserted;
            if !insert.payload.is_empty() {
                return;
            }
            self.inserts.pop_front();
        }
        self.taken += left;
    }

    /// Counts the messages that the operating system has now whole, where the socket keeps the last `kept` bytes to itself.
    pub(crate) fn settle(&mut self, kept: usize) -> usize {
        let (written, settled) = (self.written, self.written - kept as u64);
        if settled > self.settled && self.stalled.is_some() {
            // It takes something, if slowly.
            self.stalled = Some(Instant::now());
        }
        self.settled = settled;
        let taken = self.messages.iter().take_while(|message| message.end <= written).count();
        let mut len = 0;
        let messages = self.messages.drain(..taken).inspect(|message| len += message.len);
        let ended = if kept == 0 && self.unsettled.is_empty() {
            messages.fold(0, |count, _| count + 1)
        } else {
            self.unsettled.extend(messages);
            let ended = self.unsettled.iter().take_while(|message| message.end <= settled).count();
            self.unsettled.drain(..ended).count()
        };
        self.messages_len -= len;
        self.reclaim();
        ended
    }

    /// Gives back the memory of what the socket has taken. Not only when nothing is left: a peer that is always a little
    /// behind may never come to that.
    fn reclaim(&mut self) {
        let left = self.bytes.len() - self.taken;
        if left > self.taken.min(MOVED_LEN) {
            return;
        }
        self.bytes.drain(..self.taken);
        self.inserts.iter_mut().for_each(|insert| insert.at -= self.taken);
        self.taken = 0;
        self.bytes.shrink_to(2 * MOVED_LEN);
        self.messages.shrink_to(KEPT_LEN / size_of::<Placed>());
        self.unsettled.shrink_to(KEPT_LEN / size_of::<Placed>());
    }
}

thread_local! {
    /// What a connection writes into while it is at it: 64 connections that grow and shrink one each make a fifth of an
    /// echo of 16 KiB, and an idle one needs none.
    static SPARE: Cell<Option<Box<WriteBuffer>>> = const { Cell::new(None) };
}

impl WriteBuffer {
    /// The thread's, or a new one.
    pub(crate) fn lend() -> Box<Self> {
        // In vain while the thread ends.
        SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default()
    }

    /// Leaves a buffer that is flushed, with nothing in it but its counts, to the next connection of the thread.
    pub(crate) fn give_back(self: Box<Self>) {
        debug_assert!(self.is_flushed() && self.messages.is_empty() && self.inserts.is_empty());
        debug_assert!(self.unsettled.is_empty() && self.settled == self.written);
        debug_assert!(self.stalled.is_none());
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
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

    /// Takes the bytes of a buffer, or of several, as many at a time as `room` says.
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

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let before = self.taken.len();
            let room = self.room;
            self.taken.extend(slices.iter().flat_map(|slice| slice.iter()).take(room));
            Poll::Ready(Ok(self.taken.len() - before))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl WriteBuffer {
        /// Has `sink` take up to `count` bytes, and keep none.
        fn write_to(&mut self, sink: &mut Sink, count: usize) -> usize {
            self.pass_to(sink, count);
            self.settle(0)
        }

        fn pass_to(&mut self, sink: &mut Sink, count: usize) {
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
        assert!(out.bytes.capacity() <= 2 * MOVED_LEN && out.messages.capacity() <= KEPT_LEN);
    }

    #[test]
    fn flush_that_was_waited_for_is_no_stall_for_the_next_connection_that_writes() {
        /// Takes everything, and flushes at the second time of asking.
        struct Lazy(bool);

        impl AsyncWrite for Lazy {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                Poll::Ready(Ok(bytes.len()))
            }

            fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                if std::mem::replace(&mut self.0, true) { Poll::Ready(Ok(())) } else { Poll::Pending }
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }

        let (mut out, mut socket) = (WriteBuffer::default(), Lazy(false));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        out.append(&Frame::Binary(vec![0; 10].into()), Role::Server);
        assert!(matches!(out.poll_write(&mut socket, &mut cx), Poll::Ready(Ok(()))));
        assert!(out.is_empty() && !out.is_flushed());
        out.stalled = Some(Instant::now());
        assert!(matches!(out.poll_write(&mut socket, &mut cx), Poll::Ready(Ok(()))));
        assert!(out.is_flushed() && out.stalled.is_none());
    }

    /// What happens to a write buffer.
    #[derive(Clone, Debug)]
    enum Step {
        Append(usize),
        Control(usize),
        /// How many bytes it takes at most, and how many of all those it took it keeps.
        Write(usize, usize),
        TakeBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = || prop_oneof![0..300usize, 0..100_000usize];
        prop_oneof![
            len().prop_map(Step::Append),
            len().prop_map(|len| Step::Control(len + 1)),
            (1..80_000usize, prop_oneof![Just(0), 0..100_000usize]).prop_map(|(count, kept)| Step::Write(count, kept)),
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
            let read = FrameSocket::new(io::Cursor::new(out.into_bytes())).read(None).unwrap().unwrap();
            let header = read.header();
            prop_assert!(header.is_final && header.opcode == OpCode::Data(Data::Binary));
            prop_assert_eq!(header.mask.is_some(), is_client);
            let mut plain = read.payload().to_vec();
            mask(&mut plain, header.mask.unwrap_or_default());
            prop_assert_eq!(plain, payload);
        }

        #[test]
        fn bytes_go_out_as_they_were_put_in_and_message_ends_and_answers_are_counted(steps in prop::collection::vec(step(), 1..60)) {
            let (mut out, mut sink) = (WriteBuffer::default(), Sink { room: 0, taken: Vec::new() });
            // Every byte that was put in, with whether it belongs to a message; and where the messages begin and end.
            let (mut put, mut starts, mut ends) = (Vec::<(u8, bool)>::new(), Vec::new(), Vec::new());
            let (mut written, mut settled) = (0, 0);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Append(len) => {
                        let (frame, mut alone) = (Frame::Binary(vec![number as u8; len].into()), WriteBuffer::default());
                        alone.append(&frame, Role::Server);
                        out.append(&frame, Role::Server);
                        starts.push(put.len());
                        put.extend(alone.into_bytes().into_iter().map(|byte| (byte, true)));
                        ends.push(put.len());
                    }
                    Step::Control(len) => {
                        out.append_answers(vec![number as u8; len]);
                        put.extend(std::iter::repeat_n((number as u8, false), len));
                    }
                    Step::TakeBack => {
                        let fixed = put.iter().rposition(|(_, is_message)| !*is_message).map_or(0, |last| last + 1);
                        let fixed = fixed.max(sink.taken.len());
                        let kept = starts.partition_point(|start| *start < fixed);
                        prop_assert_eq!(out.take_back(), starts.len() - kept);
                        put.truncate(starts.get(kept).copied().unwrap_or(put.len()));
                        starts.truncate(kept);
                        ends.truncate(kept);
                    }
                    Step::Write(count, kept) => {
                        if !out.is_empty() {
                            out.pass_to(&mut sink, count);
                        }
                        settled = settled.max(sink.taken.len().saturating_sub(kept));
                        written += out.settle(sink.taken.len() - settled);
                        let first = starts.iter().zip(&ends).find(|(_, end)| **end > settled);
                        prop_assert_eq!(out.has_begun(), first.is_some_and(|(start, _)| *start < settled));
                    }
                }
                prop_assert!(sink.taken.iter().zip(&put).all(|(taken, (put, _))| taken == put));
                let left = &put[sink.taken.len()..];
                prop_assert_eq!(out.len(), left.len());
                prop_assert_eq!(out.answers_len(), left.iter().filter(|(_, is_message)| !*is_message).count());
                prop_assert_eq!(written, ends.iter().filter(|end| **end <= settled).count());
            }
        }
    }
}
