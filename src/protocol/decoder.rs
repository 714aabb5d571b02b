//! [`Decoder`]: from bytes to messages, without tungstenite where that is safe.
//!
//! tungstenite's own way costs a message three buffers' bookkeeping, clears memory before it reads into it, and keeps the
//! largest buffer it ever had. A message in one frame, as nearly all are, needs only the memory of its payload: that is
//! gathered here. Control frames go to tungstenite unchanged, and fragments piece by piece.
//!
//! tungstenite also allocates the memory for a frame as soon as it knows the length, and only then checks whether the frame
//! breaks a rule. So a frame is checked here first, by its header, with tungstenite's own errors; and the bytes of a
//! fragment that have arrived are given to tungstenite as a fragment by themselves: no memory is allocated only because a
//! peer announces it.

use std::{
    io::{self, Cursor},
    mem::take,
    str::Utf8Error,
};

use bytes::{BufMut, Bytes, BytesMut, buf::Limit};
use tokio_tungstenite::tungstenite::{
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

use crate::{
    Frame, WsText,
    protocol::{
        deflate::{Agreed, Inflation, compressed_len},
        mask::mask,
        memory_stream::MemoryStream,
        pieces::pieces,
        read_block::{Block, SHARED_LEN, TRUSTED_LEN},
    },
};

/// The first byte of a frame that is a whole text message: its last frame, without extensions (RFC 6455, section 5.2).
const WHOLE_TEXT: u8 = 0x81;

/// The same for a binary message.
const WHOLE_BINARY: u8 = 0x82;

/// The longest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL_LEN: usize = 125;

/// The bit that marks a payload as masked, beside its length.
const MASKED: u8 = 0x80;

/// Decodes the messages of one connection.
pub(crate) struct Decoder {
    /// tungstenite, while it has a state to keep. It takes half a KiB, which an idle connection does without, and it never
    /// shrinks its buffer.
    protocol: Option<Box<WebSocketContext>>,
    role: Role,
    message_len: usize,
    frame_len: usize,
    part: Part,
    /// The first bytes of a header whose rest has not arrived.
    head: Vec<u8>,
    /// The length of all frames that have arrived of a message that is not whole, with tungstenite or with `inflation`; `None`
    /// between messages.
    fragments_len: Option<usize>,
    /// The compressed messages, if there may be any.
    inflation: Option<Box<Inflation>>,
}

/// The part that the next byte of the input belongs to.
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
    /// The rest of a frame that is a part of a compressed message.
    Compressed {
        key: [u8; 4],
        left: usize,
        is_final: bool,
    },
    /// The rest of a control frame.
    Control {
        left: usize,
    },
}

impl Decoder {
    pub(crate) fn new(role: Role, message_len: usize, frame_len: usize, deflate: Option<Agreed>) -> Self {
        Self {
            protocol: None,
            role,
            message_len,
            frame_len,
            part: Part::Head,
            head: Vec::new(),
            fragments_len: None,
            inflation: deflate.map(|agreed| Inflation::new(agreed).into()),
        }
    }

    /// Lends tungstenite to `f`, for anything but reading.
    pub(crate) fn with_protocol<R>(&mut self, f: impl FnOnce(&mut WebSocketContext) -> R) -> R {
        let new = || Box::new(protocol(self.role, self.message_len, self.frame_len));
        let result = f(self.protocol.get_or_insert_with(new));
        self.forget_protocol();
        result
    }

    /// Drops tungstenite if its state is that of a new one.
    fn forget_protocol(&mut self) {
        let is_open = self.protocol.as_ref().is_some_and(|protocol| protocol.can_write());
        if is_open && self.fragments_len.is_none() && matches!(self.part, Part::Head) {
            self.protocol = None;
        }
    }

    /// Returns the next message in `input`, as `WebSocketContext::read` would: `WouldBlock` is the end of the input. The
    /// answers that the protocol makes by itself go to `answers`.
    pub(crate) fn decode(
        &mut self,
        input: &mut &[u8],
        block: &mut Block,
        answers: &mut Vec<u8>,
    ) -> Result<Message, Error> {
        loop {
            let complete = match &self.part {
                Part::Head => self.begin(input, block)?,
                Part::Message { .. } => self.gather(input, block)?,
                Part::Fragment { .. } => self.pass_on_fragment(input, answers)?,
                Part::Compressed { .. } => self.gather_compressed(input, block)?,
                Part::Control { .. } => self.pass_on_control(input, answers)?,
            };
            if let Some(message) = complete {
                return Ok(message);
            }
        }
    }

    /// Whether nothing comes of [`decode`](Self::decode) without more input.
    pub(crate) fn is_between_frames(&self) -> bool {
        matches!(self.part, Part::Head)
    }

