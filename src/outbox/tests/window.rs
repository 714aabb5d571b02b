//! The outbox that keeps what it has written, against a peer that receives it over links that break.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;

use super::{PATIENCE, flush, is_over, message};
use crate::{
    Frame,
    fate::{DeliveryStatus, Fate},
    outbox::{Beyond, Flush, Key, Outbox, OutboxBound, Overflow},
    stats::{DropReason, Tally},
};

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    /// Of a message with one of a few keys.
    PushKeyed(u32, usize),
    Take(usize),
    Write(usize),
    Untake(usize),
    /// The peer acknowledges what has come, up to that share of it.
    Acknowledge(usize),
    /// The link breaks: of what was written, the peer gets that many messages more.
    Break(usize),
    Lose {
        knows: bool,
        resends: bool,
    },
    Clear,
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..9usize).prop_map(Step::Push),
        6 => (0..3u32, 0..9usize).prop_map(|(key, len)| Step::PushKeyed(key, len)),
        6 => (0..100usize).prop_map(Step::Take),
        6 => (0..6usize).prop_map(Step::Write),
        2 => (0..4usize).prop_map(Step::Untake),
        4 => (0..6usize).prop_map(Step::Acknowledge),
        3 => (0..6usize).prop_map(Step::Break),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(knows, resends)| Step::Lose { knows, resends }),
        1 => Just(Step::Clear),
        2 => Just(Step::Flush),
    ]
}

fn overflow() -> impl Strategy<Value = Overflow> {
    prop_oneof![Just(Overflow::DropOldest), Just(Overflow::DropLatest)]
}

/// What lies on a link, in order.
#[derive(Clone, Debug)]
enum Sent {
    At(u64),
    Message(u32),
}

/// What is told of a message.
#[derive(Default)]
struct Note(Mutex<Vec<(DeliveryStatus, DeliveryStatus)>>);

impl Fate for Note {
    fn queued(&self) {}

    fn moved(&self, from: DeliveryStatus, to: DeliveryStatus) {
        self.0.lock().unwrap().push((from, to));
    }
}

/// Both ends of a session.
struct World {
    outbox: Outbox,
    window: Tally,
    numbers: std::ops::RangeFrom<u32>,
    accepted: BTreeSet<u32>,
    /// Those with a key: they may take the place of earlier ones.
    keyed: BTreeSet<u32>,
    notes: Vec<(u32, Arc<Note>)>,
    /// Each with the messages that it waits for.
    flushes: Vec<(Arc<Flush>, BTreeSet<u32>)>,
    /// Taken and not written.
    buffer: Vec<Sent>,
    /// Written and not received.
    under_way: Vec<Sent>,
    /// What the peer has come to, and what it has acknowledged.
    received: u64,
    acked: u64,
    arrived: Vec<u32>,
    missed: u64,
    doubtful: u64,
    greetings: u64,
}

