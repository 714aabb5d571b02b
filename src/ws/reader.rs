//! From bytes to messages, before tungstenite where that is safe.
//!
//! tungstenite's own way costs a message three buffers' bookkeeping, clears memory before it reads into it, and keeps the
//! largest buffer there ever was. A message in one frame, as nearly all are, needs no more than its payload: that is
//! gathered here. All that takes judgement, control frames, fragments, and what breaks the rules, goes to tungstenite as it
//! came, frame by frame.

use std::{
    collections::VecDeque,
    io::{self, Cursor},
    mem::take,
};

use bytes::{Bytes, BytesMut};
use tungstenite::{
    Error, Message, Utf8Bytes,
    error::ProtocolError,
    protocol::{
        Role, WebSocketConfig, WebSocketContext,
        frame::{
            FrameHeader,
            coding::{CloseCode, Control, Data, OpCode},
        },
    },
};

use crate::ws::wire::{Wire, mask};

/// The longest message that shares its memory with its neighbours: one that is kept keeps them all.
const SHARED_LEN: usize = 1024;

/// How much memory short messages share.
const BLOCK_LEN: usize = 4 * 1024;

/// How much memory is set aside on the word of a peer that so much will come.
const TRUSTED_LEN: usize = 1024 * 1024;

/// The shortest message whose memory is used again: from here on that costs less than the allocator.
const SPARE_LEN: usize = 8 * 1024;

/// How many times its own length a message may take: one that is kept keeps all of its memory.
const SPARE_EXCESS: usize = 4;

/// How many messages' memory is kept for that, by a thread.
const SPARES: usize = 8;

/// The first byte of a frame that is a text message by itself: its last frame, without extensions (RFC 6455, section 5.2).
const WHOLE_TEXT: u8 = 0x81;

/// As above, of a binary message.
const WHOLE_BINARY: u8 = 0x82;

/// The bit that says that a payload is masked, beside its length.
const MASKED: u8 = 0x80;

/// Takes messages out of what is read.
pub(crate) struct Reader {
    /// There while it has something to remember: half a KiB that an idle connection does without, and its largest buffer,
    /// which it keeps.
    protocol: Option<Box<WebSocketContext>>,
    role: Role,
    message_len: usize,
    frame_len: usize,
    part: Part,
    /// The first bytes of a header that has not come whole.
    head: Vec<u8>,
    /// The protocol has a part of a message in several frames.
    is_fragmented: bool,
}

/// What comes next.
enum Part {
    Head,
    /// A message that is gathered here.
    Message {
        is_text: bool,
        key: [u8; 4],
        payload: BytesMut,
        len: usize,
    },
    /// The rest of a frame for the protocol.
    Protocol {
        left: u64,
    },
}

/// The memory for the messages of a thread.
pub(crate) struct Block {
    /// What short messages share, one block after the other.
    short: BytesMut,
    /// The memory of long messages, which is used again once they are gone. The allocator would give it back to the
    /// operating system each time, and clearing it anew is half the cost of an echo of 1 MiB.
    long: VecDeque<BytesMut>,
}

impl Default for Block {
    fn default() -> Self {
        Self { short: BytesMut::with_capacity(BLOCK_LEN), long: VecDeque::new() }
    }
}

impl Block {
    /// Memory for a message that is not here yet.
    fn provide(&mut self, len: usize) -> BytesMut {
        let is_free = |spare: &mut BytesMut| {
            len >= SPARE_LEN && spare.try_reclaim(len) && spare.capacity() <= SPARE_EXCESS.saturating_mul(len)
        };
        let free = self.long.iter_mut().position(is_free).and_then(|at| self.long.remove(at));
        free.unwrap_or_default()
    }

    /// The message that was gathered in `memory`, which waits until that is gone.
    fn take(&mut self, memory: &mut BytesMut) -> Bytes {
        let mut message = take(memory);
        // Of no length, so that it can be reclaimed as a whole or not at all: a message that is kept keeps all of it.
        let memory = message.split_off(message.capacity());
        let message = message.freeze();
        if (SPARE_LEN..=TRUSTED_LEN).contains(&message.len()) {
            self.long.truncate(SPARES - 1);
            self.long.push_front(memory);
        }
        message
    }

