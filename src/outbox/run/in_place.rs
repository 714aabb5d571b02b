//! [`InPlace`]: messages of a run that a link writes from where they lie.
//!
//! Why: most connections that a message goes to have nothing else to write, and their sockets take it whole. A copy of it, and a note of
//! where it ends, took a third of the instructions of a delivery.

use std::{
    ops::Range,
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
};

use super::{Encoded, Run, Stretch, tally_of};
use crate::{
    outbox::{Outbox, Spent, queue::State},
    stats::Tally,
};

/// All that an outbox has for its link. It stays in the outbox until it is confirmed.
pub(crate) struct InPlace {
    run: Arc<Run>,
    range: Range<usize>,
}

impl InPlace {
    pub(crate) fn count(&self) -> usize {
        self.range.len()
    }

    fn messages(&self) -> &[OnceLock<Encoded>] {
        &self.run.messages[self.range.clone()]
    }

    fn tally(&self) -> Tally {
        tally_of(self.messages())
    }

    /// The frames, one behind the other.
    pub(crate) fn frames(&self) -> &[u8] {
        self.run.in_one_piece(self.range.clone()).unwrap_or_default()
    }

    /// How long each of them is.
    pub(crate) fn lens(&self) -> impl Iterator<Item = usize> {
        self.messages().iter().filter_map(|message| Some(message.get()?.frame().len()))
    }
}

impl Run {
    /// The frames of all messages in a range, if they are in one piece.
    fn in_one_piece(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.len() == 1 {
            return self.messages[range.start].get().map(Encoded::frame);
        }
        let several = self.several(range.clone())?;
        (several.tally().messages == range.len() as u64).then_some(several.into_frames())
    }
}

impl Stretch {
    fn in_place(&self) -> Option<InPlace> {
        let run = self.run.as_ref()?;
        let range = self.start as usize..self.end as usize;
        run.in_one_piece(range.clone())?;
        Some(InPlace { run: run.clone(), range })
    }
}

impl State {
    fn take_in_place(&mut self) -> Option<InPlace> {
        let has_more = !self.queue.is_empty() || self.earlier.is_some() || self.window.is_some();
        if has_more || self.taken > 0 {
            return None;
        }
        let in_place = self.stretch.in_place()?;
        self.taken = in_place.count() as u32;
        Some(in_place)
    }

    /// Returns false, and confirms nothing, if they are not all that there is any more.
    fn confirm_in_place(&mut self, messages: &InPlace) -> bool {
        // Whoever closes the outbox, or does anything but push to many, moves them to the queue.
        if self.stretch.len() != messages.count() || !self.queue.is_empty() || self.earlier.is_some() {
            return false;
        }
        let done = messages.tally();
        self.stretch = Stretch::default();
        self.taken = 0;
        self.queue_less(done);
        self.written += done;
        true
    }
}

impl Outbox {
    /// Takes everything for the link, as [`take_each`](Self::take_each) does, if that lies in one piece and need not be kept once it is
    /// written.
    pub(crate) fn take_in_place(&self) -> Option<InPlace> {
        self.lock_unsettled().take_in_place()
    }

    /// As [`confirm_sent`](Self::confirm_sent), for what was [taken so](Self::take_in_place).
    pub(crate) fn confirm_in_place(&self, messages: &InPlace) -> (bool, Option<Spent>) {
        let mut state = self.lock_unsettled();
        if state.confirm_in_place(messages) {
            self.core.asleep.store(true, Relaxed);
            return (true, None);
        }
        drop(state);
        let mut spent = Spent::default();
        (self.confirm_sent(messages.count(), true, None, &mut spent), Some(spent))
    }
}
