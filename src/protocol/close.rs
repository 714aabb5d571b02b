//! The close codes that this side chooses (RFC 6455, section 7.4.1).

use tokio_tungstenite::tungstenite::{Error, error::CapacityError, protocol::frame::coding::CloseCode};

use crate::{limits::Limits, protocol::deflate::NoDeflate};

/// The purpose of the connection is fulfilled.
pub(crate) const NORMAL: u16 = 1000;

/// A server goes down.
pub(crate) const GOING_AWAY: u16 = 1001;

/// A server has examined the client and rejects it.
pub(crate) const POLICY_VIOLATION: u16 = 1008;

/// The program ended its endpoint with an error.
pub(crate) const INTERNAL_ERROR: u16 = 1011;

/// The server is overloaded: come back later (registered with IANA, section 7.4.2).
pub(crate) const TRY_AGAIN_LATER: u16 = 1013;

/// Another link has the session (of the subprotocol `rxplus.resume.1`, which has 4900 to 4909).
pub(crate) const TAKEN_OVER: u16 = 4900;

/// The close code for a peer's mistake (RFC 6455, section 7.4.1), and the mistake in words.
pub(crate) fn close_code_of(error: &Error, limits: &Limits) -> (CloseCode, String) {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) if *max_size < limits.message_len => {
            (CloseCode::Size, format!("a frame of {size} bytes is over the limit of {max_size}, Limits::frame_len"))
        }
        // Read no further than to there: a compressed one may be longer by any length.
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) if *size == max_size + 1 => too_long(limits),
        Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
            let limit = limits.message_len;
            (CloseCode::Size, format!("a message of {size} bytes is over the limit of {limit}, Limits::message_len"))
        }
        Error::Io(error) if NoDeflate::is(error) => (CloseCode::Invalid, error.to_string()),
        Error::Io(error) => (CloseCode::Protocol, error.to_string()),
        Error::Utf8(_) => (CloseCode::Invalid, "a text message is not UTF-8".into()),
        other => (CloseCode::Protocol, other.to_string()),
    }
}

/// The same, for a message of which no more is known than that it is too long.
pub(crate) fn too_long(limits: &Limits) -> (CloseCode, String) {
    (
        CloseCode::Size,
        format!("a message is longer than the limit of {} bytes, Limits::message_len", limits.message_len),
    )
}

/// Cuts a close reason to the length that its frame has room for: 123 bytes (RFC 6455, section 5.5).
pub(crate) fn fitting_reason(reason: &str) -> &str {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
