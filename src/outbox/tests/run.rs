//! What many outboxes get from a run, against the same messages pushed to each by itself.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{dropped, flush, is_over, message, outbox};
use crate::{
    Frame,
    outbox::{Answer, Flush, Key, Outbox, OutboxFrame, Overflow, Runs},
    stats::Tally,
};

/// So many that messages come in runs.
const MANY: usize = 100;

/// What happens to an outbox, between two messages that all get.
#[derive(Clone, Debug)]
enum Step {
    PushToAll(usize),
    /// Messages that this one misses, so that its stretch is not prolonged any more.
    PushToOthers(usize),
    PushAlone(usize),
    PushKeyed(u32),
    Take(usize),
    /// Another outbox, which gets the same from runs, takes and writes: what it takes is put together for all.
    OtherTakes(usize),
    Write(usize),
    /// Where all messages are in place: another step may come between the take and the confirmation.
    WriteInPlace(Box<Step>),
    Untake(usize),
    /// So many messages more than before, in a session.
    Acknowledge(u64),
    Greet,
    Detach,
    /// The session is lost, and another begins.
    Lose {
        resends: bool,
    },
    Clear,
    Close,
    Flush,
    Count,
}

/// A step that is not the link's.
fn step_of_program() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => prop_oneof![5 => 0..10usize, 1 => 1000..1100usize].prop_map(Step::PushToAll),
        3 => (1..70usize).prop_map(Step::PushToOthers),
        3 => (0..10usize).prop_map(Step::PushAlone),
        1 => (0..3u32).prop_map(Step::PushKeyed),
        1 => Just(Step::Clear),
        1 => Just(Step::Close),
        1 => Just(Step::Flush),
        2 => Just(Step::Count),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        42 => step_of_program(),
        10 => (0..400usize).prop_map(Step::Take),
        5 => (0..400usize).prop_map(Step::OtherTakes),
        10 => (0..20usize).prop_map(Step::Write),
        10 => step_of_program().prop_map(|between| Step::WriteInPlace(between.into())),
        2 => (0..6usize).prop_map(Step::Untake),
        5 => prop_oneof![0..10u64, 20..100u64].prop_map(Step::Acknowledge),
        1 => any::<bool>().prop_map(|resends| Step::Lose { resends }),
        1 => Just(Step::Greet),
        1 => Just(Step::Detach),
    ]
}

/// One outbox, and what its driver has taken.
struct Side {
    outbox: Outbox,
    /// How much is written before the peer has to acknowledge some, in a session.
    window: Option<Tally>,
    acknowledged: u64,
    taken: VecDeque<Frame>,
    /// What was written, and what else was seen.
    log: Vec<String>,
    flushes: Vec<Arc<Flush>>,
}

impl Side {
    fn new(messages: usize, overflow: Overflow, window: Option<u64>) -> Self {
        let outbox = outbox(messages, 10_000, overflow);
        let window = window.map(|messages| Tally { messages, len: 10 * messages });
        window.into_iter().for_each(|window| outbox.begin_session(window, vec![]));
        Self { outbox, window, acknowledged: 0, taken: VecDeque::new(), log: Vec::new(), flushes: Vec::new() }
    }

    fn note(&mut self, what: impl std::fmt::Debug) {
        self.log.push(format!("{what:?}"));
    }

    fn take_answer(&mut self, (answer, spent): Answer) {
        drop(spent);
        self.note(answer);
    }

    /// Any step but a push to all.
    fn step(&mut self, step: &Step, frame: Frame) {
        match *step {
            Step::PushToAll(_) | Step::PushToOthers(_) | Step::OtherTakes(_) | Step::WriteInPlace(_) => {}
            Step::PushAlone(_) => {
                let answer = self.outbox.push(frame);
                self.note(answer);
            }
            Step::PushKeyed(key) => {
                let answer = self.outbox.offer_keyed(frame.into(), Key::of(&key), None);
                self.take_answer(answer);
            }
            Step::Take(budget) => self.take(budget),
            Step::Write(count) => self.write(count),
            Step::Untake(count) => {
                self.taken.truncate(self.taken.len().saturating_sub(count));
                drop(self.outbox.untake(count, None).run());
            }
            Step::Acknowledge(count) => self.acknowledge(count),
            Step::Lose { resends } => self.lose(resends, frame),
            Step::Greet => {
                self.detach();
                if self.window.is_none() {
                    self.outbox.greet(vec![frame]);
                }
            }
            Step::Detach => self.detach(),
            Step::Clear => self.outbox.clear(),
            Step::Close => self.outbox.close(1000, "", super::PATIENCE),
            Step::Flush if self.outbox.is_empty() => {}
            Step::Flush => self.flushes.push(flush(&self.outbox)),
            Step::Count => {
                let stats = (self.outbox.stats(), self.outbox.head(), self.outbox.begun());
                self.note(stats);
            }
        }
        let over: Vec<_> = self.flushes.iter().map(|flush| is_over(flush)).collect();
        self.note(over);
    }

