//! Datatypes: how a program's items become WebSocket messages; one framing adapter per file.

mod by_path;
mod bytes;
mod depth;
mod frame;
#[cfg(feature = "json")]
mod json;
pub(crate) mod msgpack;
mod object;
mod packed;
#[cfg(feature = "json")]
mod packed_json;
mod payload;
mod str;

pub use self::{
    by_path::{WsByPath, WsKind},
    bytes::WsBytes,
    frame::{Frame, WsFrame},
    object::WsObject,
    payload::{PackedObject, Payload},
    str::WsStr,
};
#[cfg(feature = "json")]
pub use json::WsJson;
#[cfg(feature = "json")]
pub use packed_json::PackedJson;

use crate::DatatypeError;

/// Turns a program's items into WebSocket messages and back; every endpoint is given one.
///
/// | datatype | items | messages |
/// |---|---|---|
/// | [`WsStr`] | [`WsText`](crate::WsText) | text |
/// | [`WsBytes`] | [`Bytes`](crate::Bytes) | binary |
/// | [`WsObject<T>`](WsObject) | any serde type | binary, as MessagePack |
/// | `WsJson<T>` (feature `json`) | any serde type | text, as JSON |
/// | [`WsByPath`] | [`Payload`] | of the path's kind |
/// | [`WsFrame`] | [`Frame`] | of the item's kind |
///
/// # Stack
///
/// `WsObject`, `WsJson` and [`Payload::decode`] take values that nest up to 64 levels deep, and decoding one recurses. If a
/// type contains itself, each level takes some of the stack: in a debug build about 25 times the size of the type, optimised
/// much less. The threads that rxplus starts have 16 MiB, enough for 64 levels of 4 KiB each and as much again for
/// callbacks; a larger type of that kind belongs in a `Box` or a `Vec`. A thread of the program that decodes such messages,
/// in a tokio runtime or as the owner of a [`RunLoop`](crate::RunLoop), needs as much.
///
/// # Writing one
///
/// An item is encoded once, on the thread that pushes it, however many connections it goes to. A message is decoded on the
/// endpoint's I/O thread: while `decode` runs, that endpoint reads and writes nothing. A message that it refuses is reported
/// as an event and skipped, and the stream goes on, so an error is the right answer to anything a peer may send; a panic or
/// a recursion without bound is not.
///
/// ```
/// use rxplus::prelude::*;
///
/// /// Temperatures in hundredths of a degree, as two bytes in network order.
/// #[derive(Debug)]
/// struct Temperature;
///
/// impl WsDatatype for Temperature {
///     type Item = i16;
///     type Outgoing = i16;
///
///     fn encode(&self, _path: &str, item: &i16) -> Result<Frame, DatatypeError> {
///         Ok(item.to_be_bytes().to_vec().into())
///     }
///
///     fn decode(&self, _path: &str, frame: Frame) -> Result<i16, DatatypeError> {
///         match *frame.into_binary()? {
///             [high, low] => Ok(i16::from_be_bytes([high, low])),
///             ref other => Err(DatatypeError::new(format_args!("a temperature has 2 bytes, this has {}", other.len()))),
///         }
///     }
/// }
///
/// let frame = Temperature.encode("/boiler", &2150)?;
/// assert_eq!(Temperature.decode("/boiler", frame)?, 2150);
/// # Ok::<(), DatatypeError>(())
/// ```
pub trait WsDatatype: Send + Sync + 'static {
    /// The type of the items that the program receives.
    type Item: Clone + Send + 'static;

    /// The type of the items that the program pushes. All datatypes of this crate have one type for both, except those made
    /// with `pair`.
    type Outgoing: Clone + Send + 'static;

    /// Makes the message for `item`, which goes to `path`.
    ///
    /// # Errors
    ///
    /// When the item has no encoding, or none that suits the path.
    fn encode(&self, path: &str, item: &Self::Outgoing) -> Result<Frame, DatatypeError>;

    /// Reads the item out of a message that came from `path`.
    ///
    /// # Errors
    ///
    /// When the message is not one that this datatype makes.
    fn decode(&self, path: &str, frame: Frame) -> Result<Self::Item, DatatypeError>;

    /// The message that `item` is already, or `item` again if it has to be [encoded](Self::encode). For items that go to one
    /// peer: to move one costs less than a second handle of it.
    #[doc(hidden)]
    fn take_as_frame(&self, item: Self::Outgoing) -> Result<Moved<Self::Outgoing>, Self::Outgoing> {
        Err(item)
    }
}

/// An item that has become a message as it was.
#[doc(hidden)]
#[derive(Debug)]
pub struct Moved<T> {
    pub(crate) frame: Frame,
    /// Makes the item of the message again.
    pub(crate) back: fn(Frame) -> T,
}

#[cfg(test)]
pub(super) mod testing {
    //! What the tests of the datatypes share.

    use std::{error::Error, thread};

    use serde::{Deserialize, Serialize};

    use crate::DatatypeError;

    /// Deep enough to end any thread that follows it without a limit.
    pub(crate) const BOMB: usize = 10_000;

    /// A type that nests through a sequence, a struct in an option, and an enum's newtype variant.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Tree {
        Leaf,
        Number(i64),
        Text(String),
        Wrapped(Box<Tree>),
        Branches(Vec<Tree>),
        Chain { next: Option<Box<Tree>> },
        Pair(Box<Tree>, Box<Tree>),
    }

    impl Tree {
        pub(crate) fn wrapped(depth: usize) -> Self {
            (0..depth).fold(Self::Leaf, |inner, _| Self::Wrapped(Box::new(inner)))
        }
    }

    /// Runs `test` with the stack that a thread has by default, whatever `RUST_MIN_STACK` says.
    pub(crate) fn on_a_default_stack(test: impl FnOnce() + Send + 'static) {
        thread::Builder::new().stack_size(2 << 20).spawn(test).unwrap().join().unwrap();
    }

    /// An error and its causes on one line.
    pub(crate) fn chain(error: &DatatypeError) -> String {
        let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
        format!("{error}{cause}")
    }
}
