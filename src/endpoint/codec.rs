//! A datatype as endpoints use it: a panic in it costs only the one message.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{DatatypeError, Frame, SendError, WsDatatype, runtime::callback};

/// Encodes and decodes for one endpoint, and counts the messages that it cannot encode.
pub(crate) struct Codec<D: WsDatatype> {
    datatype: Arc<D>,
    unencodable: AtomicU64,
}

impl<D: WsDatatype> Codec<D> {
    pub(crate) fn new(datatype: Arc<D>) -> Self {
        Self { datatype, unencodable: AtomicU64::new(0) }
    }

    pub(crate) fn datatype(&self) -> Arc<D> {
        self.datatype.clone()
    }

    /// Encodes a message for an endpoint. An endpoint that `is_closing` refuses every message.
    pub(crate) fn encode(
        &self,
        path: &str,
        item: &D::Outgoing,
        is_closing: impl FnOnce() -> bool,
    ) -> Result<Frame, SendError<()>> {
        unless_it_panics(|| self.datatype.encode(path, item)).map_err(|error| {
            if is_closing() {
                return SendError::Closed(());
            }
            self.count_unencodable();
            SendError::Encode((), error)
        })
    }

    pub(crate) fn decode(&self, path: &str, frame: Frame) -> Result<D::Item, DatatypeError> {
        unless_it_panics(|| self.datatype.decode(path, frame))
    }

    /// Counts a message as unencodable that could not even be made.
    pub(crate) fn count_unencodable(&self) {
        self.unencodable.fetch_add(1, Relaxed);
    }

    /// How many messages could not be encoded.
    pub(crate) fn unencodable(&self) -> u64 {
        self.unencodable.load(Relaxed)
    }
}

fn unless_it_panics<R>(f: impl FnOnce() -> Result<R, DatatypeError>) -> Result<R, DatatypeError> {
    let done = callback::attempt("a datatype", f);
    done.unwrap_or_else(|panic| Err(DatatypeError::new(format!("the datatype panicked: {panic}"))))
}
