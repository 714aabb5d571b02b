//! [`Key`]: a message that waits is replaced by a newer one with the same key.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    mem::replace,
    sync::{Arc, LazyLock},
};

use super::{Answer, Outbox, OutboxFrame, Overflow, Refusal, queue::State};
use crate::{fate::Fate, stats::DropReason};

/// What a key of the program hashes to: 128 bits, so that no two keys are taken for one. Comparing keys themselves would run
/// user code under the lock of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u64; 2]);

impl Key {
    pub(crate) fn of(key: &impl Hash) -> Self {
        // Random, so that no peer can choose keys that collide.
        static HASHERS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
        Self(HASHERS.each_ref().map(|hasher| hasher.hash_one(key)))
    }
}

impl Outbox {
    /// As [`offer`](Self::offer), for a message with a key: one with the same key that waits gives up its place.
    pub(crate) fn offer_keyed(&self, frame: OutboxFrame, key: Key, fate: Option<&Arc<dyn Fate>>) -> Answer {
        let mut message = Some(frame);
        let (is_in, effects) =
            self.apply(|state| !state.is_closing() && state.try_append_newest(&mut message, key, fate));
        let mut spent = effects.run();
        let Some(frame) = message.filter(|_| !is_in) else { return (Ok(()), Some(spent)) };
        let (answer, more) = self.offer_to_full(self.lock(), frame, Some(key), fate);
        spent.append(more);
        (answer, Some(spent))
    }
}

impl State {
    /// As [`push`](Self::push), for a message that may have a fate or a key.
    pub(super) fn push_tracked(
        &mut self,
        frame: OutboxFrame,
        key: Option<Key>,
        fate: Option<&Arc<dyn Fate>>,
        overflow: Overflow,
    ) -> Result<(), Refusal> {
        let mut message = Some(frame);
        let is_open = !self.is_closing();
        if let Some(key) = key.filter(|_| is_open) {
            // One with its key may have come since.
            self.try_replace(key, &mut message, fate);
        }
        if let Some(frame) = message {
            self.push(frame, overflow)?;
            self.track(fate, key);
        }
        key.into_iter().for_each(|key| self.outdate(key, None));
        Ok(())
    }

    /// As [`try_append_keyed`](Self::try_append_keyed), for a message that is newer than those of all who wait for room.
    fn try_append_newest(&mut self, message: &mut Option<OutboxFrame>, key: Key, fate: Option<&Arc<dyn Fate>>) -> bool {
        let is_in = self.try_append_keyed(message, Some(key), fate);
        if is_in {
            self.outdate(key, None);
        }
        is_in
    }

    /// Queues a message if there is room for it, or one with its key that waits.
    pub(super) fn try_append_keyed(
        &mut self,
        message: &mut Option<OutboxFrame>,
        key: Option<Key>,
        fate: Option<&Arc<dyn Fate>>,
    ) -> bool {
        if let Some(key) = key
            && self.try_replace(key, message, fate)
        {
            return true;
        }
        let Some(message) = message.take_if(|message| self.has_room(message)) else { return false };
        self.append_noted(message);
        self.track(fate, key);
        true
    }

    /// Puts a message in the place of one that waits and has the same key, if there is one.
    pub(super) fn try_replace(
        &mut self,
        key: Key,
        message: &mut Option<OutboxFrame>,
        fate: Option<&Arc<dyn Fate>>,
    ) -> bool {
        let Some(index) = self.waiting_with(key) else { return false };
        let Some(newer) = message.take_if(|newer| self.fits_instead(index, newer)) else { return false };
        self.queue_more(newer.tally());
        let Some(older) = self.queue.get_mut(index).map(|place| replace(place, newer)) else { return false };
        if index == self.greetings() {
            self.skip(1);
        }
        // Of what waits no position is known to the peer: it hears of all that were replaced as one gap before the next message.
        let next = self.droppable();
        if let Some(window) = self.window_mut() {
            window.places.add_hole(next, 1);
        }
        self.note_replaced(index, fate);
        self.drop_later(older, DropReason::Replaced);
        true
    }

    /// Counts a message that was replaced before it had a place.
    pub(super) fn replace_waiting(&mut self, message: OutboxFrame) {
        self.queue_more(message.tally());
        self.drop_later(message, DropReason::Replaced);
    }

    /// Whether a message with this key waits, and may be replaced.
    pub(super) fn has_waiting(&self, key: Key) -> bool {
        self.waiting_with(key).is_some()
    }

    fn waiting_with(&self, key: Key) -> Option<usize> {
        self.index_of(key).filter(|index| *index >= self.droppable())
    }

    /// Whether the bound holds with a message in the place of another.
    fn fits_instead(&self, index: usize, newer: &OutboxFrame) -> bool {
        let (held, older) = (self.bounded(), self.queue.get(index).map_or(0, OutboxFrame::len));
        held.messages <= 1 || held.len - older as u64 + newer.len() as u64 <= self.room().len
    }

    /// Drops the messages that wait again, before this index, while newer ones with their keys have begun to wait.
    pub(super) fn drop_outdated(&mut self, end: usize) {
        let begin = self.droppable();
        for index in self.outdated(begin, end) {
            self.drop_at(index, DropReason::Replaced);
        }
    }
}
