//! [`Socket`]: what a connection needs of the stream that it is served on.

use tokio::io::{AsyncRead, AsyncWrite};

/// What a connection is served on.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the operating system discard unsent bytes when the socket is dropped. Otherwise it would keep them, for
    /// minutes, for a peer that takes nothing.
    fn reset_when_dropped(&self);

    /// Whether anything has arrived that was not read: bytes, the end of the stream, or an error. Asks the system, which
    /// knows what the reactor may not have looked at.
    fn has_arrived(&self) -> bool;

    /// How many bytes can have arrived that were not read, at most.
    fn arrived_len(&self) -> usize;

    /// While set, writes ask the operating system even if the last one was blocked: the reactor, which would report a change,
    /// may run on the very thread that writes.
    fn insist(&mut self, _insists: bool) {}

    /// How many bytes of what was written it keeps, because the operating system has not taken them.
    fn unsettled(&self) -> usize {
        0
    }
}