    /// A payload in memory of its own or of the block, which takes the place of its messages once they are gone.
    fn copy(&mut self, payload: &[u8], key: [u8; 4]) -> Bytes {
        self.short.extend_from_slice(payload);
        mask(&mut self.short, key);
        self.short.split().freeze()
    }
}

impl Reader {
    pub(crate) fn new(role: Role, message_len: usize, frame_len: usize) -> Self {
        Self { protocol: None, role, message_len, frame_len, part: Part::Head, head: Vec::new(), is_fragmented: false }
    }

    /// Has the protocol do something besides reading.
    pub(crate) fn with_protocol<R>(&mut self, f: impl FnOnce(&mut WebSocketContext) -> R) -> R {
        let new = || Box::new(protocol(self.role, self.message_len, self.frame_len));
        let result = f(self.protocol.get_or_insert_with(new));
        self.forget_protocol();
        result
    }

    /// Lets the protocol go if it is as a new one would be.
    fn forget_protocol(&mut self) {
        let is_open = self.protocol.as_ref().is_some_and(|protocol| protocol.can_write());
        if is_open && !self.is_fragmented && matches!(self.part, Part::Head) {
            self.protocol = None;
        }
    }

    /// The next message in `input`, as `WebSocketContext::read` gives it: `WouldBlock` is the end of the input.
    pub(crate) fn read(&mut self, input: &mut &[u8], block: &mut Block, out: &mut Vec<u8>) -> Result<Message, Error> {
        loop {
            let complete = match &self.part {
                Part::Head => self.begin(input, block)?,
                Part::Message { .. } => self.gather(input, block)?,
                Part::Protocol { .. } => self.pass_on(input, out)?,
            };
            if let Some(message) = complete {
                return Ok(message);
            }
        }
    }

    /// A short message that lies in the input as a whole, in the usual form: one frame without extensions, masked as its
    /// sender has to (RFC 6455, section 5.2). Looking for that first, rather than parsing whatever header there may be, takes
    /// 30 ns off a message.
    fn short(&self, input: &mut &[u8], block: &mut Block) -> Option<Result<Message, Error>> {
        let expects_message = self.head.is_empty() && !self.is_fragmented && self.can_read();
        if !expects_message {
            return None;
        }
        let ([kind, len], rest) = input.split_first_chunk()?;
        let is_text = match *kind {
            WHOLE_TEXT => true,
            WHOLE_BINARY => false,
            _ => return None,
        };
        let (is_masked, len) = (len & MASKED != 0, len & !MASKED);
        let (len, rest) = match len {
            0..126 => (len.into(), rest),
            126 => rest.split_first_chunk().map(|(len, rest)| (u16::from_be_bytes(*len).into(), rest))?,
            _ => return None,
        };
        let (key, rest) = match (self.role, is_masked) {
            (Role::Server, true) => rest.split_first_chunk().map(|(key, rest)| (*key, rest))?,
            (Role::Client, false) => ([0; 4], rest),
            _ => return None,
        };
        if len > SHARED_LEN.min(self.message_len).min(self.frame_len) {
            return None;
        }
        let (payload, rest) = rest.split_at_checked(len)?;
        *input = rest;
        Some(message(is_text, block.copy(payload, key)))
    }

    /// Reads a header, or a whole message if it is a short one.
    fn begin(&mut self, input: &mut &[u8], block: &mut Block) -> Result<Option<Message>, Error> {
        if let Some(message) = self.short(input, block) {
            return message.map(Some);
        }
        let Some(found) = self.header(input) else { return Err(end_of_input()) };
        let Ok((header, len, header_len)) = found else {
            // The protocol has a word for what is wrong with it.
            self.part = Part::Protocol { left: u64::MAX };
            return Ok(None);
        };
        let frame_len = len.saturating_add(header_len as u64);
        if self.is_sound(&header) && header.opcode == OpCode::Control(Control::Close) {
            let code_at = if self.head.is_empty() { &input[header_len..] } else { &self.head[header_len..] };
            // The protocol would say to the peer what is wrong with it, but not to us.
            if close_code(code_at, &header, len).is_some_and(|code| !code.is_allowed()) {
                return Err(Error::Protocol(ProtocolError::InvalidCloseSequence));
            }
        }
        let OpCode::Data(kind @ (Data::Text | Data::Binary)) = header.opcode else {
            self.is_fragmented &= !(header.opcode == OpCode::Data(Data::Continue) && header.is_final);
            self.part = Part::Protocol { left: frame_len };
            return Ok(None);
        };
        if !self.is_plain(&header, len) {
            self.is_fragmented |= !header.is_final;
            self.part = Part::Protocol { left: frame_len };
            return Ok(None);
        }
        if self.head.is_empty() {
            *input = &input[header_len..];
        }
        self.head.clear();
        let (len, key, is_text) = (len as usize, header.mask.unwrap_or_default(), kind == Data::Text);
        self.part = Part::Message { is_text, key, payload: block.provide(len), len };
        Ok(None)
    }

