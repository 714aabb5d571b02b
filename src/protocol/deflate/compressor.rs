//! Compressing messages (RFC 7692, section 7.2.1).

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};

use super::{KEPT_LEN, LARGEST_WINDOW, TAIL, negotiation::Agreed};

/// The smallest window that zlib compresses with.
const SMALLEST_OF_ZLIB: u8 = 9;

impl Agreed {
    /// Whether a message is long enough to be compressed, and can be.
    pub(crate) fn is_worthwhile(&self, len: usize) -> bool {
        len >= self.min_len as usize && len > 0 && self.window_for(len) >= SMALLEST_OF_ZLIB
    }

    /// The compressed form of a payload, without its tail, if it is long enough and the form is shorter.
    ///
    /// It refers to no earlier message, and no further back than the window that was agreed on.
    pub(crate) fn compress(&self, payload: &[u8]) -> Option<Compressed> {
        let is_worthwhile = self.is_worthwhile(payload.len());
        is_worthwhile.then(|| self.compress_within(self.window_for(payload.len()), payload)).flatten()
    }

    /// As [`compress`](Self::compress), for all peers for which it [is worthwhile](Self::is_worthwhile), whatever they have agreed
    /// on.
    pub(crate) fn compress_small(&self, payload: &[u8]) -> Option<Compressed> {
        self.compress_within(SMALLEST_OF_ZLIB, payload)
    }

    fn compress_within(&self, window: u8, payload: &[u8]) -> Option<Compressed> {
        let compress = |compressors: &RefCell<Compressors>| {
            let mut compressors = compressors.borrow_mut();
            compressors.of(self.level, window).compress(payload)
        };
        // A thread that is ending has no compressors any more.
        let bytes = COMPRESSORS.try_with(compress).ok().flatten()?;
        Some(Compressed { bytes, window })
    }

    /// The window to compress a message of this length with. Within its own length none is too small, so that most peers share
    /// one compressor.
    fn window_for(&self, len: usize) -> u8 {
        if len <= 1 << self.window { LARGEST_WINDOW } else { self.window }
    }
}

/// The compressed form of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compressed {
    /// Without the tail.
    pub(crate) bytes: Bytes,
    /// The window that it was compressed with.
    window: u8,
}

impl Compressed {
    /// Whether a peer with this agreement can inflate it, to `len` bytes.
    pub(crate) fn suits(&self, agreed: &Agreed, len: usize) -> bool {
        self.window <= agreed.window_for(len)
    }
}

thread_local! {
    static COMPRESSORS: RefCell<Compressors> = const { RefCell::new(Compressors(Vec::new())) };
}

/// The compressors of a thread: one for each level and window that it has needed, which is hardly ever more than one. Each
/// takes 0.4 MiB.
struct Compressors(Vec<Compressor>);

struct Compressor {
    level: u8,
    window: u8,
    compress: Compress,
    /// Where a message is compressed to, before the length of the result is known.
    scratch: Vec<u8>,
}

impl Compressors {
    fn of(&mut self, level: u8, window: u8) -> &mut Compressor {
        let known = self.0.iter().position(|one| (one.level, one.window) == (level, window));
        let at = known.unwrap_or_else(|| {
            self.0.push(Compressor { level, window, compress: new_compress(level, window), scratch: Vec::new() });
            self.0.len() - 1
        });
        &mut self.0[at]
    }
}

fn new_compress(level: u8, window: u8) -> Compress {
    Compress::new_with_window_bits(Compression::new(level.into()), false, window)
}

impl Compressor {
    fn compress(&mut self, payload: &[u8]) -> Option<Bytes> {
        self.compress.reset();
        self.scratch.clear();
        // Room for any payload: fixed Huffman codes take 9 bits a byte at most. Compression that is cut off for want of it leaves
        // zlib-rs at level 1 inside of a block, which a reset does not end: the next message would be none, or panic.
        self.scratch.reserve_exact(payload.len() + payload.len() / 8 + 64);
        let room = self.scratch.capacity();
        let status = self.compress.compress_vec(payload, &mut self.scratch, FlushCompress::Sync);
        let is_whole = status.is_ok() && self.compress.total_in() == payload.len() as u64 && self.scratch.len() < room;
        if !is_whole {
            self.compress = new_compress(self.level, self.window);
        }
        let compressed = self.scratch.strip_suffix(&TAIL).filter(|bytes| is_whole && bytes.len() < payload.len());
        let compressed = compressed.map(Bytes::copy_from_slice);
        if self.scratch.capacity() > KEPT_LEN {
            self.scratch = Vec::new();
        }
        compressed
    }
}
