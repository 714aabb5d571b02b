//! [`Window`]: the messages that an outbox keeps after they were written, until the peer has acknowledged them.
//!
//! ```text
//!      written on this link   taken by the link   written before      waiting
//!     +---------------------+-------------------+---------------+----------------+
//!     |      retained       |       taken       | .. of an earlier link ..       |  <- push
//!     +---------------------+-------------------+---------------+----------------+
//!       acknowledge takes                         the link takes
//! ```
//!
//! A new link begins with the position that the peer has come to: everything before leaves the queue, and the rest is
//! written again. So a message is never written twice for a peer that has it.

use std::collections::VecDeque;

use super::{Spent, places::Places, queue::State};
use crate::{
    Frame,
    fate::DeliveryStatus,
    stats::{DropReason, Tally},
};

/// A peer claims to have come to a position that it cannot have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beyond;

/// The written messages, and where a peer is in them. What each write needs comes first, in one cache line.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Window {
    pub(super) places: Places,
    /// How much may be written and not acknowledged.
    bound: Tally,
    /// The bytes that this link has written or taken, and the peer has not acknowledged.
    len: u64,
    /// The position that the peer expects next on this link.
    expects: u64,
    /// The highest position that a peer of this session can have heard of on an earlier link, or of messages that wait again.
    told: u64,
    /// The position behind the message of which the last link wrote a part; 0 if there is none.
    begun: u64,
    counts: Counts,
    /// The position that this side has come to in the messages of the peer. It belongs here since it is kept for as long, from one link
    /// to the next.
    received: u64,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Window>() <= 2 * 64, "each connection with a session has one, also while it is idle");

/// The fates of the messages that were kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) acknowledged: u64,
    pub(super) lost: u64,
}

/// What is left of the messages of a session that is lost.
#[derive(Default)]
pub(crate) struct Leftover {
    /// How many were written, and nobody can know whether the peer has them.
    pub(crate) unconfirmed: u64,
    /// How many go on into the next session.
    pub(crate) kept: u64,
    pub(crate) spent: Spent,
}

impl Window {
    fn new(bound: Tally) -> Self {
        let places = Places::default();
        Self { places, bound, len: 0, expects: 0, told: 0, begun: 0, counts: Counts::default(), received: 0 }
    }

    /// How many messages are written and not acknowledged.
    fn retained(&self) -> u64 {
        self.places.written() as u64
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    fn has_room(&self, under_way: usize) -> bool {
        under_way == 0 || ((under_way as u64) < self.bound.messages && self.len < self.bound.len)
    }

    fn expect(&mut self, position: u64) {
        self.told = self.told.max(self.expects);
        self.expects = position;
    }

    /// Notes that the link has written a part of the message at `index`, and has ended.
    pub(super) fn note_begun(&mut self, index: Option<usize>) {
        self.begun = index.map_or(0, |index| self.places.at(index) + 1);
    }

    /// Whether a link has written the first message, or a part of it.
    fn has_begun_first(&self) -> bool {
        self.places.is_written(0) || self.begun == self.places.at(0) + 1
    }

    /// Whether so many messages from `index` on may be written, even if the last one were longer.
    pub(super) fn has_room_for(&self, index: usize, Tally { messages, len }: Tally) -> bool {
        index as u64 + messages <= self.bound.messages && self.len + len < self.bound.len
    }

    /// Notes that the link takes messages from `index` on, between which there is no hole. Returns the position of the first if it
    /// is not the one that the peer expects.
    pub(super) fn take(&mut self, index: usize, taken: Tally) -> Option<u64> {
        let position = self.places.at(index);
        debug_assert_eq!(self.places.at(index + taken.messages as usize - 1), position + taken.messages - 1);
        let leap = (position != self.expects).then_some(position);
        self.len += taken.len;
        self.expects = position + taken.messages;
        leap
    }
}

/// The link takes messages and writes them.
impl State {
    /// Keeps nothing any more. What was written and is still there waits as what was not.
    pub(super) fn keep_nothing(&mut self) -> Counts {
        self.rewind_places();
        let Some(window) = self.window.take() else { return Counts::default() };
        let mut written = Tally::default();
        for (index, frame) in self.queue.iter().enumerate() {
            written += if window.places.is_written(index) { frame.tally() } else { Tally::default() };
        }
        self.written -= written;
        self.queue_more(written);
        window.counts
    }

    pub(crate) fn keeps_written(&self) -> bool {
        self.window.is_some()
    }

    pub(super) fn window(&self) -> Option<&Window> {
        self.window.as_deref()
    }

    pub(super) fn window_mut(&mut self) -> Option<&mut Window> {
        self.window.as_deref_mut()
    }

    /// Whether messages wait that may not be written before the peer has acknowledged others.
    pub(crate) fn is_held(&self) -> bool {
        !self.is_drained() && !self.has_window()
    }

    pub(super) fn has_window(&self) -> bool {
        self.window().is_none_or(|window| window.has_room(self.under_way()))
    }

