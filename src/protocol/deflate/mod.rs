//! Compression of messages: the permessage-deflate extension (RFC 7692).
//!
//! No message that is sent refers to an earlier one (`no_context_takeover`). So a message for many connections is compressed
//! once, an idle connection keeps no memory for it, and a compressed message that was not written can be taken back.
//! Compressors and decompressors belong to the thread.
//!
//! | file | contents |
//! |---|---|
//! | `options` | what the program asks for |
//! | `negotiation` | the offer, the answer and the agreement, without HTTP |
//! | `extensions` | the grammar of `Sec-WebSocket-Extensions` |
//! | `compressor` | from a payload to its compressed form |
//! | `inflater` | and back |
//! | `inflation` | the compressed messages of one connection on their way in |

mod compressor;
mod extensions;
mod inflater;
mod inflation;
mod negotiation;
mod options;
#[cfg(test)]
mod tests;

pub(crate) use compressor::Compressed;
pub(crate) use inflation::{Inflation, NoDeflate, compressed_len};
pub(crate) use negotiation::{Agreed, Answered, Offer};
pub use options::Deflate;

/// The largest window, of 32 KiB, as a power of two; the one without a limit (RFC 7692, section 7.1.2).
const LARGEST_WINDOW: u8 = 15;

/// The end of each compressed message, which is not sent (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// How much memory a thread keeps to compress into, and to inflate into.
const KEPT_LEN: usize = 64 * 1024;