    fn take(&mut self, budget: usize) {
        let mut batch = Vec::new();
        let mut leaps = Vec::new();
        let closing = self.outbox.take_each(budget, None, |message, leap| {
            let (frames, mut leap) = (message.frames(), leap);
            leaps.extend(frames.iter().map(|_| leap.take()));
            batch.extend(frames.into_iter().cloned());
        });
        self.note((&batch, leaps, closing.map(|closing| closing.code), self.outbox.is_held()));
        self.taken.extend(batch);
    }

    fn write(&mut self, count: usize) {
        let count = count.min(self.taken.len());
        let sleeps = self.outbox.confirm(count, true);
        let written: Vec<_> = self.taken.drain(..count).collect();
        self.note((written, sleeps));
    }

    fn acknowledge(&mut self, count: u64) {
        let position = self.acknowledged + count;
        let is_taken = self.outbox.acknowledge(position).map(drop);
        if is_taken.is_ok() {
            self.acknowledged = position;
        }
        self.note(is_taken);
    }

    /// The link ends; in a session, another goes on behind what was acknowledged.
    fn detach(&mut self) {
        self.outbox.detach(!self.taken.is_empty());
        self.taken.clear();
        if self.window.is_some() {
            let next = self.outbox.rewind(self.acknowledged);
            self.note(next);
        }
    }

    fn lose(&mut self, resends: bool, greeting: Frame) {
        self.detach();
        let Some(window) = self.window else { return };
        let left = self.outbox.lose_session(None, resends);
        self.note((left.unconfirmed, left.kept));
        drop(left);
        self.outbox.begin_session(window, vec![greeting]);
        self.acknowledged = 0;
    }
}

/// The runs, and another outbox that gets messages of them.
struct Others {
    runs: Runs,
    outbox: Outbox,
}

impl Others {
    fn new() -> Self {
        Self { runs: Runs::default(), outbox: outbox(10_000, 1 << 24, Overflow::Disconnect) }
    }

    fn push_to_all(&mut self, ours: &Outbox, frame: &Frame) -> Answer {
        let Some(message) = self.runs.add(&frame.clone().into(), MANY) else {
            return ours.offer(frame.clone().into(), None);
        };
        assert!(self.outbox.offer_of_run(&message).0.is_ok());
        ours.offer_of_run(&message)
    }

    /// Any step but a push to all.
    fn step(&mut self, step: &Step, frame: &Frame) {
        match *step {
            Step::PushToOthers(count) => (0..count).for_each(|_| drop(self.runs.add(&frame.clone().into(), MANY))),
            Step::OtherTakes(budget) => {
                let taken = take(&self.outbox, budget);
                self.outbox.confirm(taken.len(), true);
            }
            _ => {}
        }
    }
}

/// An outbox that gets its messages from runs, and one to which each is pushed by itself.
struct World {
    ours: Side,
    theirs: Side,
    others: Others,
    pushed: u32,
}

impl World {
    fn new(messages: usize, overflow: Overflow, window: Option<u64>) -> Self {
        let side = || Side::new(messages, overflow, window);
        Self { ours: side(), theirs: side(), others: Others::new(), pushed: 0 }
    }

