//! A short text message as bytes, for what is no message of the program.

use tokio_tungstenite::tungstenite::protocol::Role;

use crate::protocol::{
    frame_head::{Kind, append_head, key_of},
    mask::mask,
};

/// Adds a text message as one frame, masked if it comes from a client (RFC 6455, section 5.3).
pub(crate) fn append_text(bytes: &mut Vec<u8>, text: &str, role: Role) {
    let key = key_of(role);
    append_head(bytes, Kind::TEXT, text.len(), key);
    let start = bytes.len();
    bytes.extend_from_slice(text.as_bytes());
    if let Some(key) = key {
        mask(&mut bytes[start..], key);
    }
}
