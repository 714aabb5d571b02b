//! [`Tracked`]: the messages of an outbox whose fate somebody wants to know, or that have a key.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
};

use super::{
    Flush,
    effects::News,
    keys::Key,
    queue::{KEPT_PLACES, State},
};
use crate::{
    fate::{DeliveryStatus, Fate, Step},
    stats::DropReason,
};

/// How many keys the map of an empty queue has room for.
const KEPT_KEYS: usize = 64;

/// The tracked messages, in the order of the queue, and those that have left it and are not confirmed.
#[derive(Default)]
pub(super) struct Tracked {
    entries: VecDeque<Entry>,
    /// How far the front of the queue has moved since the entries were made.
    front: i64,
    /// Written on a plain link, with the number of the message among all that were written.
    unconfirmed: VecDeque<(u64, Arc<dyn Fate>)>,
    /// A ping behind some of them is under way.
    is_pinged: bool,
    /// Those who wait until all that was in the queue is written.
    flushes: Vec<Mark>,
    /// The newest message of each key, by its number.
    keys: HashMap<Key, u64>,
    numbers: u64,
}

/// A place in the queue: all messages before it are waited for.
struct Mark {
    /// As that of an [`Entry`].
    place: i64,
    flush: Arc<Flush>,
}

struct Entry {
    /// Its index in the queue, and the `front` at that time.
    place: i64,
    /// Grows along the queue. One that takes the place of another keeps its number.
    number: u64,
    fate: Option<Arc<dyn Fate>>,
    key: Option<Key>,
    is_written: bool,
}

impl Entry {
    fn step(self, to: DeliveryStatus) -> Option<Step> {
        let from = if self.is_written { DeliveryStatus::Written } else { DeliveryStatus::Queued };
        self.fate.map(|fate| Step { fate, from, to })
    }

    /// One that was written, and waits to be written again, may have arrived, for whatever reason it is dropped.
    fn dropped(self, reason: DropReason) -> Option<Step> {
        let is_in_doubt = self.is_written && reason != DropReason::Greeting;
        self.step(DeliveryStatus::Dropped(if is_in_doubt { DropReason::Unconfirmed } else { reason }))
    }
}

impl Tracked {
    fn add(&mut self, index: usize, fate: Option<Arc<dyn Fate>>, key: Option<Key>) {
        fate.iter().for_each(|fate| fate.queued());
        self.numbers += 1;
        let (place, number) = (index as i64 + self.front, self.numbers);
        self.entries.push_back(Entry { place, number, fate, key, is_written: false });
        if let Some(key) = key {
            self.keys.insert(key, number);
        }
    }

    /// Forgets the keys of messages that have left the queue, and the memory of a queue that was long.
    fn forget<'a>(&mut self, gone: impl IntoIterator<Item = &'a Entry>) {
        for entry in gone {
            if let Some(key) = entry.key
                && self.keys.get(&key) == Some(&entry.number)
            {
                self.keys.remove(&key);
            }
        }
        if self.keys.is_empty() {
            self.keys.shrink_to(KEPT_KEYS);
        }
        if self.entries.is_empty() {
            self.entries.shrink_to(KEPT_PLACES);
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity() + self.unconfirmed.capacity() + self.keys.capacity()
    }

    fn index(&self, entry: &Entry) -> usize {
        (entry.place - self.front) as usize
    }

    /// The index of a message in the queue.
    fn place_of(&self, fate: &Arc<dyn Fate>) -> Option<usize> {
        let is_same = |of: &Arc<dyn Fate>| std::ptr::addr_eq(Arc::as_ptr(of), Arc::as_ptr(fate));
        let is_it = |entry: &&Entry| entry.fate.as_ref().is_some_and(is_same);
        self.entries.iter().find(is_it).map(|entry| self.index(entry))
    }

    /// Where the entries from this index of the queue on begin.
    fn from(&self, index: usize) -> usize {
        let place = index as i64 + self.front;
        self.entries.partition_point(|entry| entry.place < place)
    }

    /// Notes that a message at an index of the queue is gone. The entries of those behind it begin at `at`. They move up, or
    /// the others back, whichever are fewer.
    fn close_up(&mut self, index: usize, at: usize) {
        if at < self.entries.len() - at {
            let place = index as i64 + self.front;
            self.front += 1;
            self.entries.range_mut(..at).for_each(|entry| entry.place += 1);
            self.flushes.iter_mut().filter(|mark| mark.place <= place).for_each(|mark| mark.place += 1);
        } else {
            self.entries.range_mut(at..).for_each(|entry| entry.place -= 1);
            self.flushes_behind(index).for_each(|mark| mark.place -= 1);
        }
    }

    /// Takes out the first `count` messages of the queue.
    fn pop_front(&mut self, count: usize) -> Vec<Entry> {
        let end = self.from(count);
        self.front += count as i64;
        let gone: Vec<_> = self.entries.drain(..end).collect();
        self.forget(&gone);
        gone
    }

    /// Takes the waits out that are over, with the first `written` messages of the queue.
    fn take_flushed(&mut self, written: usize) -> impl Iterator<Item = Arc<Flush>> + '_ {
        let place = written as i64 + self.front;
        self.flushes.extract_if(.., move |mark| mark.place <= place).map(|mark| mark.flush)
    }

    /// The waits for a message at or behind an index of the queue.
    fn flushes_behind(&mut self, index: usize) -> impl Iterator<Item = &mut Mark> {
        let place = index as i64 + self.front;
        self.flushes.iter_mut().filter(move |mark| mark.place > place)
    }
}