    fn step(&mut self, step: &Step) {
        if let Step::WriteInPlace(between) = step {
            return self.write_in_place(between);
        }
        let len = match step {
            Step::PushToAll(len) | Step::PushAlone(len) => *len,
            _ => 3,
        };
        let Self { ours, theirs, others, pushed } = self;
        *pushed += 1;
        let frame = message(*pushed, len);
        others.step(step, &frame);
        if let Step::PushToAll(_) = step {
            ours.take_answer(others.push_to_all(&ours.outbox, &frame));
            theirs.take_answer(theirs.outbox.offer(frame.clone().into(), None));
        }
        ours.step(step, frame.clone());
        theirs.step(step, frame);
    }

    fn write_in_place(&mut self, between: &Step) {
        let Some(messages) = self.ours.outbox.take_in_place() else { return };
        let taken = take(&self.theirs.outbox, usize::MAX / 2);
        assert_eq!(self.ours.taken.len(), 0);
        assert_eq!((messages.count(), messages.frames()), (taken.len(), &*frames(&taken)));
        assert_eq!(messages.lens().sum::<usize>(), messages.frames().len());
        self.step(between);
        let (sleeps, spent) = self.ours.outbox.confirm_in_place(&messages);
        drop(spent);
        assert_eq!(sleeps, self.theirs.outbox.confirm(taken.len(), true));
    }
}

/// Messages as frames of a server (RFC 6455, section 5.2).
fn frames(messages: &[Frame]) -> Vec<u8> {
    let frame = |message: &Frame| {
        let len = message.len();
        let head = match len {
            ..126 => vec![0x82, len as u8],
            _ => [&[0x82, 126], &(len as u16).to_be_bytes()[..]].concat(),
        };
        [head, message.as_bytes().to_vec()].concat()
    };
    messages.iter().flat_map(frame).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn messages_of_a_run_are_as_those_that_were_pushed_by_themselves(
        messages in prop_oneof![1..6usize, 50..200usize],
        is_lossy: bool,
        window in prop_oneof![2 => Just(None), 1 => (1..9u64).prop_map(Some), 1 => (9..300u64).prop_map(Some)],
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let overflow = if is_lossy { Overflow::DropOldest } else { Overflow::Disconnect };
        let mut world = World::new(messages, overflow, window);
        for step in &steps {
            world.step(step);
            prop_assert_eq!(world.ours.log.last(), world.theirs.log.last());
        }
        let World { ours, theirs, .. } = world;
        prop_assert_eq!(ours.log, theirs.log);
        prop_assert_eq!(dropped(&ours.outbox), dropped(&theirs.outbox));
        prop_assert_eq!(ours.outbox.stats(), theirs.outbox.stats());
    }
}

/// What a link takes that is there already: another one would first look for the messages one by one.
fn take(outbox: &Outbox, budget: usize) -> Vec<Frame> {
    let mut batch = Vec::new();
    outbox.take_each(budget, None, |taken, _| batch.extend(taken.frames().into_iter().cloned()));
    batch
}

fn push_to_all(runs: &mut Runs, outboxes: &[Outbox], frame: Frame) {
    let message = runs.add(&frame.into(), MANY).unwrap();
    outboxes.iter().for_each(|outbox| assert!(outbox.offer_of_run(&message).0.is_ok()));
}

#[test]
fn outboxes_share_the_messages_of_a_run_and_have_none_of_their_own() {
    let (mut runs, outboxes) = (Runs::default(), [(); 3].map(|()| outbox(500, 1 << 20, Overflow::Disconnect)));
    (0..40).for_each(|n| push_to_all(&mut runs, &outboxes, message(n, 100)));
    assert!(outboxes.iter().all(|outbox| outbox.lock_unsettled().queue.is_empty()));
    let mut places = Vec::new();
    for outbox in &outboxes {
        let mut own = Vec::new();
        outbox.take_each(1 << 20, None, |message, _| {
            own.extend(message.frames().into_iter().map(|frame| frame.as_bytes().as_ptr() as usize));
        });
        assert_eq!(own.len(), 40);
        places.push(own);
        outbox.confirm(40, false);
        assert!(outbox.is_empty());
    }
    assert!(places.windows(2).all(|two| two[0] == two[1]));
    // More than one run has room for.
    (0..200).for_each(|n| push_to_all(&mut runs, &outboxes, message(n, 10)));
    for outbox in &outboxes {
        let expected: Vec<_> = (0..200).map(|n| message(n, 10)).collect();
        assert_eq!(super::take_some(outbox, 1 << 20), expected);
        assert_eq!(outbox.stats().queued, Tally { messages: 200, len: 200 * 14 });
    }
}

