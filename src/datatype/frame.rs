use std::convert::identity;

use bytes::Bytes;

use super::{Moved, WsDatatype};
use crate::{DatatypeError, WsText};

/// The payload of one data message, text or binary. Cheaply cloned.
///
/// RFC 6455 calls this a message, which may travel in several frames; here it always is whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// UTF-8 text.
    Text(WsText),
    /// Any bytes.
    Binary(Bytes),
}

impl Frame {
    /// How many bytes the payload has.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text, if this is a text frame.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The bytes of the payload, of a text frame too.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The payload, which is not copied.
    pub(crate) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Text(text) => text.to_bytes(),
            Self::Binary(bytes) => bytes.clone(),
        }
    }

    /// Takes the text out of a text frame.
    ///
    /// # Errors
    ///
    /// When this is a binary frame; the error says so.
    pub fn into_text(self) -> Result<WsText, DatatypeError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Binary(bytes) => Err(unexpected("text", "binary", bytes.len())),
        }
    }

    /// Takes the bytes out of a binary frame.
    ///
    /// # Errors
    ///
    /// When this is a text frame; the error says so.
    pub fn into_binary(self) -> Result<Bytes, DatatypeError> {
        match self {
            Self::Binary(bytes) => Ok(bytes),
            Self::Text(text) => Err(unexpected("binary", "text", text.len())),
        }
    }
}

fn unexpected(wanted: &str, came: &str, len: usize) -> DatatypeError {
    DatatypeError::new(format_args!(
        "expected a {wanted} frame, got a {came} frame of {len} bytes; do both sides use the same datatype?"
    ))
}

impl From<&str> for Frame {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<WsText> for Frame {
    fn from(text: WsText) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

/// No adapter at all: the items are the frames themselves, text and binary. For relays and echoes.
#[derive(Clone, Copy, Debug, Default)]
pub struct WsFrame;

impl WsDatatype for WsFrame {
    type Item = Frame;
    type Outgoing = Frame;

    fn encode(&self, _path: &str, item: &Frame) -> Result<Frame, DatatypeError> {
        Ok(item.clone())
    }

    fn decode(&self, _path: &str, frame: Frame) -> Result<Frame, DatatypeError> {
        Ok(frame)
    }

    fn take_as_frame(&self, item: Frame) -> Result<Moved<Frame>, Frame> {
        Ok(Moved { frame: item, back: identity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_become_frames_of_their_kind() {
        let texts = [Frame::from("é"), Frame::from(String::from("é")), Frame::from(WsText::from("é"))];
        assert!(texts.iter().all(|frame| frame.as_text() == Some("é") && frame.len() == 2));
        let binaries = [Frame::from(vec![195, 169]), Frame::from(Bytes::from_static(&[195, 169]))];
        assert!(binaries.iter().all(|frame| frame.as_text().is_none() && frame.as_bytes() == texts[0].as_bytes()));
        assert_ne!(texts[0], binaries[0]);
        assert!(Frame::from("").is_empty());
    }

    #[test]
    fn frame_of_the_other_kind_is_refused_with_both_kinds_named() {
        let refusal = Frame::from(vec![1, 2, 3]).into_text().unwrap_err().to_string();
        assert!(refusal.starts_with("expected a text frame, got a binary frame of 3 bytes"), "{refusal}");
        let refusal = Frame::from("four").into_binary().unwrap_err().to_string();
        assert!(refusal.starts_with("expected a binary frame, got a text frame of 4 bytes"), "{refusal}");
    }

    #[test]
    fn frames_pass_through_ws_frame_unchanged() {
        for frame in [Frame::from("text"), Frame::from(vec![0, 255])] {
            assert_eq!(WsFrame.encode("/", &frame).unwrap(), frame);
            assert_eq!(WsFrame.decode("/", frame.clone()).unwrap(), frame);
        }
    }
}
