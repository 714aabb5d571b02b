use super::{Frame, Moved, WsDatatype};
use crate::{DatatypeError, WsText};

/// Text in text frames, copied in neither direction.
///
/// A binary frame is undecodable.
#[derive(Clone, Copy, Debug, Default)]
pub struct WsStr;

impl WsDatatype for WsStr {
    type Item = WsText;
    type Outgoing = WsText;

    fn encode(&self, _path: &str, item: &WsText) -> Result<Frame, DatatypeError> {
        Ok(item.clone().into())
    }

    fn decode(&self, _path: &str, frame: Frame) -> Result<WsText, DatatypeError> {
        frame.into_text()
    }

    fn take_as_frame(&self, item: WsText) -> Result<Moved<WsText>, WsText> {
        // What comes back is the text that was moved.
        Ok(Moved { frame: item.into(), back: |frame| frame.into_text().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_comes_back_as_it_was_sent(text in ".*") {
            let item = WsText::from(text);
            let frame = WsStr.encode("/", &item).unwrap();
            prop_assert_eq!(frame.as_text(), Some(item.as_str()));
            prop_assert_eq!(WsStr.decode("/", frame).unwrap(), item);
        }
    }

    #[test]
    fn text_is_not_copied() {
        let item = WsText::from("hello");
        let back = WsStr.decode("/", WsStr.encode("/", &item).unwrap()).unwrap();
        assert_eq!(back.as_ptr(), item.as_ptr());
    }

    #[test]
    fn binary_frame_is_refused_even_if_it_is_utf8() {
        assert!(WsStr.decode("/", Frame::from(b"hello".to_vec())).is_err());
    }
}