#[test]
fn messages_that_are_not_in_one_piece_are_not_taken_in_place() {
    let (mut runs, outboxes) = (Runs::default(), [(); 2].map(|()| outbox(500, 1 << 20, Overflow::Disconnect)));
    (0..2).for_each(|n| push_to_all(&mut runs, &outboxes, message(n, 9)));
    let messages = outboxes[0].take_in_place().expect("they are in one piece");
    assert_eq!(messages.frames(), frames(&[message(0, 9), message(1, 9)]));
    assert!(outboxes[0].confirm_in_place(&messages).0 && outboxes[0].is_empty());
    push_to_all(&mut runs, &outboxes, message(2, 9));
    assert_eq!(outboxes[0].take_in_place().map(|messages| messages.count()), Some(1));
    assert!(outboxes[1].take_in_place().is_none());
    assert_eq!(take(&outboxes[1], 1 << 20).len(), 3);
}

#[test]
fn links_on_several_threads_take_whole_messages_in_order_in_whatever_pieces() {
    const COUNT: u32 = 3_000;
    let mut runs = Runs::default();
    let outboxes: Vec<_> = (0..6).map(|_| outbox(COUNT as usize, 1 << 24, Overflow::Disconnect)).collect();
    thread::scope(|scope| {
        for (nth, outbox) in outboxes.iter().enumerate() {
            scope.spawn(move || {
                let mut next = 0;
                while next < COUNT {
                    // Some take all that is there, and some a part.
                    let taken = take(outbox, [1 << 20, 200, 1 << 20, 70][(next as usize + nth) % 4]);
                    for frame in &taken {
                        assert_eq!(*frame, message(next, 8));
                        next += 1;
                    }
                    outbox.confirm(taken.len(), false);
                    thread::yield_now();
                }
            });
        }
        (0..COUNT).for_each(|n| push_to_all(&mut runs, &outboxes, message(n, 8)));
    });
    assert!(outboxes.iter().all(Outbox::is_empty) && !runs.is_kept());
}

#[test]
fn run_keeps_nothing_once_no_outbox_has_a_message_of_it() {
    let (mut runs, outbox) = (Runs::default(), outbox(500, 1 << 20, Overflow::Disconnect));
    push_to_all(&mut runs, std::slice::from_ref(&outbox), message(0, 0));
    assert!(runs.is_kept());
    super::take_some(&outbox, 100);
    outbox.confirm(1, false);
    assert!(!runs.is_kept());
}

/// A payload that says when it is dropped.
struct Told(Arc<AtomicBool>);

impl AsRef<[u8]> for Told {
    fn as_ref(&self) -> &[u8] {
        b"told"
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn payload_itself_is_not_kept_by_a_run() {
    let (is_dropped, mut runs) = (Arc::new(AtomicBool::new(false)), Runs::default());
    let frame: OutboxFrame = Frame::Binary(Bytes::from_owner(Told(is_dropped.clone()))).into();
    let message = runs.add(&frame, MANY);
    drop(frame);
    assert!(is_dropped.load(Relaxed) && message.is_some());
}

#[test]
fn few_outboxes_and_long_messages_are_left_as_they_are() {
    let mut runs = Runs::default();
    assert!(runs.add(&message(0, 10).into(), 7).is_none() && runs.add(&message(0, 2000).into(), MANY).is_none());
    assert!(runs.add(&message(0, 10).into(), 8).is_some());
}

#[test]
fn no_more_is_taken_at_once_than_the_window_has_room_for() {
    let (mut runs, outboxes) = (Runs::default(), [(); 2].map(|()| outbox(500, 1 << 20, Overflow::Disconnect)));
    let window = |messages, len| Tally { messages, len };
    for (outbox, window) in outboxes.iter().zip([window(5, 1 << 20), window(500, 50)]) {
        outbox.begin_session(window, vec![]);
    }
    (0..20).for_each(|n| push_to_all(&mut runs, &outboxes, message(n, 6)));
    for outbox in &outboxes {
        assert_eq!(take(outbox, 1 << 20), (0..5).map(|n| message(n, 6)).collect::<Vec<_>>());
    }
}
