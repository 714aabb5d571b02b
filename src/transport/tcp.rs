//! [`Tcp`]: a TCP socket, which can be asked more than the reactor is.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::transport::socket::Socket;

/// A TCP socket.
pub(crate) struct Tcp {
    stream: TcpStream,
    /// As set by [`Socket::insist`].
    insists: bool,
}

/// `MSG_NOSIGNAL`: as in the standard library, a write to a socket that the peer has closed raises no SIGPIPE. On other
/// systems a socket option does that, or nothing: a Rust program ignores that signal.
const NO_SIGNAL: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 0x4000 } else { 0 };

impl Tcp {
    /// Waits until there is something to read, as far as the reactor knows. Asks the system nothing.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// On the runtime that this is called in.
    pub(crate) fn moved_here(self) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::from_std(self.stream.into_std()?)?, ..self })
    }

    /// The result of a write that the reactor would keep waiting, if the system is asked all the same.
    fn asked(
        &self,
        polled: Poll<io::Result<usize>>,
        send: impl FnOnce(SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if !self.insists || polled.is_ready() || !self.is_writable() {
            return polled;
        }
        match send(SockRef::from(&self.stream)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            sent => Poll::Ready(sent),
        }
    }

    /// Whether the system has as much room as it requires before it reports the socket writable to a reactor.
    #[cfg(unix)]
    fn is_writable(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        poll(&mut [PollFd::new(&self.stream, PollFlags::OUT)], Some(&Timespec::default())).is_ok_and(|count| count > 0)
    }

    #[cfg(not(unix))]
    fn is_writable(&self) -> bool {
        true
    }
}

impl From<TcpStream> for Tcp {
    fn from(stream: TcpStream) -> Self {
        Self { stream, insists: false }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, space)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.asked(polled, |socket| socket.send_with_flags(bytes, NO_SIGNAL))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.asked(polled, |socket| socket.send_vectored_with_flags(slices, NO_SIGNAL))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Socket for Tcp {
    fn reset_when_dropped(&self) {
        // On an error, the socket ends in the usual way.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn has_arrived(&self) -> bool {
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    fn arrived_len(&self) -> usize {
        SockRef::from(&self.stream).recv_buffer_size().unwrap_or(0)
    }

    fn insist(&mut self, insists: bool) {
        self.insists = insists;
    }
}
