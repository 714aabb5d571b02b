//! [`Stretch`]: an outbox's part of a run.

use std::{
    collections::VecDeque,
    mem::take,
    ops::Range,
    sync::{Arc, OnceLock},
};

use super::{Encoded, InRun, RUN_LEN, Run, Several, Taken, tally_of};
use crate::{
    outbox::{FRAME_HEAD_LEN, OutboxFrame, queue::State},
    stats::Tally,
};

/// Messages of one run that follow each other, behind those in the queue of an outbox.
#[derive(Default)]
pub(in crate::outbox) struct Stretch {
    /// There as long as there are messages.
    pub(super) run: Option<Arc<Run>>,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Stretch {
    pub(in crate::outbox) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it goes to the end of its run.
    fn is_at_end(&self) -> bool {
        self.end as usize == RUN_LEN
    }

    fn messages(&self) -> &[OnceLock<Encoded>] {
        let run = self.run.as_ref().map_or(&[][..], |run| &run.messages);
        &run[self.start as usize..self.end as usize]
    }

    fn get(&self, index: usize) -> Option<&Encoded> {
        self.messages().get(index)?.get()
    }

    /// What its messages in a range count.
    fn tally(&self, range: Range<usize>) -> Option<Tally> {
        self.messages().get(range).map(tally_of)
    }

    /// Its messages from an index on in one piece, if other outboxes take the same ones.
    fn several(&self, from: usize) -> Option<Several<'_>> {
        let run = self.run.as_ref()?;
        run.several(self.start as usize + from..self.end as usize)
    }

    /// Adds a message if it is the next one of the run, or the first.
    fn try_add(&mut self, message: &InRun) -> bool {
        let at = message.at as u32;
        match &self.run {
            None => *self = Self { run: Some(message.run.clone()), start: at, end: at + 1 },
            Some(run) if Arc::ptr_eq(run, &message.run) && self.end == at => self.end += 1,
            Some(_) => return false,
        }
        true
    }

    /// Takes out up to `count` messages at the front, and returns their number and length.
    fn pop(&mut self, count: usize) -> Tally {
        let count = count.min(self.len());
        let popped = self.tally(0..count).unwrap_or_default();
        self.start += count as u32;
        if self.start == self.end {
            *self = Self::default();
        }
        popped
    }
}

/// The stretches before the last one.
#[derive(Default)]
pub(in crate::outbox) struct Earlier {
    stretches: VecDeque<Stretch>,
    /// How many messages they have.
    len: usize,
}

impl Earlier {
    fn push(&mut self, stretch: Stretch) {
        self.len += stretch.len();
        self.stretches.push_back(stretch);
    }

    /// As [`locate`]. All stretches but the first are whole runs.
    fn locate(&self, index: usize) -> Option<(&Stretch, usize)> {
        let first = self.stretches.front()?.len();
        let (stretch, index) = match index.checked_sub(first) {
            None => (0, index),
            Some(behind) => (1 + behind / RUN_LEN, behind % RUN_LEN),
        };
        Some((self.stretches.get(stretch)?, index))
    }

    /// As [`Stretch::pop`].
    fn pop(&mut self, count: usize) -> Tally {
        let mut popped = Tally::default();
        while popped.messages < count as u64
            && let Some(first) = self.stretches.front_mut()
        {
            popped += first.pop(count - popped.messages as usize);
            if first.len() == 0 {
                self.stretches.pop_front();
            }
        }
        self.len -= popped.messages as usize;
        popped
    }
}

/// The stretch that has the message at an index of all of them, and the index there.
#[inline]
fn locate<'a>(earlier: &'a Option<Box<Earlier>>, last: &'a Stretch, index: usize) -> Option<(&'a Stretch, usize)> {
    match earlier {
        None => Some((last, index)),
        Some(earlier) if index < earlier.len => earlier.locate(index),
        Some(earlier) => Some((last, index - earlier.len)),
    }
}

impl State {
    /// How many messages are in stretches.
    #[inline]
    pub(in crate::outbox) fn len_of_stretches(&self) -> usize {
        self.stretch.len() + self.earlier.as_ref().map_or(0, |earlier| earlier.len)
    }

    /// Moves the messages of the stretches into the queue.
    pub(in crate::outbox) fn settle(&mut self) {
        if self.stretch.len() > 0 {
            self.settle_messages();
        }
    }

