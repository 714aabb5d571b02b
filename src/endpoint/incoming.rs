//! [`Incoming`]: from a received frame to the item to emit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    DatatypeError, Frame, Tag, Tally, WsDatatype,
    endpoint::{Received, codec::Codec},
};

/// Decodes the messages that a connection receives, and counts them.
pub(crate) struct Incoming<D: WsDatatype> {
    pub(crate) codec: Codec<D>,
    /// Nobody is interested: messages are counted and dropped undecoded.
    pub(crate) discards: bool,
    pub(crate) counts: IncomingCounts,
}

/// The messages that came in. Only one thread counts at a time, the driver's, so a load and a store suffice: two atomic
/// additions took 4 % of an echo.
#[derive(Debug, Default)]
pub(crate) struct IncomingCounts {
    messages: AtomicU64,
    len: AtomicU64,
    undecodable: AtomicU64,
}

impl<D: WsDatatype> Incoming<D> {
    /// The item to emit of a frame that came on `path`, `from` the connection with this number; `None` for a message that is discarded,
    /// or the reason why the frame cannot be decoded.
    // Inlined, or each message would be moved once more, and its parts read before they are written.
    #[inline(always)]
    pub(crate) fn take(&self, frame: Frame, path: &Tag, from: u64) -> Result<Option<Received<D::Item>>, DatatypeError> {
        let len = frame.len();
        if self.discards {
            self.counts.count_received(len);
            return Ok(None);
        }
        match self.codec.decode(path, frame) {
            Ok(item) => {
                self.counts.count_received(len);
                Ok(Some(Received { item, len, from }))
            }
            Err(error) => {
                self.counts.count_undecodable();
                Err(error)
            }
        }
    }
}

impl IncomingCounts {
    pub(crate) fn count_undecodable(&self) {
        self.undecodable.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_received(&self, len: usize) {
        self.messages.store(self.messages.load(Relaxed) + 1, Relaxed);
        self.len.store(self.len.load(Relaxed) + len as u64, Relaxed);
    }

    pub(crate) fn received(&self) -> Tally {
        Tally { messages: self.messages.load(Relaxed), len: self.len.load(Relaxed) }
    }

    pub(crate) fn undecodable(&self) -> u64 {
        self.undecodable.load(Relaxed)
    }
}
