//! The outbox and its queue, by example.

#[cfg(feature = "deflate")]
mod compressed;
mod line;
mod model;
mod reports;
mod run;
mod window;

use std::{
    future::poll_fn,
    sync::atomic::AtomicUsize,
    task::{Context, Poll, Wake, Waker},
    thread,
};

use tokio::time::Instant;

use super::{queue::KEPT_PLACES, *};
use crate::{protocol::close::TRY_AGAIN_LATER, stats::Dropped, time};

const PATIENCE: Duration = Duration::from_secs(10);

impl Reporter for () {
    fn post_drops(self: Arc<Self>, _: Reports) {}
}

impl Outbox {
    /// One whose drops nobody reports.
    pub(crate) fn unreported(bound: OutboxBound) -> Self {
        Self::new(bound, Weak::<()>::new())
    }

    /// As [`confirm_sent`](Self::confirm_sent), on a link that has not agreed on compression.
    pub(crate) fn confirm(&self, count: usize, may_sleep: bool) -> bool {
        self.confirm_sent(count, may_sleep, None, &mut Spent::default())
    }
}

/// A link whose task does all the writing.
struct Sleeper {
    task: Waker,
    outbox: Outbox,
}

impl Outflow for Sleeper {
    fn wake(self: Arc<Self>) {
        self.task.wake_by_ref();
    }

    fn relieve(&self) -> Relief {
        Relief { takes: false, spent: Spent::default() }
    }

    fn clear(&self) {
        drop(self.outbox.untake(0, Some(DropReason::Cleared)).run());
    }
}

impl Outbox {
    pub(crate) fn push(&self, frame: Frame) -> Result<(), Refusal> {
        self.push_tracked(frame, None)
    }

    /// Takes messages as the link of a task does that sleeps.
    pub(crate) fn take(&self, cx: &Context<'_>, budget: usize, batch: &mut Vec<Frame>) -> Option<Closing> {
        self.attach(Arc::new(Sleeper { task: cx.waker().clone(), outbox: self.clone() }));
        self.take_each(budget, None, |message, _| batch.extend(message.frames().into_iter().cloned()))
    }
}

#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn outbox(messages: usize, len: usize, overflow: Overflow) -> Outbox {
    Outbox::unreported(OutboxBound::new(messages, len, overflow))
}

/// A message with a number, of at least four bytes.
fn message(number: u32, len: usize) -> Frame {
    Frame::Binary([&number.to_be_bytes()[..], &vec![0; len]].concat().into())
}

fn take_some(outbox: &Outbox, budget: usize) -> Vec<Frame> {
    let mut batch = Vec::new();
    outbox.take(&Context::from_waker(Waker::noop()), budget, &mut batch);
    batch
}

/// Waits until what is in the queue now is written.
fn flush(outbox: &Outbox) -> Arc<Flush> {
    let mut flush = None;
    outbox.change(|state| state.note_queued_by(&mut flush));
    flush.unwrap()
}

