//! [`Inflation`]: the compressed messages of one connection on their way in.

use std::{fmt, io};

use tokio_tungstenite::tungstenite::{Error, Message, error::CapacityError};

use super::{
    inflater::{Flaw, Inflater},
    negotiation::Agreed,
};
use crate::protocol::{decoder::message, mask::mask, read_block::Block};

/// Gathers the frames of a compressed message, and inflates it once it is whole (RFC 7692, section 6.2). Inflating it frame by
/// frame would take a decompressor for each message under way: 47 KiB, where gathering takes the bytes that have arrived.
pub(crate) struct Inflation {
    /// The peer's messages may refer to its earlier ones.
    peer_takes_over: bool,
    /// What they refer to, from the first one on.
    context: Option<Box<Inflater>>,
    /// The message that is not whole yet.
    gathered: Option<Gathered>,
}

struct Gathered {
    is_text: bool,
    payload: Vec<u8>,
}

/// A compressed message that is no DEFLATE, as the cause of an error.
#[derive(Debug)]
pub(crate) struct NoDeflate;

impl fmt::Display for NoDeflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a compressed message is no DEFLATE (RFC 1951)")
    }
}

impl std::error::Error for NoDeflate {}

impl NoDeflate {
    /// Whether it is what an error says.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<Self>())
    }
}

/// How long a message of at most `len` bytes may be in compressed form: a message that gets no shorter gets longer, by a ninth
/// bit for each byte at most (RFC 1951, section 3.2.6).
pub(crate) fn compressed_len(len: usize) -> usize {
    len.saturating_add(len / 8).saturating_add(64)
}

impl Inflation {
    pub(crate) fn new(agreed: Agreed) -> Self {
        Self { peer_takes_over: agreed.peer_takes_over, context: None, gathered: None }
    }

    /// Whether a compressed message is not whole yet.
    pub(crate) fn is_gathering(&self) -> bool {
        self.gathered.is_some()
    }

    /// Begins a message. No memory is reserved for it: it takes what has arrived.
    pub(crate) fn begin(&mut self, is_text: bool) {
        self.gathered = Some(Gathered { is_text, payload: Vec::new() });
    }

    /// Adds a piece of the message, masked with `key`.
    pub(crate) fn gather(&mut self, piece: &[u8], key: [u8; 4]) {
        let Some(Gathered { payload, .. }) = &mut self.gathered else { return };
        let start = payload.len();
        payload.extend_from_slice(piece);
        mask(&mut payload[start..], key);
    }

    /// Inflates the message that was gathered, to at most `limit` bytes.
    pub(crate) fn inflate(&mut self, block: &mut Block, limit: usize) -> Result<Message, Error> {
        let Some(Gathered { is_text, payload }) = self.gathered.take() else { return Err(malformed()) };
        let mut inflater = match self.peer_takes_over {
            true => self.context.take().unwrap_or_default(),
            false => Inflater::of_thread(),
        };
        let inflated = inflater.inflate(&payload, limit).map(<[u8]>::len);
        let inflated = inflated.map(|_| inflater.hand_over(block));
        inflater.shrink();
        match self.peer_takes_over {
            true => self.context = Some(inflater),
            false => inflater.recycle(),
        }
        match inflated {
            Ok(payload) => message(is_text, payload),
            Err(Flaw::TooLong) => {
                Err(CapacityError::MessageTooLong { size: limit.saturating_add(1), max_size: limit }.into())
            }
            Err(Flaw::Malformed) => Err(malformed()),
        }
    }
}

fn malformed() -> Error {
    io::Error::new(io::ErrorKind::InvalidData, NoDeflate).into()
}
