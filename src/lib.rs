//! WebSocket endpoints as RxRust subjects.

mod callback;
mod channel;
mod context;
mod datatype;
mod error;
mod memory;
mod operators;

mod runtime;
mod scheduler;
mod subject;
mod sync;
mod tagged;
mod ws;

pub use bytes::Bytes;
pub use channel::Lossy;
pub use context::Io;
#[cfg(feature = "json")]
pub use datatype::WsJson;
pub use datatype::{Frame, PackedObject, Payload, WsByPath, WsBytes, WsDatatype, WsFrame, WsKind, WsObject, WsStr};
pub use error::{DatatypeError, SendError, WsError};

pub use operators::*;
pub use runtime::IoRuntime;
pub use scheduler::{EventLoopScheduler, IoScheduler, RunLoop, RunLoopScheduler};
pub use subject::{SerializedSubject, SerializedSubscription};
pub use tagged::{Tag, TaggedData, WsText};
pub use ws::*;

/// Everything a program usually needs: RxRust's prelude and rxplus's own names.
pub mod prelude {
    pub use rxrust::prelude::*;

    pub use crate::*;
}
