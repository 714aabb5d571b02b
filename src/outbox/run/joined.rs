//! [`Joined`]: messages of a run in one piece.
//!
//! Why: outboxes that have nothing to write get the same messages, and write them at the same time. So most of them take exactly
//! the same ones. To look at each costs several times as much as to copy all.

use std::{
    ops::Range,
    sync::{Arc, OnceLock, PoisonError},
};

use super::{Encoded, Run, tally_of};
use crate::{outbox::FRAME_HEAD_LEN, stats::Tally};

/// Messages of a run that follow each other.
pub(super) struct Joined {
    /// Their places in the run.
    range: Range<usize>,
    frames: Box<[u8]>,
    tally: Tally,
}

/// As many messages as the link takes at once.
pub(crate) struct Several<'a> {
    messages: &'a [OnceLock<Encoded>],
    joined: Arc<Joined>,
}

impl Joined {
    fn of(messages: &[OnceLock<Encoded>], range: Range<usize>) -> Self {
        let frames: Vec<_> = messages.iter().filter_map(|message| Some(message.get()?.frame())).collect();
        Self { range, frames: frames.concat().into(), tally: tally_of(messages) }
    }
}

impl Run {
    /// The messages in a range, if they are more than one, and those that were taken last or come behind them. Whoever is behind the
    /// others takes one after the other: so each message is put in a piece at most once.
    pub(super) fn several(&self, range: Range<usize>) -> Option<Several<'_>> {
        let messages = self.messages.get(range.clone()).filter(|messages| messages.len() > 1)?;
        let mut latest = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        let joined = match &*latest {
            Some(joined) if joined.range == range => joined.clone(),
            Some(joined) if range.start < joined.range.end => return None,
            _ => latest.insert(Joined::of(messages, range).into()).clone(),
        };
        Some(Several { messages, joined })
    }
}

impl Several<'_> {
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Encoded> {
        self.messages.iter().filter_map(OnceLock::get)
    }

    /// Their frames, one behind the other.
    pub(crate) fn frames(&self) -> &[u8] {
        &self.joined.frames
    }

    pub(crate) fn tally(&self) -> Tally {
        self.joined.tally
    }

    /// How much of a budget they take.
    pub(in crate::outbox) fn room(&self) -> usize {
        self.messages.len() * FRAME_HEAD_LEN + self.joined.tally.len as usize
    }
}
