//! The outbox against a model of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, Weak},
};

use proptest::prelude::*;

use super::{PATIENCE, flush, is_over, message, take_some};
use crate::{
    Frame,
    outbox::{Flush, Key, Outbox, OutboxBound, Overflow, Refusal, Reporter, Reports},
    stats::{Dropped, Tally},
};

/// What happens to an outbox.
#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    /// Of a message with one of a few keys.
    PushKeyed(u32, usize),
    Take(usize),
    Write(usize),
    Untake(usize),
    Detach,
    Greet(usize),
    DropHead,
    Clear,
    Close,
    End,
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => prop_oneof![5 => 0..10usize, 1 => 0..60usize].prop_map(Step::Push),
        8 => (0..3u32, 0..10usize).prop_map(|(key, len)| Step::PushKeyed(key, len)),
        8 => (0..100usize).prop_map(Step::Take),
        8 => (0..6usize).prop_map(Step::Write),
        3 => (0..6usize).prop_map(Step::Untake),
        2 => Just(Step::Detach),
        2 => (0..3usize).prop_map(Step::Greet),
        2 => Just(Step::DropHead),
        1 => Just(Step::Clear),
        1 => Just(Step::Close),
        1 => Just(Step::End),
        3 => Just(Step::Flush),
    ]
}

fn overflow() -> impl Strategy<Value = Overflow> {
    prop_oneof![Just(Overflow::Disconnect), Just(Overflow::DropOldest), Just(Overflow::DropLatest)]
}

/// An outbox, and a driver's knowledge of it.
struct Model {
    outbox: Outbox,
    bound: OutboxBound,
    taken: VecDeque<Frame>,
    numbers: std::ops::RangeFrom<u32>,
    /// The messages offered while it was open.
    accepted: Tally,
    reported: Arc<Mutex<Dropped>>,
    /// Which message was at the head under which number.
    heads: HashMap<u64, Frame>,
    /// Each with the messages that it waits for.
    flushes: Vec<(Arc<Flush>, Vec<Frame>)>,
    keys: HashMap<Frame, u32>,
}

impl Reporter for Mutex<Dropped> {
    fn post_drops(self: Arc<Self>, reports: Reports) {
        let Some(outbox) = reports.outbox() else { return };
        outbox.report_drops(|reason, dropped| self.lock().unwrap().add(reason, dropped));
    }
}

impl Model {
    fn new(bound: OutboxBound) -> Self {
        let reported = Arc::new(Mutex::new(Dropped::default()));
        let reporter: Weak<Mutex<Dropped>> = Arc::downgrade(&reported);
        let outbox = Outbox::new(bound, reporter);
        Self {
            outbox,
            bound,
            taken: VecDeque::new(),
            numbers: 0..,
            accepted: Tally::default(),
            reported,
            heads: HashMap::new(),
            flushes: Vec::new(),
            keys: HashMap::new(),
        }
    }

    fn queue(&self) -> Vec<Frame> {
        self.outbox.lock().queue.iter().map(|message| message.frame().clone()).collect()
    }

    fn next_message(&mut self, len: usize) -> Frame {
        message(self.numbers.next().unwrap(), len)
    }

    fn push(&mut self, len: usize) {
        let frame = self.next_message(len);
        let (before, was_closed) = (self.queue(), self.outbox.closing().is_some());
        let first_droppable = self.outbox.lock().droppable();
        let answer = self.outbox.push(frame.clone());
        let mut after = self.queue();
        assert_eq!(answer == Err(Refusal::Closed), was_closed);
        if !was_closed {
            self.accepted += Tally::of(&frame);
        }
        assert_eq!(answer.is_ok(), after.last() == Some(&frame));
        if answer.is_ok() {
            after.pop();
        }
        // Earlier messages are still there, except those that the policy drops.
        let gone = before.len() - after.len();
        let droppable = match self.bound.overflow {
            Overflow::DropLatest => 0,
            Overflow::DropOldest => gone,
            Overflow::Disconnect if answer == Err(Refusal::Full) => before.len() - first_droppable,
            Overflow::Disconnect => 0,
        };
        assert_eq!(gone, droppable);
        assert_eq!(
            after,
            [&before[..first_droppable.min(after.len())], &before[before.len().min(first_droppable + gone)..]].concat()
        );
    }

