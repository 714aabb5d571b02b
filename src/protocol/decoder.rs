//! From bytes to messages, before tungstenite where that is safe.
//!
//! tungstenite's own way costs a message three buffers' bookkeeping, clears memory before it reads into it, and keeps the
//! largest buffer there ever was. A message in one frame, as nearly all are, needs no more than its payload: that is
//! gathered here. Control frames go to tungstenite as they came, and fragments piece by piece.
//!
//! tungstenite also sets aside the memory for a frame as soon as its length is known, and then looks whether it breaks a rule.
//! So a frame is judged here first, by its header, with tungstenite's own words; and of a fragment tungstenite is given what
//! has come, as a fragment by itself: no length that a peer states is taken for memory.

use std::{
    collections::VecDeque,
    io::{self, Cursor},
    mem::take,
};

use bytes::{Bytes, BytesMut};
use tungstenite::{
    Error, Message, Utf8Bytes,
    error::{CapacityError, ProtocolError},
    protocol::{
        Role, WebSocketConfig, WebSocketContext,
        frame::{
            FrameHeader,
            coding::{CloseCode, Control, Data, OpCode},
        },
    },
};

use crate::protocol::wire::{Wire, mask};

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

/// The longest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL_LEN: usize = 125;

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
    /// How long the frames are that the protocol has of a message in several.
    fragments_len: Option<usize>,
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
    /// The rest of a frame that is a part of a message.
    Fragment {
        header: FrameHeader,
        left: usize,
    },
    /// The rest of a control frame.
    Control {
        left: usize,
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
        Self { protocol: None, role, message_len, frame_len, part: Part::Head, head: Vec::new(), fragments_len: None }
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
        if is_open && self.fragments_len.is_none() && matches!(self.part, Part::Head) {
            self.protocol = None;
        }
    }

    /// The next message in `input`, as `WebSocketContext::read` gives it: `WouldBlock` is the end of the input.
    pub(crate) fn read(&mut self, input: &mut &[u8], block: &mut Block, out: &mut Vec<u8>) -> Result<Message, Error> {
        loop {
            let complete = match &self.part {
                Part::Head => self.begin(input, block)?,
                Part::Message { .. } => self.gather(input, block)?,
                Part::Fragment { .. } => self.pass_on_fragment(input, out)?,
                Part::Control { .. } => self.pass_on_control(input, out)?,
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
        let expects_message = self.head.is_empty() && self.fragments_len.is_none() && self.can_read();
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
        let is_extended = len == 126;
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
        if is_extended && len < 126 || len > SHARED_LEN.min(self.message_len).min(self.frame_len) {
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
        let (header, len, header_len) = found?;
        check_length(&header, len, header_len)?;
        let len = self.check(&header, len)?;
        if let OpCode::Control(kind) = header.opcode {
            let code_at = if self.head.is_empty() { &input[header_len..] } else { &self.head[header_len..] };
            // The protocol would say to the peer what is wrong with it, but not to us.
            if kind == Control::Close && close_code(code_at, &header, len).is_some_and(|code| !code.is_allowed()) {
                return Err(ProtocolError::InvalidCloseSequence.into());
            }
            self.part = Part::Control { left: header_len + len };
            return Ok(None);
        }
        if self.head.is_empty() {
            *input = &input[header_len..];
        }
        self.head.clear();
        self.part = match header.opcode {
            OpCode::Data(kind @ (Data::Text | Data::Binary)) if header.is_final => {
                let (key, is_text) = (header.mask.unwrap_or_default(), kind == Data::Text);
                Part::Message { is_text, key, payload: block.provide(len), len }
            }
            _ => {
                self.fragments_len = Some(self.fragments_len.unwrap_or(0) + len);
                Part::Fragment { header, left: len }
            }
        };
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

    /// Finds what is wrong with a frame, in tungstenite's order, or returns its length.
    fn check(&self, header: &FrameHeader, len: u64) -> Result<usize, Error> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let too_long = |size, max_size| Err(CapacityError::MessageTooLong { size, max_size }.into());
        let (is_masked, is_reserved) = (header.mask.is_some(), header.rsv1 || header.rsv2 || header.rsv3);
        let error = match header.opcode {
            _ if len > self.frame_len => return too_long(len, self.frame_len),
            _ if self.role == Role::Server && !is_masked => ProtocolError::UnmaskedFrameFromClient,
            _ if !self.can_read() => ProtocolError::ReceivedAfterClosing,
            _ if is_reserved => ProtocolError::NonZeroReservedBits,
            _ if self.role == Role::Client && is_masked => ProtocolError::MaskedFrameFromServer,
            OpCode::Control(_) if !header.is_final => ProtocolError::FragmentedControlFrame,
            OpCode::Control(_) if len > MAX_CONTROL_LEN => ProtocolError::ControlFrameTooBig,
            OpCode::Control(_) => return Ok(len),
            OpCode::Data(kind) => match (kind, self.fragments_len) {
                (Data::Continue, None) => ProtocolError::UnexpectedContinueFrame,
                (Data::Continue, Some(before)) if len > self.message_len - before => {
                    return too_long(before.saturating_add(len), self.message_len);
                }
                (Data::Continue, Some(_)) | (_, None) => return Ok(len),
                (_, Some(_)) => ProtocolError::ExpectedFragment(kind),
            },
        };
        Err(error.into())
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

    /// Gives the protocol what has come of a fragment, as a fragment by itself (RFC 6455, section 5.4).
    fn pass_on_fragment(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<Message>, Error> {
        let Part::Fragment { header, left } = &mut self.part else { return Ok(None) };
        if input.is_empty() && *left > 0 {
            return Err(end_of_input());
        }
        let (here, rest) = input.split_at(input.len().min(*left));
        *input = rest;
        *left -= here.len();
        let is_whole = *left == 0;
        let piece = FrameHeader { is_final: header.is_final && is_whole, ..header.clone() };
        let mut frame = Vec::new();
        piece.format(here.len() as u64, &mut frame)?;
        frame.extend_from_slice(here);
        header.opcode = OpCode::Data(Data::Continue);
        if let Some(key) = &mut header.mask {
            key.rotate_left(here.len() % 4);
        }
        if is_whole {
            self.part = Part::Head;
        }
        if piece.is_final {
            self.fragments_len = None;
        }
        self.give(&frame, out)
    }

    /// Gives the protocol a control frame, and no byte more: so it holds nothing between frames.
    fn pass_on_control(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<Message>, Error> {
        let Part::Control { left } = &mut self.part else { return Ok(None) };
        let is_split = !self.head.is_empty();
        let head = take(&mut self.head);
        let here = if is_split { &head } else { *input };
        let here = &here[..here.len().min(*left)];
        if !is_split {
            *input = &input[here.len()..];
        }
        *left -= here.len();
        let is_whole = *left == 0;
        let message = self.give(here, out)?;
        if message.is_none() && is_whole {
            // Not before it has also given its answer, which it does when it is asked for more.
            self.part = Part::Head;
            self.forget_protocol();
        } else if message.is_none() && input.is_empty() {
            return Err(end_of_input());
        }
        Ok(message)
    }

    /// Lets the protocol read so much. Nothing comes of what is no message, and completes none.
    fn give(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Message>, Error> {
        match self.with_protocol(|protocol| protocol.read(&mut Wire::new(bytes, out))) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
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

/// A length takes the fewest bytes it can, and its first bit is none of it (RFC 6455, section 5.2). tungstenite does not look.
fn check_length(header: &FrameHeader, len: u64, header_len: usize) -> Result<(), Error> {
    if header_len == header.len(len) && i64::try_from(len).is_ok() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the length of a frame is not written in the fewest bytes").into())
}

/// The code that a close frame begins with, if it has one.
fn close_code(payload: &[u8], header: &FrameHeader, len: usize) -> Option<CloseCode> {
    let [first, second, ..] = *payload else { return None };
    let [a, b, ..] = header.mask.unwrap_or_default();
    (len >= 2).then(|| u16::from_be_bytes([first ^ a, second ^ b]).into())
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
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
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

    /// How a frame for `role` begins, which sends frames with keys of zeros to a server.
    fn start(role: Role, first: u8, len: u64) -> Vec<u8> {
        let form = match len {
            0..126 => 0,
            126..0x1_0000 => 2,
            _ => 8,
        };
        start_in_form(role, first, len, form)
    }

    /// As [`start`], with so many more bytes for the length.
    fn start_in_form(role: Role, first: u8, len: u64, form: usize) -> Vec<u8> {
        let short = match form {
            0 => len as u8,
            2 => 126,
            _ => 127,
        };
        let (mask_bit, key) = if role == Role::Server { (MASKED, &[0; 4][..]) } else { (0, &[][..]) };
        [&[first, mask_bit | short], &len.to_be_bytes()[8 - form..], key].concat()
    }

    #[test]
    fn message_declared_long_takes_no_memory_before_it_comes() {
        let mut reader = Reader::new(Role::Client, 1 << 40, 1 << 40);
        let frame = [start(Role::Client, 0x82, 1 << 39), vec![0]].concat();
        let read = reader.read(&mut &frame[..], &mut Block::default(), &mut Vec::new());
        assert!(matches!(read, Err(Error::Io(_))));
        let Part::Message { payload, .. } = &reader.part else { panic!("a message is gathered") };
        assert!(payload.capacity() <= TRUSTED_LEN);
    }

    #[test]
    fn no_length_of_a_frame_is_taken_for_memory_without_a_limit() {
        // What sets aside so much ends the process.
        for role in [Role::Server, Role::Client] {
            for len in [1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX] {
                for first in 0..=u8::MAX {
                    let (mut reader, mut block) = (Reader::new(role, usize::MAX, usize::MAX), Block::default());
                    for before in [&[][..], &[start(role, 0x01, 1), vec![b'x']].concat()] {
                        let bytes = [before, &start(role, first, len), b"some of it"].concat();
                        assert!(reader.read(&mut &bytes[..], &mut block, &mut Vec::new()).is_err());
                    }
                }
            }
        }
    }

    #[test]
    fn fragments_over_the_limit_are_refused_before_they_come() {
        for role in [Role::Server, Role::Client] {
            let begun = [start(role, 0x02, 4000), vec![0; 4000]].concat();
            for (len, is_over) in [(2000, false), (2001, true), (5000, true)] {
                let (heard, _) = read(role, &[&begun, &start(role, 0x80, len)]);
                assert_eq!(heard.is_empty(), !is_over, "{heard:?}");
            }
        }
    }

    /// Reads a frame whose length takes `form` more bytes, behind `before`, cut in two wherever that may matter.
    fn is_taken(role: Role, before: &[u8], first: u8, len: usize, form: usize) -> bool {
        // A close frame has a code, and everything else is text.
        let payload = if first == 0x88 { vec![0x0c; len] } else { vec![b'x'; len] };
        let bytes = [before, &start_in_form(role, first, len as u64, form), &payload].concat();
        let head_end = bytes.len().min(before.len() + 16);
        let taken = (0..=head_end).map(|cut| {
            let (heard, _) = read(role, &[&bytes[..cut], &bytes[cut..]]);
            heard.first().is_none_or(Result::is_ok)
        });
        let taken: Vec<_> = taken.collect();
        assert!(taken.windows(2).all(|pair| pair[0] == pair[1]), "it depends on the cut: {taken:?}");
        taken[0]
    }

    #[test]
    fn length_in_more_bytes_than_it_takes_is_a_mistake_however_it_is_cut() {
        for role in [Role::Server, Role::Client] {
            let fragment = [start(role, 0x01, 1), vec![b'x']].concat();
            for (first, before) in [(0x81, &[][..]), (0x82, &[]), (0x01, &[]), (0x80, &fragment)] {
                assert!(is_taken(role, before, first, 125, 0) && is_taken(role, before, first, 126, 2));
                let longer = [(0, 2), (0, 8), (125, 2), (125, 8), (126, 8), (2000, 8)];
                assert!(longer.iter().all(|(len, form)| !is_taken(role, before, first, *len, *form)), "{first}");
            }
            for control in [0x88, 0x89, 0x8a] {
                assert!(is_taken(role, &[], control, 2, 0));
                assert!(![2, 8].iter().any(|form| is_taken(role, &[], control, 2, *form)), "{control}");
            }
        }
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
        let binary = |len: usize| [start(Role::Client, 0x82, len as u64), vec![7; len]].concat();
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
