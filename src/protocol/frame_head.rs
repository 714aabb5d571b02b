//! The head of a frame that is a whole data message (RFC 6455, section 5.2).
//!
//! Written here rather than by tungstenite, which writes it piece by piece: that took 4 % of the time of a client that sends
//! short messages.

use tokio_tungstenite::tungstenite::protocol::Role;

use crate::Frame;

const WHOLE: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const MASKED: u8 = 0x80;

/// What a length below this is written by: the length itself, and otherwise one of these two and 2 or 8 bytes more.
const TWO_BYTES: u8 = 126;
const EIGHT_BYTES: u8 = 127;

/// The kind of a message, as the first byte of its frame says it.
#[derive(Clone, Copy)]
pub(crate) struct Kind(u8);

impl Kind {
    pub(crate) const TEXT: Self = Self(WHOLE | TEXT);

    pub(crate) fn of(frame: &Frame) -> Self {
        match frame {
            Frame::Text(_) => Self::TEXT,
            Frame::Binary(_) => Self(WHOLE | BINARY),
        }
    }

    /// In compressed form, which the first reserved bit tells (RFC 7692, section 6.1).
    pub(crate) fn compressed(self) -> Self {
        Self(self.0 | COMPRESSED)
    }
}

/// The key of a frame that comes from a client, and none for a server's (section 5.3).
#[inline]
pub(crate) fn key_of(role: Role) -> Option<[u8; 4]> {
    // One number: four random bytes would be four.
    (role == Role::Client).then(|| rand::random::<u32>().to_ne_bytes())
}

/// Adds the head of a frame with a payload of `len` bytes.
#[inline(always)]
pub(crate) fn append_head(bytes: &mut Vec<u8>, Kind(kind): Kind, len: usize, key: Option<[u8; 4]>) {
    let mask_bit = if key.is_some() { MASKED } else { 0 };
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < TWO_BYTES => bytes.extend_from_slice(&[kind, mask_bit | short]),
        (_, Ok(len)) => {
            let [high, low] = len.to_be_bytes();
            bytes.extend_from_slice(&[kind, mask_bit | TWO_BYTES, high, low]);
        }
        _ => {
            bytes.extend_from_slice(&[kind, mask_bit | EIGHT_BYTES]);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if let Some(key) = key {
        bytes.extend_from_slice(&key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        FrameHeader,
        coding::{Data, OpCode},
    };

    use super::*;

    fn len() -> impl Strategy<Value = usize> {
        prop_oneof![0..200usize, 65_000..66_000usize, any::<usize>().prop_map(|len| len >> 1)]
    }

    proptest! {
        #[test]
        fn heads_are_those_of_tungstenite(
            len in len(),
            mask: Option<[u8; 4]>,
            is_text: bool,
            rsv1: bool,
        ) {
            let (data, frame) = if is_text { (Data::Text, Frame::from("")) } else { (Data::Binary, Frame::from(vec![])) };
            let kind = if rsv1 { Kind::of(&frame).compressed() } else { Kind::of(&frame) };
            let (mut ours, mut theirs) = (vec![7], vec![7]);
            append_head(&mut ours, kind, len, mask);
            let header = FrameHeader { opcode: OpCode::Data(data), rsv1, mask, ..FrameHeader::default() };
            header.format(len as u64, &mut theirs).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn only_clients_have_keys_and_never_the_same_for_long() {
        assert_eq!(key_of(Role::Server), None);
        let keys: std::collections::HashSet<_> = (0..100).map(|_| key_of(Role::Client).unwrap()).collect();
        assert!(keys.len() > 90);
    }
}
