//! [`State`]: the queue itself and its counts, under the lock of the outbox.
//!
//! ```text
//!      greetings   taken by the link        waiting
//!     +----------+---------------------+----------------+
//!     | of this link alone  .. messages of any link ..  |  <- push
//!     +----------+---------------------+----------------+
//!       head                             first droppable
//! ```
//!
//! The link takes greetings and messages alike, from the left. So the messages that can be dropped begin after the greetings
//! and after the taken messages, whichever reach further.

use std::{
    collections::VecDeque,
    mem::{replace, take},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Frame,
    fate::DeliveryStatus,
    outbox::{
        OutboxBound, OutboxFrame, Outflow, Overflow, Refusal, Spent,
        overflow::{GREETINGS, fits},
        rare::Rare,
        run::{Earlier, Stretch},
        window::{Counts, Window},
    },
    protocol::close::TRY_AGAIN_LATER,
    stats::{DropReason, Dropped, SendStats, Tally},
    time::after,
};

/// How long a peer that reads too slowly may take for the messages that are on their way to it.
const OVERFLOW_GRACE: Duration = Duration::from_secs(1);

/// How many places an empty queue keeps.
pub(crate) const KEPT_PLACES: usize = 64;

/// How many places are [spare](SPARE) at most: those of a client's outbox by default.
const SPARE_PLACES: usize = 1 << 16;

/// How many times as many places as it needs a queue takes. Otherwise each of many that stay short could have those of a long one.
const SPARE_EXCESS: usize = 8;

/// The places of a queue that was long, for the next one that becomes long. Memory that comes fresh from the system cost a client
/// that sends short messages as fast as it can a fifth of its time.
static SPARE: Mutex<VecDeque<OutboxFrame>> = Mutex::new(VecDeque::new());

/// A closing handshake to be made once the queue is written.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    pub(crate) code: u16,
    pub(crate) reason: Arc<str>,
    /// When the wait for the peer ends.
    pub(crate) deadline: Instant,
}

/// The message at the head of the queue, behind the greetings of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Grows whenever another message becomes the head.
    pub(crate) number: u64,
    pub(crate) len: usize,
    /// The last link to end has written a part of it.
    pub(crate) was_begun: bool,
}

/// What a push and a take need comes first. The counts of messages have 32 bits, which keeps that in one cache line, with the
/// lock.
#[repr(C)]
pub(crate) struct State {
    /// The messages in the queue that were not written, and their bytes.
    queued_messages: u32,
    /// How many messages at the head of the queue the link has taken and is writing.
    pub(crate) taken: u32,
    queued_len: u64,
    /// How much the queue may hold.
    pub(super) room_messages: u32,
    /// How many before the taken ones the link has written, and the peer has not acknowledged: none without a [`Window`].
    pub(crate) retained: u32,
    pub(super) room_len: u64,
    /// The messages behind those in the queue, but for those that are [`earlier`](Self::earlier). There while those are.
    pub(super) stretch: Stretch,
    pub(crate) rare: Option<Box<Rare>>,
    pub(crate) link: Option<Arc<dyn Outflow>>,
    pub(crate) written: Tally,
    /// There if written messages are kept until the peer has acknowledged them. A push does not touch it.
    pub(super) window: Option<Box<Window>>,
    /// Messages between the queue and the stretch. None as a rule.
    pub(super) earlier: Option<Box<Earlier>>,
    pub(crate) queue: VecDeque<OutboxFrame>,
}

/// Messages come in.
impl State {
    pub(crate) fn new(bound: OutboxBound) -> Self {
        Self {
            queued_messages: 0,
            taken: 0,
            queued_len: 0,
            // More than any memory has room for.
            room_messages: u32::try_from(bound.messages).unwrap_or(u32::MAX / 2),
            retained: 0,
            room_len: bound.len as u64,
            stretch: Stretch::default(),
            rare: None,
            link: None,
            written: Tally::default(),
            window: None,
            earlier: None,
            queue: VecDeque::new(),
        }
    }

    pub(crate) fn push(&mut self, frame: OutboxFrame, overflow: Overflow) -> Result<(), Refusal> {
        if self.is_closing() {
            self.rare().spent.push(frame);
            return Err(Refusal::Closed);
        }
        let has_room = self.has_room(&frame);
        if has_room {
            self.append_noted(frame);
            return Ok(());
        }
        match overflow {
            Overflow::DropLatest => {
                self.queue_more(frame.tally());
                self.drop_later(frame, DropReason::Overflow);
                Err(Refusal::Full)
            }
            Overflow::DropOldest => {
                self.append_noted(frame);
                self.make_room()
            }
            Overflow::Disconnect => {
                self.drop_untaken(DropReason::Overflow);
                // Behind the others, and without a position: it was never accepted.
                self.queue_more(frame.tally());
                self.drop_later(frame, DropReason::Overflow);
                self.rare().overflown = true;
                self.close(TRY_AGAIN_LATER, "too slow", OVERFLOW_GRACE);
                Err(Refusal::Full)
            }
        }
    }