    /// The header at the front of the input; `None` while it is not whole.
    fn header(&mut self, input: &mut &[u8]) -> Option<Result<Found, Error>> {
        if self.head.is_empty()
            && let Some(found) = parse(input)
        {
            return Some(found);
        }
        while let Some((byte, rest)) = input.split_first() {
            self.head.push(*byte);
            *input = rest;
            if let Some(found) = parse(&self.head) {
                return Some(found);
            }
        }
        None
    }

    /// Whether a frame is a message by itself and breaks no rule.
    fn is_plain(&self, header: &FrameHeader, len: u64) -> bool {
        self.is_sound(header) && len <= self.message_len.min(self.frame_len) as u64 && !self.is_fragmented
    }

    /// Whether a frame is whole, masked as its sender has to, and comes in time.
    fn is_sound(&self, header: &FrameHeader) -> bool {
        header.is_final
            && !(header.rsv1 || header.rsv2 || header.rsv3)
            && header.mask.is_some() == (self.role == Role::Server)
            && self.can_read()
    }

    /// Whether the peer may still say something.
    fn can_read(&self) -> bool {
        self.protocol.as_ref().is_none_or(|protocol| protocol.can_read())
    }

    fn gather(&mut self, input: &mut &[u8], block: &mut Block) -> Result<Option<Message>, Error> {
        let Part::Message { is_text, key, payload, len } = &mut self.part else { return Ok(None) };
        let (here, rest) = input.split_at(input.len().min(*len - payload.len()));
        *input = rest;
        if payload.capacity() - payload.len() < here.len() {
            // To what it will need, but no faster than it fills.
            let wanted = (*len).min(TRUSTED_LEN.max(2 * payload.len())).max(payload.len() + here.len());
            payload.reserve(wanted - payload.len());
        }
        let start = payload.len();
        payload.extend_from_slice(here);
        let mut key = *key;
        key.rotate_left(start % 4);
        mask(&mut payload[start..], key);
        if payload.len() < *len {
            return Err(end_of_input());
        }
        let (is_text, payload) = (*is_text, block.take(payload));
        self.part = Part::Head;
        message(is_text, payload).map(Some)
    }

