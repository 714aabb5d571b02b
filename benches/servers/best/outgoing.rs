//! Writing: at once to the socket, and what it does not take when it can.

use std::{cell::RefCell, io::ErrorKind};

use bytes::{Buf, BytesMut};
use tokio::{net::tcp::OwnedWriteHalf, sync::Notify};

pub(super) struct Outgoing {
    socket: OwnedWriteHalf,
    /// What the socket has not taken.
    unsent: RefCell<BytesMut>,
    /// Tells [`write_unsent`](Self::write_unsent) that there is some.
    is_full: Notify,
}

impl Outgoing {
    pub(super) fn new(socket: OwnedWriteHalf) -> Self {
        Self { socket, unsent: RefCell::default(), is_full: Notify::new() }
    }

    /// Writes to the socket what it takes, and keeps the rest.
    pub(super) fn send(&self, bytes: &[u8]) {
        let mut unsent = self.unsent.borrow_mut();
        if !unsent.is_empty() {
            return unsent.extend_from_slice(bytes);
        }
        let rest = &bytes[self.write(bytes)..];
        if !rest.is_empty() {
            unsent.extend_from_slice(rest);
            self.is_full.notify_one();
        }
    }

    /// Waits until the socket has taken all.
    pub(super) async fn flush(&self) {
        while !self.unsent.borrow().is_empty() {
            // An error shows in the write, and in the next read.
            let _ = self.socket.writable().await;
            let mut unsent = self.unsent.borrow_mut();
            let len = self.write(&unsent);
            unsent.advance(len);
        }
    }

    /// Writes what [`send`](Self::send) keeps, whenever it keeps something. Never ends.
    pub(super) async fn write_unsent(&self) {
        loop {
            self.is_full.notified().await;
            self.flush().await;
        }
    }

    /// How much the socket has taken: of a broken one, all.
    fn write(&self, bytes: &[u8]) -> usize {
        let mut len = 0;
        while len < bytes.len() {
            match self.socket.try_write(&bytes[len..]) {
                Ok(written) => len += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return len,
                Err(_) => return bytes.len(),
            }
        }
        len
    }
}
