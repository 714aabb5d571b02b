//! [`WriteBuffer`]: bytes on their way to a socket, and where the messages among them end.
//!
//! All positions count the bytes that have gone through the buffer since it was made:
//!
//! ```text
//!                        |<----------- len, still waiting ---------->|
//!   +-----------+--------+-------+------+----------+------+----------+
//!   |     m1    |       m2       | pong |    m3    | pong |    m4    |
//!   +-----------+--------+-------+------+----------+------+----------+
//!         ^              ^                                ^          ^
//!      settled        written                      last_answer_end  end()
//! ```
//!
//! The socket has taken everything before `written`, and the operating system everything before `settled`: a transport with
//! a buffer of its own, such as TLS, keeps the bytes between the two. Here `unsettled` holds m1, and `messages` holds m2, m3
//! and m4, whose lengths add up to `messages_len`. m2 has begun, so it and everything before `last_answer_end` stay; m4 can
//! be taken back.
//!
//! The waiting bytes lie in `bytes` from `taken_len` on. A long payload is not copied there: it is an insert between two of
//! those bytes.

use std::{
    cell::Cell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{io::AsyncWrite, time::Instant};
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::{
    Frame,
    protocol::{
        frame_head::{Kind, append_head, key_of},
        mask::mask,
        pieces::pieces,
    },
};

/// The shortest payload that is written from where it lies. From this length on that costs less than a copy; and a copy of 1
/// MiB would take the memory twice.
const INSERTED_LEN: usize = 32 * 1024;

/// How many pieces are given to the socket at once: as many as the long messages of a batch, and the bytes between them.
pub(crate) const SLICES_PER_WRITE: usize = 16;

/// How much memory an empty buffer keeps for the places of messages.
const KEPT_LEN: usize = 4 * 1024;

/// How many waiting bytes are moved to the front, at most, to free the memory before them.
const MOVED_LEN: usize = 128 * 1024;

/// Bytes on their way to the socket, and where the messages among them end.
#[derive(Default)]
pub(crate) struct WriteBuffer {
    bytes: Vec<u8>,
    /// How many of `bytes` the socket has taken.
    taken_len: usize,
    /// Long payloads, which go out between two of `bytes`, from where they lie.
    inserts: VecDeque<Insert>,
    /// How many bytes wait.
    len: usize,
    /// How many bytes sockets have taken since this was made.
    written: u64,
    /// How many of those the operating system has taken.
    settled: u64,
    /// The messages whose last byte the socket has not taken.
    messages: VecDeque<Placed>,
    /// Their bytes, with those already taken.
    messages_len: usize,
    /// The messages that the socket has taken, and the operating system has not.
    unsettled: VecDeque<Placed>,
    /// The position of the end of the last frame that is no message.
    last_answer_end: u64,
    /// The transport has a buffer of its own, and has not emptied it yet.
    unflushed: bool,
    /// Since when the socket has taken none of the waiting bytes.
    pub(crate) stalled: Option<Instant>,
}

/// A long payload.
struct Insert {
    /// How many of `bytes` come before it.
    at: usize,
    payload: Bytes,
}

/// A message in the write buffer.
struct Placed {
    /// The position of its end.
    end: u64,
    len: usize,
    /// How many of its bytes are not an insert.
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

    /// How many of the waiting bytes belong to no message: answers, such as the pongs that the peer's pings cause.
    pub(crate) fn answers_len(&self) -> usize {
        let begun_len = self.messages.front().map_or(0, |first| first.len.saturating_sub(self.left_of(first)));
        // Of the first message, only the rest still waits.
        self.len + begun_len - self.messages_len
    }

    /// How many bytes lie before the end of a message.
    fn left_of(&self, message: &Placed) -> usize {
        (message.end - self.written) as usize
    }

    /// The position behind the last byte.
    fn end(&self) -> u64 {
        self.written + self.len as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the last byte of a message still waits.
    pub(crate) fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Whether the operating system has taken a part, and not the whole, of the first message that is not settled.
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

    /// Adds a message as one frame, masked if it comes from a client (RFC 6455, section 5.3). `prefix` comes before its
    /// payload.
    pub(crate) fn append(&mut self, frame: &Frame, role: Role, prefix: &[u8]) {
        self.place(Kind::of(frame), role, prefix, frame.as_bytes(), || frame.to_bytes());
    }

    /// Adds a message as the frame that it is.
    pub(crate) fn append_frame(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.note_message(frame.len(), frame.len());
    }

    /// Adds messages as the frames that they are, one behind the other, of these lengths.
    pub(crate) fn append_frames(&mut self, frames: &[u8], lens: impl Iterator<Item = usize>) {
        let mut end = self.end();
        self.messages.extend(lens.map(|len| {
            end += len as u64;
            Placed { end, len, plain_len: len }
        }));
        self.bytes.extend_from_slice(frames);
        self.len += frames.len();
        self.messages_len += frames.len();
    }

    /// Adds a message in compressed form.
    pub(crate) fn append_compressed(&mut self, frame: &Frame, compressed: &Bytes, role: Role) {
        self.place(Kind::of(frame).compressed(), role, &[], compressed, || compressed.clone());
    }

    #[inline(always)]
    fn place(&mut self, kind: Kind, role: Role, prefix: &[u8], payload: &[u8], to_bytes: impl FnOnce() -> Bytes) {
        let key = key_of(role);
        let before = self.bytes.len();
        append_head(&mut self.bytes, kind, prefix.len() + payload.len(), key);
        let start = self.bytes.len();
        if !prefix.is_empty() {
            self.bytes.extend_from_slice(prefix);
        }
        if key.is_none() && payload.len() >= INSERTED_LEN {
            self.inserts.push_back(Insert { at: self.bytes.len(), payload: to_bytes() });
        } else {
            self.bytes.reserve(payload.len());
            pieces(payload).for_each(|piece| self.bytes.extend_from_slice(piece));
        }
        if let Some(key) = key {
            mask(&mut self.bytes[start..], key);
        }
        let plain_len = self.bytes.len() - before;
        let len = start - before + prefix.len() + payload.len();
        self.note_message(len, plain_len);
    }

    /// Notes a message that was put behind the others, and how many of its bytes are not an insert.
    #[inline(always)]
    fn note_message(&mut self, len: usize, plain_len: usize) {
        self.len += len;
        self.messages.push_back(Placed { end: self.end(), len, plain_len });
        self.messages_len += len;
    }

    /// Adds frames that are no messages.
    pub(crate) fn append_answers(&mut self, answers: Vec<u8>) {
        self.bytes.extend_from_slice(&answers);
        self.len += answers.len();
        self.last_answer_end = self.end();
    }

    /// Removes the messages of which no byte was taken and that no answer follows, and returns their number.
    pub(crate) fn take_back(&mut self) -> usize {
        let (kept_len, before) = (self.written.max(self.last_answer_end), self.messages.len());
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
            // The buffer may have to wait for a long time.
            self.bytes.shrink_to(KEPT_LEN);
        }
        before - self.messages.len()
    }

    /// Writes as much as the socket takes in one call, and flushes the socket once nothing waits. The caller calls
    /// [`settle`](Self::settle) next, whatever the outcome.
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
            ready!(Pin::new(&mut *socket).poll_write(cx, &self.bytes[self.taken_len..]))?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let count = slices.iter_mut().zip(self.slices()).map(|(to, slice)| *to = IoSlice::new(slice)).count();
            ready!(Pin::new(&mut *socket).poll_write_vectored(cx, &slices[..count]))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.stalled = None;
        self.note_taken(count);
        if self.is_empty() {
            // An error shows up again in the next call.
            let _ = self.poll_flush(socket, cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Notes that the socket has taken `count` bytes, which have still to be flushed.
    pub(crate) fn note_taken(&mut self, count: usize) {
        self.advance(count);
        self.unflushed = true;
    }

    fn poll_flush<S: AsyncWrite + Unpin>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(socket).poll_flush(cx))?;
        self.unflushed = false;
        self.stalled = None;
        Poll::Ready(Ok(()))
    }

    /// The waiting bytes, piece by piece.
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(self.taken_len).chain(self.inserts.iter().map(|insert| insert.at));
        let ends = self.inserts.iter().map(|insert| insert.at).chain([self.bytes.len()]);
        let payloads = self.inserts.iter().map(|insert| &insert.payload[..]).chain([&[][..]]);
        let plain = starts.zip(ends).map(|(start, end)| &self.bytes[start..end]);
        plain.zip(payloads).flat_map(|(plain, payload)| [plain, payload]).filter(|slice| !slice.is_empty())
    }

    /// Strikes off `count` bytes, which the socket has taken.
    fn advance(&mut self, count: usize) {
        self.len -= count;
        self.written += count as u64;
        let mut left = count;
        while let Some(insert) = self.inserts.front_mut() {
            let plain = left.min(insert.at - self.taken_len);
            let inserted = (left - plain).min(insert.payload.len());
            self.taken_len += plain;
            insert.payload.advance(inserted);
            left -= plain + inserted;
            if !insert.payload.is_empty() {
                return;
            }
            self.inserts.pop_front();
        }
        self.taken_len += left;
    }

    /// Returns how many more messages the operating system has taken whole; the socket itself keeps the last `kept` bytes.
    pub(crate) fn settle(&mut self, kept: usize) -> usize {
        let (written, settled) = (self.written, self.written - kept as u64);
        if settled > self.settled && self.stalled.is_some() {
            // The operating system takes bytes, if slowly.
            self.stalled = Some(Instant::now());
        }
        self.settled = settled;
        if self.is_empty() && settled == written && self.unsettled.is_empty() {
            return self.settle_all();
        }
        let taken = self.messages.iter().take_while(|message| message.end <= written).count();
        let mut len = 0;
        let messages = self.messages.drain(..taken).inspect(|message| len += message.len);
        self.unsettled.extend(messages);
        let ended = self.unsettled.iter().take_while(|message| message.end <= settled).count();
        self.unsettled.drain(..ended);
        self.messages_len -= len;
        self.reclaim();
        ended
    }

    /// As [`settle`](Self::settle), where the operating system has taken everything: so it is mostly.
    fn settle_all(&mut self) -> usize {
        let ended = self.messages.len();
        self.messages.clear();
        self.messages_len = 0;
        self.reclaim();
        ended
    }

    /// Frees the memory of the bytes that the socket has taken. Not only once nothing waits: with a peer that is always a
    /// little behind, that may never happen.
    fn reclaim(&mut self) {
        let left = self.bytes.len() - self.taken_len;
        if left > self.taken_len.min(MOVED_LEN) {
            return;
        }
        self.bytes.drain(..self.taken_len);
        self.inserts.iter_mut().for_each(|insert| insert.at -= self.taken_len);
        self.taken_len = 0;
        self.bytes.shrink_to(2 * MOVED_LEN);
        self.messages.shrink_to(KEPT_LEN / size_of::<Placed>());
        self.unsettled.shrink_to(KEPT_LEN / size_of::<Placed>());
    }
}

