//! The close codes that this side chooses (RFC 6455, section 7.4.1).

/// The purpose of the connection is fulfilled.
pub(crate) const NORMAL: u16 = 1000;

/// A server goes down.
pub(crate) const GOING_AWAY: u16 = 1001;

/// The program ended its endpoint with an error.
pub(crate) const INTERNAL_ERROR: u16 = 1011;
