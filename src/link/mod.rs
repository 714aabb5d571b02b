//! One connection on one socket.

pub(crate) mod driver;
pub(crate) mod write_scheduler;
pub(crate) mod writer;
