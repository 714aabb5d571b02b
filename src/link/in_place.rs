//! Writing messages from where they lie, for connections that have nothing else to write.

use std::{
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, ready},
};

use crate::{
    link::writer::{SharedWriter, Writer, poll_unconstrained},
    outbox::{InPlace, Spent},
    protocol::write_buffer::WriteBuffer,
    transport::socket::Socket,
};

impl<S: Socket> SharedWriter<S> {
    /// Returns whether everything is written, and the link sleeps. Otherwise there is the rest to [write](Self::write), as ever.
    pub(super) fn write_in_place(&self, cx: &mut Context<'_>) -> bool {
        let mut writer = self.lock();
        let (sleeps, spent) = self.try_write_in_place(&mut writer, cx);
        drop(writer);
        drop(spent);
        sleeps
    }

    fn try_write_in_place(&self, writer: &mut Writer<S>, cx: &mut Context<'_>) -> (bool, Option<Spent>) {
        let no = (false, None);
        if self.deflate.is_some() || !self.is_open.load(Relaxed) {
            return no;
        }
        let Writer { buffer: buffer @ None, socket: Some(socket), failed: failed @ None, .. } = writer else {
            return no;
        };
        let Some(messages) = self.outbox.take_in_place() else { return no };
        let mut unwritten = Unwritten { buffer, messages: Some(messages), taken: 0 };
        let frames = unwritten.messages.as_ref().map_or(&[][..], InPlace::frames);
        let mut is_flushed = false;
        let written = poll_unconstrained(cx, |cx| {
            unwritten.taken = ready!(Pin::new(&mut *socket).poll_write(cx, frames))?;
            is_flushed =
                unwritten.taken == frames.len() && matches!(Pin::new(&mut *socket).poll_flush(cx), Poll::Ready(Ok(())));
            Poll::Ready(Ok(()))
        });
        if is_flushed && let Some(messages) = unwritten.messages.take() {
            return self.outbox.confirm_in_place(&messages);
        }
        if let Poll::Ready(Err(error)) = written {
            *failed = Some(error);
        }
        no
    }
}

/// Messages that go into the write buffer when this is dropped, also by a panic of a stream of the program's: as they are taken from the
/// outbox, nobody else would write them.
struct Unwritten<'a> {
    buffer: &'a mut Option<Box<WriteBuffer>>,
    messages: Option<InPlace>,
    /// How many of their bytes the socket has taken.
    taken: usize,
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        if let Some(messages) = &self.messages {
            let buffer = self.buffer.insert(WriteBuffer::spare());
            buffer.append_frames(messages.frames(), messages.lens());
            buffer.note_taken(self.taken);
        }
    }
}
