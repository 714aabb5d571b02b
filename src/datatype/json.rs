use std::{fmt, marker::PhantomData};

use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::{
    Frame, WsDatatype,
    depth::{DepthLimited, Format, MAX_DEPTH},
};
use crate::{DatatypeError, one_line::Complaint};

/// Values of any serde type `T` in text frames, as JSON.
///
/// Both ways a value may nest 64 arrays and objects deep (a struct or an enum variant's data is one), which bounds the stack
/// that a peer's message can take; a deeper value is an error. As with any serde format, `T` must not contain itself through
/// an `Option` or an untagged enum alone, which leave no trace in a message. See [`WsDatatype`](crate::WsDatatype#stack) for
/// the stack that a level takes.
///
/// JSON has no number for NaN and the infinities: an item that holds one is an error, and not sent.
///
/// ```
/// use rxplus::prelude::*;
///
/// let pairs = WsJson::<(String, u8)>::new();
/// let frame = pairs.encode("/", &("answer".into(), 42))?;
/// assert_eq!(frame.as_text(), Some(r#"["answer",42]"#));
/// # Ok::<(), DatatypeError>(())
/// ```
///
/// Received and pushed items may be of two types, `WsJson<In, Out>`: such a datatype is made with [`pair`](Self::pair).
///
/// ```
/// use rxplus::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Deserialize)]
/// struct Reading {
///     celsius: f32,
/// }
///
/// #[derive(Clone, Serialize)]
/// struct Command {
///     heat: bool,
/// }
///
/// let boiler = RxWsClient::connect("ws://127.0.0.1:8765/boiler", WsJson::<Reading, Command>::pair())?;
/// boiler.clone().map(|reading| Command { heat: reading.celsius < 50.0 }).subscribe_with(boiler);
/// # Ok::<(), WsError>(())
/// ```
pub struct WsJson<In, Out = In>(PhantomData<fn() -> (In, Out)>); // fn: Send, Sync and Copy whatever they are

impl<T> WsJson<T> {
    /// Makes the datatype with one type for received and pushed items; it holds nothing.
    pub const fn new() -> Self {
        Self::pair()
    }
}

impl<In, Out> WsJson<In, Out> {
    /// Makes the datatype with one type for received items and one for pushed items; it holds nothing.
    pub const fn pair() -> Self {
        Self(PhantomData)
    }
}

impl<In, Out> WsDatatype for WsJson<In, Out>
where
    In: DeserializeOwned + Clone + Send + 'static,
    Out: Serialize + Clone + Send + 'static,
{
    type Item = In;
    type Outgoing = Out;

    fn encode(&self, _path: &str, item: &Out) -> Result<Frame, DatatypeError> {
        encode(item).map(Frame::from)
    }

    fn decode(&self, _path: &str, frame: Frame) -> Result<In, DatatypeError> {
        let text = frame.into_text()?;
        check_depth(&text)?;
        decode(&text)
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<String, DatatypeError> {
    serde_json::to_string(&DepthLimited::new(value, Format::Json))
        .map_err(|e| DatatypeError::with_source("cannot encode the item as JSON", Complaint::of(e)))
}

/// Reads a text whose depth was checked.
pub(super) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, DatatypeError> {
    serde_json::from_str(text)
        .map_err(|e| DatatypeError::with_source("the text is not JSON of the type expected", Complaint::of(e)))
}

/// Checks that `text` is one JSON value that is not too deep.
pub(super) fn check(text: &str) -> Result<(), DatatypeError> {
    check_depth(text)?;
    serde_json::from_str::<IgnoredAny>(text)
        .map(drop)
        .map_err(|e| DatatypeError::with_source("the text is not JSON", Complaint::of(e)))
}

/// Checks that `text` nests at most [`MAX_DEPTH`] deep: serde_json itself gives up at 128 levels. Whether it is JSON is left
/// to serde_json, which reads in the same order, and no further than to the first mistake.
fn check_depth(text: &str) -> Result<(), DatatypeError> {
    if nests_deeper(text.as_bytes()) {
        return Err(DatatypeError::new(format_args!("the JSON value nests deeper than {MAX_DEPTH} levels")));
    }
    Ok(())
}

fn nests_deeper(text: &[u8]) -> bool {
    let (mut bytes, mut depth) = (text.iter(), 0_usize);
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' if depth == MAX_DEPTH => return true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    false
}

/// Goes behind the quote that ends a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

impl<In, Out> Default for WsJson<In, Out> {
    fn default() -> Self {
        Self::pair()
    }
}

impl<In, Out> Clone for WsJson<In, Out> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In, Out> Copy for WsJson<In, Out> {}

impl<In, Out> fmt::Debug for WsJson<In, Out> {
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
            assert!(datatype.encode("/", &Tree::wrapped(MAX_DEPTH + 1)).is_err());
            std::mem::forget(bomb); // dropping it recurses too
        });
    }

    #[test]
    fn brackets_in_strings_are_no_levels_and_close_none() {
        let flat = format!("[\"{}\",\"\\\"[{}\"]", "[".repeat(BOMB), "{".repeat(BOMB));
        assert!(decode::<Value>(flat).is_ok());
        let hidden = |open: &str| open.repeat(MAX_DEPTH + 1) + "0" + &"]".repeat(MAX_DEPTH + 1);
        for open in ["[\"]\",", "[\"\\\"]\",", "[\"\\\\\",[],{},"] {
            let refusal = decode::<Value>(hidden(open)).unwrap_err().to_string();
            assert!(refusal.contains("nests deeper than 64 levels"), "{open}: {refusal}");
        }
        let wide = format!("[{}0]", "[[]],{\"a\":{}},".repeat(BOMB));
        assert!(decode::<Value>(wide).is_ok());
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
            Value::Object(values) => 1 + values.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Values whose strings look like more of them.
    fn value() -> impl Strategy<Value = Value> {
        let text = r#"[\[\]{}"\\,]{0,5}"#;
        prop_oneof![text.prop_map(Value::from), Just(Value::Null)].prop_recursive(6, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(text, inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn depth_is_that_of_the_value(inner in value(), around in MAX_DEPTH - 7..=MAX_DEPTH) {
            let value = (0..around).fold(inner, |inner, _| Value::from(vec![inner]));
            prop_assert_eq!(decode::<Value>(value.to_string()).is_ok(), depth(&value) <= MAX_DEPTH);
        }
    }

    #[test]
    fn number_that_json_has_not_is_refused_wherever_it_stands() {
        #[derive(Clone, Serialize, serde::Deserialize)]
        enum Reading {
            One(f32),
            Two(f64, Option<f64>),
            Named { value: BTreeMap<u8, Vec<f32>> },
        }
        let named = |value| Reading::Named { value: BTreeMap::from([(0, vec![1.5, value])]) };
        let datatype = WsJson::<Reading>::new();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let wide = f64::from(bad);
            for item in [Reading::One(bad), Reading::Two(wide, None), Reading::Two(0.0, Some(wide)), named(bad)] {
                let refusal = chain(&datatype.encode("/", &item).unwrap_err());
                assert!(refusal.contains("the format has no number for"), "{refusal}");
            }
        }
        assert!(datatype.encode("/", &named(f32::MAX)).is_ok());
        assert!(WsJson::<f64>::new().encode("/", &f64::NAN).is_err());
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
