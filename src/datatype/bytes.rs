use bytes::Bytes;

use super::{Frame, Moved, WsDatatype};
use crate::DatatypeError;

/// Bytes in binary frames, copied in neither direction.
///
/// A text frame is undecodable.
#[derive(Clone, Copy, Debug, Default)]
pub struct WsBytes;

impl WsDatatype for WsBytes {
    type Item = Bytes;
    type Outgoing = Bytes;

    fn encode(&self, _path: &str, item: &Bytes) -> Result<Frame, DatatypeError> {
        Ok(item.clone().into())
    }

    fn decode(&self, _path: &str, frame: Frame) -> Result<Bytes, DatatypeError> {
        frame.into_binary()
    }

    fn take_as_frame(&self, item: Bytes) -> Result<Moved<Bytes>, Bytes> {
        Ok(Moved { frame: item.into(), back: |frame| frame.to_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_back_as_they_were_sent(bytes: Vec<u8>) {
            let item = Bytes::from(bytes);
            let frame = WsBytes.encode("/", &item).unwrap();
            prop_assert_eq!(frame.as_bytes(), &item[..]);
            prop_assert_eq!(WsBytes.decode("/", frame).unwrap(), item);
        }
    }

    #[test]
    fn bytes_are_not_copied() {
        let item = Bytes::from(vec![1, 2, 3]);
        let back = WsBytes.decode("/", WsBytes.encode("/", &item).unwrap()).unwrap();
        assert_eq!(back.as_ptr(), item.as_ptr());
    }

    #[test]
    fn text_frame_is_refused() {
        assert!(WsBytes.decode("/", Frame::from("hello")).is_err());
    }
}
