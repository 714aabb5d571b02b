//! [`Run`]: messages that many outboxes get one after the other, kept once for all of them.
//!
//! Why: when a short message goes to many connections, most of a push is the wait for the memory in which the queue of each has
//! a place for it. So what they get lies in a run, and an outbox has only a [`Stretch`] of it behind its queue: where it begins
//! and ends. A push prolongs it, which touches nothing but the counts of the queue.
//!
//! ```text
//!   outbox    queue, then  stretch
//!                          |<-------->|
//!   run                [m1][m2][m3][m4][  ][  ] ..
//! ```
//!
//! An outbox that is behind by more than a run has [earlier](Earlier) stretches as well. Each goes to the end of its run, and
//! each but the first is a whole run.
//!
//! Only a push, a take, a confirmation and an acknowledgement know of stretches. Whatever else looks into an outbox first
//! [settles](State::settle) them: that moves the messages to where all others are.
//!
//! A run has the messages as frames, as a server writes them: they are encoded once, and each connection only copies them. These
//! are copies of the payloads. So a payload, whose destructor may be user code, goes as soon as it has been pushed. A
//! connection that has not written its part, or may have to write it again, keeps the run: at most 64 KiB of copies, which it
//! shares with others. One that leaves the tag, or misses a message, settles, or each of many could keep a run of its own for
//! one short message.

use std::{
    array::from_fn,
    collections::VecDeque,
    mem::take,
    sync::{Arc, OnceLock, Weak},
};

use bytes::Bytes;

use super::{Answer, FRAME_HEAD_LEN, Outbox, OutboxFrame, queue::State};
use crate::{
    Frame, WsText,
    protocol::{
        deflate::Agreed,
        frame_head::{Kind, append_head},
    },
    stats::Tally,
};

/// How many messages a run has at most.
const RUN_LEN: usize = 64;

/// The longest message of which a copy is made.
const LONGEST: usize = 1024;

/// From how many outboxes on it pays to make a copy.
const FEWEST: usize = 8;

/// Messages in the order in which they were pushed.
pub(crate) struct Run {
    messages: [OnceLock<Encoded>; RUN_LEN],
}

/// A message of a run, with a copy of its payload.
pub(crate) struct Encoded {
    message: Frame,
    /// The frame that it is, not masked.
    frame: Bytes,
}

/// The run that the next message belongs to, as the one who pushes it has it. It keeps no message by itself.
#[derive(Default)]
pub(crate) struct Runs {
    latest: Weak<Run>,
    /// How many messages the latest one has.
    len: usize,
}

/// A message of a run.
pub(crate) struct InRun {
    run: Arc<Run>,
    at: usize,
}

impl Runs {
    /// Adds a copy of a message for so many `outboxes`. `None` if it had better be pushed to each of them by itself.
    pub(crate) fn add(&mut self, message: &OutboxFrame, outboxes: usize) -> Option<InRun> {
        if outboxes < FEWEST || message.len() > LONGEST {
            return None;
        }
        let run = match self.latest.upgrade() {
            Some(latest) if self.len < RUN_LEN => latest,
            _ => self.begin(),
        };
        let at = self.len;
        // Never full: the place is the next one.
        run.messages[at].set(Encoded::of(message.frame())?).ok()?;
        self.len += 1;
        Some(InRun { run, at })
    }

    fn begin(&mut self) -> Arc<Run> {
        let run = Arc::new(Run { messages: from_fn(|_| OnceLock::new()) });
        *self = Self { latest: Arc::downgrade(&run), len: 0 };
        run
    }
}

impl Encoded {
    fn of(message: &Frame) -> Option<Self> {
        let mut frame = Vec::with_capacity(FRAME_HEAD_LEN + message.len());
        append_head(&mut frame, Kind::of(message), message.len(), None);
        let payload = frame.len()..;
        frame.extend_from_slice(message.as_bytes());
        let frame = Bytes::from(frame);
        let payload = frame.slice(payload);
        let message = match message {
            Frame::Text(_) => Frame::Text(WsText::from_utf8_bytes(payload.try_into().ok()?)),
            Frame::Binary(_) => Frame::Binary(payload),
        };
        Some(Self { message, frame })
    }

    pub(crate) fn message(&self) -> &Frame {
        &self.message
    }

    pub(crate) fn frame(&self) -> &[u8] {
        &self.frame
    }

    fn tally(&self) -> Tally {
        Tally::of(&self.message)
    }
}

