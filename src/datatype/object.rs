use std::{fmt, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};

use super::{Frame, WsDatatype, msgpack};
use crate::DatatypeError;

/// Values of any serde type `T` in binary frames, as [MessagePack](https://msgpack.org) with field names.
///
/// Field names make a message readable in any language and let `T` gain fields (`#[serde(default)]`) without breaking its
/// peers. Both ways a value may nest 64 arrays and maps deep (a struct or an enum variant's data is one), which bounds the
/// stack that a peer's message can take; a deeper value, or a message that is not one whole MessagePack value, is an error.
/// As with any serde format, `T` must not contain itself through an `Option` or an untagged enum alone, which leave no trace
/// in a message.
///
/// A `Vec<u8>`, a slice of bytes and [`Bytes`](crate::Bytes) travel as MessagePack's bytes, which other languages read as
/// bytes; an array such as `[u8; 4]` travels as an array of numbers. Either is understood.
///
/// ```
/// use rxplus::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Position {
///     x: f32,
///     y: f32,
/// }
///
/// let positions = WsObject::<Position>::new();
/// let frame = positions.encode("/robot", &Position { x: 1.0, y: 2.0 })?;
/// assert_eq!(positions.decode("/robot", frame)?, Position { x: 1.0, y: 2.0 });
/// # Ok::<(), DatatypeError>(())
/// ```
///
/// Received and pushed items may be of two types, `WsObject<In, Out>`: such a datatype is made with [`pair`](Self::pair).
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
/// let boiler = RxWsClient::connect("ws://127.0.0.1:8765/boiler", WsObject::<Reading, Command>::pair())?;
/// boiler.clone().map(|reading| Command { heat: reading.celsius < 50.0 }).subscribe_with(boiler);
/// # Ok::<(), WsError>(())
/// ```
pub struct WsObject<In, Out = In>(PhantomData<fn() -> (In, Out)>); // fn: Send, Sync and Copy whatever they are

impl<T> WsObject<T> {
    /// Makes the datatype with one type for received and pushed items; it holds nothing.
    pub const fn new() -> Self {
        Self::pair()
    }
}

impl<In, Out> WsObject<In, Out> {
    /// Makes the datatype with one type for received items and one for pushed items; it holds nothing.
    pub const fn pair() -> Self {
        Self(PhantomData)
    }
}

impl<In, Out> WsDatatype for WsObject<In, Out>
where
    In: DeserializeOwned + Clone + Send + 'static,
    Out: Serialize + Clone + Send + 'static,
{
    type Item = In;
    type Outgoing = Out;

    fn encode(&self, _path: &str, item: &Out) -> Result<Frame, DatatypeError> {
        msgpack::encode(item).map(Frame::Binary)
    }

    fn decode(&self, _path: &str, frame: Frame) -> Result<In, DatatypeError> {
        msgpack::decode(&frame.into_binary()?)
    }
}

impl<In, Out> Default for WsObject<In, Out> {
    fn default() -> Self {
        Self::pair()
    }
}

impl<In, Out> Clone for WsObject<In, Out> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In, Out> Copy for WsObject<In, Out> {}

impl<In, Out> fmt::Debug for WsObject<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WsObject")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Reading {
        sensor: String,
        value: f64,
    }

    fn reading() -> Reading {
        Reading { sensor: "boiler".into(), value: 21.5 }
    }

    #[test]
    fn object_travels_with_its_field_names_in_a_binary_frame() {
        let datatype = WsObject::<Reading>::new();
        let frame = datatype.encode("/", &reading()).unwrap();
        assert_eq!(frame, Frame::from(rmp_serde::to_vec_named(&reading()).unwrap()));
        assert_eq!(datatype.decode("/", frame).unwrap(), reading());
    }

    #[test]
    fn object_with_fields_we_do_not_know_is_read_all_the_same() {
        #[derive(Serialize)]
        struct Newer {
            unit: char,
            sensor: &'static str,
        }
        #[derive(Clone, Serialize, Deserialize)]
        struct Older {
            sensor: String,
        }
        let frame = Frame::Binary(msgpack::encode(&Newer { unit: 'K', sensor: "a" }).unwrap());
        assert_eq!(WsObject::<Older>::new().decode("/", frame).unwrap().sensor, "a");
    }

    #[test]
    fn frame_of_another_kind_or_type_is_refused() {
        let datatype = WsObject::<Reading>::new();
        assert!(datatype.decode("/", Frame::from("text")).is_err());
        assert!(datatype.decode("/", Frame::from(vec![])).is_err());
        assert!(datatype.decode("/", Frame::from(vec![0xc0])).is_err());
        let twice = [rmp_serde::to_vec_named(&reading()).unwrap(), vec![0xc0]].concat();
        assert!(datatype.decode("/", Frame::from(twice)).is_err());
    }

    #[test]
    fn datatype_is_shared_between_threads_even_if_its_items_are_not() {
        fn assert_shared<T: Send + Sync + Copy + Default + fmt::Debug>(_: T) {}
        assert_shared(WsObject::<Cell<u8>>::new());
    }
}