impl State {
    fn tracked(&mut self) -> Option<&mut Tracked> {
        self.rare.as_mut()?.tracked.as_deref_mut()
    }

    /// Tracks the newest message, if it has a fate or a key.
    pub(super) fn track(&mut self, fate: Option<&Arc<dyn Fate>>, key: Option<Key>) {
        if fate.is_some() || key.is_some() {
            let index = self.queue.len().saturating_sub(1);
            self.rare().tracked.get_or_insert_default().add(index, fate.cloned(), key);
        }
    }

    /// The index of the newest message with this key, unless it was written before: it may have arrived.
    pub(super) fn index_of(&self, key: Key) -> Option<usize> {
        let tracked = self.rare.as_ref()?.tracked.as_ref()?;
        let number = tracked.keys.get(&key)?;
        let at = tracked.entries.binary_search_by_key(number, |entry| entry.number).ok()?;
        let entry = tracked.entries.get(at).filter(|entry| !entry.is_written)?;
        Some(tracked.index(entry))
    }

    /// The indices from `begin` to `end`, the last one first, of the messages of which there is a newer one with the same key. The others may be
    /// replaced again.
    pub(super) fn outdated(&mut self, begin: usize, end: usize) -> Vec<usize> {
        let Some(tracked) = self.tracked().filter(|_| begin < end) else { return Vec::new() };
        let (range, front) = (tracked.from(begin)..tracked.from(end), tracked.front);
        let Tracked { entries, keys, .. } = tracked;
        let is_outdated = |entry: &&Entry| {
            let newest = entry.key.map(|key| *keys.entry(key).or_insert(entry.number));
            !entry.is_written && newest.is_some_and(|newest| newest > entry.number)
        };
        // Where the newest was dropped meanwhile, the newest of those that are left takes its place.
        entries.range(range).rev().filter(is_outdated).map(|entry| (entry.place - front) as usize).collect()
    }

    /// Notes that a newer message has taken the place of the one at an index.
    pub(super) fn note_replaced(&mut self, index: usize, fate: Option<&Arc<dyn Fate>>) {
        let Some(tracked) = self.tracked() else { return };
        let at = tracked.from(index);
        fate.into_iter().for_each(|fate| fate.queued());
        let before = tracked.entries.get_mut(at).and_then(|entry| mem::replace(&mut entry.fate, fate.cloned()));
        let (from, to) = (DeliveryStatus::Queued, DeliveryStatus::Dropped(DropReason::Replaced));
        self.tell(before.into_iter().map(|fate| Step { fate, from, to }).collect());
    }