fn number(frame: &Frame) -> u32 {
    let Frame::Binary(bytes) = frame else { unreachable!("all messages are binary") };
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

impl World {
    fn new(bound: OutboxBound, window: u64) -> Self {
        let outbox = Outbox::unreported(bound);
        let (buffer, under_way, arrived) = (vec![], vec![], vec![]);
        let (accepted, keyed, numbers) = (BTreeSet::new(), BTreeSet::new(), 0..);
        let world = Self {
            outbox,
            window: Tally { messages: window, len: 40 },
            numbers,
            accepted,
            keyed,
            notes: vec![],
            flushes: vec![],
            buffer,
            under_way,
            received: 0,
            acked: 0,
            arrived,
            missed: 0,
            doubtful: 0,
            greetings: 0,
        };
        world.outbox.begin_session(world.window, vec![]);
        world
    }

    fn next_message(&mut self, len: usize) -> (u32, Frame) {
        let number = self.numbers.next().unwrap();
        (number, message(number, len))
    }

    fn push(&mut self, key: Option<Key>, len: usize) {
        let (number, frame) = self.next_message(len);
        self.keyed.extend(key.map(|_| number));
        let note = Arc::new(Note::default());
        let fate: Arc<dyn Fate> = note.clone();
        if self.outbox.push_with(frame, key, Some(&fate)).is_ok() {
            self.accepted.insert(number);
            self.notes.push((number, note));
        }
    }

    fn take(&mut self, budget: usize) {
        let buffer = &mut self.buffer;
        self.outbox.take_each(budget, None, |frame, leap| {
            buffer.extend(leap.map(Sent::At));
            buffer.push(Sent::Message(number(frame.frames()[0])));
        });
    }

    /// Writes up to `count` messages, and what lies between them.
    fn write(&mut self, count: usize) {
        let mut written = 0;
        while written < count && !self.buffer.is_empty() {
            let sent = self.buffer.remove(0);
            written += usize::from(matches!(sent, Sent::Message(_)));
            self.under_way.push(sent);
        }
        self.outbox.confirm(written, false);
    }

    fn untake(&mut self, count: usize) {
        let last_at = self.buffer.iter().rposition(|sent| matches!(sent, Sent::At(_)));
        let kept = last_at.map_or(0, |at| at + 1).max(self.buffer.len().saturating_sub(count));
        let untaken = self.buffer.split_off(kept).len();
        drop(self.outbox.untake(untaken, None).run());
    }

    /// The peer receives up to `count` of what is under way.
    fn receive(&mut self, count: usize) {
        for sent in self.under_way.drain(..count.min(self.under_way.len())) {
            match sent {
                Sent::At(position) => {
                    assert!(position > self.received, "at {position} behind {}", self.received);
                    self.missed += position - self.received;
                    self.received = position;
                }
                Sent::Message(number) => {
                    self.received += 1;
                    self.arrived.push(number);
                }
            }
        }
    }

    fn acknowledge(&mut self, count: usize) {
        self.receive(count);
        self.acked = self.received;
        assert!(self.outbox.acknowledge(self.acked).is_ok());
        assert!(self.outbox.acknowledge(self.acked + 1000).is_err());
    }

    fn break_link(&mut self, arrived: usize) {
        self.receive(arrived);
        self.under_way.clear();
        self.outbox.detach(!self.buffer.is_empty());
        self.buffer.clear();
    }

    fn resume(&mut self, arrived: usize) {
        self.break_link(arrived);
        assert_eq!(self.outbox.rewind(self.received + 1000), Err(Beyond));
        let next = self.outbox.rewind(self.received).unwrap();
        assert!(next >= self.received);
        self.missed += next - self.received;
        self.received = next;
    }

    fn lose(&mut self, knows: bool, resends: bool) {
        self.break_link(usize::from(resends));
        let known = knows.then_some(self.received);
        let end = self.outbox.end_position();
        let leftover = self.outbox.lose_session(known, resends);
        if known.is_some() {
            assert_eq!(leftover.unconfirmed, 0);
            self.missed += end - self.received - leftover.kept;
        } else {
            self.doubtful += leftover.unconfirmed;
        }
        let (number, greeting) = self.next_message(0);
        self.accepted.insert(number);
        self.greetings += 1;
        self.outbox.begin_session(self.window, vec![greeting]);
        (self.received, self.acked) = (0, 0);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push(len) => self.push(None, len),
            Step::PushKeyed(key, len) => self.push(Some(Key::of(&key)), len),
            Step::Take(budget) => self.take(budget),
            Step::Write(count) => self.write(count),
            Step::Untake(count) => self.untake(count),
            Step::Acknowledge(count) => self.acknowledge(count),
            Step::Break(arrived) => self.resume(arrived),
            Step::Lose { knows, resends } => self.lose(knows, resends),
            Step::Clear => self.outbox.clear(),
            Step::Flush => self.flush(),
        }
        self.check();
    }

    /// Only behind a message that was just queued, as it is used.
    fn flush(&mut self) {
        let unwritten = self.unwritten();
        let newest = self.outbox.lock().queue.back().map(|frame| number(frame.frame()));
        if newest.is_some_and(|newest| unwritten.contains(&newest)) {
            self.flushes.push((flush(&self.outbox), unwritten));
        }
    }

    fn unwritten(&self) -> BTreeSet<u32> {
        let state = self.outbox.lock();
        let queue = state.queue.iter().enumerate();
        let unwritten =
            queue.filter(|(index, _)| !state.window().is_some_and(|window| window.places.is_written(*index)));
        unwritten.map(|(_, frame)| number(frame.frame())).collect()
    }

    /// None is over before its messages are written or dropped.
    fn check_flushes(&self) {
        let unwritten = self.unwritten();
        for (flush, messages) in self.flushes.iter().filter(|(flush, _)| is_over(flush)) {
            assert!(messages.is_disjoint(&unwritten), "{flush:?} of {messages:?}");
        }
    }

    fn check(&self) {
        self.check_flushes();
        let stats = self.outbox.stats();
        let mut sum = stats.written;
        sum += stats.queued;
        sum += stats.dropped.total();
        assert_eq!(stats.accepted, sum);
        assert_eq!(stats.written.messages, stats.acknowledged + stats.retained + stats.lost);
        let state = self.outbox.lock();
        assert_eq!(state.queue.len() as u64, stats.queued.messages + stats.retained);
        assert!(state.under_way() <= state.queue.len());
    }

    /// Each tracked message has one end, and it is true.
    fn check_fates(&self, arrived: &BTreeSet<u32>) {
        for (number, note) in &self.notes {
            let steps = note.0.lock().unwrap();
            let froms: Vec<_> = steps.iter().map(|(from, _)| *from).collect();
            let tos = steps.iter().map(|(_, to)| *to);
            assert_eq!(froms, [DeliveryStatus::Queued].into_iter().chain(tos).take(steps.len()).collect::<Vec<_>>());
            let has_arrived = arrived.contains(number);
            match steps.last().unwrap().1 {
                DeliveryStatus::Acknowledged => assert!(has_arrived, "{number}"),
                DeliveryStatus::Dropped(DropReason::Unconfirmed) => {}
                DeliveryStatus::Dropped(_) => assert!(!has_arrived, "{number}"),
                other => panic!("{number} ended as {other:?}"),
            }
        }
    }

    /// Lets everything arrive.
    fn settle(&mut self) {
        while !self.outbox.is_empty() {
            self.take(1000);
            self.write(1000);
            self.acknowledge(usize::MAX);
        }
        self.under_way.extend(self.outbox.untold_end().map(Sent::At));
        self.receive(usize::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_accepted_arrives_once_and_in_order_or_is_dropped_or_in_doubt(
        messages in 1..6usize,
        window in 1..6u64,
        overflow in overflow(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(OutboxBound::new(messages, 60, overflow), window);
        let (mut lost, mut resent_doubtful) = (false, false);
        for step in steps {
            lost |= matches!(step, Step::Lose { .. });
            resent_doubtful |= matches!(step, Step::Lose { knows: false, resends: true });
            world.step(step);
        }
        world.settle();
        world.check();
        prop_assert!(world.flushes.iter().all(|(flush, _)| is_over(flush)));
        let stats = world.outbox.stats();
        let arrived: BTreeSet<_> = world.arrived.iter().copied().collect();
        // A greeting comes before what waited, and what is in doubt may come twice if that is asked for.
        let in_order: Vec<_> = world.arrived.iter().filter(|number| !world.keyed.contains(number)).collect();
        prop_assert!(lost || in_order.is_sorted_by(|a, b| a < b), "{:?}", world.arrived);
        prop_assert!(resent_doubtful || arrived.len() == world.arrived.len(), "{:?}", world.arrived);
        world.check_fates(&arrived);
        let missing = (world.accepted.len() - arrived.len()) as u64;
        if !resent_doubtful {
            prop_assert!(missing <= stats.dropped.total().messages + stats.lost);
            // The greetings of a session that is lost are not sent again.
            prop_assert!(stats.lost <= world.doubtful + world.greetings);
        }
        if !lost {
            prop_assert_eq!(missing, world.missed);
            prop_assert_eq!((stats.lost, stats.retained), (0, 0));
        }
    }
}

#[test]
fn full_window_holds_the_rest_until_the_peer_acknowledges() {
    let outbox = super::outbox(9, 100, Overflow::DropLatest);
    outbox.begin_session(Tally { messages: 2, len: 100 }, vec![]);
    (0..3).for_each(|n| outbox.push(message(n, 0)).unwrap());
    let take = || {
        let mut taken = Vec::new();
        let _ = outbox.take_each(1000, None, |frame, _| taken.push(number(frame.frames()[0])));
        taken
    };
    assert_eq!(take(), [0, 1]);
    outbox.confirm(2, true);
    assert_eq!((take(), outbox.is_held()), (vec![], true));
    outbox.close(1000, "", PATIENCE);
    assert!(outbox.take_each(1000, None, |_, _| {}).is_none(), "a message waits");
    assert!(outbox.acknowledge(1).is_ok());
    assert_eq!((take(), outbox.is_held()), (vec![2], false));
}

#[test]
fn end_gives_up_what_was_written_and_drops_the_rest() {
    let outbox = super::outbox(9, 100, Overflow::DropLatest);
    outbox.begin_session(Tally { messages: 9, len: 100 }, vec![]);
    (0..5).for_each(|n| outbox.push(message(n, 0)).unwrap());
    let _ = outbox.take_each(1000, None, |_, _| {});
    outbox.confirm(3, true);
    assert!(outbox.acknowledge(1).is_ok());
    assert_eq!(outbox.end().messages, 2);
    let stats = outbox.stats();
    assert_eq!((stats.written.messages, stats.acknowledged, stats.lost, stats.retained), (3, 1, 2, 0));
    assert_eq!((stats.dropped.closed.messages, stats.queued.messages, outbox.is_empty()), (2, 0, true));
}
