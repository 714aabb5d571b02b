//! [`Socket`]: the interface of the stream that a connection is served on.

use tokio::io::{AsyncRead, AsyncWrite};

/// The stream that a connection is served on.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the operating system discard unsent bytes when the socket is dropped. Otherwise it would keep them, for
    /// minutes, for a peer that takes nothing.
    fn reset_when_dropped(&self);

    /// Whether anything has arrived that was not read: bytes, the end of the stream, or an error. Asks the system, since the
    /// reactor may not have looked yet.
    fn has_arrived(&self) -> bool;

    /// The largest number of bytes that can have arrived and were not read.
    fn arrived_len(&self) -> usize;

    /// While set, writes ask the operating system even if the last one was blocked: the reactor, which would report a
    /// change, may run on the very thread that writes.
    fn insist(&mut self, _insists: bool) {}

    /// How many written bytes it keeps, because the operating system has not taken them.
    fn unsettled(&self) -> usize {
        0
    }
}