    fn tell(&mut self, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.rare().spent.tell_all(steps.into_iter().map(News::Step));
        }
    }

    /// Lets `flush` wait for all that is in the queue. Returns false if it waits no more: then it has to be another one.
    pub(super) fn extend_flush(&mut self, flush: &Arc<Flush>) -> bool {
        let len = self.queue.len() as i64;
        let Some(tracked) = self.tracked() else { return false };
        let end = len + tracked.front;
        let mark = tracked.flushes.iter_mut().find(|mark| Arc::ptr_eq(&mark.flush, flush));
        mark.is_some_and(|mark| {
            mark.place = end;
            true
        })
    }

    /// As [`extend_flush`](Self::extend_flush), for a new one.
    pub(super) fn add_flush(&mut self, flush: Arc<Flush>) {
        let len = self.queue.len() as i64;
        let tracked = self.rare().tracked.get_or_insert_default();
        tracked.flushes.push(Mark { place: len + tracked.front, flush });
    }

    pub(super) fn remove_flush(&mut self, flush: &Arc<Flush>) {
        if let Some(tracked) = self.tracked() {
            tracked.flushes.retain(|mark| !Arc::ptr_eq(&mark.flush, flush));
        }
    }

    /// Tells those who waited for nothing but the first `written` messages.
    fn tell_flushed(&mut self, written: usize, to: DeliveryStatus) {
        let Some(tracked) = self.tracked() else { return };
        let step = |flush| Step { fate: flush, from: DeliveryStatus::Queued, to };
        let steps = tracked.take_flushed(written).map(|flush| step(flush as Arc<dyn Fate>)).collect();
        self.tell(steps);
    }

    /// How many messages at the front were written and are kept.
    fn written_in_front(&self) -> usize {
        self.window().map_or(0, |window| window.places.written_in_front())
    }

    /// Notes that greetings come before all others.
    pub(super) fn note_pushed_front(&mut self, count: usize) {
        if let Some(tracked) = self.tracked() {
            tracked.front -= count as i64;
        }
    }

    /// Notes that the first `count` messages have left the queue, and how they ended.
    pub(super) fn note_popped(&mut self, count: usize, to: DeliveryStatus) {
        let Some(tracked) = self.tracked() else { return };
        let steps = tracked.pop_front(count).into_iter().filter_map(|entry| entry.step(to)).collect();
        self.tell(steps);
        self.tell_flushed(0, DeliveryStatus::Written);
    }

    /// Notes that the first `count` messages have left the queue on a plain link, where a pong is to confirm them.
    pub(super) fn note_written(&mut self, count: usize, written_before: u64) {
        let Some(tracked) = self.tracked() else { return };
        let first = tracked.front;
        let written = tracked.pop_front(count);
        let number = |entry: &Entry| written_before + (entry.place - first) as u64 + 1;
        let in_doubt = |entry: &Entry| {
            let fate = entry.fate.clone().filter(|fate| fate.needs_pong())?;
            Some((number(entry), fate))
        };
        tracked.unconfirmed.extend(written.iter().filter_map(in_doubt));
        // One that a session has kept was written before.
        let fresh = written.into_iter().filter(|entry| !entry.is_written);
        let told = fresh.inspect(|entry| entry.fate.iter().for_each(|fate| fate.written()));
        let steps = told.filter_map(|entry| entry.step(DeliveryStatus::Written)).collect();
        self.tell(steps);
        self.tell_flushed(0, DeliveryStatus::Written);
    }

    /// Notes that messages are written, and stay in the queue.
    pub(super) fn note_kept(&mut self, first: usize, count: usize) {
        let Some(tracked) = self.tracked() else { return };
        let range = tracked.from(first)..tracked.from(first + count);
        let fresh = tracked.entries.range_mut(range).filter(|entry| !entry.is_written);
        let step = |entry: &mut Entry| {
            entry.is_written = true;
            entry.fate.iter().for_each(|fate| fate.written());
            let (from, to) = (DeliveryStatus::Queued, DeliveryStatus::Written);
            entry.fate.clone().map(|fate| Step { fate, from, to })
        };
        let steps = fresh.filter_map(step).collect();
        self.tell(steps);
        self.tell_flushed(self.written_in_front(), DeliveryStatus::Written);
    }

    /// Notes that the message at an index has left the queue.
    pub(super) fn note_removed(&mut self, index: usize, reason: DropReason) {
        let Some(tracked) = self.tracked() else { return };
        let at = tracked.from(index);
        let is_it = tracked.entries.get(at).is_some_and(|entry| tracked.index(entry) == index);
        let removed = if is_it { tracked.entries.remove(at) } else { None };
        tracked.close_up(index, at);
        tracked.forget(&removed);
        self.tell(removed.and_then(|entry| entry.dropped(reason)).into_iter().collect());
        self.tell_flushed(self.written_in_front(), DeliveryStatus::Dropped(reason));
    }

    /// Notes that only the first `len` messages are left in the queue.
    pub(super) fn note_truncated(&mut self, len: usize, reason: DropReason) {
        let Some(tracked) = self.tracked() else { return };
        let (dropped, end) = (tracked.entries.split_off(tracked.from(len)), len as i64 + tracked.front);
        tracked.flushes_behind(len).for_each(|mark| mark.place = end);
        tracked.forget(&dropped);
        self.tell(dropped.into_iter().filter_map(|entry| entry.dropped(reason)).collect());
        self.tell_flushed(self.written_in_front(), DeliveryStatus::Dropped(reason));
    }

    /// Notes that the messages which were written have left the queue. `written` says so of each index.
    pub(super) fn note_forgotten(&mut self, written: impl Fn(usize) -> bool) {
        let Some(tracked) = self.tracked() else { return };
        let (mut kept, mut steps) = (VecDeque::new(), Vec::new());
        let (mut index, mut gone) = (0, 0);
        for mut entry in std::mem::take(&mut tracked.entries) {
            let place = (entry.place - tracked.front) as usize;
            gone += (index..place).filter(|index| written(*index)).count() as i64;
            index = place;
            if entry.is_written {
                tracked.forget([&entry]);
                steps.extend(entry.step(DeliveryStatus::Dropped(DropReason::Unconfirmed)));
            } else {
                entry.place -= gone;
                kept.push_back(entry);
            }
        }
        tracked.entries = kept;
        for mark in &mut tracked.flushes {
            let end = (mark.place - tracked.front) as usize;
            mark.place -= (0..end).filter(|index| written(*index)).count() as i64;
        }
        self.tell(steps);
        self.tell_flushed(0, DeliveryStatus::Written);
    }

    /// Takes a message out that no link is writing, whether one has written it and keeps it or not.
    pub(super) fn withdraw(&mut self, fate: &Arc<dyn Fate>) {
        let under_way = self.under_way();
        let Some(at) = self.tracked().and_then(|tracked| tracked.place_of(fate)).filter(|at| *at >= under_way) else {
            return;
        };
        let was_written = self.forget_place(at);
        self.note_removed(at, DropReason::Greeting);
        if at == self.greetings() {
            self.skip(1);
        }
        match self.queue.remove(at) {
            Some(frame) if was_written => self.rare().spent.push(frame),
            Some(frame) => self.drop_later(frame, DropReason::Greeting),
            None => {}
        }
    }

    /// Notes that a ping follows all messages that were written.
    pub(super) fn note_pinged(&mut self) {
        if let Some(tracked) = self.tracked() {
            tracked.is_pinged = !tracked.unconfirmed.is_empty();
        }
    }

    /// Notes that a pong has confirmed the first `number` of all messages that were written.
    pub(super) fn note_confirmed(&mut self, number: u64) {
        self.end_unconfirmed(number, DeliveryStatus::Acknowledged);
    }

    /// Notes that no pong will confirm anything any more.
    pub(super) fn note_unconfirmed(&mut self) {
        self.end_unconfirmed(u64::MAX, DeliveryStatus::Dropped(DropReason::Unconfirmed));
    }

    fn end_unconfirmed(&mut self, number: u64, to: DeliveryStatus) {
        let Some(tracked) = self.tracked() else { return };
        tracked.is_pinged = false;
        let count = tracked.unconfirmed.partition_point(|(of, _)| *of <= number);
        let from = DeliveryStatus::Written;
        let steps = tracked.unconfirmed.drain(..count).map(|(_, fate)| Step { fate, from, to }).collect();
        if tracked.unconfirmed.is_empty() {
            tracked.unconfirmed.shrink_to(KEPT_PLACES);
        }
        self.tell(steps);
    }

    /// Whether written messages wait for a pong that no ping is to bring.
    pub(super) fn wants_pong(&self) -> bool {
        let tracked = self.rare.as_ref().and_then(|rare| rare.tracked.as_ref());
        tracked.is_some_and(|tracked| !tracked.unconfirmed.is_empty() && !tracked.is_pinged)
    }
}
