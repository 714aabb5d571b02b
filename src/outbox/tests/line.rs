//! Those who wait for room.

use std::pin::Pin;

use super::*;
use crate::outbox::{OutboxFrame, Turn};

async fn push(outbox: &Outbox, frame: Frame) -> Result<(), Refusal> {
    let (mut turn, mut message) = (Turn::of_future(outbox), Some(OutboxFrame::from(frame)));
    poll_fn(|cx| turn.poll_push(&mut message, None, cx)).await
}

/// Takes and writes everything, until nothing comes any more.
fn drain(outbox: &Outbox) -> Vec<Frame> {
    let mut all = Vec::new();
    loop {
        let batch = take_some(outbox, 1 << 20);
        if batch.is_empty() {
            return all;
        }
        outbox.confirm(batch.len(), true);
        all.extend(batch);
    }
}

#[test]
fn line_takes_no_memory_once_nobody_waits() {
    let outbox = outbox(1, 100, Overflow::DropLatest);
    outbox.push(message(0, 0)).unwrap();
    for _ in 0..3 {
        let mut waiting: Vec<_> = (1..5).map(|n| Box::pin(push(&outbox, message(n, 0)))).collect();
        let mut cx = Context::from_waker(Waker::noop());
        waiting.iter_mut().for_each(|future| assert!(future.as_mut().poll(&mut cx).is_pending()));
        waiting.iter_mut().for_each(|future| assert!(future.as_mut().poll(&mut cx).is_pending()));
        assert!(outbox.lock().rare.as_ref().unwrap().line.is_some());
        drop(waiting);
        assert!(outbox.lock().rare.as_ref().unwrap().line.is_none());
    }
}

#[test]
fn only_the_first_is_called_and_the_next_when_that_has_its_place() {
    let outbox = outbox(2, 100, Overflow::DropLatest);
    (0..2).for_each(|n| outbox.push(message(n, 0)).unwrap());
    let counts: [Arc<WakeCount>; 3] = Default::default();
    let wakes = || counts.each_ref().map(|count| count.0.load(Relaxed));
    let wakers = counts.each_ref().map(|count| Waker::from(count.clone()));
    type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + 'a>>;
    let mut waiting = [2, 3, 4].map(|n| Box::pin(push(&outbox, message(n, 0))) as Sending<'_>);
    let poll = |of: usize, waiting: &mut [Sending<'_>; 3]| {
        waiting[of].as_mut().poll(&mut Context::from_waker(&wakers[of])).is_ready()
    };
    assert!((0..3).all(|of| !poll(of, &mut waiting)));
    assert_eq!(take_some(&outbox, 1 << 20).len(), 2);
    outbox.confirm(2, false);
    assert_eq!(wakes(), [1, 0, 0]);
    // The second has come for another reason, before the first.
    assert!(!poll(1, &mut waiting) && poll(0, &mut waiting));
    assert_eq!(wakes(), [1, 1, 0]);
    assert!(poll(1, &mut waiting));
    assert_eq!(wakes(), [1, 1, 0], "there is no room for a third");
    outbox.close(1000, "", PATIENCE);
    assert_eq!(wakes(), [1, 1, 1]);
    assert!(poll(2, &mut waiting));
}

#[test]
fn no_call_is_lost_between_senders_of_several_threads_that_give_up_and_a_link() {
    const EACH: u32 = 2_000;
    let outbox = outbox(3, 60, Overflow::DropLatest);
    let is_over = AtomicBool::new(false);
    let (sent, arrived) = thread::scope(|scope| {
        let senders = [0, 1, 2, 3].map(|sender| {
            let outbox = &outbox;
            scope.spawn(move || {
                let mut sent = 0;
                for n in 0..EACH {
                    let future = push(outbox, message(sender, (n % 50) as usize));
                    let limit = if n % 4 == 0 { Duration::ZERO } else { PATIENCE };
                    let answer = time::block_on(future, limit);
                    assert!(answer.is_some() || limit.is_zero(), "a call was lost");
                    sent += u64::from(answer.is_some());
                }
                sent
            })
        });
        let link = scope.spawn(|| {
            let mut arrived = 0;
            loop {
                let was_over = is_over.load(Acquire);
                arrived += drain(&outbox).len() as u64;
                if was_over {
                    return arrived;
                }
            }
        });
        let sent = senders.map(|sender| sender.join().unwrap()).iter().sum::<u64>();
        is_over.store(true, Release);
        (sent, link.join().unwrap())
    });
    assert_eq!(sent, arrived);
    assert!(outbox.lock().rare.as_ref().is_none_or(|rare| rare.line.is_none()));
}

#[test]
fn keyed_and_tracked_messages_leave_no_memory_behind() {
    let bound = OutboxBound { conflates: true, ..OutboxBound::new(10_000, 1 << 20, Overflow::DropLatest) };
    let outbox = Outbox::unreported(bound);
    for n in 0..10_000 {
        assert!(outbox.push_with(message(n, 0), Some(Key::of(&n)), None).is_ok());
    }
    assert_eq!(drain(&outbox).len(), 10_000);
    assert!(outbox.lock().rare.as_ref().unwrap().tracked.as_ref().unwrap().capacity() <= 200);
}
