//! How messages come from the outbox into the write buffer of a link.

use crate::{
    Frame,
    link::{
        session,
        writer::{SharedWriter, Writer},
    },
    outbox::{Closing, Encoded, Several, Taken},
    protocol::write_buffer::WriteBuffer,
    session::verb::Verb,
    transport::socket::Socket,
};

/// How many bytes are prepared for one write: as many as one read takes.
const WRITE_BATCH_LEN: usize = 128 * 1024;

impl<S: Socket> SharedWriter<S> {
    /// Moves messages from the outbox into the write buffer. Returns the closing handshake once the last message has gone.
    pub(super) fn fill_buffer(&self, writer: &mut Writer<S>) -> Option<Closing> {
        let budget = match &writer.buffer {
            // A socket that takes nothing is offered the buffer as it is before more messages are encoded for it.
            Some(buffer) if buffer.stalled.is_some() && !buffer.is_empty() => 0,
            Some(buffer) => WRITE_BATCH_LEN.saturating_sub(buffer.len()),
            None => WRITE_BATCH_LEN,
        };
        match &self.deflate {
            None => self.outbox.take_each(budget, None, |taken, leap| self.append_taken(writer, taken, leap)),
            // Apart: a closure that does both is not inlined.
            Some(agreed) => self.outbox.take_each(budget, Some(agreed), |taken, leap| match taken.compressed(agreed) {
                Some((frame, form)) => self.buffer(writer, leap).append_compressed(frame, form, self.role),
                None => self.append_taken(writer, taken, leap),
            }),
        }
    }

    #[inline(always)]
    fn append_taken(&self, writer: &mut Writer<S>, taken: Taken<'_>, leap: Option<u64>) {
        match taken {
            Taken::Message(message) => self.append(writer, message.frame(), leap),
            Taken::Encoded(encoded) => self.append_encoded(writer, encoded, leap),
            Taken::Several(several) => self.append_several(writer, &several, leap),
        }
    }

    fn append_several(&self, writer: &mut Writer<S>, several: &Several<'_>, mut leap: Option<u64>) {
        let mut messages = several.messages();
        if !self.is_resumable || messages.all(|encoded| self.prefix(encoded.message()).is_empty()) {
            let lens = several.messages().map(|encoded| encoded.frame().len());
            return self.buffer(writer, leap).append_frames(several.frames(), lens);
        }
        for encoded in several.messages() {
            self.append_encoded(writer, encoded, leap.take());
        }
    }

    #[inline(always)]
    fn append(&self, writer: &mut Writer<S>, frame: &Frame, leap: Option<u64>) {
        self.buffer(writer, leap).append(frame, self.role, self.prefix(frame));
    }

    #[inline(always)]
    fn append_encoded(&self, writer: &mut Writer<S>, encoded: &Encoded, leap: Option<u64>) {
        if self.prefix(encoded.message()).is_empty() {
            self.buffer(writer, leap).append_frame(encoded.frame());
        } else {
            self.append(writer, encoded.message(), leap);
        }
    }

    /// What comes before a payload.
    #[inline(always)]
    fn prefix(&self, frame: &Frame) -> &'static [u8] {
        if self.is_resumable { session::escape(frame) } else { &[] }
    }

    /// The write buffer, for a message whose position the peer may have to be told.
    #[inline(always)]
    fn buffer<'a>(&self, writer: &'a mut Writer<S>, leap: Option<u64>) -> &'a mut WriteBuffer {
        let buffer = writer.buffer.get_or_insert_with(WriteBuffer::spare);
        if let Some(position) = leap {
            buffer.append_answers(session::encode(&Verb::At(position), self.role));
        }
        buffer
    }
}
