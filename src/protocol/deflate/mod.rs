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

mod extensions;
mod negotiation;
mod options;

pub use options::Deflate;

/// The largest window, of 32 KiB, as a power of two; the one without a limit (RFC 7692, section 7.1.2).
const LARGEST_WINDOW: u8 = 15;
