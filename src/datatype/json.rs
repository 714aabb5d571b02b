use std::{fmt, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};

use super::{Frame, WsDatatype, depth::DepthLimited};
use crate::{DatatypeError, one_line::Complaint};

/// How deep serde_json reads: it gives up at 128 levels.
const MAX_DEPTH: usize = 127;

/// Values of any serde type `T` in text frames, as JSON.
///
/// Both ways a value may nest 127 arrays and objects deep (a struct or an enum variant's data is one), which bounds the
/// stack a peer can make a message take; what is deeper is an error. As with any serde format, `T` must not contain
/// itself through an `Option` or an untagged enum alone, which leave no trace in a message.
///
/// ```
/// use rxplus::prelude::*;
///
/// let pairs = WsJson::<(String, u8)>::new();
/// let frame = pairs.encode("/", &("answer".into(), 42))?;
/// assert_eq!(frame.as_text(), Some(r#"["answer",42]"#));
/// # Ok::<(), DatatypeError>(())
/// ```
pub struct WsJson<T>(PhantomData<fn() -> T>); // fn: Send, Sync and Copy whatever T is

impl<T> WsJson<T> {
    /// Makes the datatype; it holds nothing.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> WsDatatype for WsJson<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    type Item = T;

    fn encode(&self, _path: &str, item: &T) -> Result<Frame, DatatypeError> {
        serde_json::to_string(&DepthLimited::new(item, MAX_DEPTH))
            .map(Frame::from)
            .map_err(|e| DatatypeError::with_source("cannot encode the item as JSON", Complaint::of(e)))
    }

    fn decode(&self, _path: &str, frame: Frame) -> Result<T, DatatypeError> {
        serde_json::from_str(&frame.into_text()?)
            .map_err(|e| DatatypeError::with_source("the text is not JSON of the type expected", Complaint::of(e)))
    }
}

impl<T> Default for WsJson<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for WsJson<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for WsJson<T> {}

impl<T> fmt::Debug for WsJson<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WsJson")
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap};

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::datatype::testing::{BOMB, Tree, chain, on_a_default_stack};

    fn decode<T: Serialize + DeserializeOwned + Clone + Send + 'static>(text: String) -> Result<T, DatatypeError> {
        WsJson::<T>::new().decode("/", text.into())
    }

    proptest! {
        #[test]
        fn value_comes_back_in_a_text_frame(value: (Option<String>, Vec<i64>, BTreeMap<String, bool>)) {
            let datatype = WsJson::new();
            let frame = datatype.encode("/", &value).unwrap();
            prop_assert_eq!(frame.as_text(), Some(&*serde_json::to_string(&value).unwrap()));
            prop_assert_eq!(datatype.decode("/", frame).unwrap(), value);
        }

        #[test]
        fn any_text_gives_a_value_or_an_error(text in r#"[\[\]{}:,"a0. ]{0,60}|.{0,60}"#) {
            let _ = decode::<Value>(text.clone());
            let _ = decode::<Tree>(text);
        }
    }

    #[test]
    fn depth_bomb_is_refused_on_a_default_stack() {
        on_a_default_stack(|| {
            for open in ["[", r#"{"a":"#, r#"{"Wrapped":"#, r#"{"Chain":{"next":"#] {
                assert!(decode::<Value>(open.repeat(BOMB)).is_err(), "{open}");
                assert!(decode::<Tree>(open.repeat(BOMB)).is_err(), "{open}");
            }
        });
    }

    #[test]
    fn the_limit_is_the_same_both_ways() {
        on_a_default_stack(|| {
            let (datatype, deepest) = (WsJson::<Tree>::new(), Tree::wrapped(MAX_DEPTH));
            let frame = datatype.encode("/", &deepest).unwrap();
            assert_eq!(datatype.decode("/", frame).unwrap(), deepest);
            assert!(decode::<Tree>(serde_json::to_string(&Tree::wrapped(MAX_DEPTH + 1)).unwrap()).is_err());
            let bomb = Tree::wrapped(BOMB);
            let refusal = datatype.encode("/", &bomb).unwrap_err();
            assert!(chain(&refusal).contains("it nests too deeply"), "{}", chain(&refusal));
            std::mem::forget(bomb); // dropping it recurses too
        });
    }

    #[test]
    fn item_without_a_json_form_is_an_error_with_its_cause() {
        let refusal = WsJson::new().encode("/", &BTreeMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!(chain(&refusal), "cannot encode the item as JSON: key must be a string");
    }

    #[test]
    fn frame_of_another_kind_or_type_is_refused() {
        assert!(WsJson::<u8>::new().decode("/", Frame::from(b"1".to_vec())).is_err());
        for text in ["", "256", "1 2", "\"1\""] {
            assert!(decode::<u8>(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn datatype_is_shared_between_threads_even_if_its_items_are_not() {
        fn assert_shared<T: Send + Sync + Copy + Default + fmt::Debug>(_: T) {}
        assert_shared(WsJson::<Cell<u8>>::new());
    }
}
