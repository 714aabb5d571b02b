//! Reading from the socket of a link, which its writer owns, and what else the socket is asked.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::BufMut;
use tokio::io::AsyncReadExt;

use crate::{link::writer::SharedWriter, transport::socket::Socket};

impl<S: Socket> SharedWriter<S> {
    /// Returns how many bytes it has put into `space`; none at the end of the stream.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut writer = self.lock();
        let Some(socket) = &mut writer.socket else { return Poll::Pending };
        pin!(socket.read(space)).poll(cx)
    }

    /// As [`poll_read`](Self::poll_read), into memory that nothing was written to: some streams clear all of it first.
    pub(crate) fn poll_read_buf(&self, cx: &mut Context<'_>, space: &mut impl BufMut) -> Poll<io::Result<usize>> {
        let mut writer = self.lock();
        let Some(socket) = &mut writer.socket else { return Poll::Pending };
        pin!(socket.read_buf(space)).poll(cx)
    }

    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writer = self.lock();
        let Some(socket) = &mut writer.socket else { return Poll::Ready(Ok(())) };
        Pin::new(socket).poll_shutdown(cx)
    }

    /// As [`Socket::reset_when_dropped`].
    pub(crate) fn reset_when_dropped(&self) {
        self.lock().socket.iter().for_each(S::reset_when_dropped);
    }

    /// As [`Socket::has_arrived`].
    pub(crate) fn has_arrived(&self) -> bool {
        self.lock().socket.as_ref().is_some_and(S::has_arrived)
    }

    /// As [`Socket::arrived_len`].
    pub(crate) fn arrived_len(&self) -> usize {
        self.lock().socket.as_ref().map_or(0, S::arrived_len)
    }
}
