//! `deliver_on`: items, terminal events, what is woken, and who pays.

use super::*;

fn deliver(error: Option<&'static str>) -> Vec<Heard<usize>> {
    let (worker, subject) = (EventLoopScheduler::new("worker"), Fallible::new());
    let (send, heard) = mpsc::channel();
    let held = Held::on(&worker);
    Io::new(subject.clone()).deliver_on(&worker).subscribe_with(Pen(send));
    (0..1_000).for_each(|n| subject.next(n));
    match error {
        Some(error) => subject.error(error),
        None => subject.complete(),
    }
    assert!(heard.try_recv().is_err(), "delivered by the thread that pushes");
    held.let_go();
    heard.iter().collect()
}

#[test]
fn terminal_event_comes_after_the_last_item() {
    let items = || (0..1_000).map(Heard::Item);
    assert!(deliver(None).into_iter().eq(items().chain([Heard::Complete])));
    assert!(deliver(Some("broken")).into_iter().eq(items().chain([Heard::Error("broken".into())])));
}

#[test]
fn cold_source_is_delivered_whole() {
    let (send, heard) = mpsc::channel();
    let worker = EventLoopScheduler::new("cold");
    let subscription = Io::from_iter(0..3).with_err::<&'static str>().deliver_on(&worker).subscribe_with(Pen(send));
    assert!(heard.iter().eq([Heard::Item(0), Heard::Item(1), Heard::Item(2), Heard::Complete]));
    flush(&worker);
    assert!(subscription.is_closed());
}

#[test]
fn local_source_is_delivered_on_another_thread() {
    let (send, heard) = mpsc::channel();
    let worker = EventLoopScheduler::new("from-local");
    Local::from_iter(0..3).deliver_on(&worker).subscribe(move |n| send.send((n, thread_name())).unwrap());
    assert!(heard.iter().eq((0..3).map(|n| (n, "from-local".to_owned()))));
}

#[test]
fn source_that_drops_its_observer_without_a_terminal_event_has_what_it_sent_delivered() {
    let (worker, subject) = (EventLoopScheduler::new("dropped"), Numbers::new());
    let (send, heard) = mpsc::channel();
    let held = Held::on(&worker);
    Io::new(subject.clone()).deliver_on(&worker).subscribe(move |n| send.send(n).unwrap());
    subject.next(1);
    drop(subject);
    held.let_go();
    assert!(heard.iter().eq([1]));
}

#[test]
fn push_of_an_observer_is_delivered_before_its_next_item() {
    let (worker, subject, echo) = (EventLoopScheduler::new("echoing"), Numbers::new(), Numbers::new());
    let (send, heard) = mpsc::channel();
    let (sent, held) = (send.clone(), Held::on(&worker));
    Io::new(echo.clone()).subscribe(move |n| sent.send(n).unwrap());
    Io::new(subject.clone()).deliver_on(&worker).subscribe(move |n| {
        echo.next(10 + n);
        send.send(n).unwrap();
    });
    (0..3).for_each(|n| subject.next(n));
    subject.complete();
    held.let_go();
    assert_eq!([(); 6].map(|()| hear(&heard)), [0, 10, 1, 11, 2, 12]);
}

#[test]
fn pushes_of_an_observer_on_a_tokio_runtime_wait_for_it_to_return() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = tokio.enter();
    let (subject, echo) = (Numbers::new(), Numbers::new());
    let (send, heard) = mpsc::channel();
    let sent = send.clone();
    Io::new(echo.clone()).subscribe(move |n| sent.send(n).unwrap());
    Io::new(subject.clone()).deliver_on(&SharedScheduler).subscribe(move |n| {
        echo.next(10 + n);
        send.send(n).unwrap();
    });
    (0..2).for_each(|n| subject.next(n));
    assert_eq!([(); 4].map(|()| hear(&heard)), [0, 10, 1, 11]);
}

#[test]
fn source_that_is_retried_feeds_one_delivery() {
    let (worker, attempts) = (EventLoopScheduler::new("retried"), Arc::new(AtomicUsize::new(0)));
    let (send, heard) = mpsc::channel();
    let flaky = Io::defer(move || {
        let attempt = attempts.fetch_add(1, SeqCst);
        Io::of(attempt).with_err::<&'static str>().merge(Io::<()>::throw_err("broken").map(|_: ()| 0))
    });
    flaky.clone().retry(1).deliver_on(&worker).subscribe_with(Pen(send.clone()));
    assert_eq!([(); 3].map(|()| hear(&heard)), [Heard::Item(0), Heard::Item(1), Heard::Error("broken".into())]);
    flaky.deliver_on(&worker).retry(1).subscribe_with(Pen(send));
    assert_eq!([(); 3].map(|()| hear(&heard)), [Heard::Item(2), Heard::Item(3), Heard::Error("broken".into())]);
}

#[test]
fn downstream_that_has_enough_frees_the_source() {
    let (worker, subject) = (EventLoopScheduler::new("take"), Numbers::new());
    let (send, heard) = mpsc::channel();
    let subscription = Io::new(subject.clone()).deliver_on(&worker).take(2).subscribe(move |n| send.send(n).unwrap());
    (0..5).for_each(|n| subject.next(n));
    assert!(heard.iter().eq([0, 1]));
    flush(&worker);
    assert!(subscription.is_closed());
}

#[test]
fn worker_ends_when_its_last_handle_and_its_last_pipeline_are_gone() {
    let (alive, ended) = sentinel();
    thread_local!(static OF_WORKER: std::cell::RefCell<Option<Sentinel>> = const { std::cell::RefCell::new(None) });
    let (worker, subject) = (EventLoopScheduler::new("ending"), Numbers::new());
    worker.schedule(async move { OF_WORKER.set(Some(alive)) }, None);
    let (send, heard) = mpsc::channel();
    Io::new(subject.clone()).deliver_on(&worker).subscribe(move |n| send.send(n).unwrap());
    drop(worker);
    subject.next(1);
    assert_eq!(hear(&heard), 1);
    assert!(ended.try_recv().is_err(), "ended while a pipeline delivers on it");
    subject.complete();
    hear(&ended);
}

#[test]
fn pipeline_on_a_runtime_that_is_shut_down_ends() {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let runtime = IoRuntime::from_tokio(tokio.handle().clone());
    let (subject, (sentinel, dropped)) = (Numbers::new(), sentinel());
    let delivering =
        Io::new(subject.clone()).deliver_on(&IoScheduler::on(&runtime)).subscribe(move |_| hold(&sentinel));
    drop(tokio);
    hear(&dropped);
    subject.next(1);
    assert!(delivering.is_closed());
}