    #[cold]
    fn settle_messages(&mut self) {
        let earlier = self.earlier.take().map_or_else(VecDeque::new, |earlier| earlier.stretches);
        for stretch in earlier.into_iter().chain([take(&mut self.stretch)]) {
            let messages = stretch.messages().iter().filter_map(OnceLock::get);
            self.queue.extend(messages.map(|encoded| OutboxFrame::from(encoded.message.clone())));
        }
    }

    /// Shows the link the messages for which there is room. They are behind those of the queue.
    #[inline]
    pub(in crate::outbox) fn take_of_runs(&mut self, mut room: usize, mut f: impl FnMut(Taken<'_>, Option<u64>)) {
        while room > 0 && self.has_window() {
            if let Some((several, leap)) = self.next_several(room) {
                let count = several.tally().messages as u32;
                room -= several.room();
                f(Taken::Several(several), leap);
                self.taken += count;
            } else if let Some((encoded, leap)) = self.next_of_run() {
                room = room.saturating_sub(FRAME_HEAD_LEN + encoded.message.len());
                f(Taken::Encoded(encoded), leap);
                self.taken += 1;
            } else {
                break;
            }
        }
    }

    /// What the link takes next of the stretches, if that is more than one message, is there in one piece, and fits in `room` and
    /// in the window. Also its [leap](Self::leap).
    fn next_several(&mut self, room: usize) -> Option<(Several<'_>, Option<u64>)> {
        let index = self.under_way();
        let (stretch, from) = locate(&self.earlier, &self.stretch, index.checked_sub(self.queue.len())?)?;
        let several = stretch.several(from)?;
        let tally = several.tally();
        let leap = match &mut self.window {
            _ if several.room() > room => return None,
            Some(window) if !window.has_room_for(index, tally) => return None,
            Some(window) => window.take(index, tally),
            None => None,
        };
        Some((several, leap))
    }

    /// The next message for the link, which is behind those of the queue, and its [leap](Self::leap).
    fn next_of_run(&mut self) -> Option<(&Encoded, Option<u64>)> {
        let index = self.under_way();
        let (stretch, at) = locate(&self.earlier, &self.stretch, index.checked_sub(self.queue.len())?)?;
        let encoded = stretch.get(at)?;
        Some((encoded, self.window.as_mut().and_then(|window| window.take(index, encoded.tally()))))
    }

    /// What the message at an index counts.
    pub(in crate::outbox) fn tally_at(&self, index: usize) -> Option<Tally> {
        match index.checked_sub(self.queue.len()) {
            None => self.queue.get(index).map(OutboxFrame::tally),
            Some(behind) => {
                let (stretch, at) = locate(&self.earlier, &self.stretch, behind)?;
                stretch.get(at).map(Encoded::tally)
            }
        }
    }

    /// What the messages in a range count, if they are in one stretch.
    pub(in crate::outbox) fn tally_of_stretch(&self, range: Range<usize>) -> Option<Tally> {
        let (stretch, at) = locate(&self.earlier, &self.stretch, range.start.checked_sub(self.queue.len())?)?;
        stretch.tally(at..at + range.len())
    }

    pub(super) fn append_of_run(&mut self, message: &InRun, tally: Tally) {
        if !self.stretch.try_add(message) {
            self.begin_stretch(message);
        }
        self.queue_more(tally);
    }

    fn begin_stretch(&mut self, message: &InRun) {
        if self.stretch.is_at_end() && message.at == 0 {
            self.earlier.get_or_insert_default().push(take(&mut self.stretch));
        } else {
            self.settle();
        }
        self.stretch.try_add(message);
    }

    /// Takes up to `count` messages out of the stretches, and returns their number and length.
    pub(in crate::outbox) fn pop_of_stretches(&mut self, count: usize) -> Tally {
        let mut popped = Tally::default();
        if let Some(earlier) = &mut self.earlier {
            popped = earlier.pop(count);
            if earlier.len == 0 {
                self.earlier = None;
            }
        }
        popped += self.stretch.pop(count - popped.messages as usize);
        popped
    }

    /// As [`confirm`](Self::confirm), where all messages are in stretches.
    pub(in crate::outbox) fn confirm_stretches(&mut self, count: usize) {
        let done = self.pop_of_stretches(count);
        self.taken = self.taken.saturating_sub(done.messages as u32);
        self.queue_less(done);
        self.written += done;
    }
}