/// A message that the link takes.
pub(crate) enum Taken<'a> {
    Message(&'a OutboxFrame),
    /// One that is encoded already, for a server.
    Encoded(&'a Encoded),
}

impl Taken<'_> {
    pub(crate) fn frame(&self) -> &Frame {
        match self {
            Self::Message(message) => message.frame(),
            Self::Encoded(encoded) => encoded.message(),
        }
    }

    /// As [`OutboxFrame::compressed`].
    pub(crate) fn compressed(&self, agreed: &Agreed) -> Option<&Bytes> {
        match self {
            Self::Message(message) => message.compressed(agreed),
            Self::Encoded(_) => None,
        }
    }
}

/// Messages of one run that follow each other, behind those in the queue of an outbox.
#[derive(Default)]
pub(super) struct Stretch {
    /// There as long as there are messages.
    run: Option<Arc<Run>>,
    start: u32,
    end: u32,
}

impl Stretch {
    pub(super) fn len(&self) -> usize {
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
        let mut popped = Tally::default();
        self.messages()[..count].iter().filter_map(OnceLock::get).for_each(|message| popped += message.tally());
        self.start += count as u32;
        if self.start == self.end {
            *self = Self::default();
        }
        popped
    }
}

/// The stretches before the last one.
#[derive(Default)]
pub(super) struct Earlier {
    stretches: VecDeque<Stretch>,
    /// How many messages they have.
    len: usize,
}

impl Earlier {
    fn push(&mut self, stretch: Stretch) {
        self.len += stretch.len();
        self.stretches.push_back(stretch);
    }

    /// As [`Stretch::get`]. All stretches but the first are whole runs.
    fn get(&self, index: usize) -> Option<&Encoded> {
        let first = self.stretches.front()?.len();
        let (stretch, index) = match index.checked_sub(first) {
            None => (0, index),
            Some(behind) => (1 + behind / RUN_LEN, behind % RUN_LEN),
        };
        self.stretches.get(stretch)?.get(index)
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

/// The message at an index of these stretches.
#[inline]
fn find<'a>(earlier: &'a Option<Box<Earlier>>, last: &'a Stretch, index: usize) -> Option<&'a Encoded> {
    match earlier {
        None => last.get(index),
        Some(earlier) if index < earlier.len => earlier.get(index),
        Some(earlier) => last.get(index - earlier.len),
    }
}

impl State {
    /// How many messages are in stretches.
    #[inline]
    pub(super) fn len_of_stretches(&self) -> usize {
        self.stretch.len() + self.earlier.as_ref().map_or(0, |earlier| earlier.len)
    }

    /// Moves the messages of the stretches into the queue.
    pub(super) fn settle(&mut self) {
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

    /// The next message for the link, which is behind those of the queue, and its [leap](Self::leap).
    pub(super) fn next_of_run(&mut self) -> Option<(&Encoded, Option<u64>)> {
        let index = self.under_way();
        let encoded = find(&self.earlier, &self.stretch, index.checked_sub(self.queue.len())?)?;
        let len = encoded.message.len() as u64;
        Some((encoded, self.window.as_mut().and_then(|window| window.take(index, len))))
    }

    /// What the message at an index counts.
    pub(super) fn tally_at(&self, index: usize) -> Option<Tally> {
        match index.checked_sub(self.queue.len()) {
            None => self.queue.get(index).map(OutboxFrame::tally),
            Some(behind) => find(&self.earlier, &self.stretch, behind).map(Encoded::tally),
        }
    }

    fn append_of_run(&mut self, message: &InRun, tally: Tally) {
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
    pub(super) fn pop_of_stretches(&mut self, count: usize) -> Tally {
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
    pub(super) fn confirm_stretches(&mut self, count: usize) {
        let done = self.pop_of_stretches(count);
        self.taken = self.taken.saturating_sub(done.messages as u32);
        self.queue_less(done);
        self.written += done;
    }
}

impl Outbox {
    /// As [`offer`](Self::offer), for a message of a run.
    pub(crate) fn offer_of_run(&self, message: &InRun) -> Answer {
        let Some(encoded) = message.run.messages[message.at].get() else { return (Ok(()), None) };
        let mut state = self.lock_unsettled();
        if state.rare.is_some() || self.is_closing() || !state.has_room_for(encoded.message.len()) {
            drop(state);
            return self.offer(encoded.message.clone().into(), None);
        }
        state.append_of_run(message, encoded.tally());
        self.wake_link(state);
        (Ok(()), None)
    }

    /// Lets go of the run, as the next messages of it are not for this outbox.
    pub(crate) fn settle(&self) {
        drop(self.lock());
    }
}

#[cfg(test)]
impl Runs {
    /// Whether anybody has a message of the latest run.
    pub(crate) fn is_kept(&self) -> bool {
        self.latest.strong_count() > 0
    }
}
