//! [`ReadBuffer`]: the memory for reading that the connections of a thread share, so that an idle one needs none.

use std::cell::Cell;

use crate::protocol::read_block::Block;

/// The length of a read buffer. Measured, with as much for a write: of 16 messages of 16 KiB in flight each costs 0.74 of
/// its cost with 64 KiB; half of the difference is due to the reading.
pub(crate) const READ_BUFFER_LEN: usize = 128 * 1024;

/// How much must be missing of a message for it to be read to where it is gathered. With less, a read is better used to fetch
/// what comes behind it as well.
pub(crate) const GATHERED_LEN: usize = 32 * 1024;

/// The length of a page of memory.
const PAGE_LEN: usize = 4096;

pub(crate) struct ReadBuffer {
    pub(crate) space: Space,
    pub(crate) block: Block,
}

/// The memory that the system copies what it has received into.
pub(crate) struct Space {
    bytes: Box<[u8]>,
    /// The index of the first byte of a page.
    start: usize,
}

impl Space {
    fn new() -> Self {
        let bytes: Box<[u8]> = vec![0; READ_BUFFER_LEN + PAGE_LEN].into();
        // `usize::MAX` where the distance cannot be told.
        let start = bytes.as_ptr().align_offset(PAGE_LEN).min(PAGE_LEN);
        Self { bytes, start }
    }

    /// All of it, from the beginning of a page on. The allocator begins 16 bytes behind that, and there the copy of the kernel
    /// (`rep movsb`) took ten times as long on an AMD processor.
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..READ_BUFFER_LEN]
    }
}

thread_local! {
    static SHARED: Cell<Option<Box<ReadBuffer>>> = const { Cell::new(None) };
}

impl ReadBuffer {
    /// Takes the thread's buffer. Makes a new one if a callback runs another driver inside the one that has the buffer.
    pub(crate) fn take() -> Box<Self> {
        SHARED.take().unwrap_or_else(Self::new)
    }

    #[cold]
    fn new() -> Box<Self> {
        Box::new(Self { space: Space::new(), block: Block::default() })
    }

    /// Leaves the buffer to the next read of the thread.
    pub(crate) fn recycle(self: Box<Self>) {
        SHARED.set(Some(self));
    }
}
