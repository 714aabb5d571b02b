//! The stream below a connection: TCP, plain or with TLS. One type for both, so that the driver is compiled once a side.

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

#[cfg(feature = "tls")]
use tokio_rustls::TlsStream;

use crate::ws::outlet::Socket;

pub(crate) enum Transport {
    Plain(TcpStream),
    /// In a box: it is a kilobyte that plain connections do not have to carry.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl Socket for Transport {
    fn reset_when_dropped(&self) {
        // An error leaves it with the usual way to end.
        let _ = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }

    fn has_arrived(&self) -> bool {
        match SockRef::from(self.tcp()).peek(&mut [MaybeUninit::uninit()]) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    fn arrived_len(&self) -> usize {
        SockRef::from(self.tcp()).recv_buffer_size().unwrap_or(0)
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, space),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => match Pin::new(&mut **stream).poll_read(cx, space) {
                // TLS tells a connection that was cut from one that was closed. So does WebSocket, by its close frame: here
                // it is the end of the stream, as it is without TLS.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                // It comes again once what was right before it has been read.
                Poll::Ready(Err(error)) => Poll::Ready(if read_decrypted(stream, space) { Ok(()) } else { Err(error) }),
                polled => polled,
            },
        }
    }
}

/// Reads what was decrypted and not read yet. True if there was any.
#[cfg(feature = "tls")]
fn read_decrypted(stream: &mut TlsStream<TcpStream>, space: &mut ReadBuf<'_>) -> bool {
    use std::io::Read;

    let unfilled = space.initialize_unfilled();
    let read = match stream {
        TlsStream::Client(stream) => stream.get_mut().1.reader().read(unfilled),
        TlsStream::Server(stream) => stream.get_mut().1.reader().read(unfilled),
    };
    let len = read.unwrap_or(0);
    space.advance(len);
    len > 0
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
