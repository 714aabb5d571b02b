//! The stream below a connection: TCP or any other, plain or with TLS. One type for all, so that the driver is compiled once
//! per side.

mod foreign;
pub(crate) mod listen;
pub(crate) mod raw;
#[cfg(feature = "tls")]
mod sealed;
pub(crate) mod socket;
mod tcp;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
pub(crate) mod tls;

#[cfg(feature = "tls")]
pub use tls::{ClientTls, ServerTls};

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(feature = "tls")]
use crate::transport::sealed::Sealed;
use raw::Raw;
use socket::Socket;

pub(crate) enum Transport {
    Plain(Raw),
    /// In a box: it takes a kilobyte that plain connections need not carry.
    #[cfg(feature = "tls")]
    Tls(Box<Sealed>),
}

impl Transport {
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Moves a socket to the runtime that this is called in. One that cannot be moved is closed.
    pub(crate) fn move_here(&mut self) {
        self.raw_mut().move_here();
    }

    fn raw(&self) -> &Raw {
        match self {
            Self::Plain(raw) => raw,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.raw(),
        }
    }

    fn raw_mut(&mut self) -> &mut Raw {
        match self {
            Self::Plain(raw) => raw,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.raw_mut(),
        }
    }
}

impl From<Raw> for Transport {
    fn from(stream: Raw) -> Self {
        Self::Plain(stream)
    }
}

impl Socket for Transport {
    fn reset_when_dropped(&self) {
        self.raw().reset_when_dropped();
    }

    fn has_arrived(&self) -> bool {
        self.raw().has_arrived()
    }

    fn arrived_len(&self) -> usize {
        self.raw().arrived_len()
    }

    fn insist(&mut self, insists: bool) {
        self.raw_mut().insist(insists);
    }

    fn unsettled(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.unsettled(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, space),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, space),
        }
    }
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
