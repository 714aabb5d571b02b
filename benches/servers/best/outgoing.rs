//! Writing: at once to the socket, and what it does not take when it can.

use std::{
    cell::RefCell,
    io::{self, ErrorKind},
};

use bytes::{Buf, BytesMut};
use tokio::{net::tcp::OwnedWriteHalf, sync::Notify};

use super::output::Output;

pub(super) struct Outgoing {
    socket: OwnedWriteHalf,
    /// What the socket has not taken of what was sent.
    unsent: RefCell<BytesMut>,
    /// Tells [`write_unsent`](Self::write_unsent) that there is some.
    is_full: Notify,
}

impl Outgoing {
    pub(super) fn new(socket: OwnedWriteHalf) -> Self {
        Self { socket, unsent: RefCell::default(), is_full: Notify::new() }
    }

    /// Waits until the socket has taken all. Meanwhile the others have another output.
    pub(super) async fn write(&self, shared: &RefCell<Output>) {
        let mut written = self.write_from(&shared.borrow(), 0);
        if written == shared.borrow().len() {
            return;
        }
        let output = shared.take();
        while written < output.len() {
            // An error shows in the write, and in the next read.
            let _ = self.socket.writable().await;
            written = self.write_from(&output, written);
        }
    }

    /// Writes what the socket takes, and keeps the rest for [`write_unsent`](Self::write_unsent).
    pub(super) fn send(&self, output: &Output) {
        let mut unsent = self.unsent.borrow_mut();
        let written = if unsent.is_empty() { self.write_from(output, 0) } else { 0 };
        if written == output.len() {
            return;
        }
        output.slices(written).iter().for_each(|slice| unsent.extend_from_slice(slice));
        self.is_full.notify_one();
    }

    /// Writes what [`send`](Self::send) keeps, whenever it keeps something. Never ends.
    pub(super) async fn write_unsent(&self) {
        loop {
            while !self.unsent.borrow().is_empty() {
                let _ = self.socket.writable().await;
                let mut unsent = self.unsent.borrow_mut();
                let written = self.socket.try_write(&unsent);
                let len = unsent.len();
                unsent.advance(taken(written, len));
            }
            self.is_full.notified().await;
        }
    }

    /// Writes from there on as much as the socket takes, and returns where it stopped.
    fn write_from(&self, output: &Output, mut at: usize) -> usize {
        let len = output.len();
        while at < len {
            let written = match output.as_bytes() {
                Some(bytes) => self.socket.try_write(&bytes[at..]),
                None => self.socket.try_write_vectored(&output.slices(at)),
            };
            match taken(written, len - at) {
                0 => break,
                taken => at += taken,
            }
        }
        at
    }
}

/// How much a socket has taken of so much: a broken one, all.
fn taken(written: io::Result<usize>, len: usize) -> usize {
    match written {
        Ok(written) => written,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(_) => len,
    }
}
