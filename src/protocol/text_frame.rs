//! A short text message as bytes, for what is no message of the program.

use tokio_tungstenite::tungstenite::protocol::{
    Role,
    frame::{
        FrameHeader,
        coding::{Data, OpCode},
    },
};

use crate::protocol::mask::mask;

/// Adds a text message as one frame, masked if it comes from a client (RFC 6455, section 5.3).
pub(crate) fn append_text(bytes: &mut Vec<u8>, text: &str, role: Role) {
    let key: Option<[u8; 4]> = (role == Role::Client).then(rand::random);
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), mask: key, ..FrameHeader::default() };
    header.format(text.len() as u64, bytes).expect("a vector takes everything");
    let start = bytes.len();
    bytes.extend_from_slice(text.as_bytes());
    if let Some(key) = key {
        mask(&mut bytes[start..], key);
    }
}