fn is_over(flush: &Flush) -> bool {
    flush.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn dropped(outbox: &Outbox) -> Dropped {
    outbox.stats().dropped
}

#[test]
fn sleeping_driver_is_woken_once_by_a_push_and_one_at_work_is_not() {
    let outbox = outbox(9, 100, Overflow::DropLatest);
    let count = Arc::new(WakeCount::default());
    let waker = count.clone().into();
    let cx = Context::from_waker(&waker);
    let wakes = || count.0.load(Relaxed);
    outbox.take(&cx, 100, &mut Vec::new());
    outbox.push(message(1, 0)).unwrap();
    outbox.push(message(2, 0)).unwrap();
    assert_eq!(wakes(), 1);
    outbox.take(&cx, 100, &mut Vec::new());
    outbox.push(message(3, 0)).unwrap();
    assert_eq!(wakes(), 1);
    outbox.take(&cx, 100, &mut Vec::new());
    outbox.take(&cx, 100, &mut Vec::new());
    outbox.note_awake();
    outbox.push(message(4, 0)).unwrap();
    assert_eq!(wakes(), 1);
}

#[test]
fn driver_is_woken_by_a_close_whatever_it_is_doing() {
    let outbox = outbox(9, 100, Overflow::DropLatest);
    let count = Arc::new(WakeCount::default());
    let waker = count.clone().into();
    outbox.push(message(1, 0)).unwrap();
    outbox.take(&Context::from_waker(&waker), 100, &mut Vec::new());
    outbox.note_awake();
    outbox.close(1000, "", PATIENCE);
    outbox.close(1001, "", PATIENCE);
    assert_eq!(count.0.load(Relaxed), 1);
    assert_eq!(outbox.closing().map(|closing| closing.code), Some(1000));
}

#[test]
fn no_wake_up_is_lost_between_pushes_of_several_threads_and_a_driver() {
    const EACH: usize = 20_000;
    let outbox = outbox(1 << 20, 1 << 30, Overflow::DropLatest);
    let drive = poll_fn(|cx| {
        outbox.note_awake();
        loop {
            let mut batch = Vec::new();
            let closing = outbox.take(cx, 1000, &mut batch);
            let sleeps = outbox.confirm(batch.len(), true);
            match closing {
                Some(_) => return Poll::Ready(()),
                None if sleeps || batch.is_empty() => return Poll::Pending,
                None => {}
            }
        }
    });
    thread::scope(|scope| {
        let pushing = [1, 2].map(|thread| {
            let outbox = &outbox;
            scope.spawn(move || (0..EACH).for_each(|_| outbox.push(message(thread, 0)).unwrap()))
        });
        scope.spawn(|| {
            pushing.into_iter().for_each(|thread| thread.join().unwrap());
            outbox.close(1000, "", PATIENCE);
        });
        assert!(time::block_on(drive, PATIENCE).is_some());
    });
    assert_eq!(outbox.stats().written.messages, 2 * EACH as u64);
}

#[test]
fn close_is_heard_by_the_one_who_waits_for_it_and_by_the_one_who_comes_late() {
    for _ in 0..200 {
        let outbox = outbox(1, 1, Overflow::Disconnect);
        let (pushed, second) = (outbox.clone(), message(2, 0));
        outbox.push(message(1, 0)).unwrap();
        let overflow = thread::spawn(move || pushed.push(second));
        let closing = time::block_on(outbox.until_closing(), PATIENCE).unwrap();
        assert_eq!(closing.code, TRY_AGAIN_LATER);
        assert_eq!(overflow.join().unwrap(), Err(Refusal::Full));
        assert!(time::block_on(outbox.until_closing(), PATIENCE).is_some());
    }
}

#[test]
fn close_timeout_may_be_as_long_as_there_is() {
    let outbox = outbox(1, 1, Overflow::DropLatest);
    outbox.close(1000, "", Duration::MAX);
    assert!(outbox.closing().unwrap().deadline > Instant::now() + Duration::from_secs(1 << 29));
}

#[test]
fn overflow_of_a_slow_reader_drops_what_is_not_under_way_and_closes_with_1013() {
    let outbox = outbox(3, 100, Overflow::Disconnect);
    (1..=3).for_each(|n| outbox.push(message(n, 0)).unwrap());
    assert_eq!(take_some(&outbox, 1), [message(1, 0)]);
    assert_eq!(outbox.push(message(4, 0)), Err(Refusal::Full));
    assert_eq!(outbox.push(message(5, 0)), Err(Refusal::Closed));
    assert_eq!((dropped(&outbox).overflow.messages, outbox.stats().accepted.messages), (3, 4));
    assert_eq!((outbox.closing().unwrap().code, outbox.has_overflown()), (1013, true));
    let mut batch = Vec::new();
    assert_eq!(outbox.take(&Context::from_waker(Waker::noop()), 100, &mut batch).unwrap().code, 1013);
    assert_eq!(batch, []);
}

#[test]
fn newest_message_replaces_older_ones_even_if_it_is_longer_than_the_bound() {
    let outbox = outbox(9, 20, Overflow::DropOldest);
    (1..=3).for_each(|n| outbox.push(message(n, 1)).unwrap());
    assert_eq!(outbox.push(message(4, 100)), Ok(()));
    assert_eq!(take_some(&outbox, 1000), [message(4, 100)]);
    // It is under way now: a message that does not fit beside it has no place.
    assert_eq!(outbox.push(message(5, 1)), Err(Refusal::Full));
}

#[test]
fn newest_message_is_refused_where_what_is_being_written_has_all_the_places() {
    for places in 1..4 {
        let outbox = outbox(places, 100, Overflow::DropOldest);
        (0..places as u32).for_each(|n| outbox.push(message(n, 0)).unwrap());
        let written = take_some(&outbox, 100);
        assert_eq!(outbox.push(message(9, 0)), Err(Refusal::Full));
        assert_eq!(dropped(&outbox).overflow.messages, 1);
        // Once one of them has proved not to be under way, it goes.
        drop(outbox.untake(1, None).run());
        assert_eq!(outbox.push(message(10, 0)), Ok(()));
        assert_eq!(take_some(&outbox, 100), [message(10, 0)]);
        assert_eq!(dropped(&outbox).overflow.messages, 2);
        outbox.confirm(written.len(), false);
        assert_eq!(outbox.stats().queued, Tally::default());
    }
}

#[test]
fn greetings_take_no_room_and_are_not_dropped_for_messages() {
    for overflow in [Overflow::Disconnect, Overflow::DropOldest, Overflow::DropLatest] {
        let outbox = outbox(2, 100, overflow);
        outbox.push(message(1, 0)).unwrap();
        outbox.greet(vec![message(100, 500), message(101, 500)]);
        assert_eq!(outbox.push(message(2, 0)), Ok(()));
        outbox.clear();
        assert_eq!(outbox.push(message(3, 0)), Ok(()));
        assert_eq!(take_some(&outbox, 9999), [message(100, 500), message(101, 500), message(3, 0)]);
    }
}

#[test]
fn greetings_of_a_lost_link_are_dropped_and_its_messages_wait_for_the_next() {
    let outbox = outbox(9, 100, Overflow::DropLatest);
    outbox.push(message(1, 0)).unwrap();
    outbox.greet(vec![message(100, 0), message(101, 0)]);
    take_some(&outbox, 9999);
    outbox.confirm(1, false);
    outbox.detach(true);
    assert_eq!(dropped(&outbox).greeting.messages, 1);
    outbox.greet(vec![message(102, 0)]);
    assert_eq!(take_some(&outbox, 9999), [message(102, 0), message(1, 0)]);
}

#[test]
fn greetings_beyond_their_bound_are_dropped_and_told_of() {
    let (outbox, told) = (outbox(2, 100, Overflow::DropLatest), Mutex::new(Dropped::default()));
    outbox.greet((0..65_538).map(|n| message(n, 0)).collect());
    outbox.report_drops(|reason, dropped| told.lock().unwrap().add(reason, dropped));
    let told = *told.lock().unwrap();
    assert_eq!((outbox.stats().queued.messages, told.overflow.messages, told.total()), (65_536, 2, told.overflow));
    assert_eq!(take_some(&outbox, 1 << 30).last(), Some(&message(65_535, 0)));
}

#[test]
fn head_that_a_link_had_begun_is_known_and_can_be_dropped_once_that_link_is_gone() {
    let outbox = outbox(9, 100, Overflow::DropLatest);
    (1..=2).for_each(|n| outbox.push(message(n, 10)).unwrap());
    take_some(&outbox, 1);
    let first = outbox.head().unwrap();
    assert_eq!((first.len, first.was_begun, outbox.try_drop_head(first)), (14, false, false));
    outbox.detach(true);
    assert_eq!(outbox.head(), Some(Head { was_begun: true, ..first }));
    // The next link ended while it wrote its greeting.
    outbox.greet(vec![message(100, 0)]);
    take_some(&outbox, 1000);
    outbox.detach(true);
    assert_eq!(outbox.head(), Some(first));
    assert!(outbox.try_drop_head(first) && !outbox.try_drop_head(first));
    let second = outbox.head().unwrap();
    assert!(second.number > first.number && !second.was_begun);
    assert_eq!(dropped(&outbox).undeliverable, Tally { messages: 1, len: 14 });
    assert_eq!(take_some(&outbox, 1000), [message(2, 10)]);
}

#[test]
fn nobody_who_pushes_waits_while_a_long_message_is_copied() {
    let outbox = outbox(9, 1 << 20, Overflow::DropLatest);
    (1..=3).for_each(|n| outbox.push(message(n, if n == 2 { LONG_LEN } else { 0 })).unwrap());
    let mut taken = Vec::new();
    outbox.take_each(1 << 20, None, |frame, _| {
        let frame = frame.frames()[0];
        if frame.len() >= LONG_LEN {
            outbox.push(message(4, 0)).unwrap();
        }
        taken.push(frame.clone());
    });
    assert_eq!(taken, [message(1, 0), message(2, LONG_LEN), message(3, 0), message(4, 0)]);
    assert_eq!(outbox.lock().taken, 4);
}

#[test]
fn queue_that_was_long_gives_its_memory_back() {
    let outbox = outbox(1 << 20, 1 << 30, Overflow::DropLatest);
    (0..100_000).for_each(|n| outbox.push(message(n, 0)).unwrap());
    outbox.confirm(take_some(&outbox, 1 << 30).len(), false);
    assert!(outbox.lock().queue.capacity() <= KEPT_PLACES);
}

/// The length of a long queue.
const LONG: u32 = 10_000;

fn fill(count: u32) -> Outbox {
    let outbox = outbox(1 << 20, 1 << 30, Overflow::DropLatest);
    (0..count).for_each(|n| outbox.push(message(n, 0)).unwrap());
    outbox
}

fn drain(outbox: &Outbox) {
    outbox.confirm(take_some(outbox, 1 << 30).len(), false);
}

#[test]
fn places_of_a_long_queue_go_to_the_next_one_that_becomes_long() {
    const NEXT: u32 = 4_000;
    let takes_over = || {
        drain(&fill(LONG));
        let next = fill(NEXT);
        assert_eq!(take_some(&next, 1 << 30), (0..NEXT).map(|n| message(n, 0)).collect::<Vec<_>>());
        next.lock().queue.capacity() >= LONG as usize
    };
    // Another test may take them first.
    assert!((0..1000).any(|_| takes_over()));
}

#[test]
fn queue_that_stays_short_does_not_take_the_places_of_a_long_one() {
    const SHORT: u32 = KEPT_PLACES as u32 + 1;
    for _ in 0..100 {
        drain(&fill(LONG));
        let places = fill(SHORT).lock().queue.capacity();
        assert!(places <= 8 * SHORT as usize, "{places} places for {SHORT} messages");
    }
}
