//! RFC 6455 without I/O: from bytes to messages and back, and when to ping.

pub(crate) mod close;
pub(crate) mod decoder;
pub(crate) mod heartbeat;
pub(crate) mod mask;
pub(crate) mod memory_stream;
pub(crate) mod read_block;
pub(crate) mod write_buffer;
