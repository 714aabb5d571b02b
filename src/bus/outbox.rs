//! [`BusOutbox`]: what is pushed into a bus, until the broker has confirmed it.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    DropReason, Frame, Overflow, SendStats, Tag, Tally,
    bus::{
        broker::{Envelope, Kind, Mark},
        numbers::Publishing,
        presence::Note,
        subject_name,
    },
    outbox::{OutboxBound, Refusal},
    time::after,
};

/// How many messages, and how many bytes, may be on the way to the broker without its confirmation.
const WINDOW: Tally = Tally { messages: 16_384, len: 32 * 1024 * 1024 };

/// How many paths a beat is about at most.
const PATHS_PER_BEAT: usize = 1_000;

/// How many notes may wait for the broker.
const NOTES: usize = 64;

/// The queue between a push and the broker. A message keeps its place until the broker has confirmed it: a new link begins
/// with the first that the last one did not.
pub(crate) struct BusOutbox {
    state: Mutex<State>,
    changed: Notify,
    is_closing: AtomicBool,
}

struct State {
    prefix: String,
    bound: OutboxBound,
    numbers: Publishing,
    queue: VecDeque<Queued>,
    /// How many of the queue are notes.
    notes: usize,
    /// How many of the queue the present link has taken, and their bytes.
    taken: usize,
    taken_len: u64,
    stats: SendStats,
    /// Until when the queue may be emptied, once that was asked for.
    closing: Option<Instant>,
}

/// A message in the queue.
#[derive(Clone)]
pub(crate) struct Queued {
    pub(crate) path: Tag,
    pub(crate) envelope: Envelope,
}

impl Queued {
    fn kind(&self) -> Option<Kind> {
        self.envelope.mark.as_ref().map(|mark| mark.kind)
    }

    fn is_note(&self) -> bool {
        self.kind() == Some(Kind::Presence)
    }

    /// Beats and notes count as nothing.
    fn tally(&self) -> Tally {
        match self.kind() {
            Some(Kind::Beat | Kind::Presence) => Tally::default(),
            _ => Tally { messages: 1, len: self.envelope.payload.len() as u64 },
        }
    }
}

/// What became of a push.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It has a place. `dropped` is what had to go for it.
    Queued { dropped: Tally },
    /// It was refused. `dropped` is what was lost with it: the message itself, or nothing if nothing was accepted any more.
    Refused { why: Refusal, dropped: Tally },
    /// The path has no subject.
    Unroutable,
}

/// The messages for a link.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) messages: Vec<Queued>,
    /// Those that are longer than the broker allows, and have left the queue.
    pub(crate) too_long: Vec<Queued>,
}

