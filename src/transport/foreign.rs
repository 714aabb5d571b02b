//! [`Foreign`]: a stream of the program's. If it panics, its own connection ends, and nothing else.

use std::{
    io::{self, IoSlice},
    mem::replace,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{protocol::write_buffer::SLICES_PER_WRITE, runtime::callback};

/// How many bytes at most are offered to a stream at once. An HTTP/2 stream of hyper takes all that it is offered, as a copy, whether
/// its peer reads or not: a long message would count as sent before any of it is, and take its length again for each peer.
/// It costs an echo over a Unix socket 10 % of CPU time with messages of 256 KiB, 4 % with 1 MiB, and nothing with 4 KiB; 40 % over a
/// stream in memory that would take a whole message of 1 MiB at once.
const WRITE_LEN: usize = 64 * 1024;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A Unix socket, a stream in memory, TLS or HTTP/2 of another library.
///
/// It is polled by the task of its connection, by the one that writes for all connections, and by threads that push. A panic
/// in it would end those; here it is an error of the stream.
pub(crate) struct Foreign {
    /// Why it is gone, once it is: what a stream that has panicked holds may be in any state.
    stream: Result<Box<dyn Stream>, String>,
}

impl Foreign {
    pub(crate) fn new<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Self {
        Self { stream: Ok(Box::new(stream)) }
    }

    /// In place of a stream that has ended.
    pub(crate) fn gone(why: &str) -> Self {
        Self { stream: Err(why.into()) }
    }

    fn poll<R>(&mut self, poll: impl FnOnce(Pin<&mut dyn Stream>) -> Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if let Ok(stream) = &mut self.stream {
            match callback::attempt("a stream", || poll(Pin::new(&mut **stream))) {
                Ok(polled) => return polled,
                Err(panic) => self.end(format!("the stream panicked: {panic}")),
            }
        }
        let why = self.stream.as_ref().err().map_or("", String::as_str);
        Poll::Ready(Err(io::Error::other(why)))
    }

    /// Drops the stream, whose destructor may panic too.
    fn end(&mut self, why: String) {
        let stream = replace(&mut self.stream, Err(why));
        callback::isolate("the destructor of a stream", || drop(stream));
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.end(String::new());
    }
}

/// Puts as much of `slices` into `offered` as a stream is offered at once; returns the number of pieces.
fn offer<'a>(slices: &'a [IoSlice<'_>], offered: &mut [IoSlice<'a>]) -> usize {
    let (mut count, mut left) = (0, WRITE_LEN);
    for (to, slice) in offered.iter_mut().zip(slices) {
        if left == 0 {
            break;
        }
        let piece = &slice[..slice.len().min(left)];
        *to = IoSlice::new(piece);
        count += 1;
        left -= piece.len();
    }
    count
}

impl AsyncRead for Foreign {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, space))
    }
}

impl AsyncWrite for Foreign {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let offered = &bytes[..bytes.len().min(WRITE_LEN)];
        self.poll(|stream| stream.poll_write(cx, offered))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut offered = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let count = offer(slices, &mut offered);
        self.poll(|stream| stream.poll_write_vectored(cx, &offered[..count]))
    }

    fn is_write_vectored(&self) -> bool {
        let asked =
            callback::attempt("a stream", || self.stream.as_ref().is_ok_and(|stream| stream.is_write_vectored()));
        asked.unwrap_or(false)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}
