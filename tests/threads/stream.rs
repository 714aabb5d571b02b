//! `into_bounded_stream`: a `futures` stream with a bound.

use futures::{FutureExt, StreamExt, executor::block_on};

use super::*;

#[test]
fn items_and_the_error_come_in_order_and_then_the_end() {
    let subject = Fallible::new();
    let stream = Io::new(subject.clone()).into_bounded_stream(10, Lossy::DropLatest);
    (0..3).for_each(|n| subject.next(n));
    subject.error("broken");
    assert_eq!(block_on(stream.collect::<Vec<_>>()), [Ok(0), Ok(1), Ok(2), Err("broken")]);
}

#[test]
fn stream_ends_with_a_completion_that_comes_while_it_is_awaited() {
    for _ in 0..300 {
        let subject = Numbers::new();
        let stream = Io::new(subject.clone()).into_bounded_stream(1_000, Lossy::DropLatest);
        let pusher = thread::spawn(move || {
            (0..100).for_each(|n| subject.next(n));
            subject.complete();
        });
        assert!(block_on(stream.collect::<Vec<_>>()).into_iter().eq((0..100).map(Ok)));
        pusher.join().unwrap();
    }
}

#[test]
fn full_stream_loses_what_it_is_told_to_and_counts_it() {
    for (lossy, kept) in [(Lossy::DropOldest, [8, 9]), (Lossy::DropLatest, [0, 1])] {
        let subject = Numbers::new();
        let mut stream = Io::new(subject.clone()).into_bounded_stream(2, lossy);
        (0..10).for_each(|n| subject.next(n));
        assert_eq!(stream.lost(), 8);
        subject.complete();
        assert_eq!(kept.map(|_| block_on(stream.next())), kept.map(|n| Some(Ok(n))));
        assert_eq!(block_on(stream.next()), None);
        assert_eq!(block_on(stream.next()), None);
        assert_eq!(stream.lost(), 8);
    }
}

#[test]
fn stream_that_is_dropped_unsubscribes_and_frees_what_was_queued() {
    let (subject, item) = (SerializedSubject::<Arc<()>>::new(), Arc::new(()));
    let mut stream = Io::new(subject.clone()).into_bounded_stream(10, Lossy::DropOldest);
    assert!(stream.next().now_or_never().is_none());
    (0..20).for_each(|_| subject.next(item.clone()));
    drop(stream);
    subject.next(item.clone());
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn task_that_reads_a_stream_lets_others_have_their_turn() {
    const COUNT: usize = 10_000;
    let (subject, read) = (Numbers::new(), Arc::new(AtomicUsize::new(0)));
    let mut stream = Io::new(subject.clone()).into_bounded_stream(COUNT, Lossy::DropLatest);
    (0..COUNT).for_each(|n| subject.next(n));
    subject.complete();
    let count = read.clone();
    let reading = async move {
        while stream.next().await.is_some() {
            count.fetch_add(1, SeqCst);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let between = runtime.block_on(async {
        let reading = tokio::spawn(reading);
        let between = tokio::spawn(async move { read.load(SeqCst) }).await.unwrap();
        reading.await.unwrap();
        between
    });
    assert!(between <= 4 * 256, "after {between} items");
}