    /// Replaces the one that waits and has this key, if there is one and the bound allows it, and otherwise is as any other.
    fn push_keyed(&mut self, key: u32, len: usize) {
        let (before, first) = (self.queue(), self.outbox.lock().droppable());
        let frame = self.next_message(len);
        let older = (first..before.len()).rev().find(|index| self.keys.get(&before[*index]) == Some(&key));
        let replaced_before = self.outbox.stats().dropped.replaced;
        let was_closed = self.outbox.closing().is_some();
        let (answer, spent) = self.outbox.offer_keyed(frame.clone().into(), Key::of(&key), None);
        drop(spent);
        self.keys.insert(frame.clone(), key);
        if !was_closed {
            self.accepted += Tally::of(&frame);
        }
        let after = self.queue();
        let replaced = self.outbox.stats().dropped.replaced.messages - replaced_before.messages;
        match older.filter(|_| replaced > 0) {
            Some(index) => {
                let mut expected = before;
                // Who waits for the one waits for the other.
                let flushed = self.flushes.iter_mut().flat_map(|(_, messages)| messages);
                flushed.filter(|message| **message == expected[index]).for_each(|message| *message = frame.clone());
                expected[index] = frame;
                assert_eq!((replaced, answer, after), (1, Ok(()), expected));
            }
            None => {
                assert_eq!(replaced, 0);
                let is_alone = |index: &usize| before.len() == 1 && *index == 0;
                assert!(older.is_none_or(
                    |index| was_closed || (!is_alone(&index) && !self.fits_instead(&before, index, &frame))
                ));
            }
        }
    }

    /// Removes those that wait again, before an index, and are behind a newer one with their key.
    fn remove_outdated(&self, queue: &mut Vec<Frame>, end: usize) {
        let begin = self.taken.len().max(self.outbox.lock().greetings());
        for index in (begin..end).rev() {
            let key = self.keys.get(&queue[index]);
            if key.is_some() && queue[index + 1..].iter().any(|later| self.keys.get(later) == key) {
                queue.remove(index);
            }
        }
    }

    fn fits_instead(&self, before: &[Frame], index: usize, frame: &Frame) -> bool {
        let greetings: usize = before[..self.outbox.lock().greetings().min(before.len())].iter().map(Frame::len).sum();
        let held: usize = before.iter().map(Frame::len).sum();
        held - greetings - before[index].len() + frame.len() <= self.bound.len
    }

    fn take(&mut self, budget: usize) {
        let expected = self.queue();
        let batch = take_some(&self.outbox, budget);
        assert_eq!(batch[..], expected[self.taken.len()..][..batch.len()]);
        self.taken.extend(batch);
    }

    fn write(&mut self, count: usize) {
        let before = self.queue();
        // Whatever happened meanwhile, the messages that a driver has taken lie at the head.
        assert!(before.iter().zip(&self.taken).all(|(queued, taken)| queued == taken));
        let count = count.min(self.taken.len());
        self.outbox.confirm(count, false);
        self.taken.drain(..count);
        assert_eq!(self.queue(), before[count..]);
    }

    fn untake(&mut self, count: usize) {
        let (mut before, end) = (self.queue(), self.taken.len());
        self.taken.truncate(self.taken.len().saturating_sub(count));
        drop(self.outbox.untake(count, None).run());
        self.remove_outdated(&mut before, end);
        // Once it has overflown, nothing is left for a later turn.
        let state = self.outbox.lock();
        let kept = if self.outbox.has_overflown() { state.droppable() } else { before.len() };
        assert!(
            state.taken as usize == self.taken.len()
                && state.queue.iter().map(crate::outbox::OutboxFrame::frame).eq(&before[..kept])
        );
    }

    fn greet(&mut self, count: usize) {
        let greetings: Vec<_> = (0..count).map(|_| self.next_message(20)).collect();
        let before = self.queue();
        self.outbox.greet(greetings.clone());
        greetings.iter().for_each(|greeting| self.accepted += Tally::of(greeting));
        assert_eq!(self.queue(), [greetings, before].concat());
    }

