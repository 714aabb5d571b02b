//! [`Joined`]: messages of a run in one piece.
//!
//! Why: outboxes that have nothing to write get the same messages, and write them at the same time. So most of them take exactly
//! the same ones. To look at each costs several times as much as to copy all.
//!
//! A piece stays as long as its run, and who takes it, or a part of it, writes to no memory that others read: a lock here would be one
//! for all listeners, and with two threads on two cores it took a sixth of the time of a fan-out.

use std::{
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::{Encoded, RUN_LEN, Run, tally_of};
use crate::{outbox::FRAME_HEAD_LEN, stats::Tally};

/// Messages of a run that follow each other.
struct Joined {
    /// Their places in the run.
    range: Range<usize>,
    frames: Box<[u8]>,
}

/// The pieces of a run, one behind the other.
#[derive(Default)]
pub(super) struct Pieces {
    /// By half of the place where each begins: none is shorter than two messages.
    by_begin: [OnceLock<Box<Joined>>; RUN_LEN / 2],
    /// The end of the last one, which may be under way.
    end: AtomicUsize,
}

/// As many messages as the link takes at once.
pub(crate) struct Several<'a> {
    messages: &'a [OnceLock<Encoded>],
    frames: &'a [u8],
    tally: Tally,
}

impl Joined {
    fn of(messages: &[OnceLock<Encoded>], range: Range<usize>) -> Self {
        let frames: Vec<_> = messages.iter().filter_map(|message| Some(message.get()?.frame())).collect();
        Self { range, frames: frames.concat().into() }
    }
}

impl Pieces {
    /// The piece that a message is in.
    fn find(&self, at: usize) -> Option<&Joined> {
        let piece = self.by_begin[..=at / 2].iter().rev().find_map(OnceLock::get)?;
        piece.range.contains(&at).then_some(piece)
    }

    /// Makes a piece of the messages in a range, if all others are before them. So each message is in one piece at most.
    fn add(&self, range: Range<usize>, messages: &[OnceLock<Encoded>]) -> Option<&Joined> {
        let claimed = |end| (end <= range.start).then_some(range.end);
        self.end.fetch_update(Relaxed, Relaxed, claimed).ok()?;
        Some(self.by_begin[range.start / 2].get_or_init(|| Joined::of(messages, range).into()))
    }
}

impl Run {
    /// The first messages in a range, as many as are in one piece, if that is more than one. Whoever comes first makes it. If it is
    /// not there yet, the others take one message after the other.
    pub(super) fn several(&self, range: Range<usize>) -> Option<Several<'_>> {
        let messages = self.messages.get(range.clone()).filter(|messages| messages.len() > 1)?;
        let joined = self.pieces.find(range.start).or_else(|| self.pieces.add(range.clone(), messages))?;
        let messages = messages.get(..joined.range.end.min(range.end) - range.start)?;
        let [first, .., last] = messages else { return None };
        let (piece, first, last) = (self.messages[joined.range.start].get()?, first.get()?, last.get()?);
        let place = |frames: u32| (frames - piece.before.frames) as usize;
        let frames = joined.frames.get(place(first.before.frames)..place(last.lens_behind().frames))?;
        Some(Several { messages, frames, tally: tally_of(messages) })
    }
}

impl<'a> Several<'a> {
    pub(super) fn into_frames(self) -> &'a [u8] {
        self.frames
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &Encoded> {
        self.messages.iter().filter_map(OnceLock::get)
    }

    /// Their frames, one behind the other.
    pub(crate) fn frames(&self) -> &[u8] {
        self.frames
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// How much of a budget they take.
    pub(in crate::outbox) fn room(&self) -> usize {
        self.messages.len() * FRAME_HEAD_LEN + self.tally.len as usize
    }
}
