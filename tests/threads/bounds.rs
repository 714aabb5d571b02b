//! Queues with a bound: what is lost, who hears of it, and who waits.

use super::*;

/// Pushes ten items into a queue of three, and returns what is heard, with losses as `Err`.
fn push_ten(lossy: Lossy) -> Vec<Result<usize, u64>> {
    let (worker, subject) = (EventLoopScheduler::new("bounded"), Numbers::new());
    let (send, heard) = mpsc::channel();
    let (told, held) = (send.clone(), Held::on(&worker));
    let bounded = Io::new(subject.clone()).deliver_on_bounded(&worker, 3, lossy, move |n| told.send(Err(n)).unwrap());
    bounded.subscribe(move |n| send.send(Ok(n)).unwrap());
    (0..10).for_each(|n| subject.next(n));
    held.let_go();
    flush(&worker);
    subject.next(10);
    subject.complete();
    heard.iter().collect()
}

#[test]
fn full_queue_loses_what_it_is_told_to_and_says_how_many() {
    assert_eq!(push_ten(Lossy::DropOldest), [Err(7), Ok(7), Ok(8), Ok(9), Ok(10)]);
    assert_eq!(push_ten(Lossy::DropLatest), [Err(7), Ok(0), Ok(1), Ok(2), Ok(10)]);
}

#[test]
fn losses_before_the_terminal_event_are_told_before_it() {
    let (worker, subject) = (EventLoopScheduler::new("late-loss"), Fallible::new());
    let (send, heard) = mpsc::channel();
    let (told, held) = (send.clone(), Held::on(&worker));
    let told = move |n| told.send(Heard::Item(1_000 + n as usize)).unwrap();
    Io::new(subject.clone()).deliver_on_bounded(&worker, 1, Lossy::DropLatest, told).subscribe_with(Pen(send));
    subject.next(1);
    subject.next(2);
    subject.error("broken");
    held.let_go();
    assert!(heard.iter().eq([Heard::Item(1_001), Heard::Item(1), Heard::Error("broken".into())]));
}

#[test]
fn all_losses_and_all_items_add_up() {
    const COUNT: usize = 50_000;
    let (worker, subject) = (EventLoopScheduler::new("adding-up"), Numbers::new());
    let (lost, got) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (losing, getting) = (lost.clone(), got.clone());
    let (sentinel, finished) = sentinel();
    let told = move |n| {
        losing.fetch_add(n as usize, SeqCst);
    };
    Io::new(subject.clone()).deliver_on_bounded(&worker, 16, Lossy::DropOldest, told).subscribe(move |_| {
        hold(&sentinel);
        getting.fetch_add(1, SeqCst);
    });
    (0..COUNT).for_each(|n| subject.next(n));
    subject.complete();
    hear(&finished);
    assert_eq!(lost.load(SeqCst) + got.load(SeqCst), COUNT);
}

#[test]
#[should_panic(expected = "capacity of at least one")]
fn capacity_of_zero_is_refused() {
    drop(Io::of(1).deliver_on_bounded(&IoScheduler::default(), 0, Lossy::DropOldest, |_| ()));
}

const CROWD: usize = 1 << 20;

#[test]
fn producer_of_its_own_thread_waits_when_a_million_items_wait() {
    let (worker, subject) = (EventLoopScheduler::new("crowded"), Numbers::new());
    let (pushed, got) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, getting) = (pushed.clone(), got.clone());
    let held = Held::on(&worker);
    let (sentinel, finished) = sentinel();
    Io::new(subject.clone()).deliver_on(&worker).subscribe(move |n| {
        hold(&sentinel);
        assert!(seen.load(SeqCst) <= n + CROWD + 256, "more items wait than the bound allows");
        getting.fetch_add(1, SeqCst);
    });
    let (full, is_full) = mpsc::channel();
    let producer = thread::spawn(move || {
        for n in 0..CROWD + 10_000 {
            if n == CROWD - 1 {
                full.send(()).unwrap();
            }
            subject.next(n);
            pushed.fetch_add(1, SeqCst);
        }
    });
    hear(&is_full);
    held.let_go();
    producer.join().unwrap();
    hear(&finished);
    assert_eq!(got.load(SeqCst), CROWD + 10_000);
}

#[test]
fn producer_that_waits_goes_on_when_the_delivery_is_unsubscribed() {
    let (worker, subject) = (EventLoopScheduler::new("left"), Numbers::new());
    let held = Held::on(&worker);
    let subscription = Io::new(subject.clone()).deliver_on(&worker).subscribe(|_| {});
    let (full, is_full) = mpsc::channel();
    let producer = thread::spawn(move || {
        for n in 0..CROWD + 10 {
            if n == CROWD - 1 {
                full.send(()).unwrap();
            }
            subject.next(n);
        }
    });
    hear(&is_full);
    subscription.unsubscribe();
    producer.join().unwrap();
    held.let_go();
}

#[test]
fn callbacks_and_loops_never_wait_for_room() {
    let (worker, subject) = (EventLoopScheduler::new("full"), Numbers::new());
    let held = Held::on(&worker);
    let got = Arc::new(AtomicUsize::new(0));
    let (getting, (sentinel, finished)) = (got.clone(), sentinel());
    Io::new(subject.clone()).deliver_on(&worker).subscribe(move |_| {
        hold(&sentinel);
        getting.fetch_add(1, SeqCst);
    });
    let (done, over) = mpsc::channel();
    let io = IoScheduler::default();
    io.schedule(
        async move {
            (0..2 * CROWD + 10).for_each(|n| subject.next(n));
            subject.complete();
            done.send(()).unwrap();
        },
        None,
    );
    hear(&over);
    held.let_go();
    hear(&finished);
    assert!((2 * CROWD..=2 * CROWD + 10).contains(&got.load(SeqCst)));
}

#[test]
fn thread_does_not_wait_for_the_loop_that_it_drives_itself() {
    let (run_loop, subject) = (RunLoop::new(), Numbers::new());
    let got = std::rc::Rc::new(std::cell::Cell::new(0));
    let getting = got.clone();
    Io::new(subject.clone()).deliver_local(&run_loop).subscribe(move |_| getting.set(getting.get() + 1));
    (0..2 * CROWD + 10).for_each(|n| subject.next(n));
    run_loop.run_pending();
    assert_eq!(got.get(), 2 * CROWD);
}