impl BusOutbox {
    pub(crate) fn new(bound: OutboxBound, prefix: &str, publisher: &str) -> Self {
        let state = State {
            prefix: prefix.to_owned(),
            bound,
            numbers: Publishing::new(publisher),
            queue: VecDeque::new(),
            notes: 0,
            taken: 0,
            taken_len: 0,
            stats: SendStats::default(),
            closing: None,
        };
        Self { state: Mutex::new(state), changed: Notify::new(), is_closing: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message. `tell` hears what is dropped, under the lock, so that it comes before the end: it must call no user
    /// code.
    pub(crate) fn push(&self, path: &Tag, frame: &Frame, tell: impl FnOnce(Tally)) -> Pushed {
        let mut spent = Vec::new();
        let mut state = self.lock();
        let pushed = state.push(path, frame, &mut spent);
        if let Pushed::Queued { dropped } | Pushed::Refused { dropped, .. } = pushed
            && dropped.messages > 0
        {
            tell(dropped);
        }
        // Only a full one may have been closed by this.
        if matches!(pushed, Pushed::Refused { .. }) && state.closing.is_some() {
            self.is_closing.store(true, Ordering::Release);
        }
        drop(state);
        self.changed.notify_one();
        // Not under the lock.
        drop(spent);
        pushed
    }

    /// Queues a beat: the number of the last message for each path that has had any since the last beat.
    pub(crate) fn beat(&self) {
        self.lock().beat();
        self.changed.notify_one();
    }

    /// Queues a note for other nodes. A new link is not given the notes of an earlier one.
    pub(crate) fn note(&self, note: Note) {
        self.lock().note(note);
        self.changed.notify_one();
    }

    /// Whether the broker has confirmed most of the notes.
    pub(crate) fn has_room_for_notes(&self) -> bool {
        self.lock().notes < NOTES
    }

    /// Takes up to `most` messages for the link, as the window allows.
    pub(crate) fn take(&self, most: usize, max_len: usize) -> Taken {
        self.lock().take(most, max_len)
    }

    /// Waits until there are notes to take before the first message, and says how many; or until it is closed.
    pub(crate) async fn until_notes(&self) -> usize {
        let notes_or_end = || {
            let state = self.lock();
            Some(state.leading_notes()).filter(|notes| *notes > 0 || state.closing.is_some())
        };
        loop {
            match notes_or_end() {
                Some(notes) => return notes,
                None => self.changed.notified().await,
            }
        }
    }

    /// Waits until there is something to take, or until it was asked to close if the caller does not know of that.
    pub(crate) async fn until_takable(&self, knows_of_closing: bool) {
        loop {
            if self.lock().wakes(knows_of_closing) {
                return;
            }
            self.changed.notified().await;
        }
    }

    /// Notes that the broker has the first `count` messages.
    pub(crate) fn confirm(&self, count: usize) {
        let spent = self.lock().confirm(count);
        drop(spent);
    }

    /// Notes that the link has ended. The next one begins with the messages that were not confirmed; returns how many of them
    /// the last one had taken.
    pub(crate) fn rewind(&self) -> u64 {
        self.lock().rewind()
    }

    /// Refuses everything from now on. The first call counts.
    pub(crate) fn close(&self, within: Duration) {
        let mut state = self.lock();
        let _ = *state.closing.get_or_insert_with(|| after(Instant::now(), within));
        self.is_closing.store(true, Ordering::Release);
        drop(state);
        self.changed.notify_one();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Until when the queue may be emptied, once that was asked for.
    pub(crate) fn closing(&self) -> Option<Instant> {
        self.lock().closing
    }

    /// Waits until it is closed.
    pub(crate) async fn until_closing(&self) -> Instant {
        loop {
            match self.closing() {
                Some(deadline) => return deadline,
                None => self.changed.notified().await,
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Whether there is anything that is worth another link.
    pub(crate) fn has_messages(&self) -> bool {
        self.lock().stats.queued.messages > 0
    }

    /// Drops everything for good, and returns how much that was.
    pub(crate) fn end(&self) -> Tally {
        self.close(Duration::ZERO);
        let mut state = self.lock();
        let unsent = state.stats.queued;
        state.drop_queued(DropReason::Closed, unsent);
        let spent = std::mem::take(&mut state.queue);
        drop(state);
        drop(spent);
        unsent
    }

    pub(crate) fn stats(&self) -> SendStats {
        let stats = self.lock().stats;
        SendStats { acknowledged: stats.written.messages, ..stats }
    }

    /// Whether it was closed for being full, under [`Overflow::Disconnect`].
    pub(crate) fn has_overflown(&self) -> bool {
        let state = self.lock();
        state.bound.overflow == Overflow::Disconnect && state.stats.dropped.overflow.messages > 0
    }
}

impl State {
    fn push(&mut self, path: &Tag, frame: &Frame, spent: &mut Vec<Queued>) -> Pushed {
        if self.closing.is_some() {
            return Pushed::Refused { why: Refusal::Closed, dropped: Tally::default() };
        }
        let Some(subject) = subject_name::subject(&self.prefix, path) else { return Pushed::Unroutable };
        let own = Tally::of(frame);
        self.stats.accepted += own;
        let mut dropped = Tally::default();
        while self.is_full(own) {
            let Some(oldest) = self.oldest_to_drop() else {
                self.stats.dropped.add(DropReason::Overflow, own);
                dropped += own;
                return Pushed::Refused { why: Refusal::Full, dropped };
            };
            let tally = oldest.tally();
            self.drop_queued(DropReason::Overflow, tally);
            dropped += tally;
            spent.push(oldest);
        }
        self.stats.queued += own;
        let kind = if matches!(frame, Frame::Text(_)) { Kind::Text } else { Kind::Binary };
        let mark = Some(Mark { kind, stamp: self.numbers.next(path) });
        let envelope = Envelope { subject: subject.into(), mark, payload: frame.to_bytes() };
        self.queue.push_back(Queued { path: path.clone(), envelope });
        Pushed::Queued { dropped }
    }

    /// Whether there is no room for a message. An empty queue takes one of any length.
    fn is_full(&self, message: Tally) -> bool {
        let queued = self.stats.queued;
        let is_too_much =
            queued.messages >= self.bound.messages as u64 || queued.len + message.len > self.bound.len as u64;
        queued.messages > 0 && is_too_much
    }

    /// Takes out the oldest message that no link has taken, if the policy says so.
    fn oldest_to_drop(&mut self) -> Option<Queued> {
        match self.bound.overflow {
            Overflow::DropOldest => self.remove_next(),
            Overflow::DropLatest => None,
            Overflow::Disconnect => {
                // The task ends the bus at once.
                self.closing = Some(Instant::now());
                None
            }
        }
    }

    /// Removes the first that the link has not taken.
    fn remove_next(&mut self) -> Option<Queued> {
        let next = self.queue.remove(self.taken)?;
        self.notes -= usize::from(next.is_note());
        Some(next)
    }

    fn drop_queued(&mut self, reason: DropReason, tally: Tally) {
        self.stats.queued -= tally;
        self.stats.dropped.add(reason, tally);
    }

    fn beat(&mut self) {
        for (path, stamp) in self.numbers.beat(PATHS_PER_BEAT) {
            let Some(subject) = subject_name::subject(&self.prefix, &path) else { continue };
            let mark = Some(Mark { kind: Kind::Beat, stamp });
            let envelope = Envelope { subject: subject.into(), mark, payload: Default::default() };
            self.queue.push_back(Queued { path, envelope });
        }
    }

    fn note(&mut self, Note { channel, mark, payload }: Note) {
        let subject = channel.subject(&self.prefix, &mark.stamp.publisher);
        let envelope = Envelope { subject: subject.as_str().into(), mark: Some(mark), payload };
        self.queue.insert(self.place_of_notes(), Queued { path: subject.into(), envelope });
        self.notes += 1;
    }

    /// Behind the notes that nothing precedes, as long as the link has taken nothing else: they do not wait with the messages.
    fn place_of_notes(&self) -> usize {
        let first = self.queue.iter().take_while(|queued| queued.is_note()).count();
        if self.taken <= first { first } else { self.queue.len() }
    }

    fn leading_notes(&self) -> usize {
        self.queue.iter().skip(self.taken).take_while(|queued| queued.is_note()).count()
    }

    fn has_window(&self) -> bool {
        (self.taken as u64) < WINDOW.messages && self.taken_len < WINDOW.len
    }

    fn is_takable(&self) -> bool {
        self.taken < self.queue.len() && self.has_window()
    }

    fn wakes(&self, knows_of_closing: bool) -> bool {
        self.is_takable() || (self.closing.is_some() && !knows_of_closing)
    }

    fn take(&mut self, most: usize, max_len: usize) -> Taken {
        let mut taken = Taken::default();
        while taken.messages.len() < most && self.has_window() {
            let Some(next) = self.queue.get(self.taken) else { break };
            if next.envelope.payload.len() <= max_len {
                self.taken_len += next.tally().len;
                taken.messages.push(next.clone());
                self.taken += 1;
            } else if let Some(long) = self.remove_next() {
                self.drop_queued(DropReason::Undeliverable, long.tally());
                taken.too_long.push(long);
            }
        }
        taken
    }

    fn confirm(&mut self, count: usize) -> Vec<Queued> {
        let confirmed: Vec<_> = self.queue.drain(..count.min(self.taken)).collect();
        self.taken -= confirmed.len();
        self.notes -= confirmed.iter().filter(|queued| queued.is_note()).count();
        for tally in confirmed.iter().map(Queued::tally) {
            self.taken_len -= tally.len;
            self.stats.queued -= tally;
            self.stats.written += tally;
        }
        confirmed
    }

    fn rewind(&mut self) -> u64 {
        let taken = self.queue.iter().take(self.taken).map(|queued| queued.tally().messages).sum();
        (self.taken, self.taken_len, self.notes) = (0, 0, 0);
        self.queue.retain(|queued| !queued.is_note());
        taken
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bus::{numbers::Stamp, presence::channel::Channel};

    fn outbox(messages: usize, overflow: Overflow) -> BusOutbox {
        BusOutbox::new(OutboxBound::new(messages, 1 << 20, overflow), "rx", "me")
    }

    fn push(outbox: &BusOutbox, text: &str) -> Pushed {
        outbox.push(&"/a".into(), &Frame::Text(text.into()), |_| ())
    }

    /// What a link takes: the numbers and the texts.
    fn take(outbox: &BusOutbox, most: usize) -> Vec<String> {
        let messages = outbox.take(most, 100).messages;
        let shown = |queued: &Queued| {
            let Envelope { subject, mark, payload } = &queued.envelope;
            format!("{subject} {} {}", mark.as_ref().unwrap(), String::from_utf8_lossy(payload))
        };
        messages.iter().map(shown).collect()
    }

    const ONE: Tally = Tally { messages: 1, len: 1 };
    const NONE: Tally = Tally { messages: 0, len: 0 };

    #[test]
    fn messages_that_were_not_confirmed_are_taken_again_by_the_next_link() {
        let outbox = outbox(9, Overflow::DropLatest);
        for text in ["x", "y", "z"] {
            assert_eq!(push(&outbox, text), Pushed::Queued { dropped: NONE });
        }
        assert_eq!(take(&outbox, 2), ["rx.a t.me.1 x", "rx.a t.me.2 y"]);
        outbox.confirm(1);
        assert_eq!(outbox.rewind(), 1);
        assert_eq!(take(&outbox, 9), ["rx.a t.me.2 y", "rx.a t.me.3 z"]);
        outbox.confirm(2);
        assert_eq!((outbox.is_empty(), outbox.rewind(), outbox.stats().written.messages), (true, 0, 3));
    }

    #[test]
    fn beat_follows_the_messages_and_counts_as_none() {
        let outbox = outbox(1, Overflow::DropLatest);
        push(&outbox, "x");
        outbox.beat();
        assert_eq!(take(&outbox, 9), ["rx.a t.me.1 x", "rx.a n.me.1 "]);
        outbox.confirm(2);
        let stats = outbox.stats();
        assert_eq!((stats.accepted, stats.written, stats.queued), (ONE, ONE, NONE));
    }

    fn note(outbox: &BusOutbox, payload: &'static [u8]) {
        let mark = Mark { kind: Kind::Presence, stamp: Stamp { publisher: "me".into(), number: 1 } };
        outbox.note(Note { channel: Channel::All, mark, payload: Bytes::from_static(payload) });
    }

    #[tokio::test]
    async fn notes_do_not_wait_with_the_messages_and_end_with_their_link() {
        let outbox = outbox(9, Overflow::DropLatest);
        push(&outbox, "x");
        note(&outbox, b"1");
        note(&outbox, b"2");
        assert_eq!(outbox.until_notes().await, 2);
        assert_eq!(take(&outbox, 2), ["rx-p.all.me p.me.1 1", "rx-p.all.me p.me.1 2"]);
        note(&outbox, b"3");
        assert_eq!(outbox.until_notes().await, 1);
        outbox.confirm(1);
        assert_eq!(take(&outbox, 9), ["rx-p.all.me p.me.1 3", "rx.a t.me.1 x"]);
        // Behind what the link has taken.
        note(&outbox, b"4");
        assert_eq!(take(&outbox, 9), ["rx-p.all.me p.me.1 4"]);
        assert_eq!(outbox.rewind(), 1);
        assert_eq!(take(&outbox, 9), ["rx.a t.me.1 x"]);
        outbox.confirm(1);
        assert!(outbox.is_empty() && outbox.has_room_for_notes());
        outbox.close(Duration::ZERO);
        assert_eq!(outbox.until_notes().await, 0);
    }

    #[test]
    fn full_outbox_does_as_its_policy_says_and_the_sums_are_exact() {
        let full = |overflow| {
            let outbox = outbox(2, overflow);
            push(&outbox, "x");
            take(&outbox, 1);
            push(&outbox, "y");
            let pushed = push(&outbox, "z");
            let stats = outbox.stats();
            assert_eq!(stats.accepted.messages, stats.queued.messages + stats.dropped.total().messages);
            (pushed, take(&outbox, 9), outbox.is_closing())
        };
        let refused = Pushed::Refused { why: Refusal::Full, dropped: ONE };
        assert_eq!(full(Overflow::DropLatest), (refused, vec!["rx.a t.me.2 y".into()], false));
        let queued = Pushed::Queued { dropped: ONE };
        // The number of the message that went shows receivers that it is missing.
        assert_eq!(full(Overflow::DropOldest), (queued, vec!["rx.a t.me.3 z".into()], false));
        let (_, _, is_closing) = full(Overflow::Disconnect);
        assert!(is_closing);
    }

    #[test]
    fn messages_that_the_broker_does_not_take_leave_the_queue() {
        let outbox = outbox(9, Overflow::DropLatest);
        ["short", "a longer one", "short"].into_iter().for_each(|text| _ = push(&outbox, text));
        let taken = outbox.take(9, 5);
        assert_eq!((taken.messages.len(), taken.too_long.len()), (2, 1));
        assert_eq!(outbox.stats().dropped.undeliverable, Tally { messages: 1, len: 12 });
    }

    #[test]
    fn closed_outbox_refuses_and_counts_what_it_could_not_send() {
        let outbox = outbox(9, Overflow::DropLatest);
        push(&outbox, "x");
        outbox.close(Duration::from_secs(1));
        assert_eq!(push(&outbox, "y"), Pushed::Refused { why: Refusal::Closed, dropped: NONE });
        assert_eq!(outbox.end(), ONE);
        assert_eq!((outbox.stats().dropped.closed, outbox.stats().queued), (ONE, NONE));
    }

    #[test]
    fn path_without_a_subject_is_not_for_the_bus() {
        assert_eq!(
            outbox(9, Overflow::DropLatest).push(&"a".into(), &Frame::Text("x".into()), |_| ()),
            Pushed::Unroutable
        );
    }

    /// A broker that stands still must not make the memory of the link grow.
    #[test]
    fn no_more_is_on_the_way_than_the_window() {
        let outbox = outbox(100_000, Overflow::DropLatest);
        (0..20_000).for_each(|_| _ = push(&outbox, "x"));
        assert_eq!(outbox.take(usize::MAX, 100).messages.len() as u64, WINDOW.messages);
        assert_eq!(outbox.take(1, 100).messages.len(), 0);
    }
}