thread_local! {
    /// The buffer that the connections of a thread share, since each needs one only while it writes. Growing and shrinking
    /// one per connection was a fifth of the cost of an echo of 16 KiB on 64 connections.
    static SPARE: Cell<Option<Box<WriteBuffer>>> = const { Cell::new(None) };
}

impl WriteBuffer {
    /// Takes the thread's buffer, or makes a new one.
    pub(crate) fn spare() -> Box<Self> {
        // A thread that is ending has none.
        SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default()
    }

    /// Leaves a buffer that is flushed, and empty except for its counts, to the next connection of the thread.
    pub(crate) fn recycle(self: Box<Self>) {
        debug_assert!(self.is_flushed() && self.messages.is_empty() && self.inserts.is_empty());
        debug_assert!(self.unsettled.is_empty() && self.settled == self.written);
        debug_assert!(self.stalled.is_none());
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }
}

#[cfg(test)]
mod tests {
    use std::iter::zip;

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        FrameSocket,
        coding::{Data, OpCode},
    };

    use super::*;

    /// Takes up to `room` bytes of a buffer, or of several, per write.
    #[derive(Default)]
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
        /// Writes up to `count` bytes to `sink`, which keeps none to itself.
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
        out.append(&frame, Role::Server, &[]);
        for _ in 0..1_000 {
            out.append(&frame, Role::Server, &[]);
            assert_eq!(out.write_to(&mut sink, 10_004), 1);
        }
        assert!(out.bytes.capacity() <= 2 * MOVED_LEN, "{}", out.bytes.capacity());
    }

    #[test]
    fn memory_of_a_long_message_is_given_back() {
        let (mut out, mut sink) = (WriteBuffer::default(), Sink { room: 0, taken: Vec::new() });
        out.append(&Frame::Binary(vec![0; 1 << 20].into()), Role::Client, &[]);
        (0..10_000).for_each(|_| out.append(&Frame::Binary(Default::default()), Role::Client, &[]));
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
        out.append(&Frame::Binary(vec![0; 10].into()), Role::Server, &[]);
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
        /// Several messages, of these lengths, that somebody else has put in one piece.
        AppendJoined(Vec<usize>),
        Control(usize),
        /// How many bytes it takes at most, and how many of all those it took it keeps.
        Write(usize, usize),
        TakeBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = || prop_oneof![0..300usize, 0..100_000usize];
        prop_oneof![
            len().prop_map(Step::Append),
            prop::collection::vec(0..300usize, 1..20).prop_map(Step::AppendJoined),
            len().prop_map(|len| Step::Control(len + 1)),
            (1..80_000usize, prop_oneof![Just(0), 0..100_000usize]).prop_map(|(count, kept)| Step::Write(count, kept)),
            Just(Step::TakeBack)
        ]
    }

    proptest! {
        #[test]
        fn frames_are_those_that_tungstenite_reads(payload: Vec<u8>, repeat in 0..300usize, is_client: bool) {
            let payload = payload.repeat(repeat);
            let mut out = WriteBuffer::default();
            out.append(&Frame::Binary(payload.clone().into()), if is_client { Role::Client } else { Role::Server }, &[]);
            let read = FrameSocket::new(io::Cursor::new(out.into_bytes())).read(None).unwrap().unwrap();
            let header = read.header();
            prop_assert!(header.is_final && header.opcode == OpCode::Data(Data::Binary));
            prop_assert_eq!(header.mask.is_some(), is_client);
            let mut plain = read.payload().to_vec();
            mask(&mut plain, header.mask.unwrap_or_default());
            prop_assert_eq!(plain, payload);
        }

        #[test]
        fn compressed_form_has_the_first_reserved_bit(payload: Vec<u8>, repeat in 0..300usize, is_client: bool) {
            let compressed = Bytes::from(payload.repeat(repeat));
            let (mut out, role) = (WriteBuffer::default(), if is_client { Role::Client } else { Role::Server });
            out.append_compressed(&Frame::Text("x".into()), &compressed, role);
            let read = FrameSocket::new(io::Cursor::new(out.into_bytes())).read(None).unwrap().unwrap();
            let header = read.header();
            prop_assert!(header.rsv1 && !header.rsv2 && !header.rsv3 && header.opcode == OpCode::Data(Data::Text));
            let mut plain = read.payload().to_vec();
            mask(&mut plain, header.mask.unwrap_or_default());
            prop_assert_eq!(plain, compressed);
        }

        #[test]
        fn bytes_go_out_as_they_were_put_in_and_message_ends_and_answers_are_counted(steps in prop::collection::vec(step(), 1..60)) {
            let mut pair = Pair::default();
            for (number, step) in steps.into_iter().enumerate() {
                pair.take(step, number as u8)?;
                pair.check()?;
            }
        }
    }

    /// A buffer beside a model of it.
    #[derive(Default)]
    struct Pair {
        buffer: WriteBuffer,
        sink: Sink,
        /// Every byte that was put in, with whether it belongs to a message.
        put: Vec<(u8, bool)>,
        /// Where the messages begin and end.
        starts: Vec<usize>,
        ends: Vec<usize>,
        written: usize,
        settled: usize,
    }

    impl Pair {
        fn take(&mut self, step: Step, number: u8) -> Result<(), TestCaseError> {
            match step {
                Step::Append(len) => {
                    let frame = Frame::Binary(vec![number; len].into());
                    self.buffer.append(&frame, Role::Server, &[]);
                    self.put(&frame);
                }
                Step::AppendJoined(lens) => self.append_joined(&lens, number),
                Step::Control(len) => {
                    self.buffer.append_answers(vec![number; len]);
                    self.put.extend(std::iter::repeat_n((number, false), len));
                }
                Step::TakeBack => return self.take_back(),
                Step::Write(count, kept) => return self.write(count, kept),
            }
            Ok(())
        }

        fn append_joined(&mut self, lens: &[usize], number: u8) {
            let first = self.starts.len();
            lens.iter().for_each(|len| self.put(&Frame::Binary(vec![number; *len].into())));
            let (starts, ends) = (&self.starts[first..], &self.ends[first..]);
            let joined: Vec<u8> = self.put[starts[0]..].iter().map(|(byte, _)| *byte).collect();
            self.buffer.append_frames(&joined, zip(starts, ends).map(|(start, end)| end - start));
        }

        /// Notes in the model the frame of a message.
        fn put(&mut self, frame: &Frame) {
            let mut alone = WriteBuffer::default();
            alone.append(frame, Role::Server, &[]);
            self.starts.push(self.put.len());
            self.put.extend(alone.into_bytes().into_iter().map(|byte| (byte, true)));
            self.ends.push(self.put.len());
        }

        fn take_back(&mut self) -> Result<(), TestCaseError> {
            let fixed = self.put.iter().rposition(|(_, is_message)| !*is_message).map_or(0, |last| last + 1);
            let fixed = fixed.max(self.sink.taken.len());
            let kept = self.starts.partition_point(|start| *start < fixed);
            prop_assert_eq!(self.buffer.take_back(), self.starts.len() - kept);
            self.put.truncate(self.starts.get(kept).copied().unwrap_or(self.put.len()));
            self.starts.truncate(kept);
            self.ends.truncate(kept);
            Ok(())
        }

        fn write(&mut self, count: usize, kept: usize) -> Result<(), TestCaseError> {
            if !self.buffer.is_empty() {
                self.buffer.pass_to(&mut self.sink, count);
            }
            let taken = self.sink.taken.len();
            self.settled = self.settled.max(taken.saturating_sub(kept));
            self.written += self.buffer.settle(taken - self.settled);
            let first = self.starts.iter().zip(&self.ends).find(|(_, end)| **end > self.settled);
            prop_assert_eq!(self.buffer.has_begun(), first.is_some_and(|(start, _)| *start < self.settled));
            Ok(())
        }

        fn check(&self) -> Result<(), TestCaseError> {
            let Self { buffer, sink, put, ends, written, settled, .. } = self;
            prop_assert!(sink.taken.iter().zip(put).all(|(taken, (put, _))| taken == put));
            let left = &put[sink.taken.len()..];
            prop_assert_eq!(buffer.len(), left.len());
            prop_assert_eq!(buffer.answers_len(), left.iter().filter(|(_, is_message)| !*is_message).count());
            prop_assert_eq!(*written, ends.iter().filter(|end| *end <= settled).count());
            Ok(())
        }
    }
}