    /// Takes a short message that lies in the input as a whole, in the usual form: one frame without extensions, masked if
    /// its sender is a client (RFC 6455, section 5.2). Trying this before [`decode`](Self::decode), which parses the header in
    /// general, takes 30 ns off a message.
    #[inline]
    pub(crate) fn short(&self, input: &mut &[u8], block: &mut Block) -> Option<Result<Frame, Utf8Error>> {
        let is_between = matches!(self.part, Part::Head) && self.head.is_empty() && self.fragments_len.is_none();
        let expects_message = is_between && self.can_read();
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
        let payload = block.copy(payload, key);
        let text = |payload| Utf8Bytes::try_from(payload).map(|text| Frame::Text(WsText::from_utf8_bytes(text)));
        Some(if is_text { text(payload) } else { Ok(Frame::Binary(payload)) })
    }

    /// Reads a header.
    #[inline(never)]
    fn begin(&mut self, input: &mut &[u8], block: &mut Block) -> Result<Option<Message>, Error> {
        let Some(found) = self.header(input) else { return Err(end_of_input()) };
        let ParsedHeader { header, payload_len, header_len } = found?;
        check_length(&header, payload_len, header_len)?;
        let len = self.check(&header, payload_len)?;
        if let OpCode::Control(kind) = header.opcode {
            let code_at = if self.head.is_empty() { &input[header_len..] } else { &self.head[header_len..] };
            // tungstenite would report this mistake to the peer, but not to this side.
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
            OpCode::Data(kind) if self.is_compressed(&header) => self.begin_compressed(kind, &header, len),
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

    /// Takes the header from the front of the input; `None` while a part of it is missing.
    fn header(&mut self, input: &mut &[u8]) -> Option<Result<ParsedHeader, Error>> {
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

    /// Returns the length of a frame, or its mistake, in tungstenite's order.
    fn check(&self, header: &FrameHeader, len: u64) -> Result<usize, Error> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let too_long = |size, max_size| Err(CapacityError::MessageTooLong { size, max_size }.into());
        let is_compressed = self.is_compressed(header);
        // The first bit is on the first frame of a compressed message alone (RFC 7692, section 6.1).
        let begins = is_compressed && header.opcode != OpCode::Data(Data::Continue);
        let (is_masked, is_reserved) = (header.mask.is_some(), header.rsv1 && !begins || header.rsv2 || header.rsv3);
        let (frame_len, message_len) = match is_compressed {
            true => (compressed_len(self.frame_len), compressed_len(self.message_len)),
            false => (self.frame_len, self.message_len),
        };
        let error = match header.opcode {
            _ if len > frame_len => return too_long(len, self.frame_len),
            _ if self.role == Role::Server && !is_masked => ProtocolError::UnmaskedFrameFromClient,
            _ if !self.can_read() => ProtocolError::ReceivedAfterClosing,
            _ if is_reserved => ProtocolError::NonZeroReservedBits,
            _ if self.role == Role::Client && is_masked => ProtocolError::MaskedFrameFromServer,
            OpCode::Control(_) if !header.is_final => ProtocolError::FragmentedControlFrame,
            OpCode::Control(_) if len > MAX_CONTROL_LEN => ProtocolError::ControlFrameTooBig,
            OpCode::Control(_) => return Ok(len),
            OpCode::Data(kind) => match (kind, self.fragments_len) {
                (Data::Continue, None) => ProtocolError::UnexpectedContinueFrame,
                (Data::Continue, Some(before)) if len > message_len - before => {
                    return too_long(before.saturating_add(len), self.message_len);
                }
                (Data::Continue, Some(_)) | (_, None) => return Ok(len),
                (_, Some(_)) => ProtocolError::ExpectedFragment(kind),
            },
        };
        Err(error.into())
    }

    /// Whether a frame is a part of a compressed message, if it is no mistake.
    fn is_compressed(&self, header: &FrameHeader) -> bool {
        let Some(inflation) = &self.inflation else { return false };
        match header.opcode {
            OpCode::Data(Data::Text | Data::Binary) => header.rsv1,
            OpCode::Data(_) => inflation.is_gathering(),
            OpCode::Control(_) => false,
        }
    }

    /// Whether the peer may still send anything: not after its close frame.
    fn can_read(&self) -> bool {
        self.protocol.as_ref().is_none_or(|protocol| protocol.can_read())
    }

    fn gather(&mut self, input: &mut &[u8], block: &mut Block) -> Result<Option<Message>, Error> {
        let Part::Message { is_text, key, payload, len } = &mut self.part else { return Ok(None) };
        let (here, rest) = input.split_at(input.len().min(*len - payload.len()));
        *input = rest;
        make_room(payload, *len, here.len());
        let mut key = *key;
        key.rotate_left(payload.len() % 4);
        for piece in pieces(here) {
            let start = payload.len();
            payload.extend_from_slice(piece);
            mask(&mut payload[start..], key);
        }
        if payload.len() < *len {
            return Err(end_of_input());
        }
        let (is_text, payload) = (*is_text, block.take(payload));
        self.part = Part::Head;
        message(is_text, payload).map(Some)
    }

    /// Whether a message of at least so many bytes is gathered here, and not whole.
    pub(crate) fn is_gathering(&self, least: usize) -> bool {
        matches!(self.part, Part::Message { len, .. } if len >= least)
    }

    /// Lets `read` put the next bytes of the input, at most `most`, to where a message is gathered: that saves a copy. `None` if
    /// nothing is gathered of which at least `least` bytes are to come. [`decode`](Self::decode) returns the message once it is
    /// whole.
    pub(crate) fn gather_by<R>(
        &mut self,
        least: usize,
        most: usize,
        read: impl FnOnce(&mut Limit<&mut BytesMut>) -> R,
    ) -> Option<R> {
        let Part::Message { key, payload, len, .. } = &mut self.part else { return None };
        let (start, left) = (payload.len(), *len - payload.len());
        if left < least {
            return None;
        }
        make_room(payload, *len, 1);
        let room = payload.capacity() - start;
        let result = read(&mut payload.limit(left.min(room).min(most)));
        let mut key = *key;
        key.rotate_left(start % 4);
        mask(&mut payload[start..], key);
        Some(result)
    }

    #[inline(never)]
    fn begin_compressed(&mut self, kind: Data, header: &FrameHeader, len: usize) -> Part {
        if let (Data::Text | Data::Binary, Some(inflation)) = (kind, &mut self.inflation) {
            inflation.begin(kind == Data::Text);
        }
        self.fragments_len = Some(self.fragments_len.unwrap_or(0) + len);
        Part::Compressed { key: header.mask.unwrap_or_default(), left: len, is_final: header.is_final }
    }

    /// Gathers a frame of a compressed message, which is inflated once it is whole: tungstenite would refuse it.
    #[inline(never)]
    fn gather_compressed(&mut self, input: &mut &[u8], block: &mut Block) -> Result<Option<Message>, Error> {
        let (Part::Compressed { key, left, is_final }, Some(inflation)) = (&mut self.part, &mut self.inflation) else {
            return Ok(None);
        };
        let (here, rest) = input.split_at(input.len().min(*left));
        *input = rest;
        *left -= here.len();
        inflation.gather(here, *key);
        key.rotate_left(here.len() % 4);
        if *left > 0 {
            return Err(end_of_input());
        }
        let is_whole = *is_final;
        self.part = Part::Head;
        if !is_whole {
            return Ok(None);
        }
        self.fragments_len = None;
        inflation.inflate(block, self.message_len).map(Some)
    }

    /// Gives tungstenite the arrived bytes of a fragment, as a fragment by themselves (RFC 6455, section 5.4).
    fn pass_on_fragment(&mut self, input: &mut &[u8], answers: &mut Vec<u8>) -> Result<Option<Message>, Error> {
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
        self.give(&frame, answers)
    }

    /// Gives tungstenite a control frame, and no byte more: so tungstenite holds nothing between frames.
    fn pass_on_control(&mut self, input: &mut &[u8], answers: &mut Vec<u8>) -> Result<Option<Message>, Error> {
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
        let message = self.give(here, answers)?;
        if message.is_none() && is_whole {
            // Not earlier: tungstenite writes its answer when it is asked for the next message.
            self.part = Part::Head;
            self.forget_protocol();
        } else if message.is_none() && input.is_empty() {
            return Err(end_of_input());
        }
        Ok(message)
    }

    /// Lets tungstenite read `bytes`. Returns `None` when they complete no message.
    fn give(&mut self, bytes: &[u8], answers: &mut Vec<u8>) -> Result<Option<Message>, Error> {
        match self.with_protocol(|protocol| protocol.read(&mut MemoryStream::new(bytes, answers))) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
    }
}

/// Makes room for the next bytes of a message of `len`: for all of it, but no faster than it arrives, which is up to 1 MiB, or
/// twice the length that has arrived.
fn make_room(payload: &mut BytesMut, len: usize, next: usize) {
    if payload.capacity() - payload.len() < next {
        let wanted = len.min(TRUSTED_LEN.max(2 * payload.len())).max(payload.len() + next);
        payload.reserve(wanted - payload.len());
    }
}

fn protocol(role: Role, message_len: usize, frame_len: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        // Control frames are never longer.
        .read_buffer_size(256)
        .write_buffer_size(0)
        .max_message_size(Some(message_len))
        .max_frame_size(Some(frame_len));
    WebSocketContext::new(role, Some(config))
}

struct ParsedHeader {
    header: FrameHeader,
    payload_len: u64,
    header_len: usize,
}

fn parse(bytes: &[u8]) -> Option<Result<ParsedHeader, Error>> {
    let mut cursor = Cursor::new(bytes);
    let found = FrameHeader::parse(&mut cursor).transpose()?;
    let header_len = cursor.position() as usize;
    let found = found.map(|(header, payload_len)| ParsedHeader { header, payload_len, header_len });
    // The header of a close frame counts as whole once its close code is there: both are checked together.
    let is_whole = match &found {
        Ok(found) if found.header.opcode == OpCode::Control(Control::Close) => {
            (bytes.len() - found.header_len) as u64 >= found.payload_len.min(2)
        }
        _ => true,
    };
    is_whole.then_some(found)
}

/// Checks that a length is written in the fewest bytes, and without its first bit (RFC 6455, section 5.2): tungstenite does
/// not.
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

// As `Block::copy`.
#[inline(always)]
pub(crate) fn message(is_text: bool, payload: Bytes) -> Result<Message, Error> {
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
    use crate::protocol::read_block::PAGE_LEN;

    const LIMIT: usize = 6000;
    const FRAME_LIMIT: usize = 5000;

    /// Decodes `pieces`, up to the first error. Returns the messages, and the answers to them.
    fn read(role: Role, pieces: &[&[u8]]) -> (Vec<Result<Message, String>>, Vec<u8>) {
        let (mut decoder, mut answers, mut heard) =
            (Decoder::new(role, LIMIT, FRAME_LIMIT, None), Vec::new(), Vec::new());
        let mut block = Block::default();
        for (nth, piece) in pieces.iter().enumerate() {
            let mut input = *piece;
            if nth % 2 == 1 {
                decoder.gather_by(1, 1000, |space| {
                    let (here, rest) = input.split_at(input.len().min(space.remaining_mut()));
                    space.put_slice(here);
                    input = rest;
                });
            }
            loop {
                // As the driver does.
                let short = decoder.short(&mut input, &mut block);
                let short = short.map(|frame| frame.map(message_of).map_err(Error::from));
                match short.unwrap_or_else(|| decoder.decode(&mut input, &mut block, &mut answers)) {
                    Ok(message) => heard.push(Ok(message)),
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        heard.push(Err(error.to_string()));
                        return (heard, answers);
                    }
                }
            }
            assert!(input.is_empty());
        }
        (heard, answers)
    }

    fn message_of(frame: Frame) -> Message {
        match frame {
            Frame::Text(text) => Message::text(text.as_str()),
            Frame::Binary(bytes) => Message::Binary(bytes),
        }
    }

    /// The same by tungstenite alone, but for close codes that may not be sent: those it only answers.
    fn expected(role: Role, bytes: &[u8]) -> (Vec<Result<Message, String>>, Vec<u8>) {
        let (mut protocol, mut answers, mut heard) = (protocol(role, LIMIT, FRAME_LIMIT), Vec::new(), Vec::new());
        let mut stream = MemoryStream::new(bytes, &mut answers);
        loop {
            match protocol.read(&mut stream) {
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
        (heard, answers)
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
        let mut decoder = Decoder::new(Role::Client, 1 << 40, 1 << 40, None);
        let frame = [start(Role::Client, 0x82, 1 << 39), vec![0]].concat();
        let read = decoder.decode(&mut &frame[..], &mut Block::default(), &mut Vec::new());
        assert!(matches!(read, Err(Error::Io(_))));
        let Part::Message { payload, .. } = &decoder.part else { panic!("a message is gathered") };
        assert!(payload.capacity() <= TRUSTED_LEN + PAGE_LEN);
    }

    #[test]
    fn no_length_of_a_frame_is_taken_for_memory_without_a_limit() {
        // What sets aside so much ends the process.
        for role in [Role::Server, Role::Client] {
            for len in [1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX] {
                for first in 0..=u8::MAX {
                    let (mut decoder, mut block) = (Decoder::new(role, usize::MAX, usize::MAX, None), Block::default());
                    for before in [&[][..], &[start(role, 0x01, 1), vec![b'x']].concat()] {
                        let bytes = [before, &start(role, first, len), b"some of it"].concat();
                        assert!(decoder.decode(&mut &bytes[..], &mut block, &mut Vec::new()).is_err());
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
}