    /// Notes that the link takes the next message, which is in the queue. Returns its position if it is not the one that the peer
    /// expects.
    pub(super) fn leap(&mut self) -> Option<u64> {
        let index = self.under_way();
        let Self { queue, window, .. } = self;
        window.as_mut()?.take(index, queue.get(index)?.tally())
    }

    /// Notes that the last `count` messages that the link took wait again.
    pub(super) fn untake_places(&mut self, count: usize) {
        let index = self.under_way();
        let Self { queue, window: Some(window), .. } = self else { return };
        let end = (index + count).min(queue.len());
        window.len -= queue.range(index..end).map(|frame| frame.len() as u64).sum::<u64>();
        if index < end {
            window.expect(window.places.at(index));
        }
    }

    /// Notes that the first `count` messages which the link has taken are written, and keeps them.
    pub(super) fn retain_written(&mut self, count: usize) {
        self.note_progress();
        let first = self.retained as usize;
        let count = count.min(self.len() - first);
        let fresh = self.count_fresh(first, count);
        if let Some(window) = self.window_mut() {
            window.places.mark_written(first, count);
        }
        let resent = count as u64 - fresh.messages;
        if resent > 0 {
            self.rare().resent += resent;
        }
        self.queue_less(fresh);
        self.written += fresh;
        self.note_kept(first, count);
        self.retained += count as u32;
        self.taken = self.taken.saturating_sub(count as u32);
    }

    /// Counts those of `count` messages that are written for the first time.
    fn count_fresh(&mut self, first: usize, count: usize) -> Tally {
        let is_none_written = self.window().is_some_and(|window| window.places.written_end() <= first);
        if is_none_written
            && self.rare.is_none()
            && let Some(fresh) = self.tally_of_stretch(first..first + count)
        {
            return fresh;
        }
        let mut fresh = Tally::default();
        let is_fresh = |state: &Self, index| state.window().is_some_and(|window| !window.places.is_written(index));
        for index in first..first + count {
            if is_fresh(self, index)
                && let Some(message) = self.tally_at(index)
            {
                fresh += message;
                self.rare.iter_mut().for_each(|rare| rare.count_written(message));
            }
        }
        fresh
    }

    /// Begins anew on a link, with everything that is still in the queue.
    pub(super) fn rewind_places(&mut self) {
        (self.retained, self.taken) = (0, 0);
        if let Some(window) = self.window_mut() {
            window.len = 0;
        }
    }
}

/// The peer acknowledges, comes back, or has lost its session.
impl State {
    /// Begins a session, with `greetings` as its first messages. From now on up to `bound` is kept of what is written.
    pub(crate) fn begin_session(&mut self, bound: Tally, greetings: Vec<Frame>) {
        self.window.get_or_insert_with(|| Window::new(bound).into());
        self.rewind_places();
        self.greet(greetings);
        let fresh = self.greetings();
        if let Some(window) = self.window_mut() {
            window.places = Places::anew(fresh, window.places.written());
            (window.expects, window.told, window.received) = (0, 0, 0);
        }
    }

    /// Notes that the peer has come to a position on this link: the messages before it leave the queue.
    pub(crate) fn acknowledge(&mut self, position: u64) -> Result<Spent, Beyond> {
        let retained = self.retained as usize;
        let window = self.window().ok_or(Beyond)?;
        if position > window.expects {
            return Err(Beyond);
        }
        let count = window.places.count_before(position, retained);
        self.retained -= count as u32;
        let (len, spent) = self.pop_acknowledged(count);
        self.window_mut().ok_or(Beyond)?.len -= len;
        Ok(spent)
    }

    /// Takes out the first `count` messages. Returns their bytes as well.
    fn pop_acknowledged(&mut self, count: usize) -> (u64, Spent) {
        self.note_popped(count, DeliveryStatus::Acknowledged);
        let mut spent = self.take_spent();
        let of_queue = count.min(self.queue.len());
        let mut len = self.pop_of_stretches(count - of_queue).len;
        len += self.queue.range(..of_queue).map(|frame| frame.len() as u64).sum::<u64>();
        spent.take(&mut self.queue, of_queue);
        if let Some(window) = self.window_mut() {
            window.places.pop_front(count);
            window.counts.acknowledged += count as u64;
        }
        self.shrink_if_empty();
        (len, spent)
    }

    /// Begins a new link of the session, on which the peer has come to `position`. Returns the position of the next message,
    /// which the peer is to be told.
    pub(crate) fn rewind(&mut self, position: u64) -> Result<(u64, Spent), Beyond> {
        let len = self.queue.len();
        let window = self.window().ok_or(Beyond)?;
        let count = window.places.count_before(position, len);
        if position > window.told.max(window.expects) || count > window.places.written_in_front() {
            return Err(Beyond);
        }
        self.rewind_places();
        let (_, spent) = self.pop_acknowledged(count);
        let window = self.window_mut().ok_or(Beyond)?;
        let next = window.places.at(0);
        window.expect(next);
        Ok((next, spent))
    }

