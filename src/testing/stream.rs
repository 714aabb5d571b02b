//! [`TestStream`]: one end of a connection in memory.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

use super::wire::{End, Read, Wire};

/// One end of a connection of a [`TestNetwork`](super::TestNetwork): a stream of bytes as any other.
pub struct TestStream {
    wire: Wire,
    end: End,
    /// Wakes the reader when the next bytes arrive.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl TestStream {
    /// Both ends of a connection: the client's, and the server's.
    pub(super) fn pair(wire: &Wire) -> (Self, Self) {
        let end = |end| Self { wire: wire.clone(), end, arrival: None };
        (end(End::Client), end(End::Server))
    }
}

impl AsyncRead for TestStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.wire.read(self.end, space, cx)? {
                Read::Bytes => return Poll::Ready(Ok(())),
                Read::Pending => return Poll::Pending,
                Read::NotBefore(due) => {
                    let arrival = self.arrival.get_or_insert_with(|| Box::pin(sleep_until(due)));
                    arrival.as_mut().reset(due);
                    if arrival.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for TestStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.write(self.end, bytes, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.finish(self.end);
        Poll::Ready(Ok(()))
    }
}

impl Drop for TestStream {
    fn drop(&mut self) {
        self.wire.leave(self.end);
    }
}

impl fmt::Debug for TestStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestStream").field("end", &self.end).finish_non_exhaustive()
    }
}
