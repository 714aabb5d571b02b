//! Unsubscribing ends a delivery at once and frees what it held.

use super::*;

type Unsubscribe = Box<dyn FnOnce()>;
type Items = SerializedSubject<Arc<usize>>;

/// Unsubscribes while a thousand items wait for a worker that is busy.
fn unsubscribe_while_items_wait(operator: fn(Io<Items>, &EventLoopScheduler, Sender<usize>) -> Unsubscribe) {
    let (worker, subject) = (EventLoopScheduler::new("unsubscribed"), Items::new());
    let (send, heard) = mpsc::channel();
    let held = Held::on(&worker);
    let unsubscribe = operator(Io::new(subject.clone()), &worker, send);
    let items: Vec<_> = (0..1_000).map(Arc::new).collect();
    items.iter().for_each(|item| subject.next(item.clone()));
    assert!(items.iter().all(|item| Arc::strong_count(item) == 2));
    unsubscribe();
    assert!(items.iter().all(|item| Arc::strong_count(item) == 1), "what was queued is still there");
    held.let_go();
    flush(&worker);
    assert_eq!(heard.try_iter().count(), 0);
    assert!(heard.recv_timeout(LONG_PATIENCE).is_err(), "the observer is still there");
}

#[test]
fn what_was_queued_is_freed_at_once_and_never_delivered() {
    unsubscribe_while_items_wait(|source, worker, send| {
        let subscription = source.deliver_on(worker).subscribe(move |n| send.send(*n).unwrap());
        Box::new(move || subscription.unsubscribe())
    });
    unsubscribe_while_items_wait(|source, worker, send| {
        let bounded = source.deliver_on_bounded(worker, 2_000, Lossy::DropLatest, |_| ());
        let subscription = bounded.subscribe(move |n| send.send(*n).unwrap());
        Box::new(move || subscription.unsubscribe())
    });
}

#[test]
fn unsubscribing_from_another_thread_while_items_wait_lets_only_the_current_one_through() {
    let (worker, subject) = (EventLoopScheduler::new("current"), Numbers::new());
    let ((enter, entered), (go_on, told)) = (mpsc::channel(), mpsc::channel::<()>());
    let (send, heard) = mpsc::channel();
    let subscription = Io::new(subject.clone()).deliver_on(&worker).subscribe(move |n| {
        enter.send(()).unwrap();
        told.recv_timeout(LONG_PATIENCE).unwrap_or(());
        send.send(n).unwrap();
    });
    (0..1_000).for_each(|n| subject.next(n));
    hear(&entered);
    subscription.unsubscribe();
    drop(go_on);
    assert!(heard.iter().eq([0]));
}

#[test]
fn observer_may_unsubscribe_itself() {
    let (worker, subject) = (EventLoopScheduler::new("itself"), Numbers::new());
    let (send, heard) = mpsc::channel();
    let own = Arc::new(Mutex::new(None));
    let mine = own.clone();
    let held = Held::on(&worker);
    let subscription = Io::new(subject.clone()).deliver_on(&worker).subscribe(move |n: usize| {
        send.send(n).unwrap();
        let subscription: Option<ops::DeliverSubscription<_>> = mine.lock().unwrap().take();
        subscription.unwrap().unsubscribe();
    });
    *own.lock().unwrap() = Some(subscription);
    (0..10).for_each(|n| subject.next(n));
    held.let_go();
    assert!(heard.iter().eq([0]));
}

#[test]
fn nothing_begins_after_unsubscribe_returned_whichever_way_it_races_with_the_delivery() {
    let worker = EventLoopScheduler::new("racing");
    for _ in 0..500 {
        let (subject, (sentinel, dropped)) = (Numbers::new(), sentinel());
        let unsubscribed = Arc::new(AtomicBool::new(false));
        let (late, seen) = (Arc::new(AtomicUsize::new(0)), unsubscribed.clone());
        let counted = late.clone();
        let subscription = Io::new(subject.clone()).deliver_on(&worker).subscribe(move |_| {
            hold(&sentinel);
            counted.fetch_add(usize::from(seen.load(SeqCst)), SeqCst);
        });
        (0..50).for_each(|n| subject.next(n));
        subscription.unsubscribe();
        unsubscribed.store(true, SeqCst);
        (50..60).for_each(|n| subject.next(n));
        hear(&dropped);
        assert!(late.load(SeqCst) <= 1);
    }
}
