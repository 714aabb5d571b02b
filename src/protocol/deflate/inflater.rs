//! Inflating messages (RFC 7692, section 7.2.2).

use std::{cell::Cell, mem::take};

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::{KEPT_LEN, LARGEST_WINDOW, TAIL};
use crate::protocol::read_block::{Block, SHARED_LEN};

/// How much memory a message begins with.
const FIRST_LEN: usize = 4 * 1024;

/// Inflates messages, one after the other, into memory of its own: 47 KiB, and the longest message up to 64 KiB.
#[derive(Debug)]
pub(crate) struct Inflater {
    decompress: Decompress,
    out: Vec<u8>,
}

/// The reason why a message cannot be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is longer than it may be.
    TooLong,
    /// It is no DEFLATE (RFC 1951).
    Malformed,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { decompress: Decompress::new_with_window_bits(false, LARGEST_WINDOW), out: Vec::new() }
    }
}

thread_local! {
    /// For messages that refer to no earlier ones.
    static SHARED: Cell<Option<Box<Inflater>>> = const { Cell::new(None) };
}

impl Inflater {
    /// Takes the thread's inflater, or makes a new one. It has forgotten all messages.
    pub(super) fn of_thread() -> Box<Self> {
        // A thread that is ending has none.
        let mut inflater = SHARED.try_with(Cell::take).ok().flatten().unwrap_or_default();
        inflater.reset();
        inflater
    }

    /// Leaves it to the next connection of the thread.
    pub(super) fn recycle(self: Box<Self>) {
        let _ = SHARED.try_with(|shared| shared.set(Some(self)));
    }

    /// Forgets the earlier messages, to which the next one may otherwise refer.
    pub(crate) fn reset(&mut self) {
        self.decompress.reset(false);
    }

    /// Inflates a message to at most `limit` bytes, in hardly more memory, however long it would become.
    pub(crate) fn inflate(&mut self, compressed: &[u8], limit: usize) -> Result<&[u8], Flaw> {
        self.out.clear();
        self.feed(compressed, limit)?;
        self.feed(&TAIL, limit)?;
        Ok(&self.out)
    }

    fn feed(&mut self, mut input: &[u8], limit: usize) -> Result<(), Flaw> {
        loop {
            self.make_room(limit);
            let (fed, made) = (self.decompress.total_in(), self.out.len());
            let status = self.decompress.decompress_vec(input, &mut self.out, FlushDecompress::Sync);
            let status = status.map_err(|_| Flaw::Malformed)?;
            let consumed = (self.decompress.total_in() - fed) as usize;
            input = &input[consumed..];
            if self.out.len() > limit {
                return Err(Flaw::TooLong);
            }
            let has_room = self.out.len() < self.out.capacity();
            match status {
                // A block may say that it is the last one, and others may follow (RFC 7692, section 7.2.3.5).
                Status::StreamEnd => self.decompress.reset(false),
                _ if has_room && consumed == 0 && self.out.len() == made && !input.is_empty() => {
                    return Err(Flaw::Malformed);
                }
                _ => {}
            }
            // Without room left, there may be more to come of what was consumed.
            if input.is_empty() && has_room {
                return Ok(());
            }
        }
    }

    /// Makes room for at least one byte. One byte more than the limit shows that the message is too long.
    fn make_room(&mut self, limit: usize) {
        let len = self.out.len();
        if len == self.out.capacity() {
            let wanted = (2 * len).max(FIRST_LEN).min(limit.saturating_add(1)).max(len + 1);
            self.out.reserve_exact(wanted - len);
        }
    }

    #[cfg(test)]
    pub(super) fn with(decompress: Decompress) -> Self {
        Self { decompress, out: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.out.capacity()
    }

    /// The message that was inflated, in memory of its own or of `block`.
    pub(super) fn hand_over(&mut self, block: &mut Block) -> Bytes {
        match self.out.capacity() > KEPT_LEN {
            // Memory that would not be kept.
            true => take(&mut self.out).into(),
            false if self.out.len() <= SHARED_LEN => block.copy(&self.out, [0; 4]),
            false => {
                let mut memory = block.provide(self.out.len());
                memory.extend_from_slice(&self.out);
                block.take(&mut memory)
            }
        }
    }

    /// Gives back the memory of a long message that is not handed over.
    pub(super) fn shrink(&mut self) {
        if self.out.capacity() > KEPT_LEN {
            self.out = Vec::new();
        }
    }
}