    fn detach(&mut self) {
        let (before, greetings) = (self.queue(), self.outbox.lock().greetings());
        self.outbox.detach(!self.taken.is_empty());
        let (mut expected, end) = (before[greetings..].to_vec(), self.taken.len().saturating_sub(greetings));
        self.taken.clear();
        self.remove_outdated(&mut expected, end);
        assert_eq!(self.queue(), expected);
    }

    fn drop_head(&mut self) {
        let mut expected = self.queue();
        let Some(head) = self.outbox.head() else { return };
        let is_untaken = self.taken.len() <= self.outbox.lock().greetings();
        assert_eq!(self.outbox.try_drop_head(head), is_untaken);
        if is_untaken {
            expected.remove(self.outbox.lock().greetings());
            assert!(!self.outbox.try_drop_head(head));
        }
        assert_eq!(self.queue(), expected);
    }

    /// Each message at the head has one number, and each number belongs to one message.
    fn check_head(&mut self) {
        let Some(head) = self.outbox.head() else { return };
        let frame = self.queue()[self.outbox.lock().greetings()].clone();
        assert_eq!(head.len, frame.len());
        assert!(self.heads.iter().all(|(number, known)| (*number == head.number) == (*known == frame)));
        self.heads.insert(head.number, frame);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push(len) => self.push(len),
            Step::PushKeyed(key, len) => self.push_keyed(key, len),
            Step::Take(budget) => self.take(budget),
            Step::Write(count) => self.write(count),
            Step::Untake(count) => self.untake(count),
            Step::Detach => self.detach(),
            Step::Greet(count) => {
                self.detach();
                self.greet(count);
            }
            Step::DropHead => self.drop_head(),
            Step::Clear => {
                let kept = self.queue()[..self.outbox.lock().droppable()].to_vec();
                self.outbox.clear();
                assert_eq!(self.queue(), kept);
            }
            Step::Close => self.outbox.close(1000, "", PATIENCE),
            Step::End => {
                let queued = self.outbox.stats().queued;
                assert_eq!(self.outbox.end(), queued);
                self.taken.clear();
            }
            Step::Flush if self.outbox.is_empty() => {}
            Step::Flush => self.flushes.push((flush(&self.outbox), self.queue())),
        }
    }

    /// A flush is over when none of its messages is in the queue any more, nor greetings that came before them.
    fn check_flushes(&self) {
        let (queue, has_greetings) = (self.queue(), self.outbox.lock().greetings() > 0);
        for (flush, messages) in &self.flushes {
            let is_gone = !messages.iter().any(|message| queue.contains(message));
            assert!(is_over(flush) == is_gone || (is_gone && has_greetings), "{flush:?}");
        }
    }

    fn check(&self) {
        let state = self.outbox.lock();
        let stats = state.stats();
        let mut sum = stats.written;
        sum += stats.queued;
        sum += stats.dropped.total();
        assert_eq!((stats.accepted, self.accepted), (sum, sum));
        let in_queue = state.queue.iter().fold(Tally::default(), |mut sum, frame| {
            sum += frame.tally();
            sum
        });
        assert_eq!(stats.queued, in_queue);
        let bounded = state.bounded();
        assert!(bounded.messages <= 1 || bounded.messages <= self.bound.messages as u64);
        assert!(bounded.messages <= 1 || bounded.len <= self.bound.len as u64);
        assert!(state.taken as usize <= state.queue.len() && state.greetings() <= state.queue.len());
        let mut greetings = Tally::default();
        state.queue.iter().take(state.greetings()).for_each(|frame| greetings += frame.tally());
        assert_eq!(state.bounded().len, stats.queued.len - greetings.len);
        let mut told = *self.reported.lock().unwrap();
        // No event tells it.
        told.replaced = stats.dropped.replaced;
        assert_eq!(told, stats.dropped);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_the_sums_are_exact_the_bound_holds_and_the_order_is_kept(
        messages in 1..6usize,
        len in 0..60usize,
        overflow in overflow(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut model = Model::new(OutboxBound::new(messages, len, overflow));
        for step in steps {
            model.step(step);
            model.check();
            model.check_flushes();
            model.check_head();
        }
    }
}
