//! [`Block`]: the memory that messages are decoded into.
//!
//! A thread reads for one connection at a time, so its connections share one block. Short messages are cut from the same
//! piece of memory, one behind the other; each long message has its own, which the block keeps for the next one of that
//! length.

use std::{collections::VecDeque, mem::take};

use bytes::{Buf, Bytes, BytesMut};

use crate::protocol::mask::mask;

/// The longest message that shares its memory with its neighbours: a program that keeps one of them keeps the memory of all.
pub(crate) const SHARED_LEN: usize = 1024;

/// How much memory short messages share: a program that keeps one of them keeps at most this much.
const BLOCK_LEN: usize = 4 * 1024;

/// How much memory is set aside for a message that a peer has only announced.
pub(crate) const TRUSTED_LEN: usize = 1024 * 1024;

/// The shortest message whose memory is used again: from this length on that costs less than the allocator.
const SPARE_LEN: usize = 8 * 1024;

/// How many times its own length a message may occupy: a program that keeps it keeps all of its memory.
const SPARE_EXCESS: usize = 4;

/// How many pieces of memory a thread keeps for long messages.
const SPARES: usize = 8;

/// The shortest message that begins at a chosen [place](PLACE): what it may take more is little beside it.
const PLACED_LEN: usize = 64 * 1024;

/// Where in a page such a message begins. Allocators let what is long begin at the front of one, and so does the kernel's copy of
/// what is sent. Some processors (AMD's Zen 3) copy slowly between two places that are alike in their lowest 12 bits: an echo of
/// 1 MiB took a quarter more time.
const PLACE: usize = PAGE_LEN / 2;

pub(crate) const PAGE_LEN: usize = 4096;

/// The memory that the connections of a thread decode their messages into.
pub(crate) struct Block {
    /// The piece that short messages share; a new one takes its place when it is used up.
    short: BytesMut,
    /// The memory of long messages, which is used again once they are gone. The allocator would give it back to the
    /// operating system each time, and clearing it anew is half the cost of an echo of 1 MiB.
    long: VecDeque<BytesMut>,
}

impl Default for Block {
    fn default() -> Self {
        Self { short: BytesMut::with_capacity(BLOCK_LEN), long: VecDeque::new() }
    }
}

impl Block {
    /// Provides memory for a long message of which nothing has arrived.
    pub(crate) fn provide(&mut self, len: usize) -> BytesMut {
        let is_free = |spare: &mut BytesMut| {
            len >= SPARE_LEN && spare.try_reclaim(len) && spare.capacity() <= SPARE_EXCESS.saturating_mul(len)
        };
        let free = self.long.iter_mut().position(is_free).and_then(|at| self.long.remove(at));
        let mut memory = free.unwrap_or_default();
        if len >= PLACED_LEN {
            place(&mut memory, len.min(TRUSTED_LEN));
        }
        memory
    }

    /// Takes the message that was gathered in `memory`, and keeps the memory until the message is gone and it can be used
    /// again.
    pub(crate) fn take(&mut self, memory: &mut BytesMut) -> Bytes {
        let mut message = take(memory);
        // Split off at its end, so that it can be reclaimed as a whole or not at all: a kept message keeps all of it.
        let memory = message.split_off(message.capacity());
        let message = message.freeze();
        if (SPARE_LEN..=TRUSTED_LEN).contains(&message.len()) {
            self.long.truncate(SPARES - 1);
            self.long.push_front(memory);
        }
        message
    }

    /// Copies and unmasks a short payload into the shared piece, whose front is used again once its messages are gone.
    // Called for each short message, and in one more place: by itself it would be inlined into neither.
    #[inline(always)]
    pub(crate) fn copy(&mut self, payload: &[u8], key: [u8; 4]) -> Bytes {
        self.short.extend_from_slice(payload);
        mask(&mut self.short, key);
        self.short.split().freeze()
    }
}

/// Lets a message of `len` begin at its place in a page.
fn place(memory: &mut BytesMut, len: usize) {
    if memory.capacity() == 0 {
        memory.reserve(len + PAGE_LEN);
    }
    let skipped = PLACE.wrapping_sub(memory.as_ptr().addr()) % PAGE_LEN;
    // Memory that is used again need not have room for that.
    if skipped + len <= memory.capacity() {
        memory.resize(skipped, 0);
        memory.advance(skipped);
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::{
        Frame,
        protocol::{decoder::Decoder, write_buffer::WriteBuffer},
    };

    /// A message of `len` bytes, as a server sends it.
    fn binary(len: usize) -> Vec<u8> {
        let mut sent = WriteBuffer::default();
        sent.append(&Frame::Binary(vec![7; len].into()), Role::Server, &[]);
        sent.into_bytes()
    }

    #[test]
    fn kept_message_keeps_no_more_than_a_block() {
        let frame = binary(100);
        let (decoder, mut block) = (Decoder::new(Role::Client, 1000, 1000, None), Block::default());
        let mut messages = Vec::new();
        for _ in 0..1000 {
            messages.push(decoder.short(&mut &frame[..], &mut block).unwrap().unwrap());
            assert!(block.short.capacity() <= BLOCK_LEN);
        }
        assert!(messages.iter().all(|message| *message == Frame::Binary(vec![7; 100].into())));
    }

    #[test]
    fn long_message_begins_at_its_place_also_in_memory_that_is_used_again() {
        let mut block = Block::default();
        let places = [PLACED_LEN + 200, PLACED_LEN, PLACED_LEN + 100].map(|len| {
            let mut memory = block.provide(len);
            memory.resize(len, 7);
            block.take(&mut memory).as_ptr().addr()
        });
        assert!(places.iter().all(|place| *place == places[0] && *place % PAGE_LEN == PLACE), "{places:?}");
    }

    #[test]
    fn kept_message_of_some_length_keeps_no_more_than_four_times_that() {
        let (large, small) = (binary(TRUSTED_LEN), binary(SPARE_LEN));
        let (mut decoder, mut block) = (Decoder::new(Role::Client, TRUSTED_LEN, TRUSTED_LEN, None), Block::default());
        let mut read = |frame: &[u8]| decoder.decode(&mut &frame[..], &mut block, &mut Vec::new()).unwrap();
        let mut kept = Vec::new();
        for _ in 0..10 {
            read(&large);
            kept.push(read(&small).into_data());
        }
        drop(block);
        for message in kept {
            let memory = message.try_into_mut().expect("nobody else has it");
            assert!(memory.capacity() <= SPARE_EXCESS * SPARE_LEN, "{}", memory.capacity());
        }
    }
}
