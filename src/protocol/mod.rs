//! RFC 6455 without I/O: from bytes to messages and back, and when to ping.
//!
//! | file | contents |
//! |---|---|
//! | `decoder` | from bytes to messages: whole data frames itself, everything else through tungstenite |
//! | `read_block` | the memory that messages are decoded into |
//! | `write_buffer` | from messages to bytes, and where in the bytes they end |
//! | `memory_stream` | the memory that tungstenite reads from and writes to in place of a socket |
//! | `frame_head` | the head of a message's frame (section 5.2) |
//! | `mask` | masking (section 5.3) |
//! | `pieces` | how long payloads are copied |
//! | `close` | close codes (section 7.4) |
//! | `heartbeat` | when to ping, and when a peer is gone |
//! | `deflate` | compression (RFC 7692), with the feature of that name |

pub(crate) mod close;
pub(crate) mod decoder;
#[cfg(feature = "deflate")]
pub(crate) mod deflate;
#[cfg(not(feature = "deflate"))]
#[path = "no_deflate.rs"]
pub(crate) mod deflate;
pub(crate) mod frame_head;
pub(crate) mod heartbeat;
pub(crate) mod mask;
pub(crate) mod memory_stream;
pub(crate) mod pieces;
pub(crate) mod read_block;
pub(crate) mod text_frame;
pub(crate) mod write_buffer;
