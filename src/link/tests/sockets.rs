//! Sockets that stop taking bytes when they are told to.

use super::*;

/// More than any of the sockets here holds.
pub(crate) const ARRIVED_LEN: usize = 2 << 20;

impl Socket for DuplexStream {
    fn reset_when_dropped(&self) {}

    fn has_arrived(&self) -> bool {
        false
    }

    fn arrived_len(&self) -> usize {
        ARRIVED_LEN
    }
}

/// A socket that takes a given number of bytes, and then none. Bytes that have arrived can still be read.
pub(crate) struct Mute {
    pub(crate) stream: DuplexStream,
    pub(crate) left: usize,
    /// The error of later writes. `None` if they only find no room.
    pub(crate) error: Option<io::ErrorKind>,
    pub(crate) has_arrived: Arc<AtomicBool>,
}

pub(crate) fn unbroken(stream: DuplexStream) -> Mute {
    Mute { stream, left: usize::MAX, error: None, has_arrived: Arc::default() }
}

pub(crate) fn broken_after(left: usize) -> impl FnOnce(DuplexStream) -> Mute {
    move |stream| Mute { left, error: Some(io::ErrorKind::BrokenPipe), ..unbroken(stream) }
}

pub(crate) fn full(stream: DuplexStream) -> Mute {
    Mute { left: 0, ..unbroken(stream) }
}

impl Socket for Mute {
    fn reset_when_dropped(&self) {}

    fn has_arrived(&self) -> bool {
        self.has_arrived.load(Ordering::Relaxed)
    }

    fn arrived_len(&self) -> usize {
        self.stream.arrived_len()
    }
}

impl AsyncRead for Mute {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, space)
    }
}

impl AsyncWrite for Mute {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            return self.error.map_or(Poll::Pending, |error| Poll::Ready(Err(error.into())));
        }
        let count = bytes.len().min(self.left);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..count]))?;
        self.left -= written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Portions of a [`Breaking`] socket that are bugs in it: in its write, and in the flush before its next write.
pub(crate) const PANIC: usize = usize::MAX - 1;
pub(crate) const PANIC_IN_FLUSH: usize = usize::MAX - 2;

/// A socket without input. It takes bytes in given portions, and breaks after a given number of them.
pub(crate) struct Breaking {
    pub(crate) portions: std::iter::Cycle<std::vec::IntoIter<usize>>,
    pub(crate) left: usize,
    pub(crate) taken: Arc<Mutex<Vec<u8>>>,
}

impl Socket for Breaking {
    fn reset_when_dropped(&self) {}

    fn has_arrived(&self) -> bool {
        false
    }

    fn arrived_len(&self) -> usize {
        ARRIVED_LEN
    }
}

impl AsyncRead for Breaking {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let portion = self.portions.next().unwrap_or(1);
        assert_ne!(portion, PANIC, "a bug of a stream's");
        let count = portion.min(self.left).min(bytes.len());
        if count == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.left -= count;
        self.taken.lock().unwrap().extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.portions.clone().next() == Some(PANIC_IN_FLUSH) {
            self.portions.next();
            panic!("a bug of a stream's");
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A socket that clears all memory it is given before it reads, as one does that reads through a slice. What was written to
/// once it does not clear again.
pub(crate) struct Clearing {
    pub(crate) stream: DuplexStream,
    /// How many bytes it has cleared.
    pub(crate) cleared: Arc<AtomicUsize>,
}

impl Socket for Clearing {
    fn reset_when_dropped(&self) {}

    fn has_arrived(&self) -> bool {
        false
    }

    fn arrived_len(&self) -> usize {
        ARRIVED_LEN
    }
}

impl AsyncRead for Clearing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.cleared.fetch_add(space.capacity() - space.initialized().len(), Ordering::Relaxed);
        space.initialize_unfilled();
        Pin::new(&mut self.stream).poll_read(cx, space)
    }
}

impl AsyncWrite for Clearing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A transport with a buffer of its own, as TLS is one, which takes everything and gets rid of nothing.
pub(crate) struct Keeping {
    pub(crate) stream: DuplexStream,
    pub(crate) kept: usize,
}

impl Socket for Keeping {
    fn reset_when_dropped(&self) {}

    fn has_arrived(&self) -> bool {
        false
    }

    fn arrived_len(&self) -> usize {
        ARRIVED_LEN
    }

    fn unsettled(&self) -> usize {
        self.kept
    }
}

impl AsyncRead for Keeping {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, space)
    }
}

impl AsyncWrite for Keeping {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.kept += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