    /// Gives the protocol a frame, and no byte more: so it holds nothing between frames.
    fn pass_on(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<Message>, Error> {
        let Part::Protocol { left } = &mut self.part else { return Ok(None) };
        let here = if self.head.is_empty() { *input } else { &self.head };
        let here = &here[..here.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
        let len = here.len();
        let new = || Box::new(protocol(self.role, self.message_len, self.frame_len));
        let result = self.protocol.get_or_insert_with(new).read(&mut Wire::new(here, out));
        if self.head.is_empty() {
            *input = &input[len..];
        }
        self.head.clear();
        *left -= len as u64;
        match result {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other.map(Some),
        }
        if *left == 0 {
            self.part = Part::Head;
            self.forget_protocol();
        } else if input.is_empty() {
            return Err(end_of_input());
        }
        Ok(None)
    }
}

fn protocol(role: Role, message_len: usize, frame_len: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        // Control frames are no longer.
        .read_buffer_size(256)
        .write_buffer_size(0)
        .max_message_size(Some(message_len))
        .max_frame_size(Some(frame_len));
    WebSocketContext::new(role, Some(config))
}

/// A header, the length of its payload, and its own.
type Found = (FrameHeader, u64, usize);

fn parse(bytes: &[u8]) -> Option<Result<Found, Error>> {
    let mut cursor = Cursor::new(bytes);
    let found = FrameHeader::parse(&mut cursor).transpose()?;
    let found = found.map(|(header, len)| (header, len, cursor.position() as usize));
    // A close frame is looked at together with its code.
    let is_whole = match &found {
        Ok((header, len, header_len)) if header.opcode == OpCode::Control(Control::Close) => {
            (bytes.len() - header_len) as u64 >= (*len).min(2)
        }
        _ => true,
    };
    is_whole.then_some(found)
}

/// The code that a close frame begins with, if it has one and is no longer than it may be (RFC 6455, section 5.5).
fn close_code(payload: &[u8], header: &FrameHeader, len: u64) -> Option<CloseCode> {
    let [first, second, ..] = *payload else { return None };
    let [a, b, ..] = header.mask.unwrap_or_default();
    (2..=125).contains(&len).then(|| u16::from_be_bytes([first ^ a, second ^ b]).into())
}

fn message(is_text: bool, payload: Bytes) -> Result<Message, Error> {
    if !is_text {
        return Ok(Message::Binary(payload));
    }
    Ok(Message::Text(Utf8Bytes::try_from(payload)?))
}

fn end_of_input() -> Error {
    Error::Io(io::ErrorKind::WouldBlock.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 6000;
    const FRAME_LIMIT: usize = 5000;

    /// What a reader that gets `pieces` makes of them, up to the first error; and what it answers.
    fn read(role: Role, pieces: &[&[u8]]) -> (Vec<Result<Message, String>>, Vec<u8>) {
        let (mut reader, mut out, mut heard) = (Reader::new(role, LIMIT, FRAME_LIMIT), Vec::new(), Vec::new());
        let mut block = Block::default();
        for piece in pieces {
            let mut input = *piece;
            loop {
                match reader.read(&mut input, &mut block, &mut out) {
                    Ok(message) => heard.push(Ok(message)),
                    Err(Error::Io(_)) => break,
                    Err(error) => {
                        heard.push(Err(error.to_string()));
                        return (heard, out);
                    }
                }
            }
            assert!(input.is_empty());
        }
        (heard, out)
    }

    /// The same by tungstenite alone, but for close codes that may not be sent: those it only answers.
    fn expected(role: Role, bytes: &[u8]) -> (Vec<Result<Message, String>>, Vec<u8>) {
        let (mut protocol, mut out, mut heard) = (protocol(role, LIMIT, FRAME_LIMIT), Vec::new(), Vec::new());
        let mut wire = Wire::new(bytes, &mut out);
        loop {
            match protocol.read(&mut wire) {
                Ok(Message::Close(Some(frame))) if frame.reason == "Protocol violation" => {
                    heard.push(Err(Error::Protocol(ProtocolError::InvalidCloseSequence).to_string()));
                    break;
                }
                Ok(message) => heard.push(Ok(message)),
                Err(Error::Io(_)) => break,
                Err(error) => {
                    heard.push(Err(error.to_string()));
                    break;
                }
            }
        }
        (heard, out)
    }

    /// A frame as `role` receives them, with a mistake now and then.
    fn frame(role: Role) -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            8 => prop_oneof![Just(0x81u8), Just(0x82)],
            4 => prop_oneof![Just(0x01u8), Just(0x02), Just(0x00), Just(0x80)],
            2 => prop_oneof![Just(0x89u8), Just(0x8a), Just(0x88)],
            1 => any::<u8>(),
        ];
        let len = prop_oneof![6 => 0..126usize, 3 => 0..2000usize, 2 => 4000..7000usize];
        let is_masked = prop::bool::weighted(if role == Role::Server { 0.97 } else { 0.03 });
        (first, len, is_masked, any::<[u8; 4]>(), prop::bool::weighted(0.95)).prop_map(
            |(first, len, is_masked, key, is_text)| {
                let mask_bit = u8::from(is_masked) << 7;
                let mut frame = match len {
                    0..126 => vec![first, mask_bit | len as u8],
                    _ => [&[first, mask_bit | 126], &(len as u16).to_be_bytes()[..]].concat(),
                };
                let mut payload = vec![if is_text { b'x' } else { 0xff }; len];
                if first & 0xf == 8 && !is_text && len >= 2 {
                    // One mistake at a time: either the code of a close frame, or its reason.
                    payload[..2].copy_from_slice(&1000u16.to_be_bytes());
                }
                if is_masked {
                    frame.extend(key);
                    mask(&mut payload, key);
                }
                frame.extend(payload);
                frame
            },
        )
    }

    proptest! {
        #[test]
        fn all_streams_are_read_as_tungstenite_reads_them_however_they_are_cut(
            (role, frames) in prop_oneof![Just(Role::Server), Just(Role::Client)]
                .prop_flat_map(|role| (Just(role), prop::collection::vec(frame(role), 0..12))),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let bytes = frames.concat();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            let ((heard, answers), (expected, expected_answers)) = (read(role, &pieces), expected(role, &bytes));
            prop_assert_eq!(heard, expected);
            // A client's are masked with keys of their own.
            prop_assert_eq!(answers.len(), expected_answers.len());
            prop_assert!(role == Role::Client || answers == expected_answers);
        }
    }

    #[test]
    fn close_code_that_may_not_be_sent_is_a_mistake_however_it_is_cut() {
        for (role, key) in [(Role::Client, None), (Role::Server, Some([7, 3, 9, 1]))] {
            for (code, is_allowed) in [(999u16, false), (1000, true), (1005, false), (1015, false), (3000, true)] {
                let mut payload = [&code.to_be_bytes()[..], b"why"].concat();
                mask(&mut payload, key.unwrap_or_default());
                let mask_bit = if key.is_some() { 0x80 } else { 0 };
                let frame = [&[0x88, mask_bit | 5][..], key.as_ref().map_or(&[], |key| &key[..]), &payload].concat();
                for cut in 0..=frame.len() {
                    let (heard, _) = read(role, &[&frame[..cut], &frame[cut..]]);
                    assert_eq!(heard[0].is_ok(), is_allowed, "{code} cut at {cut}: {heard:?}");
                }
            }
        }
    }

    #[test]
    fn message_declared_long_takes_no_memory_before_it_comes() {
        let mut reader = Reader::new(Role::Client, 1 << 40, 1 << 40);
        let mut frame = vec![0x82, 127];
        frame.extend((1u64 << 39).to_be_bytes());
        frame.push(0);
        let read = reader.read(&mut &frame[..], &mut Block::default(), &mut Vec::new());
        assert!(matches!(read, Err(Error::Io(_))));
        let Part::Message { payload, .. } = &reader.part else { panic!("a message is gathered") };
        assert!(payload.capacity() <= TRUSTED_LEN);
    }

    #[test]
    fn kept_message_keeps_no_more_than_a_block() {
        let frame = [&[0x82, 100][..], &[7; 100]].concat();
        let (mut reader, mut block) = (Reader::new(Role::Client, LIMIT, FRAME_LIMIT), Block::default());
        let mut messages = Vec::new();
        for _ in 0..1000 {
            messages.push(reader.read(&mut &frame[..], &mut block, &mut Vec::new()).unwrap());
            assert!(block.short.capacity() <= BLOCK_LEN);
        }
        assert!(messages.iter().all(|message| *message == Message::Binary(vec![7; 100].into())));
    }

    #[test]
    fn kept_message_of_some_length_keeps_no_more_than_four_times_that() {
        let binary = |len: usize| [&[0x82, 127][..], &(len as u64).to_be_bytes(), &vec![7; len]].concat();
        let (large, small) = (binary(TRUSTED_LEN), binary(SPARE_LEN));
        let (mut reader, mut block) = (Reader::new(Role::Client, TRUSTED_LEN, TRUSTED_LEN), Block::default());
        let mut read = |frame: &[u8]| reader.read(&mut &frame[..], &mut block, &mut Vec::new()).unwrap();
        let mut kept = Vec::new();
        for _ in 0..10 {
            read(&large);
            kept.push(read(&small).into_data());
        }
        drop(block);
        for message in kept {
            let memory = message.try_into_mut().expect("nobody else has it");
            assert!(memory.capacity() <= SPARE_EXCESS * SPARE_LEN, "{}", memory.capacity());
        }
    }
}
