//! A datatype as endpoints use it: a panic in it costs only the one message.

use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    DatatypeError, Frame, SendError, WsDatatype,
    datatype::Moved,
    outbox::Key,
    runtime::{UserValue, callback},
};

/// The function of the program that finds the key of an item, by which a newer item replaces it while it waits.
pub(crate) struct KeyOf<T>(Arc<Finding<T>>);

type Finding<T> = dyn Fn(&str, &T) -> Option<Key> + Send + Sync;

impl<T> KeyOf<T> {
    pub(crate) fn new<K: Hash>(key_of: impl Fn(&str, &T) -> Option<K> + Send + Sync + 'static) -> Self {
        let key_of = UserValue::new(key_of);
        Self(Arc::new(move |path, item| key_of(path, item).map(|key| Key::of(&key))))
    }

    /// An item whose key cannot be had is as one without a key.
    #[cold]
    fn call(&self, path: &str, item: &T) -> Option<Key> {
        callback::attempt("the key function of conflate", || (self.0)(path, item)).unwrap_or_default()
    }
}

impl<T> Clone for KeyOf<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for KeyOf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyOf").finish_non_exhaustive()
    }
}

/// Encodes and decodes for one endpoint, and counts the messages that it cannot encode.
pub(crate) struct Codec<D: WsDatatype> {
    datatype: UserValue<Arc<D>>,
    unencodable: AtomicU64,
    key_of: Option<KeyOf<D::Outgoing>>,
}

impl<D: WsDatatype> Codec<D> {
    pub(crate) fn new(datatype: UserValue<Arc<D>>, key_of: Option<KeyOf<D::Outgoing>>) -> Self {
        Self { datatype, unencodable: AtomicU64::new(0), key_of }
    }

    pub(crate) fn datatype(&self) -> UserValue<Arc<D>> {
        self.datatype.clone()
    }

    /// One that does the same, with a count of its own.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.datatype.clone(), self.key_of.clone())
    }

    /// The key of an item, if the endpoint conflates and the item has one. The caller holds no lock.
    #[inline]
    pub(crate) fn key(&self, path: &str, item: &D::Outgoing) -> Option<Key> {
        self.key_of.as_ref().and_then(|key_of| key_of.call(path, item))
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

    /// The message that an item is already, if it needs neither encoding nor a key; otherwise the item again.
    #[inline]
    pub(crate) fn take_as_frame(&self, item: D::Outgoing) -> Result<Moved<D::Outgoing>, D::Outgoing> {
        if self.key_of.is_some() { Err(item) } else { self.datatype.take_as_frame(item) }
    }

    #[inline]
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
