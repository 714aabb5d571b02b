//! An observer that panics ends its own pipeline.

use super::*;

#[test]
fn pipeline_of_an_observer_that_panics_ends_and_no_other() {
    let (worker, subject) = (EventLoopScheduler::new("panicking"), Numbers::new());
    let (send, heard) = mpsc::channel();
    let (sentinel, dropped) = sentinel();
    let panicking = Io::new(subject.clone()).deliver_on(&worker).subscribe(move |n| {
        hold(&sentinel);
        assert_ne!(n, 2, "a bug of the observer's");
    });
    Io::new(subject.clone()).deliver_on(&worker).subscribe(move |n| send.send(n).unwrap());
    (0..5).for_each(|n| subject.next(n));
    hear(&dropped);
    flush(&worker);
    assert!(panicking.is_closed());
    subject.complete();
    assert!(heard.iter().eq(0..5));
}

#[test]
fn observer_whose_captured_value_panics_in_drop_does_not_end_its_thread() {
    let (worker, subject) = (EventLoopScheduler::new("bombed"), Numbers::new());
    let bomb = Bomb;
    let unsubscribed = Io::new(subject.clone()).deliver_on(&worker).subscribe(move |_| hold(&bomb));
    let bomb = Bomb;
    Io::new(subject.clone()).deliver_on(&worker).subscribe(move |_| {
        hold(&bomb);
        panic!("a bug of the observer's");
    });
    subject.next(1);
    unsubscribed.unsubscribe();
    flush(&worker);
    flush(&worker);
}

#[test]
fn item_that_panics_in_drop_harms_nobody() {
    let worker = EventLoopScheduler::new("dropping");
    let held = Held::on(&worker);
    let subject = SerializedSubject::<Arc<Mutex<Option<Bomb>>>>::new();
    let subscription = Io::new(subject.clone()).deliver_on(&worker).subscribe(|_| {});
    subject.next(Arc::new(Mutex::new(Some(Bomb))));
    subscription.unsubscribe();
    held.let_go();
    flush(&worker);
}

/// A second panic while the first one unwinds would end the process.
#[test]
fn items_that_wait_together_and_panic_in_drop_harm_nobody() {
    let worker = EventLoopScheduler::new("dropping");
    for is_taken in [false, true] {
        let held = Held::on(&worker);
        let subject = SerializedSubject::<Arc<Mutex<Option<Bomb>>>>::new();
        let observed = Io::new(subject.clone()).deliver_on(&worker);
        let subscription = observed.subscribe(|bomb| {
            std::mem::forget(bomb);
            panic!("a bug of the observer's");
        });
        (0..3).for_each(|_| subject.next(Arc::new(Mutex::new(Some(Bomb)))));
        if !is_taken {
            subscription.unsubscribe();
        }
        held.let_go();
        flush(&worker);
    }
}

#[test]
fn observer_that_panics_in_its_terminal_event_does_not_end_its_thread() {
    let (worker, subject) = (EventLoopScheduler::new("terminal"), Fallible::new());
    let source = Io::new(subject.clone()).deliver_on(&worker);
    source.on_error(|_| panic!("a bug of the observer's")).subscribe(|_| {});
    subject.error("broken");
    flush(&worker);
}

#[test]
fn callback_for_losses_that_panics_ends_its_pipeline() {
    let (worker, subject) = (EventLoopScheduler::new("losses"), Numbers::new());
    let (send, heard) = mpsc::channel();
    let held = Held::on(&worker);
    let lossy = Io::new(subject.clone()).deliver_on_bounded(&worker, 1, Lossy::DropOldest, |_| panic!("a bug"));
    lossy.subscribe(move |n| send.send(n).unwrap());
    (0..3).for_each(|n| subject.next(n));
    held.let_go();
    assert!(heard.recv_timeout(LONG_PATIENCE).is_err());
    flush(&worker);
}