    /// Puts a message at the end.
    #[inline]
    pub(crate) fn append(&mut self, frame: OutboxFrame) {
        self.queue_more(frame.tally());
        if self.queue.len() == self.queue.capacity() {
            self.take_spare_places();
        }
        self.queue.push_back(frame);
    }

    /// Moves a queue that becomes long to the spare places, if those are more than it has, and not too many.
    #[cold]
    fn take_spare_places(&mut self) {
        if self.queue.len() >= KEPT_PLACES
            && let Ok(mut spare) = SPARE.try_lock()
            && (self.queue.len() + 1..=SPARE_EXCESS * self.queue.len()).contains(&spare.capacity())
        {
            let mut places = take(&mut *spare);
            drop(spare);
            places.append(&mut self.queue);
            self.queue = places;
        }
    }

    /// As [`append`](Self::append), off the usual way: notes how full the queue is.
    pub(super) fn append_noted(&mut self, frame: OutboxFrame) {
        self.append(frame);
        self.note_fill();
    }

    /// Puts messages ahead of all others. Messages beyond [`GREETINGS`] are dropped.
    pub(crate) fn greet(&mut self, frames: Vec<Frame>) {
        let mut frames: Vec<_> = frames.into_iter().map(OutboxFrame::from).collect();
        let mut greetings = Tally::default();
        let kept = frames.iter().take_while(|frame| {
            let fits = fits(greetings, frame, GREETINGS);
            greetings += if fits { frame.tally() } else { Tally::default() };
            fits
        });
        let kept = kept.count();
        for frame in frames.split_off(kept) {
            self.queue_more(frame.tally());
            self.drop_later(frame, DropReason::Overflow);
        }
        for frame in frames.into_iter().rev() {
            self.queue_more(frame.tally());
            self.queue.push_front(frame);
            self.note_pushed_front(1);
        }
        if greetings.messages > 0 || self.rare.is_some() {
            self.rare().greetings = greetings;
        }
    }
}

/// The link takes messages, writes them, and leaves.
impl State {
    /// Moves the first `count` messages of the queue to `spent`, and counts them as written.
    pub(crate) fn confirm(&mut self, count: usize, spent: &mut Spent) {
        if self.window.is_some() {
            self.retain_written(count);
            return spent.append(self.take_spent());
        }
        if self.queue.is_empty() && self.stretch.len() > 0 {
            return self.confirm_stretches(count);
        }
        self.settle();
        self.note_progress();
        let count = count.min(self.queue.len());
        self.note_written(count, self.written.messages);
        let Self { queue, rare, .. } = self;
        let mut done = Tally::default();
        for frame in queue.range(..count) {
            done += frame.tally();
            if let Some(rare) = rare {
                rare.count_written(frame.tally());
            }
        }
        self.taken = self.taken.saturating_sub(count as u32);
        self.queue_less(done);
        self.written += done;
        if self.rare.is_some() {
            spent.append(self.take_spent());
        }
        spent.take(&mut self.queue, count);
        self.shrink_if_empty();
    }

    pub(super) fn shrink_if_empty(&mut self) {
        if self.queue.is_empty() {
            // The next message gets the first place again: the places of a long ring, used in turn, are in no cache.
            self.queue.clear();
            if self.queue.capacity() > KEPT_PLACES {
                self.leave_spare_places();
            }
        }
    }

    #[cold]
    fn leave_spare_places(&mut self) {
        let places = replace(&mut self.queue, VecDeque::with_capacity(KEPT_PLACES));
        if places.capacity() <= SPARE_PLACES
            && let Ok(mut spare) = SPARE.try_lock()
            && spare.capacity() < places.capacity()
        {
            let before = replace(&mut *spare, places);
            drop(spare);
            drop(before);
        }
    }

    /// Keeps the message that the link has taken last in compressed form, for another time: it may wait again.
    pub(crate) fn keep_compressed(&mut self, compressed: &OutboxFrame) {
        let last = self.under_way().checked_sub(1);
        if let Some(taken) = last.and_then(|index| self.queue.get_mut(index))
            && taken.is_same(compressed)
        {
            // The caller has another handle of the payload, which is not dropped here.
            *taken = compressed.clone();
        }
    }

    /// Makes the last `count` taken messages wait again. They are dropped, with all waiting messages, if there is a `reason`
    /// or the outbox has overflown.
    pub(crate) fn untake(&mut self, count: usize, reason: Option<DropReason>) {
        let untaken = (count as u32).min(self.taken);
        self.taken -= untaken;
        self.untake_places(untaken as usize);
        let has_overflown = self.rare.as_ref().is_some_and(|rare| rare.overflown);
        match has_overflown.then_some(DropReason::Overflow).or(reason) {
            Some(reason) => self.drop_untaken(reason),
            None => self.drop_outdated(self.under_way() + untaken as usize),
        }
    }

