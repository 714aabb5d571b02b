use std::{fmt, sync::Arc};

#[cfg(feature = "json")]
use super::PackedJson;
use super::{Frame, PackedObject, Payload, WsBytes, WsDatatype, WsStr};
use crate::DatatypeError;

/// Chooses the kind of message by the path, for endpoints whose paths differ in kind. Cheaply cloned.
///
/// An item of another kind than its path's is refused when it is pushed. A frame of another kind, or one that is no whole
/// object or JSON where that is due, is refused when it arrives. The function is called for each message, so it should only
/// compare.
///
/// ```
/// use rxplus::prelude::*;
///
/// let datatype = WsByPath::new(|path| match path {
///     "/audio" => WsKind::Bytes,
///     "/pose" => WsKind::Object,
///     _ => WsKind::Str,
/// });
///
/// assert!(datatype.encode("/audio", &Payload::from(vec![1, 2, 3])).is_ok());
/// assert!(datatype.encode("/audio", &Payload::from("not audio")).is_err());
/// ```
#[derive(Clone)]
pub struct WsByPath {
    kind_of: Arc<dyn Fn(&str) -> WsKind + Send + Sync>,
}

impl WsByPath {
    /// Asks `kind_of` for the kind of each path.
    pub fn new(kind_of: impl Fn(&str) -> WsKind + Send + Sync + 'static) -> Self {
        Self { kind_of: Arc::new(kind_of) }
    }
}

impl WsDatatype for WsByPath {
    type Item = Payload;
    type Outgoing = Payload;

    fn encode(&self, path: &str, item: &Payload) -> Result<Frame, DatatypeError> {
        match ((self.kind_of)(path), item) {
            (WsKind::Str, Payload::Text(text)) => WsStr.encode(path, text),
            (WsKind::Bytes, Payload::Bytes(bytes)) => WsBytes.encode(path, bytes),
            (WsKind::Object, Payload::Object(object)) => WsBytes.encode(path, object.as_msgpack()),
            #[cfg(feature = "json")]
            (WsKind::Json, Payload::Json(json)) => WsStr.encode(path, json.as_json()),
            (wanted, given) => Err(DatatypeError::new(format_args!("{path} takes {wanted}, not {}", given.kind()))),
        }
    }

    fn decode(&self, path: &str, frame: Frame) -> Result<Payload, DatatypeError> {
        match (self.kind_of)(path) {
            WsKind::Str => WsStr.decode(path, frame).map(Payload::Text),
            WsKind::Bytes => WsBytes.decode(path, frame).map(Payload::Bytes),
            WsKind::Object => WsBytes.decode(path, frame).and_then(PackedObject::from_msgpack).map(Payload::Object),
            #[cfg(feature = "json")]
            WsKind::Json => WsStr.decode(path, frame).and_then(PackedJson::from_json).map(Payload::Json),
        }
    }
}

impl fmt::Debug for WsByPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsByPath").finish_non_exhaustive()
    }
}

/// The kind of the messages on a path.
///
/// In a configuration file (feature `config`): `"string"`, `"bytes"`, `"object"`, and with the feature `json` also `"json"`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum WsKind {
    /// Text in text frames, as with [`WsStr`].
    #[cfg_attr(feature = "config", serde(rename = "string"))]
    Str,
    /// Bytes in binary frames, as with [`WsBytes`].
    Bytes,
    /// Values of serde types in binary frames, as with [`WsObject`](crate::WsObject).
    Object,
    /// Values of serde types in text frames, as with [`WsJson`](crate::WsJson).
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    Json,
}

impl fmt::Display for WsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Str => "text",
            Self::Bytes => "bytes",
            Self::Object => "an object",
            #[cfg(feature = "json")]
            Self::Json => "JSON",
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::WsObject;

    const KINDS: [(&str, WsKind); 3] = [("/str", WsKind::Str), ("/bytes", WsKind::Bytes), ("/object", WsKind::Object)];

    fn datatype() -> WsByPath {
        WsByPath::new(|path| KINDS.iter().find(|(known, _)| *known == path).map_or(WsKind::Str, |(_, kind)| *kind))
    }

    fn payload() -> impl Strategy<Value = Payload> {
        prop_oneof![
            ".{0,20}".prop_map(Payload::from),
            any::<Vec<u8>>().prop_map(Payload::from),
            any::<(String, Option<i32>)>().prop_map(|value| Payload::object(&value).unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn payload_comes_back_where_its_kind_fits_and_is_refused_elsewhere(payload in payload()) {
            for (path, kind) in KINDS {
                let encoded = datatype().encode(path, &payload);
                prop_assert_eq!(encoded.is_ok(), kind == payload.kind());
                if let Ok(frame) = encoded {
                    prop_assert_eq!(&datatype().decode(path, frame).unwrap(), &payload);
                }
            }
        }

        #[test]
        fn any_frame_gives_a_payload_or_an_error(bytes: Vec<u8>, text in ".{0,20}") {
            for (path, kind) in KINDS {
                prop_assert_eq!(datatype().decode(path, text.clone().into()).is_ok(), kind == WsKind::Str);
                let decoded = datatype().decode(path, bytes.clone().into());
                prop_assert!(kind == WsKind::Object || decoded.is_ok() == (kind == WsKind::Bytes));
            }
        }
    }

    #[test]
    fn refusal_names_the_path_and_both_kinds() {
        let refusal = datatype().encode("/object", &Payload::from("hello")).unwrap_err();
        assert_eq!(refusal.to_string(), "/object takes an object, not text");
    }

    #[test]
    fn malformed_object_is_refused_on_arrival() {
        assert!(datatype().decode("/object", Frame::from(vec![0x92, 0xc0])).is_err());
    }

    #[test]
    fn object_path_speaks_the_language_of_ws_object() {
        let frame = WsObject::<(u8, String)>::new().encode("/object", &(1, "a".into())).unwrap();
        assert_eq!(datatype().decode("/object", frame).unwrap().decode::<(u8, String)>().unwrap(), (1, "a".into()));
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_path_speaks_the_language_of_ws_json() {
        use crate::WsJson;

        let (datatype, pairs) = (WsByPath::new(|_| WsKind::Json), WsJson::<(u8, String)>::new());
        let value = (1, "a".into());
        let payload = datatype.decode("/", pairs.encode("/", &value).unwrap()).unwrap();
        assert_eq!((payload.kind(), payload.decode::<(u8, String)>().unwrap()), (WsKind::Json, value.clone()));
        assert_eq!(payload, Payload::json(&value).unwrap());
        assert_eq!(pairs.decode("/", datatype.encode("/", &payload).unwrap()).unwrap(), value);
        for bad in [Frame::from("[1,"), Frame::from(vec![1])] {
            assert!(datatype.decode("/", bad).is_err());
        }
        let refusal = datatype.encode("/pose", &Payload::object(&value).unwrap()).unwrap_err();
        assert_eq!(refusal.to_string(), "/pose takes JSON, not an object");
    }

    #[test]
    fn bytes_are_not_copied() {
        let bytes = Bytes::from(vec![1, 2, 3]);
        let frame = datatype().encode("/bytes", &Payload::from(bytes.clone())).unwrap();
        assert_eq!(frame.as_bytes().as_ptr(), bytes.as_ptr());
    }
}
