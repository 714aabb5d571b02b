//! [`Raw`]: the stream below TLS.

use std::{
    any::Any,
    io::{self, IoSlice, Write},
    mem::replace,
    pin::Pin,
    task::{Context, Poll, Waker},
};

#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
};

use crate::{
    Addr,
    transport::{foreign::Foreign, socket::Socket, tcp::Tcp},
};

/// How many bytes at most are read of a stream that is no TCP socket once its connection is over: as much as a socket may hold.
const ARRIVED_LEN: usize = 1024 * 1024;

/// A stream of bytes: a TCP socket, or any other that a program has given.
pub(crate) enum Raw {
    Tcp(Tcp),
    /// A Unix socket, one in memory, TLS or HTTP/2 of another library.
    Other(Foreign),
}

/// A stream of the program's, which may belong to another runtime than the one that is to drive it.
pub(crate) enum Given {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Other(Foreign, Addr),
}

impl Given {
    pub(crate) fn new<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Self {
        let mut stream = Some(stream);
        let any: &mut dyn Any = &mut stream;
        if let Some(tcp) = any.downcast_mut::<Option<TcpStream>>().and_then(Option::take) {
            return Self::Tcp(tcp);
        }
        #[cfg(unix)]
        if let Some(unix) = any.downcast_mut::<Option<UnixStream>>().and_then(Option::take) {
            return Self::Unix(unix);
        }
        let addr = if any.is::<Option<DuplexStream>>() { Addr::Memory } else { Addr::Unknown };
        Self::Other(Foreign::new(stream.expect("only sockets are taken out")), addr)
    }

    /// The address of the peer, as far as the stream tells it.
    pub(crate) fn addr(&self) -> Addr {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map_or(Addr::Unknown, Addr::from),
            #[cfg(unix)]
            Self::Unix(_) => Addr::Unix,
            Self::Other(_, addr) => addr.clone(),
        }
    }

    /// Moves a socket to the runtime that this is called in: driven from the thread of another one, each wake-up would cross
    /// threads, which costs an echo half as much again, and the socket would end with that runtime.
    pub(crate) fn into_raw(self) -> io::Result<Raw> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream.into_std()?)?.try_into(),
            #[cfg(unix)]
            Self::Unix(stream) => Ok(Raw::Other(Foreign::new(UnixStream::from_std(stream.into_std()?)?))),
            Self::Other(stream, _) => Ok(Raw::Other(stream)),
        }
    }

    /// Writes what the stream takes at once, and drops it.
    pub(crate) fn write_last(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.into_std()?.write(bytes)?,
            #[cfg(unix)]
            Self::Unix(stream) => stream.into_std()?.write(bytes)?,
            Self::Other(mut stream, _) => {
                let polled = Pin::new(&mut stream).poll_write(&mut Context::from_waker(Waker::noop()), bytes);
                if let Poll::Ready(written) = polled { written? } else { 0 }
            }
        };
        Ok(())
    }
}

impl Raw {
    /// What a server's [listener](super::listen) has accepted, and sends small messages at once.
    pub(crate) fn accepted(stream: TcpStream) -> Self {
        Self::Tcp(stream.into())
    }

    /// Waits until the first byte of the peer is there, where that can be told without a buffer.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.readable().await,
            Self::Other(_) => Ok(()),
        }
    }

    /// See [`Transport::move_here`](super::Transport::move_here).
    pub(super) fn move_here(&mut self) {
        match replace(self, Self::Other(Foreign::gone("it could not be moved to its session's thread"))) {
            Self::Tcp(tcp) => {
                if let Ok(tcp) = tcp.moved_here() {
                    *self = Self::Tcp(tcp);
                }
            }
            other => *self = other,
        }
    }

    fn as_tcp(&self) -> Option<&Tcp> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Other(_) => None,
        }
    }
}

/// Sends small messages at once (`TCP_NODELAY`).
impl TryFrom<TcpStream> for Raw {
    type Error = io::Error;

    fn try_from(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream.into()))
    }
}

impl Socket for Raw {
    fn reset_when_dropped(&self) {
        if let Some(tcp) = self.as_tcp() {
            tcp.reset_when_dropped();
        }
    }

    fn has_arrived(&self) -> bool {
        self.as_tcp().is_some_and(Tcp::has_arrived)
    }

    fn arrived_len(&self) -> usize {
        self.as_tcp().map_or(ARRIVED_LEN, Tcp::arrived_len)
    }

    fn insist(&mut self, insists: bool) {
        if let Self::Tcp(tcp) = self {
            tcp.insist(insists);
        }
    }
}

impl AsyncRead for Raw {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, space),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, space),
        }
    }
}

impl AsyncWrite for Raw {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Other(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
