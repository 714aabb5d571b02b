//! Compressed messages through the decoder.

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::*;
use crate::protocol::{decoder::Decoder, mask::mask, memory_stream::MemoryStream, read_block::Block};

const LIMIT: usize = 6000;
const FRAME_LIMIT: usize = 5000;

fn with_takeover() -> Agreed {
    Deflate::new().agreed(15, true)
}

/// Decodes `pieces`, up to the first error. Returns the messages, and the answers to them.
fn decode(role: Role, agreed: Option<Agreed>, pieces: &[&[u8]]) -> (Vec<Result<Message, String>>, Vec<u8>) {
    let mut decoder = Decoder::new(role, LIMIT, FRAME_LIMIT, agreed);
    let (mut block, mut answers, mut heard) = (Block::default(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut input = *piece;
        loop {
            match decoder.decode(&mut input, &mut block, &mut answers) {
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

/// The mistake at the end of some frames for a client.
fn mistake(frames: &[Vec<u8>]) -> String {
    let (heard, _) = decode(Role::Client, Some(agreed(15)), &[&frames.concat()]);
    heard.last().cloned().expect("a message or a mistake").unwrap_err()
}

/// The same by tungstenite alone.
fn expected(role: Role, bytes: &[u8]) -> (Vec<Result<Message, String>>, Vec<u8>) {
    let config = WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(FRAME_LIMIT));
    let mut protocol = WebSocketContext::new(role, Some(config.write_buffer_size(0)));
    let (mut answers, mut heard) = (Vec::new(), Vec::new());
    let mut stream = MemoryStream::new(bytes, &mut answers);
    loop {
        match protocol.read(&mut stream) {
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

/// A frame as `role` receives it.
fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask_bit = u8::from(role == Role::Server) << 7;
    let mut frame = match payload.len() {
        0..126 => vec![first, mask_bit | payload.len() as u8],
        len => [&[first, mask_bit | 126], &(len as u16).to_be_bytes()[..]].concat(),
    };
    let key = if role == Role::Server { [7, 3, 9, 1] } else { [0; 4] };
    if role == Role::Server {
        frame.extend(key);
    }
    let start = frame.len();
    frame.extend_from_slice(payload);
    mask(&mut frame[start..], key);
    frame
}

/// A message, and how it is sent.
#[derive(Clone, Debug)]
struct Sent {
    is_text: bool,
    text: String,
    is_compressed: bool,
    /// Where its payload is cut into frames.
    cuts: Vec<prop::sample::Index>,
    /// The frame behind which a ping comes.
    ping: Option<prop::sample::Index>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let text = prop_oneof![4 => "[a-e]{0,300}", 1 => "é{0,40}", 1 => "(abcd){1000,1700}"];
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    (any::<bool>(), text, any::<bool>(), cuts, prop::option::of(any::<prop::sample::Index>()))
        .prop_map(|(is_text, text, is_compressed, cuts, ping)| Sent { is_text, text, is_compressed, cuts, ping })
}

impl Sent {
    /// The frames of the message, compressed if it is and `may_be`.
    fn frames(&self, role: Role, may_be: bool, wire: &mut Vec<u8>) {
        let compressed = (self.is_compressed && may_be).then(|| compress(15, self.text.as_bytes())).flatten();
        let payload = compressed.as_deref().unwrap_or(self.text.as_bytes());
        let mut ends: Vec<_> = self.cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(payload.len());
        let (mut from, ping) = (0, self.ping.as_ref().map(|ping| ping.index(ends.len())));
        for (number, end) in ends.iter().enumerate() {
            let kind = if number > 0 { 0 } else { 2 - u8::from(self.is_text) };
            let first_bit = if number == 0 && compressed.is_some() { 0x40 } else { 0 };
            let last_bit = if number + 1 == ends.len() { 0x80 } else { 0 };
            wire.extend(frame(role, last_bit | first_bit | kind, &payload[from..*end]));
            if ping == Some(number) {
                wire.extend(frame(role, 0x89, b"ping"));
            }
            from = *end;
        }
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

proptest! {
    #[test]
    fn compressed_messages_are_read_as_tungstenite_reads_the_plain_ones(
        role in role(),
        messages in prop::collection::vec(sent(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        for message in &messages {
            message.frames(role, true, &mut wire);
            message.frames(role, false, &mut plain);
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(wire.len());
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let pieces: Vec<_> = starts.zip(&cuts).map(|(from, to)| &wire[from..*to]).collect();
        let (heard, answers) = decode(role, Some(agreed(15)), &pieces);
        let (expected, expected_answers) = expected(role, &plain);
        // A message that is over the limit of a frame may pass in compressed form.
        let agreeing = expected.iter().position(Result::is_err).unwrap_or(expected.len());
        prop_assert_eq!(&heard[..agreeing.min(heard.len())], &expected[..agreeing]);
        prop_assert!(agreeing < expected.len() || answers.len() == expected_answers.len());
    }

    #[test]
    fn no_bytes_panic_where_compression_is_agreed_on(
        role in role(), bytes: Vec<u8>, first in 0x41..=0x42u8, is_final: bool, takes_over: bool,
    ) {
        let agreed = if takes_over { with_takeover() } else { agreed(15) };
        let begun = frame(role, first | u8::from(is_final) << 7, &bytes);
        let _ = decode(role, Some(agreed), &[&begun, &bytes]);
        let _ = decode(role, Some(agreed), &[&bytes]);
    }
}

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

#[test]
fn message_refers_to_the_one_before_only_where_that_is_agreed_on() {
    let wire = [frame(Role::Client, 0xc1, &HELLO), frame(Role::Client, 0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00])].concat();
    let (heard, _) = decode(Role::Client, Some(with_takeover()), &[&wire]);
    assert_eq!(heard, [Ok(Message::text("Hello")), Ok(Message::text("Hello"))]);
    let (heard, _) = decode(Role::Client, Some(agreed(15)), &[&wire]);
    let no_deflate = "IO error: a compressed message is no DEFLATE (RFC 1951)";
    assert_eq!(heard, [Ok(Message::text("Hello")), Err(no_deflate.into())]);
}

#[test]
fn reserved_bit_out_of_its_place_is_a_mistake() {
    let frame = |first, payload: &[u8]| frame(Role::Client, first, payload);
    let reserved = "Reserved bits are non-zero";
    // On a continuation, within a plain message, on a continuation of nothing, on a ping; and with another bit.
    assert!(mistake(&[frame(0x41, &HELLO[..2]), frame(0xc0, &HELLO[2..])]).contains(reserved));
    assert!(mistake(&[frame(0x01, b"x"), frame(0xc0, b"x")]).contains(reserved));
    assert!(mistake(&[frame(0xc0, b"x")]).contains(reserved));
    assert!(mistake(&[frame(0xc9, b"x")]).contains(reserved));
    assert!(mistake(&[frame(0xe1, &HELLO)]).contains(reserved));
    let (heard, _) = decode(Role::Client, None, &[&frame(0xc1, &HELLO)]);
    assert!(heard[0].clone().unwrap_err().contains(reserved));
}

#[test]
fn message_within_another_is_a_mistake() {
    let frame = |first, payload: &[u8]| frame(Role::Client, first, payload);
    for begun in [frame(0x41, &HELLO[..2]), frame(0x01, b"x")] {
        for first in [0x81, 0xc1, 0x82, 0xc2] {
            assert!(mistake(&[begun.clone(), frame(first, &HELLO)]).contains("more fragments"));
        }
    }
    assert!(mistake(&[frame(0xc1, &HELLO), frame(0x80, b"x")]).contains("Continue frame but nothing to continue"));
}

#[test]
fn text_is_checked_once_it_is_inflated() {
    let compressed = compress(15, &[0xff; 100]).unwrap();
    assert!(mistake(&[frame(Role::Client, 0xc1, &compressed)]).contains("UTF-8"));
    let (heard, _) = decode(Role::Client, Some(agreed(15)), &[&frame(Role::Client, 0xc2, &compressed)]);
    assert_eq!(heard, [Ok(Message::binary(vec![0xff; 100]))]);
}

#[test]
fn bomb_is_a_message_too_long_however_many_frames_it_has() {
    let compressed = compress(15, &vec![0; 1 << 20]).unwrap();
    for step in [1, 7, compressed.len()] {
        let count = compressed.chunks(step).len();
        let frames = compressed.chunks(step).enumerate().map(|(number, chunk)| {
            let first = if number == 0 { 0x42 } else { 0 };
            frame(Role::Client, first | u8::from(number + 1 == count) << 7, chunk)
        });
        let mistake = mistake(&frames.collect::<Vec<_>>());
        assert!(mistake.contains("Message too long: 6001 > 6000"), "{mistake}");
    }
}

#[test]
fn compressed_form_may_be_a_little_longer_than_the_message() {
    let noise: Vec<u8> = repeat_with(rand::random).take(FRAME_LIMIT).collect();
    // As others send it: a stored block, which is longer than its contents (RFC 7692, section 7.2.3.3).
    let len = FRAME_LIMIT as u16;
    let whole = [&[0x00], &len.to_le_bytes()[..], &(!len).to_le_bytes(), &noise, &[0x00]].concat();
    let (heard, _) = decode(Role::Client, Some(agreed(15)), &[&frame(Role::Client, 0xc2, &whole)]);
    assert_eq!(heard, [Ok(Message::binary(noise.clone()))]);
    // Announced, and refused before it comes.
    let longer = compressed_len(FRAME_LIMIT) + 1;
    assert!(mistake(&[frame(Role::Client, 0xc2, &vec![0; longer])[..4].to_vec()]).contains("Message too long"));
    let rest = compressed_len(LIMIT) - whole.len();
    let begun = frame(Role::Client, 0x42, &whole);
    let too_long = mistake(&[begun.clone(), frame(Role::Client, 0x00, &vec![0; rest + 1])[..4].to_vec()]);
    assert!(too_long.contains("Message too long"));
    let (heard, _) = decode(Role::Client, Some(agreed(15)), &[&begun, &frame(Role::Client, 0x00, &vec![0; rest])]);
    assert_eq!(heard, []);
}