    /// Lets the link go. Its greetings go with it, unless what is written is kept: then they belong to the session.
    pub(crate) fn detach(&mut self, has_begun: bool) {
        self.link = None;
        let (first, end) = (self.retained as usize, self.under_way());
        self.rewind_places();
        if let Some(window) = self.window_mut() {
            window.note_begun(has_begun.then_some(first));
        } else {
            self.leave_plain_link(has_begun);
        }
        self.drop_outdated(end);
    }

    fn leave_plain_link(&mut self, has_begun: bool) {
        self.note_unconfirmed();
        let greetings = self.take_greetings();
        if has_begun || self.rare.is_some() {
            self.rare().head_was_begun = has_begun && greetings.messages == 0;
        }
        for _ in 0..greetings.messages {
            if let Some(frame) = self.queue.pop_front() {
                self.note_popped(1, DeliveryStatus::Dropped(DropReason::Greeting));
                self.drop_later(frame, DropReason::Greeting);
            }
        }
    }

    /// Notes how full the queue is, and returns what is to be told of it.
    #[cold]
    pub(super) fn take_news_of_fill(&mut self) -> Spent {
        self.note_fill();
        self.take_spent()
    }

    /// What is to be dropped, and told, outside the lock.
    pub(super) fn take_spent(&mut self) -> Spent {
        self.rare.as_mut().map_or_else(Spent::default, |rare| take(&mut rare.spent))
    }

    pub(super) fn take_greetings(&mut self) -> Tally {
        self.rare.as_mut().map_or_else(Tally::default, |rare| take(&mut rare.greetings))
    }
}

/// The end.
impl State {
    /// Asks for the closing handshake, once.
    pub(crate) fn close(&mut self, code: u16, reason: impl Into<Arc<str>>, within: Duration) {
        let rare = self.rare();
        if rare.closing.is_none() {
            rare.alarm = true;
            let deadline = after(Instant::now(), within);
            rare.closing = Some(Closing { code, reason: reason.into(), deadline });
            self.call_all();
        }
    }

    /// Drops everything, as nothing will be written any more. Returns the sum of the dropped messages.
    pub(crate) fn end(&mut self) -> Tally {
        // Never sent: this code stands for an end without a closing handshake (RFC 6455, section 7.4.1).
        self.close(1006, Arc::default(), Duration::ZERO);
        self.rewind_places();
        self.rare().greetings = Tally::default();
        let (_, spent) = self.forget_written();
        self.rare().spent.append(spent);
        self.note_unconfirmed();
        let unsent = self.queued();
        self.drop_untaken(DropReason::Closed);
        self.end_gauge();
        unsent
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        self.rare.as_ref()?.closing.clone()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.closing.is_some())
    }
}

/// The present state.
impl State {
    /// The messages in the queue that were not written.
    #[inline]
    pub(crate) fn queued(&self) -> Tally {
        Tally { messages: self.queued_messages.into(), len: self.queued_len }
    }

    #[inline]
    pub(super) fn queue_more(&mut self, tally: Tally) {
        self.queued_messages += tally.messages as u32;
        self.queued_len += tally.len;
    }

    pub(super) fn queue_less(&mut self, tally: Tally) {
        self.queued_messages -= tally.messages as u32;
        self.queued_len -= tally.len;
        if self.rare.as_ref().is_some_and(|rare| rare.line.is_some() || rare.gauge.is_some()) {
            self.call_first();
            self.note_fill();
        }
    }

    /// How many messages at the head of the queue the link has taken or written.
    #[inline]
    pub(crate) fn under_way(&self) -> usize {
        (self.retained + self.taken) as usize
    }

    /// Whether the link has taken every message.
    #[inline]
    pub(crate) fn is_drained(&self) -> bool {
        self.under_way() == self.len()
    }

    /// How many messages there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.len() + self.len_of_stretches()
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// How many greetings are at the head of the queue.
    pub(crate) fn greetings(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.greetings.messages as usize)
    }

    pub(crate) fn head(&self) -> Option<Head> {
        let len = self.queue.get(self.greetings())?.len();
        let rare = self.rare.as_ref();
        let (skipped, greeted) = rare.map_or((0, 0), |rare| (rare.skipped, rare.greeted));
        let number = self.written.messages - greeted + skipped;
        Some(Head { number, len, was_begun: rare.is_some_and(|rare| rare.head_was_begun) })
    }

    pub(crate) fn stats(&self) -> SendStats {
        let dropped = self.rare.as_ref().map_or_else(Dropped::default, |rare| rare.dropped);
        let mut accepted = dropped.total();
        accepted += self.written;
        accepted += self.queued();
        let stats =
            SendStats { accepted, written: self.written, queued: self.queued(), dropped, ..SendStats::default() };
        let Counts { acknowledged, lost } = self.window().map_or_else(Counts::default, Window::counts);
        let stats = SendStats { acknowledged, lost, ..stats };
        let Some(Rare { resent, compressed, compressed_to, .. }) = self.rare.as_deref() else { return stats };
        SendStats { resent: *resent, compressed: *compressed, compressed_to: *compressed_to, ..stats }
    }
}
