use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

#[cfg(feature = "json")]
use super::PackedJson;
use super::{
    WsKind,
    msgpack::{self, Holds},
};
use crate::{DatatypeError, WsText};

/// One item of an endpoint whose paths differ in kind ([`WsByPath`](crate::WsByPath)). Cheaply cloned.
///
/// ```
/// use rxplus::prelude::*;
///
/// let text = Payload::from("hello");
/// assert_eq!(text.as_text(), Some("hello"));
///
/// let object = Payload::object(&("answer", 42))?;
/// assert_eq!(object.decode::<(String, u8)>()?, ("answer".into(), 42));
/// # Ok::<(), DatatypeError>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Text.
    Text(WsText),
    /// Any bytes.
    Bytes(Bytes),
    /// A value of some serde type, still encoded.
    Object(PackedObject),
    /// The same, as JSON.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    Json(PackedJson),
}

impl Payload {
    /// Encodes a value of any serde type, as [`WsObject`](crate::WsObject) does.
    ///
    /// # Errors
    ///
    /// When the value nests more than 64 arrays and maps deep, or its `Serialize` fails.
    pub fn object<T: Serialize + ?Sized>(value: &T) -> Result<Self, DatatypeError> {
        PackedObject::new(value).map(Self::Object)
    }

    /// Encodes a value of any serde type, as [`WsJson`](crate::WsJson) does.
    ///
    /// # Errors
    ///
    /// As [`PackedJson::new`].
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, DatatypeError> {
        PackedJson::new(value).map(Self::Json)
    }

    /// Reads the object, or the JSON, as a `T`.
    ///
    /// # Errors
    ///
    /// When this is text or bytes, or a value that is no `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DatatypeError> {
        match self {
            Self::Object(object) => object.decode(),
            #[cfg(feature = "json")]
            Self::Json(json) => json.decode(),
            other => Err(DatatypeError::new(format_args!("expected an object, got {}", other.kind()))),
        }
    }

    /// The text, if this is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes, if this is bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// What this is.
    pub fn kind(&self) -> WsKind {
        match self {
            Self::Text(_) => WsKind::Str,
            Self::Bytes(_) => WsKind::Bytes,
            Self::Object(_) => WsKind::Object,
            #[cfg(feature = "json")]
            Self::Json(_) => WsKind::Json,
        }
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<WsText> for Payload {
    fn from(text: WsText) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// A value of some serde type, kept as its MessagePack encoding until someone asks for it. Cheaply cloned.
///
/// It describes itself (structs carry their field names), so it is read as any type that fits. It always holds one whole
/// MessagePack value that nests at most 64 arrays and maps deep: objects that arrive are checked on arrival. Two are equal
/// when their encodings are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackedObject {
    encoded: Bytes,
    holds: Holds,
}

impl PackedObject {
    /// Encodes `value`.
    ///
    /// # Errors
    ///
    /// When the value nests more than 64 arrays and maps deep, or its `Serialize` fails.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, DatatypeError> {
        msgpack::encode(value).and_then(Self::from_msgpack) // a `Serialize` may have lied about a length
    }

    /// Takes a MessagePack encoding, which is checked and not copied.
    ///
    /// # Errors
    ///
    /// When it is not one whole MessagePack value that nests at most 64 arrays and maps deep.
    pub fn from_msgpack(encoded: impl Into<Bytes>) -> Result<Self, DatatypeError> {
        let encoded = encoded.into();
        let holds = msgpack::check(&encoded)?;
        Ok(Self { encoded, holds })
    }

    /// Reads it as a `T`.
    ///
    /// # Errors
    ///
    /// When it is no `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DatatypeError> {
        msgpack::decode_checked(&self.encoded, self.holds)
    }

    /// The MessagePack encoding.
    pub fn as_msgpack(&self) -> &Bytes {
        &self.encoded
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::datatype::testing::{BOMB, Tree};

    #[test]
    fn text_and_bytes_become_payloads_of_their_kind() {
        let texts = [Payload::from("a"), Payload::from(String::from("a")), Payload::from(WsText::from("a"))];
        assert!(texts.iter().all(|p| p.as_text() == Some("a") && p.as_bytes().is_none() && p.kind() == WsKind::Str));
        let bytes = [Payload::from(vec![1]), Payload::from(Bytes::from_static(&[1]))];
        assert!(bytes.iter().all(|p| p.as_bytes() == Some(&[1]) && p.as_text().is_none() && p.kind() == WsKind::Bytes));
    }

    #[test]
    fn object_is_read_as_any_type_that_fits() {
        let object = Payload::object(&BTreeMap::from([("next", 1)])).unwrap();
        assert_eq!(object.kind(), WsKind::Object);
        assert_eq!(object.decode::<BTreeMap<String, u64>>().unwrap()["next"], 1);
        assert!(object.decode::<Vec<u8>>().is_err());
        assert_eq!((object.as_text(), object.as_bytes()), (None, None));
    }

    #[test]
    fn text_is_not_decoded_as_an_object() {
        assert_eq!(Payload::from("1").decode::<u8>().unwrap_err().to_string(), "expected an object, got text");
    }

    #[test]
    fn encoding_that_is_not_one_value_is_refused_on_arrival() {
        for encoded in [vec![], vec![0xc1], vec![0xc0, 0xc0], vec![0x91], vec![0x91; BOMB]] {
            assert!(PackedObject::from_msgpack(encoded).is_err());
        }
        assert!(Payload::object(&Tree::wrapped(65)).is_err());
    }

    #[test]
    fn serialize_that_lies_about_its_length_is_refused() {
        struct Liar;
        impl Serialize for Liar {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::ser::SerializeSeq::end(serializer.serialize_seq(Some(3))?)
            }
        }
        assert!(Payload::object(&Liar).is_err());
    }
}