    /// The position behind the last message, if the peer has to be told because it expects another one.
    pub(crate) fn untold_end(&mut self) -> Option<u64> {
        let len = self.queue.len();
        let window = self.window_mut()?;
        let end = window.places.at(len);
        let is_untold = window.expects != end;
        window.expect(end);
        is_untold.then_some(end)
    }

    pub(crate) fn written_len(&self) -> u64 {
        let all = self.queue.iter().map(|frame| frame.len() as u64).sum::<u64>();
        all - self.queued().len
    }

    /// The position behind the last message.
    pub(crate) fn end_position(&self) -> u64 {
        self.window().map_or(0, |window| window.places.at(self.queue.len()))
    }

    /// Takes leave of a session that is lost. The peer had come to the position `known`; without it nobody can know what has
    /// arrived of the written messages, and they are given up unless the program `resends` them.
    pub(crate) fn lose_session(&mut self, known: Option<u64>, resends: bool) -> Leftover {
        self.rewind_places();
        self.drop_greetings();
        self.note_received(0);
        let mut leftover = Leftover::default();
        match known {
            Some(position) => {
                let window = self.window();
                let count = window.map_or(0, |w| w.places.count_before(position, w.places.written_in_front()));
                (_, leftover.spent) = self.pop_acknowledged(count);
            }
            None if resends => leftover.unconfirmed = self.window().map_or(0, Window::retained),
            None => (leftover.unconfirmed, leftover.spent) = self.forget_written(),
        }
        leftover.spent.append(self.forget_greetings());
        leftover.kept = self.queue.len() as u64;
        leftover
    }

    /// The position that this side has come to in the messages of the peer. A link that is being served knows better.
    pub(crate) fn received(&self) -> u64 {
        self.window().map_or(0, |window| window.received)
    }

    /// Notes how far this side has come.
    pub(crate) fn note_received(&mut self, position: u64) {
        if let Some(window) = self.window_mut() {
            window.received = position;
        }
    }

    /// Whether a link has begun to write the first message, which can then be the reason for its end.
    pub(crate) fn has_begun_first(&self) -> bool {
        !self.queue.is_empty() && self.window().is_some_and(Window::has_begun_first)
    }

    /// Gives up the first message, if a link has begun to write it. Returns its length.
    pub(crate) fn give_up_first(&mut self) -> Option<usize> {
        let window = self.window_mut().filter(|window| window.has_begun_first())?;
        let was_written = window.places.is_written(0);
        window.places.pop_front(1);
        window.counts.lost += u64::from(was_written);
        let frame = self.queue.pop_front()?;
        let len = frame.len();
        let reason = if was_written { DropReason::Refused } else { DropReason::Undeliverable };
        self.note_popped(1, DeliveryStatus::Dropped(reason));
        let rare = self.rare();
        if was_written {
            rare.spent.push(frame);
        } else {
            if rare.greetings.messages > 0 {
                rare.greetings -= frame.tally();
            }
            self.drop_later(frame, reason);
        }
        Some(len)
    }

    /// Takes the position of a message away, which leaves the queue. Returns whether it was written; then it counts as lost.
    pub(super) fn forget_place(&mut self, index: usize) -> bool {
        let Some(window) = self.window_mut() else { return false };
        let was_written = window.places.is_written(index);
        window.places.remove(index);
        window.counts.lost += u64::from(was_written);
        was_written
    }

    /// Gives up the messages that were written: nobody will acknowledge them. Returns their number.
    pub(super) fn forget_written(&mut self) -> (u64, Spent) {
        let Some(window) = self.window_mut() else { return (0, Spent::default()) };
        let places = std::mem::take(&mut window.places);
        self.note_forgotten(|index| places.is_written(index));
        let mut spent = self.take_spent();
        let Self { queue, window: Some(window), .. } = self else { return (0, spent) };
        window.places = places;
        let count = window.retained();
        let mut rest = VecDeque::with_capacity(queue.len() - count as usize);
        for (index, frame) in queue.drain(..).enumerate() {
            if window.places.is_written(index) { spent.push(frame) } else { rest.push_back(frame) }
        }
        window.counts.lost += count;
        window.places = Places::default();
        *queue = rest;
        (count, spent)
    }

    /// Gives up the greetings that were written and not acknowledged: the next session has its own.
    fn forget_greetings(&mut self) -> Spent {
        let Some(window) = self.window_mut() else { return Spent::default() };
        let count = window.places.count_greetings();
        window.places.pop_front(count);
        window.counts.lost += count as u64;
        self.note_popped(count, DeliveryStatus::Dropped(DropReason::Unconfirmed));
        let mut spent = self.take_spent();
        spent.take(&mut self.queue, count);
        spent
    }

    /// Drops the greetings that were not written: the next session has its own.
    fn drop_greetings(&mut self) {
        let first = self.window().map_or(0, |window| window.places.written_in_front());
        for _ in 0..self.take_greetings().messages {
            if let Some(window) = self.window_mut() {
                window.places.remove(first);
            }
            self.note_removed(first, DropReason::Greeting);
            if let Some(frame) = self.queue.remove(first) {
                self.drop_later(frame, DropReason::Greeting);
            }
        }
    }
}
